-- The schema after every migration, written by `make schema`. Nothing runs it: the migrations make it.

CREATE TABLE accounts (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL
, requires_second_factor INTEGER NOT NULL DEFAULT 0 CHECK (requires_second_factor IN (0, 1)), support_points_limit INTEGER CHECK (support_points_limit >= 0)) STRICT;

CREATE TABLE adjustments (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    external_id TEXT,
    points INTEGER NOT NULL CHECK (points <> 0),
    reason_code TEXT NOT NULL,
    expires_at INTEGER,
    counts_toward_tier INTEGER NOT NULL CHECK (counts_toward_tier IN (0, 1)),
    allow_negative INTEGER NOT NULL CHECK (allow_negative IN (0, 1)),
    entry_id TEXT NOT NULL,
    lot_id TEXT,
    actor TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (account_id, external_id),
    CHECK ((points > 0) = (lot_id IS NOT NULL))
) STRICT;

CREATE INDEX adjustments_by_customer ON adjustments (customer_id, id);

CREATE TABLE allocations (
    entry_id TEXT NOT NULL,
    lot_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('spend', 'absorb', 'claw', 'expire', 'cancel', 'restore', 'merge')),
    points INTEGER NOT NULL CHECK (points <> 0 AND (points < 0) = (kind = 'restore')),
    PRIMARY KEY (entry_id, lot_id, kind)
) STRICT;

CREATE INDEX allocations_by_lot ON allocations (lot_id);

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
, request_id TEXT, address TEXT, changes TEXT) STRICT, WITHOUT ROWID;

CREATE INDEX audit_log_by_account ON audit_log (account_id, id);

CREATE INDEX audit_log_by_actor ON audit_log (account_id, actor, id);

CREATE INDEX audit_log_by_object ON audit_log (account_id, object_id, id);

CREATE TABLE campaign_uses (
    campaign_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    uses INTEGER NOT NULL,
    PRIMARY KEY (campaign_id, customer_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX campaign_uses_by_customer ON campaign_uses (customer_id, campaign_id);

CREATE TABLE campaigns (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('multiplier', 'bonus')),
    multiplier_permille INTEGER CHECK (multiplier_permille > 0),
    points INTEGER CHECK (points > 0),
    match TEXT,
    min_spend INTEGER,
    tags TEXT NOT NULL DEFAULT '[]',
    tier_ids TEXT NOT NULL DEFAULT '[]',
    starts_at INTEGER NOT NULL,
    ends_at INTEGER,
    weekdays TEXT NOT NULL DEFAULT '[]',
    limit_per_customer INTEGER CHECK (limit_per_customer > 0),
    status TEXT NOT NULL CHECK (status IN ('active', 'paused', 'archived')),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CHECK ((kind = 'multiplier') = (multiplier_permille IS NOT NULL)),
    CHECK ((kind = 'bonus') = (points IS NOT NULL))
) STRICT;

CREATE INDEX campaigns_by_account ON campaigns (account_id, id);

CREATE TABLE churn_models (
    account_id TEXT NOT NULL,
    version TEXT NOT NULL,
    parameters TEXT,
    gap_days REAL,
    fitted_customers INTEGER NOT NULL,
    log_likelihood REAL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (account_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE churn_runs (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    as_of INTEGER NOT NULL,
    requested INTEGER NOT NULL CHECK (requested IN (0, 1)),
    baseline INTEGER NOT NULL CHECK (baseline IN (0, 1)),
    actor TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed')),
    cursor TEXT NOT NULL,
    settings TEXT,
    announcement TEXT CHECK (announcement IN ('report', 'silent', 'emit')),
    model_version TEXT,
    parameters TEXT,
    low INTEGER NOT NULL,
    medium INTEGER NOT NULL,
    high INTEGER NOT NULL,
    events INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    claimed_until INTEGER
, histogram TEXT) STRICT;

CREATE INDEX churn_runs_by_account ON churn_runs (account_id, id);

CREATE INDEX churn_runs_unfinished ON churn_runs (account_id, id) WHERE status IN ('queued', 'running');

CREATE TABLE churn_scores (
    customer_id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    score REAL NOT NULL CHECK (score BETWEEN 0 AND 1),
    p_alive REAL,
    p_purchase REAL,
    model_version TEXT NOT NULL,
    scored_at INTEGER NOT NULL,
    level TEXT NOT NULL CHECK (level IN ('low', 'medium', 'high')),
    level_since INTEGER NOT NULL,
    last_purchase_on INTEGER NOT NULL,
    medium_event_on INTEGER,
    high_event_on INTEGER
) STRICT;

CREATE INDEX churn_scores_by_account ON churn_scores (account_id, customer_id);

CREATE INDEX churn_scores_by_level ON churn_scores (account_id, level, customer_id);

CREATE TABLE churn_settings (
    account_id TEXT PRIMARY KEY,
    settings TEXT NOT NULL,
    next_run_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE customer_days (
    customer_id TEXT NOT NULL,
    day INTEGER NOT NULL,
    account_id TEXT NOT NULL,
    purchases INTEGER NOT NULL DEFAULT 0,
    spend INTEGER NOT NULL DEFAULT 0,
    points_qualifying INTEGER NOT NULL DEFAULT 0,
    refunds INTEGER NOT NULL DEFAULT 0,
    refunded INTEGER NOT NULL DEFAULT 0,
    redemptions INTEGER NOT NULL DEFAULT 0,
    points_redeemed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (customer_id, day)
) STRICT, WITHOUT ROWID;

CREATE TABLE customer_tags (
    account_id TEXT NOT NULL,
    tag TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    PRIMARY KEY (account_id, tag, customer_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX customer_tags_by_customer ON customer_tags (customer_id);

CREATE TABLE customers (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    external_id TEXT,
    email TEXT,
    email_key TEXT,
    phone TEXT,
    phone_key TEXT,
    name TEXT,
    tags TEXT NOT NULL DEFAULT '[]',
    metadata TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'merged', 'deleted')),
    merged_into_id TEXT,
    tier_id TEXT NOT NULL,
    tier_since INTEGER NOT NULL DEFAULT 0,
    tier_review_at INTEGER,
    tier_locked_until INTEGER,
    tier_lock_reason TEXT,
    available INTEGER NOT NULL DEFAULT 0 CHECK (available >= 0),
    pending INTEGER NOT NULL DEFAULT 0 CHECK (pending >= 0),
    debt INTEGER NOT NULL DEFAULT 0 CHECK (debt >= 0),
    lifetime_earned INTEGER NOT NULL DEFAULT 0 CHECK (lifetime_earned >= 0),
    lifetime_redeemed INTEGER NOT NULL DEFAULT 0 CHECK (lifetime_redeemed >= 0),
    points_expire_at INTEGER,
    next_due_at INTEGER,
    first_purchase_at INTEGER,
    last_purchase_at INTEGER,
    security_changed_at INTEGER,
    earning_blocked INTEGER NOT NULL DEFAULT 0 CHECK (earning_blocked IN (0, 1)),
    redeeming_blocked INTEGER NOT NULL DEFAULT 0 CHECK (redeeming_blocked IN (0, 1)),
    ledger_sequence INTEGER NOT NULL DEFAULT 0,
    event_sequence INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (account_id, external_id),
    CHECK (debt = 0 OR available = 0),
    CHECK ((status = 'merged') = (merged_into_id IS NOT NULL))
) STRICT;

CREATE INDEX customers_by_account ON customers (account_id, id);

CREATE INDEX customers_by_email ON customers (account_id, email_key, id) WHERE email_key IS NOT NULL;

CREATE INDEX customers_by_name ON customers (account_id, lower(name), id) WHERE name IS NOT NULL;

CREATE INDEX customers_by_phone ON customers (account_id, phone_key, id) WHERE phone_key IS NOT NULL;

CREATE INDEX customers_by_tier ON customers (account_id, tier_id, id);

CREATE INDEX customers_due ON customers (next_due_at, id) WHERE next_due_at IS NOT NULL;

CREATE INDEX customers_merged ON customers (merged_into_id, id) WHERE merged_into_id IS NOT NULL;

CREATE INDEX customers_to_review ON customers (account_id, tier_review_at, id) WHERE tier_review_at IS NOT NULL;

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

CREATE INDEX deliveries_canceled ON deliveries (account_id, id) WHERE status = 'canceled';

CREATE INDEX deliveries_closing ON deliveries (first_attempt_at) WHERE status = 'pending' AND first_attempt_at IS NOT NULL;

CREATE INDEX deliveries_exhausted ON deliveries (account_id, id) WHERE status = 'exhausted';

CREATE INDEX deliveries_given_up ON deliveries (endpoint_id, finished_at) WHERE status = 'exhausted';

CREATE INDEX deliveries_in_lane ON deliveries (endpoint_id, due_at, id) WHERE status = 'pending' AND due_at IS NOT NULL;

CREATE INDEX deliveries_in_order ON deliveries (endpoint_id, customer_id, sequence)
    WHERE status = 'pending' AND customer_id IS NOT NULL;

CREATE INDEX deliveries_pending ON deliveries (account_id, id) WHERE status = 'pending';

CREATE INDEX deliveries_waiting ON deliveries (id) WHERE status = 'pending';

CREATE TRIGGER deliveries_move_through_pending BEFORE UPDATE OF status ON deliveries
WHEN OLD.status <> 'pending' AND NEW.status <> 'pending'
BEGIN
    SELECT RAISE(ABORT, 'a finished delivery can only become pending again');
END;

CREATE TABLE delivery_counters (
    endpoint_id TEXT NOT NULL,
    span_ms INTEGER NOT NULL,
    start_at INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    response_status INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    attempts INTEGER NOT NULL CHECK (attempts > 0),
    last_at INTEGER NOT NULL,
    PRIMARY KEY (endpoint_id, span_ms, start_at, slot, outcome, response_status, bucket)
) STRICT, WITHOUT ROWID;

CREATE INDEX delivery_counters_by_age ON delivery_counters (span_ms, start_at);

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
, sealed_headers BLOB, imports INTEGER NOT NULL DEFAULT 1 CHECK (imports IN (0, 1))) STRICT;

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
    body BLOB NOT NULL CHECK (length(body) <= 65536), erased_at INTEGER, request_id TEXT CHECK (request_id IS NULL OR erased_at IS NULL), traceparent TEXT CHECK (traceparent IS NULL OR erased_at IS NULL), imported INTEGER NOT NULL DEFAULT 0 CHECK (imported IN (0, 1)),
    CHECK ((customer_id IS NULL) = (sequence IS NULL)),
    UNIQUE (customer_id, sequence)
) STRICT;

CREATE INDEX events_by_account ON events (account_id, position) WHERE test = 0;

CREATE TRIGGER events_are_frozen BEFORE UPDATE ON events WHEN NEW.erased_at IS NULL OR OLD.erased_at IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'events are frozen');
END;

CREATE TABLE fraud_cases (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    rule_code TEXT NOT NULL,
    rule_version INTEGER NOT NULL,
    key_type TEXT NOT NULL,
    key_hash BLOB NOT NULL,
    customer_id TEXT,
    measurement TEXT NOT NULL,
    evidence TEXT NOT NULL,
    hits INTEGER NOT NULL CHECK (hits > 0),
    status TEXT NOT NULL CHECK (status IN ('open', 'confirmed', 'false_positive', 'lapsed')),
    shadow INTEGER NOT NULL CHECK (shadow IN (0, 1)),
    action TEXT NOT NULL,
    severity TEXT NOT NULL,
    score INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    resolved_at INTEGER,
    resolved_by TEXT,
    note TEXT,
    settling INTEGER NOT NULL DEFAULT 0 CHECK (settling IN (0, 1) AND (settling = 0 OR status <> 'open'))
) STRICT;

CREATE INDEX fraud_cases_by_account ON fraud_cases (account_id, id);

CREATE INDEX fraud_cases_by_customer ON fraud_cases (customer_id, id) WHERE customer_id IS NOT NULL;

CREATE INDEX fraud_cases_by_key ON fraud_cases (key_hash);

CREATE INDEX fraud_cases_by_rule ON fraud_cases (account_id, rule_code, id);

CREATE INDEX fraud_cases_by_status ON fraud_cases (account_id, status, id);

CREATE UNIQUE INDEX fraud_cases_open ON fraud_cases (account_id, rule_code, key_hash) WHERE status = 'open';

CREATE INDEX fraud_cases_to_lapse ON fraud_cases (last_at, id) WHERE status = 'open';

CREATE INDEX fraud_cases_to_settle ON fraud_cases (settling, id) WHERE settling = 1;

CREATE TABLE fraud_rules (
    account_id TEXT NOT NULL,
    code TEXT NOT NULL,
    params TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('flag', 'hold', 'block')),
    severity TEXT NOT NULL CHECK (severity IN ('low', 'medium', 'high')),
    score INTEGER NOT NULL CHECK (score BETWEEN 0 AND 100),
    cooldown_ms INTEGER NOT NULL CHECK (cooldown_ms >= 0),
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    shadow INTEGER NOT NULL CHECK (shadow IN (0, 1)),
    version INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (account_id, code)
) STRICT, WITHOUT ROWID;

CREATE TABLE hash_keys (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id),
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE held_lots (
    case_id TEXT NOT NULL,
    lot_id TEXT NOT NULL,
    PRIMARY KEY (case_id, lot_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX held_lots_by_lot ON held_lots (lot_id, case_id);

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

CREATE TABLE identity_values (
    account_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('email', 'phone', 'device', 'payment', 'receipt')),
    hash BLOB NOT NULL,
    customer_id TEXT NOT NULL,
    object_id TEXT NOT NULL,
    last_seen INTEGER NOT NULL,
    PRIMARY KEY (account_id, kind, hash, customer_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX identity_values_by_age ON identity_values (last_seen);

CREATE INDEX identity_values_by_customer ON identity_values (customer_id);

CREATE TABLE invitations (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    digest BLOB NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('owner', 'developer', 'support', 'viewer')),
    note TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX invitations_by_account ON invitations (account_id, id);

CREATE INDEX invitations_by_expiry ON invitations (expires_at);

CREATE TABLE job_pieces (
    job_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (job_id, number)
) STRICT;

CREATE TABLE job_refusals (
    job_id TEXT NOT NULL,
    line INTEGER NOT NULL,
    code TEXT NOT NULL,
    detail TEXT NOT NULL,
    param TEXT,
    PRIMARY KEY (job_id, line)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed', 'canceled')),
    params TEXT NOT NULL,
    cursor TEXT NOT NULL DEFAULT '',
    total INTEGER,
    done INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0,
    refused INTEGER NOT NULL DEFAULT 0,
    result TEXT,
    actor TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    finished_at INTEGER
) STRICT;

CREATE INDEX jobs_by_account ON jobs (account_id, id);

CREATE INDEX jobs_finished ON jobs (finished_at, id) WHERE finished_at IS NOT NULL;

CREATE INDEX jobs_unfinished ON jobs (id) WHERE status IN ('queued', 'running');

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
    account_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    sequence INTEGER NOT NULL CHECK (sequence > 0),
    type TEXT NOT NULL CHECK (type IN ('earn', 'redeem', 'redeem_reversal', 'clawback', 'expire', 'adjust', 'activate',
        'cancel_pending', 'import', 'merge_out', 'merge_in')),
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
    qualifying_day INTEGER,
    UNIQUE (customer_id, sequence),
    UNIQUE (source_id, type, part)
) STRICT;

CREATE INDEX ledger_entries_by_actor ON ledger_entries (account_id, actor, id) WHERE type = 'adjust';

CREATE TRIGGER ledger_entries_are_never_changed BEFORE UPDATE ON ledger_entries
WHEN NEW.note IS NOT NULL OR (NEW.id, NEW.account_id, NEW.customer_id, NEW.sequence, NEW.type, NEW.points, NEW.balance_after,
        NEW.pending_after, NEW.source_type, NEW.source_id, NEW.part, NEW.reverses_entry_id, NEW.reason_code, NEW.actor,
        NEW.rules, NEW.occurred_at, NEW.created_at, NEW.qualifying_day)
    IS NOT (OLD.id, OLD.account_id, OLD.customer_id, OLD.sequence, OLD.type, OLD.points, OLD.balance_after,
        OLD.pending_after, OLD.source_type, OLD.source_id, OLD.part, OLD.reverses_entry_id, OLD.reason_code, OLD.actor,
        OLD.rules, OLD.occurred_at, OLD.created_at, OLD.qualifying_day)
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER ledger_entries_are_never_deleted BEFORE DELETE ON ledger_entries
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TABLE lots (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    entry_id TEXT NOT NULL,
    transaction_id TEXT,
    hold_case_id TEXT,
    original INTEGER NOT NULL CHECK (original > 0),
    remaining INTEGER NOT NULL CHECK (remaining >= 0 AND remaining <= original),
    earned_at INTEGER NOT NULL,
    activates_at INTEGER,
    expires_at INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'active', 'canceled')),
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX lots_by_customer ON lots (customer_id, id);

CREATE INDEX lots_by_transaction ON lots (transaction_id, id) WHERE transaction_id IS NOT NULL;

CREATE INDEX lots_to_spend ON lots (customer_id, expires_at, id) WHERE remaining > 0;

CREATE TABLE members (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    person_id TEXT NOT NULL REFERENCES users (id),
    role TEXT NOT NULL CHECK (role IN ('owner', 'developer', 'support', 'viewer')),
    created_at INTEGER NOT NULL,
    last_seen_at INTEGER,
    PRIMARY KEY (account_id, person_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX members_by_person ON members (person_id);

CREATE TABLE "notices" (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('endpoint_failing', 'endpoint_disabled', 'deliveries_given_up')),
    detail TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX notices_by_account ON notices (account_id, id);

CREATE TABLE program_versions (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    version INTEGER NOT NULL CHECK (version > 0),
    schema INTEGER NOT NULL,
    rules TEXT NOT NULL,
    tiers TEXT NOT NULL DEFAULT '[]',
    actor TEXT NOT NULL,
    note TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (account_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE programs (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id),
    version INTEGER NOT NULL
) STRICT;

CREATE TABLE recovery_codes (
    person_id TEXT NOT NULL REFERENCES users (id),
    digest BLOB NOT NULL,
    PRIMARY KEY (person_id, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE redemptions (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    reward_id TEXT,
    reward TEXT,
    points INTEGER NOT NULL CHECK (points > 0),
    points_returned INTEGER NOT NULL DEFAULT 0 CHECK (points_returned BETWEEN 0 AND points),
    status TEXT NOT NULL CHECK (status IN ('reserved', 'redeemed', 'reversed', 'canceled', 'expired')),
    transaction_id TEXT,
    code TEXT,
    external_id TEXT,
    reserved_until INTEGER,
    captured_at INTEGER,
    ended_at INTEGER,
    actor TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    day INTEGER NOT NULL,
    UNIQUE (account_id, external_id),
    CHECK (status <> 'reserved' OR (reserved_until IS NOT NULL AND points_returned = 0)),
    CHECK (status <> 'redeemed' OR points_returned < points),
    CHECK (status NOT IN ('reversed', 'canceled', 'expired') OR points_returned = points)
) STRICT;

CREATE INDEX redemptions_by_account ON redemptions (account_id, id);

CREATE INDEX redemptions_by_code ON redemptions (account_id, code, id);

CREATE INDEX redemptions_by_customer ON redemptions (customer_id, id);

CREATE INDEX redemptions_by_transaction ON redemptions (transaction_id, id) WHERE transaction_id IS NOT NULL;

CREATE INDEX redemptions_of_customer_reserved ON redemptions (customer_id, id) WHERE status = 'reserved';

CREATE INDEX redemptions_of_reward ON redemptions (customer_id, reward_id) WHERE status IN ('reserved', 'redeemed');

CREATE INDEX redemptions_reserved ON redemptions (reserved_until, id) WHERE status = 'reserved';

CREATE TABLE refunds (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    external_id TEXT,
    fingerprint BLOB NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    items TEXT NOT NULL,
    reason TEXT,
    actor TEXT NOT NULL,
    points_clawed_back INTEGER NOT NULL CHECK (points_clawed_back >= 0),
    points_restored INTEGER NOT NULL CHECK (points_restored >= 0),
    points_shortfall INTEGER NOT NULL CHECK (points_shortfall >= 0),
    points_expired_before INTEGER NOT NULL CHECK (points_expired_before >= 0),
    occurred_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (account_id, external_id)
) STRICT;

CREATE INDEX refunds_by_account ON refunds (account_id, id);

CREATE INDEX refunds_by_customer ON refunds (customer_id, id);

CREATE INDEX refunds_by_transaction ON refunds (transaction_id, id);

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

CREATE TABLE rewards (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL CHECK (type IN ('amount_off', 'percent_off', 'free_item', 'custom')),
    amount INTEGER CHECK (amount > 0),
    currency TEXT,
    percent INTEGER CHECK (percent BETWEEN 1 AND 100),
    sku TEXT,
    cost_points INTEGER NOT NULL CHECK (cost_points > 0),
    min_spend INTEGER CHECK (min_spend >= 0),
    tier_ids TEXT NOT NULL DEFAULT '[]',
    tags TEXT NOT NULL DEFAULT '[]',
    stock INTEGER CHECK (stock >= 0),
    limit_per_customer INTEGER CHECK (limit_per_customer > 0),
    starts_at INTEGER,
    ends_at INTEGER,
    status TEXT NOT NULL CHECK (status IN ('draft', 'active', 'archived')),
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CHECK ((type = 'amount_off') = (amount IS NOT NULL AND currency IS NOT NULL)),
    CHECK ((type = 'percent_off') = (percent IS NOT NULL)),
    CHECK ((type = 'free_item') = (sku IS NOT NULL)),
    CHECK (starts_at < ends_at)
) STRICT;

CREATE INDEX rewards_by_account ON rewards (account_id, id);

CREATE TABLE schema_migrations (
    name TEXT PRIMARY KEY,
    checksum TEXT NOT NULL,
    applied_at BIGINT NOT NULL,
    compatible BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE second_factors (
    person_id TEXT PRIMARY KEY REFERENCES users (id),
    sealed BLOB NOT NULL,
    last_step INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE setup_codes (
    digest BLOB PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE sign_in_tries (
    key BLOB PRIMARY KEY,
    recent TEXT NOT NULL,
    blocks INTEGER NOT NULL,
    blocked_until INTEGER NOT NULL,
    forget_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sign_in_tries_by_age ON sign_in_tries (forget_at);

CREATE TABLE tiers (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL,
    rank INTEGER NOT NULL CHECK (rank > 0),
    threshold INTEGER NOT NULL CHECK (threshold >= 0),
    multiplier_permille INTEGER NOT NULL DEFAULT 1000 CHECK (multiplier_permille >= 0),
    benefits TEXT NOT NULL DEFAULT '[]',
    created_at INTEGER NOT NULL,
    retired_at INTEGER
) STRICT;

CREATE INDEX tiers_by_account ON tiers (account_id, rank, id);

CREATE TABLE transactions (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    external_id TEXT,
    status TEXT NOT NULL CHECK (status IN ('completed', 'partially_refunded', 'refunded')),
    currency TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    tax_amount INTEGER NOT NULL DEFAULT 0,
    shipping_amount INTEGER NOT NULL DEFAULT 0,
    tip_amount INTEGER NOT NULL DEFAULT 0,
    gift_card_amount INTEGER NOT NULL DEFAULT 0,
    points_discount_amount INTEGER NOT NULL DEFAULT 0,
    eligible_amount INTEGER NOT NULL DEFAULT 0,
    base_amount INTEGER NOT NULL DEFAULT 0,
    items TEXT NOT NULL,
    channel TEXT,
    location_id TEXT,
    employee_id TEXT,
    metadata TEXT NOT NULL,
    points_earned INTEGER NOT NULL CHECK (points_earned >= 0),
    program_version INTEGER NOT NULL DEFAULT 1,
    priced TEXT,
    source TEXT NOT NULL DEFAULT 'api',
    payment_fingerprint BLOB,
    device_id BLOB,
    refunded_amount INTEGER NOT NULL DEFAULT 0,
    points_clawed_back INTEGER NOT NULL DEFAULT 0 CHECK (points_clawed_back >= 0),
    points_restored INTEGER NOT NULL DEFAULT 0 CHECK (points_restored >= 0),
    points_shortfall INTEGER NOT NULL DEFAULT 0 CHECK (points_shortfall >= 0),
    occurred_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    actor TEXT,
    UNIQUE (account_id, external_id),
    CHECK (refunded_amount BETWEEN 0 AND amount)
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
, name TEXT NOT NULL DEFAULT '', time_zone TEXT, theme TEXT NOT NULL DEFAULT 'system' CHECK (theme IN ('system', 'light', 'dark')), shortcuts INTEGER NOT NULL DEFAULT 1 CHECK (shortcuts IN (0, 1)), has_second_factor INTEGER NOT NULL DEFAULT 0 CHECK (has_second_factor IN (0, 1))) STRICT;

CREATE UNIQUE INDEX users_by_email ON users (lower(email));

CREATE TRIGGER users_are_members AFTER INSERT ON users
BEGIN
    INSERT INTO members (account_id, person_id, role, created_at)
    VALUES (NEW.account_id, NEW.id, CASE NEW.role WHEN 'owner' THEN 'owner' ELSE 'viewer' END, NEW.created_at);
END;

CREATE TABLE web_sessions (
    id TEXT PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    person_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    proved_at INTEGER NOT NULL,
    awaits_code INTEGER NOT NULL CHECK (awaits_code IN (0, 1)),
    address TEXT,
    user_agent TEXT,
    FOREIGN KEY (account_id, person_id) REFERENCES members (account_id, person_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX web_sessions_by_member ON web_sessions (account_id, person_id);

CREATE INDEX web_sessions_by_person ON web_sessions (person_id);

CREATE INDEX web_sessions_by_use ON web_sessions (used_at);

CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
