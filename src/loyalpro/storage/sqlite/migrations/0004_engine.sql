-- The delivery engine: who sends what now, how each endpoint is doing, and jobs that replay.

-- A delivery's id is made of its event's and its endpoint's: there can be only one for the two.
-- `due_at` is NULL while an earlier event of the same customer is still on its way to an endpoint that wants them in order.
-- `fallback_*` is set while an attempt is made by hand: where the delivery goes back to when that attempt fails.
-- `uncounted_attempts` are those that the retry schedule does not count: made by hand, or before a replay.
CREATE TABLE new_deliveries (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'succeeded', 'exhausted', 'canceled')),
    attempts INTEGER NOT NULL DEFAULT 0,
    uncounted_attempts INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER,
    first_attempt_at INTEGER,
    customer_id TEXT,
    sequence INTEGER,
    outcome TEXT,
    fallback_status TEXT CHECK (fallback_status IN ('pending', 'succeeded', 'exhausted', 'canceled')),
    fallback_due_at INTEGER,
    created_at INTEGER NOT NULL,
    finished_at INTEGER,
    CHECK ((status = 'pending') = (finished_at IS NULL)),
    CHECK (due_at IS NOT NULL OR customer_id IS NOT NULL),
    CHECK (fallback_status IS NULL OR status = 'pending'),
    CHECK (uncounted_attempts BETWEEN 0 AND attempts)
) STRICT, WITHOUT ROWID;

INSERT INTO new_deliveries (id, account_id, endpoint_id, event_id, event_type, status, attempts, due_at, first_attempt_at,
    customer_id, sequence, outcome, created_at, finished_at)
SELECT 'dlv_' || substr(d.event_id, 5) || substr(d.endpoint_id, -10), d.account_id, d.endpoint_id, d.event_id, e.type,
    d.status, d.attempts, d.due_at, d.first_attempt_at, d.customer_id, d.sequence, d.outcome, d.created_at, d.finished_at
FROM deliveries d JOIN events e ON e.id = d.event_id;

UPDATE attempts SET delivery_id = (
    SELECT 'dlv_' || substr(d.event_id, 5) || substr(d.endpoint_id, -10) FROM deliveries d WHERE d.id = delivery_id);

DROP TABLE deliveries;
ALTER TABLE new_deliveries RENAME TO deliveries;

CREATE INDEX deliveries_in_lane ON deliveries (endpoint_id, due_at, id) WHERE status = 'pending' AND due_at IS NOT NULL;
CREATE INDEX deliveries_in_order ON deliveries (endpoint_id, customer_id, sequence)
    WHERE status = 'pending' AND customer_id IS NOT NULL;
CREATE INDEX deliveries_closing ON deliveries (first_attempt_at) WHERE status = 'pending' AND first_attempt_at IS NOT NULL;
CREATE INDEX deliveries_by_hand ON deliveries (endpoint_id) WHERE fallback_status IS NOT NULL;
CREATE INDEX deliveries_by_account ON deliveries (account_id, id);
CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint_id, id);

CREATE TRIGGER deliveries_move_through_pending BEFORE UPDATE OF status ON deliveries
WHEN OLD.status <> 'pending' AND NEW.status <> 'pending'
BEGIN
    SELECT RAISE(ABORT, 'a finished delivery can only become pending again');
END;

-- What is being sent now, and by whom. The row is the lease: it goes with the outcome, or when its worker is given up.
CREATE TABLE leases (
    delivery_id TEXT PRIMARY KEY,
    worker TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt > 0),
    started_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX leases_by_worker ON leases (worker);

-- How an endpoint that has failed is doing; no row: well. `probe_at` is set while the breaker is open.
CREATE TABLE endpoint_health (
    endpoint_id TEXT PRIMARY KEY,
    failures INTEGER NOT NULL CHECK (failures >= 0),
    failing_since INTEGER,
    probes INTEGER NOT NULL CHECK (probes >= 0),
    probe_at INTEGER,
    recovered_at INTEGER,
    warned_days INTEGER NOT NULL,
    CHECK ((failures > 0) = (failing_since IS NOT NULL)),
    CHECK (probe_at IS NULL OR failing_since IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- What the owner of an endpoint has to know although nobody asked.
CREATE TABLE notices (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('endpoint_failing', 'endpoint_disabled')),
    detail TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX notices_by_account ON notices (account_id, id);

-- A secret signs the header that can carry one signature from `promoted_at` on, until then its predecessor does.
ALTER TABLE endpoint_secrets ADD COLUMN promoted_at INTEGER;
UPDATE endpoint_secrets SET promoted_at = created_at;

-- A job that sends a range of events again. `cursor` moves in the transaction of what it did: never skipped, never twice.
CREATE TABLE replays (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    types TEXT,
    statuses TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('running', 'done', 'canceled')),
    cursor TEXT,
    examined INTEGER NOT NULL DEFAULT 0,
    replayed INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    finished_at INTEGER,
    CHECK ((status = 'running') = (finished_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX replays_running ON replays (id) WHERE status = 'running';
CREATE INDEX replays_by_endpoint ON replays (endpoint_id, id);

-- An erased customer's events keep their place and lose what they said.
ALTER TABLE events ADD COLUMN erased_at INTEGER;
DROP TRIGGER events_are_frozen;
CREATE TRIGGER events_are_frozen BEFORE UPDATE ON events WHEN NEW.erased_at IS NULL OR OLD.erased_at IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'events are frozen');
END;
CREATE INDEX events_by_age ON events (created_at);
