-- The schema after every migration, written by `make schema`. Nothing runs it: the migrations make it.

CREATE TABLE accounts (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE allocations (
    entry_id TEXT NOT NULL,
    lot_id TEXT NOT NULL,
    points INTEGER NOT NULL CHECK (points > 0),
    PRIMARY KEY (entry_id, lot_id)
) STRICT;

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    hint TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
, scopes TEXT NOT NULL
    DEFAULT 'read customers transactions points program webhooks admin', requests_per_minute INTEGER CHECK (requests_per_minute > 0), created_by TEXT NOT NULL DEFAULT 'system:bootstrap', expires_at INTEGER, last_used_at INTEGER) STRICT;

CREATE INDEX api_keys_by_account ON api_keys (account_id, id);

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
    total_ms REAL, requests TEXT, responses TEXT,
    PRIMARY KEY (delivery_id, number)
) STRICT;

CREATE TABLE audit_log (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    object_id TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_log_by_account ON audit_log (account_id, id);

CREATE INDEX audit_log_by_actor ON audit_log (account_id, actor, id);

CREATE INDEX audit_log_by_object ON audit_log (account_id, object_id, id);

CREATE TABLE customers (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    external_id TEXT,
    email TEXT,
    phone TEXT,
    name TEXT,
    metadata TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'deleted')),
    tier_id TEXT NOT NULL,
    available INTEGER NOT NULL DEFAULT 0 CHECK (available >= 0),
    pending INTEGER NOT NULL DEFAULT 0 CHECK (pending >= 0),
    debt INTEGER NOT NULL DEFAULT 0 CHECK (debt >= 0),
    lifetime_earned INTEGER NOT NULL DEFAULT 0 CHECK (lifetime_earned >= 0),
    lifetime_redeemed INTEGER NOT NULL DEFAULT 0 CHECK (lifetime_redeemed >= 0),
    ledger_sequence INTEGER NOT NULL DEFAULT 0,
    event_sequence INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (account_id, external_id),
    CHECK (debt = 0 OR available = 0)
) STRICT;

CREATE INDEX customers_by_account ON customers (account_id, id);

CREATE INDEX customers_by_email_and_id ON customers (account_id, email, id) WHERE email IS NOT NULL;

CREATE TABLE "deliveries" (
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

CREATE INDEX deliveries_by_account ON deliveries (account_id, id);

CREATE INDEX deliveries_by_endpoint ON deliveries (endpoint_id, id);

CREATE INDEX deliveries_by_hand ON deliveries (endpoint_id) WHERE fallback_status IS NOT NULL;

CREATE INDEX deliveries_closing ON deliveries (first_attempt_at) WHERE status = 'pending' AND first_attempt_at IS NOT NULL;

CREATE INDEX deliveries_in_lane ON deliveries (endpoint_id, due_at, id) WHERE status = 'pending' AND due_at IS NOT NULL;

CREATE INDEX deliveries_in_order ON deliveries (endpoint_id, customer_id, sequence)
    WHERE status = 'pending' AND customer_id IS NOT NULL;

CREATE INDEX deliveries_waiting ON deliveries (id) WHERE status = 'pending';

CREATE TRIGGER deliveries_move_through_pending BEFORE UPDATE OF status ON deliveries
WHEN OLD.status <> 'pending' AND NEW.status <> 'pending'
BEGIN
    SELECT RAISE(ABORT, 'a finished delivery can only become pending again');
END;

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

CREATE TABLE endpoint_secrets (
    endpoint_id TEXT NOT NULL REFERENCES endpoints (id),
    version INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER, promoted_at INTEGER,
    PRIMARY KEY (endpoint_id, version)
) STRICT;

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
, sealed_headers BLOB) STRICT;

CREATE INDEX endpoints_by_account ON endpoints (account_id, id) WHERE deleted_at IS NULL;

CREATE TABLE erasures (
    customer_id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    through_sequence INTEGER NOT NULL CHECK (through_sequence >= 0),
    event_cursor TEXT,
    transaction_cursor TEXT,
    events INTEGER NOT NULL DEFAULT 0,
    canceled INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    finished_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX erasures_finished ON erasures (finished_at) WHERE finished_at IS NOT NULL;

CREATE INDEX erasures_running ON erasures (customer_id) WHERE finished_at IS NULL;

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
    body BLOB NOT NULL CHECK (length(body) <= 65536), erased_at INTEGER, request_id TEXT CHECK (request_id IS NULL OR erased_at IS NULL), traceparent TEXT CHECK (traceparent IS NULL OR erased_at IS NULL),
    CHECK ((customer_id IS NULL) = (sequence IS NULL)),
    UNIQUE (customer_id, sequence)
) STRICT;

CREATE INDEX events_by_account ON events (account_id, position) WHERE test = 0;

CREATE TRIGGER events_are_frozen BEFORE UPDATE ON events WHEN NEW.erased_at IS NULL OR OLD.erased_at IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'events are frozen');
END;

CREATE TABLE idempotency_keys (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    status_code INTEGER NOT NULL,
    body BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (account_id, key)
) STRICT;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

CREATE TABLE job_runs (
    job TEXT PRIMARY KEY,
    process TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    pieces INTEGER NOT NULL CHECK (pieces >= 0),
    items INTEGER NOT NULL CHECK (items >= 0),
    error TEXT,
    changed_at INTEGER,
    changed_items INTEGER,
    CHECK ((changed_at IS NULL) = (changed_items IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    delivery_id TEXT PRIMARY KEY,
    worker TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    attempt INTEGER NOT NULL CHECK (attempt > 0),
    started_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX leases_by_worker ON leases (worker);

CREATE TABLE ledger_entries (
    id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL,
    sequence INTEGER NOT NULL CHECK (sequence > 0),
    type TEXT NOT NULL CHECK (type IN ('earn', 'promo_earn', 'redeem', 'redeem_reversal', 'clawback', 'expire',
        'adjust', 'activate', 'cancel_pending', 'import')),
    points INTEGER NOT NULL CHECK (points <> 0),
    balance_after INTEGER NOT NULL,
    pending_after INTEGER NOT NULL CHECK (pending_after >= 0),
    source_type TEXT NOT NULL,
    source_id TEXT NOT NULL,
    part INTEGER NOT NULL DEFAULT 0,
    reverses_entry_id TEXT,
    reason_code TEXT,
    note TEXT,
    actor TEXT NOT NULL,
    rules TEXT NOT NULL,
    occurred_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (customer_id, sequence),
    UNIQUE (customer_id, type, source_type, source_id, part)
) STRICT;

CREATE TRIGGER ledger_entries_are_never_changed BEFORE UPDATE ON ledger_entries
WHEN NEW.note IS NOT NULL OR (NEW.id, NEW.customer_id, NEW.sequence, NEW.type, NEW.points, NEW.balance_after,
        NEW.pending_after, NEW.source_type, NEW.source_id, NEW.part, NEW.reverses_entry_id, NEW.reason_code, NEW.actor,
        NEW.rules, NEW.occurred_at, NEW.created_at)
    IS NOT (OLD.id, OLD.customer_id, OLD.sequence, OLD.type, OLD.points, OLD.balance_after,
        OLD.pending_after, OLD.source_type, OLD.source_id, OLD.part, OLD.reverses_entry_id, OLD.reason_code, OLD.actor,
        OLD.rules, OLD.occurred_at, OLD.created_at)
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER ledger_entries_are_never_deleted BEFORE DELETE ON ledger_entries
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TABLE lots (
    id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL,
    entry_id TEXT NOT NULL,
    original INTEGER NOT NULL CHECK (original > 0),
    remaining INTEGER NOT NULL CHECK (remaining >= 0 AND remaining <= original),
    earned_at INTEGER NOT NULL,
    activates_at INTEGER,
    expires_at INTEGER,
    status TEXT NOT NULL CHECK (status IN ('pending', 'active', 'canceled')),
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX lots_by_customer ON lots (customer_id, id);

CREATE INDEX lots_to_expire ON lots (expires_at) WHERE remaining > 0 AND expires_at IS NOT NULL;

CREATE INDEX lots_to_spend ON lots (customer_id, expires_at, id) WHERE remaining > 0;

CREATE TABLE "notices" (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('endpoint_failing', 'endpoint_disabled', 'deliveries_given_up')),
    detail TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX notices_by_account ON notices (account_id, id);

CREATE TABLE programs (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id),
    rules TEXT NOT NULL,
    version INTEGER NOT NULL
) STRICT;

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

CREATE INDEX replays_by_endpoint ON replays (endpoint_id, id);

CREATE INDEX replays_running ON replays (id) WHERE status = 'running';

CREATE TABLE schema_migrations (
    name TEXT PRIMARY KEY,
    checksum TEXT NOT NULL,
    applied_at BIGINT NOT NULL,
    compatible BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE transactions (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    external_id TEXT,
    status TEXT NOT NULL CHECK (status IN ('completed')),
    currency TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    items TEXT NOT NULL,
    channel TEXT,
    location_id TEXT,
    employee_id TEXT,
    metadata TEXT NOT NULL,
    points_earned INTEGER NOT NULL CHECK (points_earned >= 0),
    occurred_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL, actor TEXT,
    UNIQUE (account_id, external_id)
) STRICT;

CREATE INDEX transactions_by_account ON transactions (account_id, id);

CREATE INDEX transactions_by_customer ON transactions (customer_id, id);

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    email TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('owner', 'member')),
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
