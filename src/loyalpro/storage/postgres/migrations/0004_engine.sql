-- The delivery engine: who sends what now, how each endpoint is doing, and jobs that replay.
-- Events, attempts and finished deliveries are partitioned by their ids, which sort by time: what is too old is dropped
-- whole. Partitions are made ahead of time by the program; the default ones take what fits nowhere else.

ALTER TABLE events RENAME TO old_events;
ALTER TABLE attempts RENAME TO old_attempts;
ALTER TABLE deliveries RENAME TO old_deliveries;
DROP TRIGGER events_are_frozen ON old_events;
ALTER TABLE old_events RENAME CONSTRAINT events_pkey TO old_events_pkey;
ALTER TABLE old_attempts RENAME CONSTRAINT attempts_pkey TO old_attempts_pkey;
ALTER TABLE old_deliveries RENAME CONSTRAINT deliveries_pkey TO old_deliveries_pkey;
DROP INDEX events_by_account, deliveries_in_lane, deliveries_in_order, deliveries_by_account, deliveries_by_endpoint;

-- `(transaction_id, position)` is an order in which nothing ever appears late: a reader stops at the oldest transaction
-- that is still open (`pg_snapshot_xmin`), and every transaction after it has a greater id.
CREATE SEQUENCE event_positions;
CREATE TABLE events (
    position BIGINT NOT NULL DEFAULT nextval('event_positions'),
    transaction_id XID8 NOT NULL DEFAULT pg_current_xact_id(),
    id TEXT COLLATE "C" NOT NULL,
    account_id TEXT NOT NULL,
    type TEXT NOT NULL,
    customer_id TEXT,
    sequence BIGINT CHECK (sequence > 0),
    created_at BIGINT NOT NULL,
    owed BIGINT NOT NULL,
    test BIGINT NOT NULL DEFAULT 0 CHECK (test IN (0, 1)),
    body BYTEA NOT NULL CHECK (length(body) <= 65536),
    erased_at BIGINT,
    CHECK ((customer_id IS NULL) = (sequence IS NULL)),
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE TABLE events_default PARTITION OF events DEFAULT;

CREATE INDEX events_by_account ON events (account_id, transaction_id, position) WHERE test = 0;
CREATE INDEX events_by_customer ON events (customer_id, transaction_id, position) WHERE customer_id IS NOT NULL;

CREATE TRIGGER events_are_frozen BEFORE UPDATE ON events
    FOR EACH ROW WHEN (NEW.erased_at IS NULL OR OLD.erased_at IS NOT NULL) EXECUTE FUNCTION refuse_event_update();

INSERT INTO events (position, transaction_id, id, account_id, type, customer_id, sequence, created_at, owed, test, body)
SELECT position, transaction_id, id, account_id, type, customer_id, sequence, created_at, owed, test, body FROM old_events;
SELECT setval('event_positions', (SELECT COALESCE(MAX(position), 0) + 1 FROM events), false);

-- A delivery's id is made of its event's and its endpoint's: there can be only one for the two.
-- `due_at` is NULL while an earlier event of the same customer is still on its way to an endpoint that wants them in order.
-- `fallback_*` is set while an attempt is made by hand: where the delivery goes back to when that attempt fails.
-- `uncounted_attempts` are those that the retry schedule does not count: made by hand, or before a replay.
CREATE TABLE deliveries (
    id TEXT COLLATE "C" NOT NULL,
    account_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'succeeded', 'exhausted', 'canceled')),
    attempts BIGINT NOT NULL DEFAULT 0,
    uncounted_attempts BIGINT NOT NULL DEFAULT 0,
    due_at BIGINT,
    first_attempt_at BIGINT,
    customer_id TEXT,
    sequence BIGINT,
    outcome TEXT,
    fallback_status TEXT CHECK (fallback_status IN ('pending', 'succeeded', 'exhausted', 'canceled')),
    fallback_due_at BIGINT,
    created_at BIGINT NOT NULL,
    finished_at BIGINT,
    CHECK ((status = 'pending') = (finished_at IS NULL)),
    CHECK (due_at IS NOT NULL OR customer_id IS NOT NULL),
    CHECK (fallback_status IS NULL OR status = 'pending'),
    CHECK (uncounted_attempts BETWEEN 0 AND attempts),
    PRIMARY KEY (id, status)
) PARTITION BY LIST (status);

-- What is owed has a table of its own, as small as the backlog, however much has been delivered before.
CREATE TABLE deliveries_owed PARTITION OF deliveries FOR VALUES IN ('pending')
    WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE deliveries_done PARTITION OF deliveries FOR VALUES IN ('succeeded', 'exhausted', 'canceled')
    PARTITION BY RANGE (id);
CREATE TABLE deliveries_done_default PARTITION OF deliveries_done DEFAULT;

CREATE INDEX deliveries_by_account ON deliveries (account_id, id);
CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint_id, id);
CREATE INDEX deliveries_in_lane ON deliveries_owed (endpoint_id, due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX deliveries_in_order ON deliveries_owed (endpoint_id, customer_id, sequence) WHERE customer_id IS NOT NULL;
CREATE INDEX deliveries_closing ON deliveries_owed (first_attempt_at) WHERE first_attempt_at IS NOT NULL;
CREATE INDEX deliveries_by_hand ON deliveries_owed (endpoint_id) WHERE fallback_status IS NOT NULL;

CREATE FUNCTION refuse_delivery_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a finished delivery can only become pending again';
END;
$$;

CREATE TRIGGER deliveries_move_through_pending BEFORE UPDATE OF status ON deliveries
    FOR EACH ROW WHEN (OLD.status <> 'pending' AND NEW.status <> 'pending') EXECUTE FUNCTION refuse_delivery_move();

INSERT INTO deliveries (id, account_id, endpoint_id, event_id, event_type, status, attempts, due_at, first_attempt_at,
    customer_id, sequence, outcome, created_at, finished_at)
SELECT 'dlv_' || substr(d.event_id, 5) || right(d.endpoint_id, 10), d.account_id, d.endpoint_id, d.event_id, e.type,
    d.status, d.attempts, d.due_at, d.first_attempt_at, d.customer_id, d.sequence, d.outcome, d.created_at, d.finished_at
FROM old_deliveries d JOIN events e ON e.id = d.event_id;

CREATE TABLE attempts (
    delivery_id TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL CHECK (number > 0),
    started_at BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL,
    request_headers TEXT NOT NULL,
    response_status BIGINT,
    response_headers TEXT,
    response_excerpt BYTEA,
    response_truncated BIGINT,
    remote_ip TEXT,
    dns_ms DOUBLE PRECISION,
    connect_ms DOUBLE PRECISION,
    tls_ms DOUBLE PRECISION,
    first_byte_ms DOUBLE PRECISION,
    total_ms DOUBLE PRECISION,
    PRIMARY KEY (delivery_id, number)
) PARTITION BY RANGE (delivery_id);
CREATE TABLE attempts_default PARTITION OF attempts DEFAULT;

INSERT INTO attempts
SELECT 'dlv_' || substr(d.event_id, 5) || right(d.endpoint_id, 10), a.number, a.started_at, a.outcome, a.detail,
    a.request_headers, a.response_status, a.response_headers, a.response_excerpt, a.response_truncated, a.remote_ip,
    a.dns_ms, a.connect_ms, a.tls_ms, a.first_byte_ms, a.total_ms
FROM old_attempts a JOIN old_deliveries d ON d.id = a.delivery_id;

DROP TABLE old_attempts, old_deliveries, old_events;

-- What is being sent now, and by whom. The row is the lease: it goes with the outcome, or when its worker is given up.
CREATE TABLE leases (
    delivery_id TEXT COLLATE "C" PRIMARY KEY,
    worker TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    attempt BIGINT NOT NULL CHECK (attempt > 0),
    started_at BIGINT NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX leases_by_worker ON leases (worker);

-- How an endpoint that has failed is doing; no row: well. `probe_at` is set while the breaker is open.
CREATE TABLE endpoint_health (
    endpoint_id TEXT PRIMARY KEY,
    failures BIGINT NOT NULL CHECK (failures >= 0),
    failing_since BIGINT,
    probes BIGINT NOT NULL CHECK (probes >= 0),
    probe_at BIGINT,
    recovered_at BIGINT,
    warned_days BIGINT NOT NULL,
    CHECK ((failures > 0) = (failing_since IS NOT NULL)),
    CHECK (probe_at IS NULL OR failing_since IS NOT NULL)
);

-- What the owner of an endpoint has to know although nobody asked.
CREATE TABLE notices (
    id TEXT COLLATE "C" PRIMARY KEY,
    account_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('endpoint_failing', 'endpoint_disabled')),
    detail TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX notices_by_account ON notices (account_id, id);

-- A secret signs the header that can carry one signature from `promoted_at` on, until then its predecessor does.
ALTER TABLE endpoint_secrets ADD COLUMN promoted_at BIGINT;
UPDATE endpoint_secrets SET promoted_at = created_at;

-- A job that sends a range of events again. `cursor` moves in the transaction of what it did: never skipped, never twice.
CREATE TABLE replays (
    id TEXT COLLATE "C" PRIMARY KEY,
    account_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT NOT NULL,
    types TEXT,
    statuses TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('running', 'done', 'canceled')),
    cursor TEXT,
    examined BIGINT NOT NULL DEFAULT 0,
    replayed BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    finished_at BIGINT,
    CHECK ((status = 'running') = (finished_at IS NULL))
);

CREATE INDEX replays_running ON replays (id) WHERE status = 'running';
CREATE INDEX replays_by_endpoint ON replays (endpoint_id, id);
