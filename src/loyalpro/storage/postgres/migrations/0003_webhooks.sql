-- Events, the endpoints that want them, and what is owed to whom.
-- The hot tables have no foreign keys: each insert would lock the row of a busy account or endpoint, and nothing that
-- they point to is ever deleted before them.

CREATE TABLE endpoints (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    url TEXT NOT NULL,
    description TEXT,
    types TEXT NOT NULL,
    ordering TEXT NOT NULL CHECK (ordering IN ('none', 'customer')),
    rate_limit BIGINT CHECK (rate_limit > 0),
    headers TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('enabled', 'paused', 'disabled')),
    status_reason TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
);

CREATE INDEX endpoints_by_account ON endpoints (account_id, id) WHERE deleted_at IS NULL;

-- `sealed` is AES-256-GCM with the account's and the endpoint's id as associated data: it opens nowhere else.
CREATE TABLE endpoint_secrets (
    endpoint_id TEXT NOT NULL REFERENCES endpoints (id),
    version BIGINT NOT NULL,
    sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    PRIMARY KEY (endpoint_id, version)
);

-- `(transaction_id, position)` is an order in which nothing ever appears late: a reader stops at the oldest transaction
-- that is still open (`pg_snapshot_xmin`), and every transaction after it has a greater id.
CREATE TABLE events (
    position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction_id XID8 NOT NULL DEFAULT pg_current_xact_id(),
    id TEXT NOT NULL UNIQUE,
    account_id TEXT NOT NULL,
    type TEXT NOT NULL,
    customer_id TEXT,
    sequence BIGINT CHECK (sequence > 0),
    created_at BIGINT NOT NULL,
    owed BIGINT NOT NULL,
    test BIGINT NOT NULL DEFAULT 0 CHECK (test IN (0, 1)),
    body BYTEA NOT NULL CHECK (length(body) <= 65536),
    CHECK ((customer_id IS NULL) = (sequence IS NULL)),
    UNIQUE (customer_id, sequence)
);

CREATE INDEX events_by_account ON events (account_id, transaction_id, position) WHERE test = 0;

CREATE FUNCTION refuse_event_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are frozen';
END;
$$;

CREATE TRIGGER events_are_frozen BEFORE UPDATE ON events
    FOR EACH ROW EXECUTE FUNCTION refuse_event_update();

-- A process that delivers. Its id is the lease: the deliveries that carry it are its own until `expires_at`.
CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    pid BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- `customer_id` and `sequence` are set where the endpoint wants one customer's events in order.
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'succeeded', 'exhausted', 'canceled')),
    attempts BIGINT NOT NULL DEFAULT 0,
    due_at BIGINT NOT NULL,
    lease TEXT,
    first_attempt_at BIGINT,
    customer_id TEXT,
    sequence BIGINT,
    outcome TEXT,
    created_at BIGINT NOT NULL,
    finished_at BIGINT,
    UNIQUE (event_id, endpoint_id),
    CHECK ((status = 'pending') = (finished_at IS NULL)),
    CHECK (lease IS NULL OR status = 'pending'),
    CHECK ((attempts > 0) = (first_attempt_at IS NOT NULL))
);

CREATE INDEX deliveries_in_lane ON deliveries (endpoint_id, due_at, id) WHERE status = 'pending' AND lease IS NULL;
CREATE INDEX deliveries_leased ON deliveries (lease) WHERE lease IS NOT NULL;
CREATE INDEX deliveries_in_order ON deliveries (endpoint_id, customer_id, sequence)
    WHERE status = 'pending' AND customer_id IS NOT NULL;
CREATE INDEX deliveries_by_account ON deliveries (account_id, id);
CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint_id, id);

CREATE TABLE attempts (
    delivery_id TEXT NOT NULL,
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
);
