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
    rate_limit INTEGER CHECK (rate_limit > 0),
    headers TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('enabled', 'paused', 'disabled')),
    status_reason TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT;

CREATE INDEX endpoints_by_account ON endpoints (account_id, id) WHERE deleted_at IS NULL;

-- `sealed` is AES-256-GCM with the account's and the endpoint's id as associated data: it opens nowhere else.
CREATE TABLE endpoint_secrets (
    endpoint_id TEXT NOT NULL REFERENCES endpoints (id),
    version INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (endpoint_id, version)
) STRICT;

-- `position` is the order of commits: one connection writes, so a greater position is never seen before a smaller one.
CREATE TABLE events (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    account_id TEXT NOT NULL,
    type TEXT NOT NULL,
    customer_id TEXT,
    sequence INTEGER CHECK (sequence > 0),
    created_at INTEGER NOT NULL,
    owed INTEGER NOT NULL,
    test INTEGER NOT NULL DEFAULT 0 CHECK (test IN (0, 1)),
    body BLOB NOT NULL CHECK (length(body) <= 65536),
    CHECK ((customer_id IS NULL) = (sequence IS NULL)),
    UNIQUE (customer_id, sequence)
) STRICT;

CREATE INDEX events_by_account ON events (account_id, position) WHERE test = 0;

CREATE TRIGGER events_are_frozen BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'events are frozen');
END;

-- A process that delivers. Its id is the lease: the deliveries that carry it are its own until `expires_at`.
CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

-- `customer_id` and `sequence` are set where the endpoint wants one customer's events in order.
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'succeeded', 'exhausted', 'canceled')),
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER NOT NULL,
    lease TEXT,
    first_attempt_at INTEGER,
    customer_id TEXT,
    sequence INTEGER,
    outcome TEXT,
    created_at INTEGER NOT NULL,
    finished_at INTEGER,
    UNIQUE (event_id, endpoint_id),
    CHECK ((status = 'pending') = (finished_at IS NULL)),
    CHECK (lease IS NULL OR status = 'pending'),
    CHECK ((attempts > 0) = (first_attempt_at IS NOT NULL))
) STRICT;

CREATE INDEX deliveries_in_lane ON deliveries (endpoint_id, due_at, id) WHERE status = 'pending' AND lease IS NULL;
CREATE INDEX deliveries_leased ON deliveries (lease) WHERE lease IS NOT NULL;
CREATE INDEX deliveries_in_order ON deliveries (endpoint_id, customer_id, sequence)
    WHERE status = 'pending' AND customer_id IS NOT NULL;
CREATE INDEX deliveries_by_account ON deliveries (account_id, id);
CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint_id, id);

CREATE TABLE attempts (
    delivery_id TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number > 0),
    started_at INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL,
    request_headers TEXT NOT NULL,
    response_status INTEGER,
    response_headers TEXT,
    response_excerpt BLOB,
    response_truncated INTEGER,
    remote_ip TEXT,
    dns_ms REAL,
    connect_ms REAL,
    tls_ms REAL,
    first_byte_ms REAL,
    total_ms REAL,
    PRIMARY KEY (delivery_id, number)
) STRICT;
