-- The loyalty program: versions of its rules, tiers, days of customers, refunds, rewards and redemptions, campaigns, fraud rules and
-- cases, churn scores, and jobs. Tables whose constraints change are built anew, because SQLite cannot alter a constraint.

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

INSERT INTO program_versions (account_id, version, schema, rules, actor, created_at)
SELECT p.account_id, p.version, 1, json_object(
        'currency', p.rules ->> '$.currency',
        'time_zone', p.rules ->> '$.time_zone',
        'earning', json_object('rules', json_array(json_object(
            'id', p.rules ->> '$.earn.id', 'name', p.rules ->> '$.earn.name',
            'rates', json_object(p.rules ->> '$.currency', json_object(
                'points', p.rules ->> '$.earn.points', 'per_amount', p.rules ->> '$.earn.per_amount'))))),
        'expiry', CASE WHEN p.rules ->> '$.points_valid_months' IS NULL THEN json_object('kind', 'never')
            ELSE json_object('kind', 'months', 'n', p.rules ->> '$.points_valid_months') END
    ), 'system:bootstrap', a.created_at
FROM programs p JOIN accounts a ON a.id = p.account_id;

-- A tier is retired, never removed.
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

INSERT INTO tiers (id, account_id, name, rank, threshold, created_at)
SELECT t.value ->> '$.id', p.account_id, t.value ->> '$.name', t.key + 1, t.value ->> '$.threshold', a.created_at
FROM programs p JOIN accounts a ON a.id = p.account_id JOIN json_each(p.rules, '$.tiers') t;

-- The tiers that were in force with a version, for those who compare versions; the table has what counts.
UPDATE program_versions SET tiers = (
    SELECT json_group_array(json_object('id', id, 'name', name, 'rank', rank, 'threshold', threshold) ORDER BY rank)
    FROM tiers t WHERE t.account_id = program_versions.account_id);

ALTER TABLE programs DROP COLUMN rules;

ALTER TABLE customers RENAME TO old_customers;

-- The balance stands here, with the customer, because it changes under the lock of this row; it always equals the fold of
-- the ledger. `debt` is what was clawed back after it had been spent: later credits repay it first. Nothing in the customer's lots
-- becomes active or expires before `next_due_at`. A customer whose `tier_review_at` has passed is reviewed by the next sweep.
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

INSERT INTO customers (id, account_id, external_id, email, email_key, phone, phone_key, name, metadata, status, tier_id,
    tier_since, tier_review_at, available, pending, debt, lifetime_earned, lifetime_redeemed, next_due_at, first_purchase_at,
    last_purchase_at, ledger_sequence, event_sequence, created_at, updated_at)
SELECT c.id, c.account_id, c.external_id, c.email, lower(trim(c.email)), c.phone,
    replace(replace(replace(replace(replace(replace(c.phone, ' ', ''), '-', ''), '(', ''), ')', ''), '.', ''), '/', ''),
    c.name, c.metadata, c.status, c.tier_id, c.created_at, CASE WHEN c.status = 'active' AND c.lifetime_earned > 0 THEN 0 END,
    c.available, c.pending, c.debt, c.lifetime_earned, c.lifetime_redeemed, l.next_due_at, t.first_at, t.last_at,
    c.ledger_sequence, c.event_sequence, c.created_at, c.updated_at
FROM old_customers c
LEFT JOIN (SELECT customer_id, MIN(CASE status WHEN 'pending' THEN activates_at ELSE expires_at END) AS next_due_at
    FROM lots WHERE remaining > 0 AND status <> 'canceled' GROUP BY customer_id) l ON l.customer_id = c.id
LEFT JOIN (SELECT customer_id, MIN(occurred_at) AS first_at, MAX(occurred_at) AS last_at
    FROM transactions GROUP BY customer_id) t ON t.customer_id = c.id;

DROP TABLE old_customers;

CREATE INDEX customers_by_account ON customers (account_id, id);
CREATE INDEX customers_by_email ON customers (account_id, email_key, id) WHERE email_key IS NOT NULL;
CREATE INDEX customers_by_phone ON customers (account_id, phone_key, id) WHERE phone_key IS NOT NULL;
CREATE INDEX customers_by_tier ON customers (account_id, tier_id, id);
CREATE INDEX customers_merged ON customers (merged_into_id, id) WHERE merged_into_id IS NOT NULL;
CREATE INDEX customers_due ON customers (next_due_at, id) WHERE next_due_at IS NOT NULL;
CREATE INDEX customers_to_review ON customers (account_id, tier_review_at, id) WHERE tier_review_at IS NOT NULL;

CREATE TABLE customer_tags (
    account_id TEXT NOT NULL,
    tag TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    PRIMARY KEY (account_id, tag, customer_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX customer_tags_by_customer ON customer_tags (customer_id);

-- What happened to a customer on a day of the program's time zone; `day` counts from 1970-01-01. A refund counts on the day of its
-- purchase, so `spend` and `points_qualifying` are net of it. `spend` is in the currency of the program.
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

INSERT INTO customer_days (customer_id, day, account_id, purchases, spend, points_qualifying)
SELECT customer_id, occurred_at / 86400000, account_id, COUNT(*), SUM(amount), SUM(points_earned)
FROM transactions GROUP BY customer_id, occurred_at / 86400000, account_id;

ALTER TABLE transactions RENAME TO old_transactions;

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

INSERT INTO transactions (id, account_id, customer_id, external_id, status, currency, amount, eligible_amount, base_amount,
    items, channel, location_id, employee_id, metadata, points_earned, occurred_at, created_at, actor)
SELECT id, account_id, customer_id, external_id, status, currency, amount, amount, amount, items, channel, location_id,
    employee_id, metadata, points_earned, occurred_at, created_at, actor
FROM old_transactions;

DROP TABLE old_transactions;

CREATE INDEX transactions_by_account ON transactions (account_id, id);
CREATE INDEX transactions_by_customer ON transactions (customer_id, id);

-- `fingerprint`: SHA-256 of what was requested, so that a repeated request is told from another one with its external id.
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
CREATE INDEX refunds_by_transaction ON refunds (transaction_id, id);
CREATE INDEX refunds_by_customer ON refunds (customer_id, id);

ALTER TABLE ledger_entries RENAME TO old_ledger_entries;

-- `qualifying_day`: the local day on which the points count toward tiers. NULL: they do not count, or with their purchase.
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

INSERT INTO ledger_entries (id, account_id, customer_id, sequence, type, points, balance_after, pending_after, source_type,
    source_id, part, reverses_entry_id, reason_code, note, actor, rules, occurred_at, created_at)
SELECT e.id, c.account_id, e.customer_id, e.sequence, CASE e.type WHEN 'promo_earn' THEN 'earn' ELSE e.type END, e.points,
    e.balance_after, e.pending_after, e.source_type, e.source_id, e.part, e.reverses_entry_id, e.reason_code, e.note, e.actor,
    e.rules, e.occurred_at, e.created_at
FROM old_ledger_entries e JOIN customers c ON c.id = e.customer_id;

DROP TRIGGER ledger_entries_are_never_changed;
DROP TRIGGER ledger_entries_are_never_deleted;
DROP TABLE old_ledger_entries;

CREATE INDEX ledger_entries_by_actor ON ledger_entries (account_id, actor, id) WHERE type = 'adjust';

-- The note beside an entry is the one thing in the ledger that may be erased.
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

ALTER TABLE lots RENAME TO old_lots;

-- One for each credit. `expires_at` is frozen when it is made: a change of policy applies to what is earned after it. A lot that
-- never expires has the first instant of the year 10000. A held lot is pending until its case is closed.
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

INSERT INTO lots (id, account_id, customer_id, entry_id, transaction_id, original, remaining, earned_at, activates_at,
    expires_at, status, created_at)
SELECT l.id, e.account_id, l.customer_id, l.entry_id, CASE e.source_type WHEN 'transaction' THEN e.source_id END, l.original,
    l.remaining, l.earned_at, l.activates_at, COALESCE(l.expires_at, 253402300800000), l.status, l.created_at
FROM old_lots l JOIN ledger_entries e ON e.id = l.entry_id;

DROP TABLE old_lots;

CREATE INDEX lots_by_customer ON lots (customer_id, id);
CREATE INDEX lots_to_spend ON lots (customer_id, expires_at, id) WHERE remaining > 0;
CREATE INDEX lots_by_transaction ON lots (transaction_id, id) WHERE transaction_id IS NOT NULL;

ALTER TABLE allocations RENAME TO old_allocations;

-- What entries took out of lots; `restore` puts back, so its points are negative. Of each lot, the original is what remains and
-- the sum of its allocations.
CREATE TABLE allocations (
    entry_id TEXT NOT NULL,
    lot_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('spend', 'absorb', 'claw', 'expire', 'cancel', 'restore', 'merge')),
    points INTEGER NOT NULL CHECK (points <> 0 AND (points < 0) = (kind = 'restore')),
    PRIMARY KEY (entry_id, lot_id, kind)
) STRICT;

INSERT INTO allocations (entry_id, lot_id, kind, points)
SELECT a.entry_id, a.lot_id, CASE e.type WHEN 'earn' THEN 'absorb' WHEN 'activate' THEN 'absorb' WHEN 'expire' THEN 'expire'
    WHEN 'cancel_pending' THEN 'cancel' WHEN 'clawback' THEN 'claw' WHEN 'adjust' THEN CASE WHEN e.points > 0 THEN 'absorb'
    ELSE 'spend' END ELSE 'spend' END, a.points
FROM old_allocations a JOIN ledger_entries e ON e.id = a.entry_id;

DROP TABLE old_allocations;

CREATE INDEX allocations_by_lot ON allocations (lot_id);

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

-- A reservation is a debit already; `points_returned` came back.
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
CREATE INDEX redemptions_by_customer ON redemptions (customer_id, id);
CREATE INDEX redemptions_by_transaction ON redemptions (transaction_id, id) WHERE transaction_id IS NOT NULL;
CREATE INDEX redemptions_by_code ON redemptions (account_id, code, id);
CREATE INDEX redemptions_of_reward ON redemptions (customer_id, reward_id) WHERE status IN ('reserved', 'redeemed');
CREATE INDEX redemptions_of_customer_reserved ON redemptions (customer_id, id) WHERE status = 'reserved';
CREATE INDEX redemptions_reserved ON redemptions (reserved_until, id) WHERE status = 'reserved';

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

CREATE TABLE campaign_uses (
    campaign_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    uses INTEGER NOT NULL,
    PRIMARY KEY (campaign_id, customer_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX campaign_uses_by_customer ON campaign_uses (customer_id, campaign_id);

-- The rules that differ from the defaults, which are in the code.
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

-- A closed case is `settling` while it still holds lots.
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

CREATE UNIQUE INDEX fraud_cases_open ON fraud_cases (account_id, rule_code, key_hash) WHERE status = 'open';
CREATE INDEX fraud_cases_by_key ON fraud_cases (key_hash);
CREATE INDEX fraud_cases_by_account ON fraud_cases (account_id, id);
CREATE INDEX fraud_cases_by_customer ON fraud_cases (customer_id, id) WHERE customer_id IS NOT NULL;
CREATE INDEX fraud_cases_by_status ON fraud_cases (account_id, status, id);
CREATE INDEX fraud_cases_by_rule ON fraud_cases (account_id, rule_code, id);
CREATE INDEX fraud_cases_to_lapse ON fraud_cases (last_at, id) WHERE status = 'open';
CREATE INDEX fraud_cases_to_settle ON fraud_cases (settling, id) WHERE settling = 1;

-- The lots that each case holds: a lot is released when the last of its cases is closed.
CREATE TABLE held_lots (
    case_id TEXT NOT NULL,
    lot_id TEXT NOT NULL,
    PRIMARY KEY (case_id, lot_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX held_lots_by_lot ON held_lots (lot_id, case_id);

-- With which customers a value was seen, as its keyed hash, and the object that it was last seen in.
CREATE TABLE identity_values (
    account_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('email', 'phone', 'device', 'payment', 'receipt')),
    hash BLOB NOT NULL,
    customer_id TEXT NOT NULL,
    object_id TEXT NOT NULL,
    last_seen INTEGER NOT NULL,
    PRIMARY KEY (account_id, kind, hash, customer_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX identity_values_by_customer ON identity_values (customer_id);
CREATE INDEX identity_values_by_age ON identity_values (last_seen);

-- The key of an account for the keyed hashes of e-mail addresses, phone numbers, devices and payments, sealed.
CREATE TABLE hash_keys (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id),
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- `next_run_at`: when the next scheduled run is due; 253402300800000 = none is scheduled.
CREATE TABLE churn_settings (
    account_id TEXT PRIMARY KEY,
    settings TEXT NOT NULL,
    next_run_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- `version` is the day as of which a model was made, such as 2026-11-22. Without parameters, scores come from gaps.
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

-- Days count from 1970-01-01. The parameters are a copy of those of the model, which another run of the same day may replace.
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
) STRICT;

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
CREATE INDEX jobs_unfinished ON jobs (id) WHERE status IN ('queued', 'running');
CREATE INDEX jobs_finished ON jobs (finished_at, id) WHERE finished_at IS NOT NULL;

-- The rows that an import was given, and the file that an export makes, in pieces.
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

-- False: the endpoint is not sent what imports cause.
ALTER TABLE endpoints ADD COLUMN imports INTEGER NOT NULL DEFAULT 1 CHECK (imports IN (0, 1));
-- True: an import caused the event.
ALTER TABLE events ADD COLUMN imported INTEGER NOT NULL DEFAULT 0 CHECK (imported IN (0, 1));

ALTER TABLE audit_log ADD COLUMN request_id TEXT;
ALTER TABLE audit_log ADD COLUMN address TEXT;
ALTER TABLE audit_log ADD COLUMN changes TEXT;
