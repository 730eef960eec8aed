-- The loyalty program: versions of its rules, tiers, days of customers, refunds, rewards and redemptions, campaigns, fraud rules and
-- cases, churn scores, and jobs.

CREATE TABLE program_versions (
    account_id TEXT NOT NULL REFERENCES accounts (id),
    version BIGINT NOT NULL CHECK (version > 0),
    schema BIGINT NOT NULL,
    rules TEXT NOT NULL,
    tiers TEXT NOT NULL DEFAULT '[]',
    actor TEXT NOT NULL,
    note TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, version)
);

INSERT INTO program_versions (account_id, version, schema, rules, actor, created_at)
SELECT p.account_id, p.version, 1, json_build_object(
        'currency', r ->> 'currency',
        'time_zone', r ->> 'time_zone',
        'earning', json_build_object('rules', json_build_array(json_build_object(
            'id', r -> 'earn' ->> 'id', 'name', r -> 'earn' ->> 'name',
            'rates', json_build_object(r ->> 'currency', json_build_object(
                'points', r -> 'earn' -> 'points', 'per_amount', r -> 'earn' -> 'per_amount'))))),
        'expiry', CASE WHEN r ->> 'points_valid_months' IS NULL THEN json_build_object('kind', 'never')
            ELSE json_build_object('kind', 'months', 'n', r -> 'points_valid_months') END
    )::text, 'system:bootstrap', a.created_at
FROM programs p JOIN accounts a ON a.id = p.account_id CROSS JOIN LATERAL (SELECT p.rules::jsonb AS r) parsed;

-- A tier is retired, never removed.
CREATE TABLE tiers (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL,
    rank BIGINT NOT NULL CHECK (rank > 0),
    threshold BIGINT NOT NULL CHECK (threshold >= 0),
    multiplier_permille BIGINT NOT NULL DEFAULT 1000 CHECK (multiplier_permille >= 0),
    benefits TEXT NOT NULL DEFAULT '[]',
    created_at BIGINT NOT NULL,
    retired_at BIGINT
);

CREATE INDEX tiers_by_account ON tiers (account_id, rank, id);

INSERT INTO tiers (id, account_id, name, rank, threshold, created_at)
SELECT t.value ->> 'id', p.account_id, t.value ->> 'name', t.place, (t.value ->> 'threshold')::bigint, a.created_at
FROM programs p JOIN accounts a ON a.id = p.account_id
CROSS JOIN LATERAL jsonb_array_elements(p.rules::jsonb -> 'tiers') WITH ORDINALITY AS t (value, place);

-- The tiers that were in force with a version, for those who compare versions; the table has what counts.
UPDATE program_versions SET tiers = (
    SELECT json_agg(json_build_object('id', id, 'name', name, 'rank', rank, 'threshold', threshold) ORDER BY rank)::text
    FROM tiers t WHERE t.account_id = program_versions.account_id);

ALTER TABLE programs DROP COLUMN rules;

-- Nothing in the customer's lots becomes active or expires before `next_due_at`. A customer whose `tier_review_at` has passed is
-- reviewed by the next sweep.
ALTER TABLE customers
    ADD COLUMN email_key TEXT,
    ADD COLUMN phone_key TEXT,
    ADD COLUMN tags TEXT NOT NULL DEFAULT '[]',
    ADD COLUMN merged_into_id TEXT,
    ADD COLUMN tier_since BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN tier_review_at BIGINT,
    ADD COLUMN tier_locked_until BIGINT,
    ADD COLUMN tier_lock_reason TEXT,
    ADD COLUMN points_expire_at BIGINT,
    ADD COLUMN next_due_at BIGINT,
    ADD COLUMN first_purchase_at BIGINT,
    ADD COLUMN last_purchase_at BIGINT,
    ADD COLUMN security_changed_at BIGINT,
    ADD COLUMN earning_blocked BIGINT NOT NULL DEFAULT 0 CHECK (earning_blocked IN (0, 1)),
    ADD COLUMN redeeming_blocked BIGINT NOT NULL DEFAULT 0 CHECK (redeeming_blocked IN (0, 1)),
    DROP CONSTRAINT customers_status_check,
    ADD CONSTRAINT customers_status_check CHECK (status IN ('active', 'merged', 'deleted')),
    ADD CONSTRAINT customers_merged_check CHECK ((status = 'merged') = (merged_into_id IS NOT NULL));

UPDATE customers c SET email_key = lower(trim(c.email)),
    phone_key = regexp_replace(c.phone, '(?<!^)\+|[^0-9+]', '', 'g'),
    tier_since = c.created_at, tier_review_at = CASE WHEN c.status = 'active' AND c.lifetime_earned > 0 THEN 0 END,
    next_due_at = (SELECT MIN(CASE l.status WHEN 'pending' THEN l.activates_at ELSE l.expires_at END) FROM lots l
        WHERE l.customer_id = c.id AND l.remaining > 0 AND l.status <> 'canceled'),
    first_purchase_at = t.first_at, last_purchase_at = t.last_at
FROM customers d LEFT JOIN (SELECT customer_id, MIN(occurred_at) AS first_at, MAX(occurred_at) AS last_at
    FROM transactions GROUP BY customer_id) t ON t.customer_id = d.id
WHERE d.id = c.id;

DROP INDEX customers_by_email_and_id;
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
);

CREATE INDEX customer_tags_by_customer ON customer_tags (customer_id);

-- What happened to a customer on a day of the program's time zone; `day` counts from 1970-01-01. A refund counts on the day of its
-- purchase, so `spend` and `points_qualifying` are net of it. `spend` is in the currency of the program.
CREATE TABLE customer_days (
    customer_id TEXT NOT NULL,
    day BIGINT NOT NULL,
    account_id TEXT NOT NULL,
    purchases BIGINT NOT NULL DEFAULT 0,
    spend BIGINT NOT NULL DEFAULT 0,
    points_qualifying BIGINT NOT NULL DEFAULT 0,
    refunds BIGINT NOT NULL DEFAULT 0,
    refunded BIGINT NOT NULL DEFAULT 0,
    redemptions BIGINT NOT NULL DEFAULT 0,
    points_redeemed BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (customer_id, day)
);

INSERT INTO customer_days (customer_id, day, account_id, purchases, spend, points_qualifying)
SELECT customer_id, occurred_at / 86400000, account_id, COUNT(*), SUM(amount), SUM(points_earned)
FROM transactions GROUP BY customer_id, occurred_at / 86400000, account_id;

ALTER TABLE transactions
    ADD COLUMN tax_amount BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN shipping_amount BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN tip_amount BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN gift_card_amount BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN points_discount_amount BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN eligible_amount BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN base_amount BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN program_version BIGINT NOT NULL DEFAULT 1,
    ADD COLUMN priced TEXT,
    ADD COLUMN source TEXT NOT NULL DEFAULT 'api',
    ADD COLUMN payment_fingerprint BYTEA,
    ADD COLUMN device_id BYTEA,
    ADD COLUMN refunded_amount BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN points_clawed_back BIGINT NOT NULL DEFAULT 0 CHECK (points_clawed_back >= 0),
    ADD COLUMN points_restored BIGINT NOT NULL DEFAULT 0 CHECK (points_restored >= 0),
    ADD COLUMN points_shortfall BIGINT NOT NULL DEFAULT 0 CHECK (points_shortfall >= 0),
    ADD CONSTRAINT transactions_refunded_check CHECK (refunded_amount BETWEEN 0 AND amount),
    DROP CONSTRAINT transactions_status_check,
    ADD CONSTRAINT transactions_status_check CHECK (status IN ('completed', 'partially_refunded', 'refunded'));

UPDATE transactions SET eligible_amount = amount, base_amount = amount;

-- `fingerprint`: SHA-256 of what was requested, so that a repeated request is told from another one with its external id.
CREATE TABLE refunds (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    external_id TEXT,
    fingerprint BYTEA NOT NULL,
    amount BIGINT NOT NULL CHECK (amount >= 0),
    items TEXT NOT NULL,
    reason TEXT,
    actor TEXT NOT NULL,
    points_clawed_back BIGINT NOT NULL CHECK (points_clawed_back >= 0),
    points_restored BIGINT NOT NULL CHECK (points_restored >= 0),
    points_shortfall BIGINT NOT NULL CHECK (points_shortfall >= 0),
    points_expired_before BIGINT NOT NULL CHECK (points_expired_before >= 0),
    occurred_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (account_id, external_id)
);

CREATE INDEX refunds_by_account ON refunds (account_id, id);
CREATE INDEX refunds_by_transaction ON refunds (transaction_id, id);
CREATE INDEX refunds_by_customer ON refunds (customer_id, id);

ALTER TABLE ledger_entries DISABLE TRIGGER ledger_entries_are_never_changed;
-- `qualifying_day`: the local day on which the points count toward tiers. NULL: they do not count, or with their purchase.
ALTER TABLE ledger_entries ADD COLUMN account_id TEXT, ADD COLUMN qualifying_day BIGINT;
UPDATE ledger_entries e SET account_id = c.account_id, type = CASE e.type WHEN 'promo_earn' THEN 'earn' ELSE e.type END
FROM customers c WHERE c.id = e.customer_id;
ALTER TABLE ledger_entries
    ALTER COLUMN account_id SET NOT NULL,
    DROP CONSTRAINT ledger_entries_type_check,
    ADD CONSTRAINT ledger_entries_type_check CHECK (type IN ('earn', 'redeem', 'redeem_reversal', 'clawback', 'expire', 'adjust',
        'activate', 'cancel_pending', 'import', 'merge_out', 'merge_in')),
    DROP CONSTRAINT ledger_entries_customer_id_type_source_type_source_id_part_key,
    ADD CONSTRAINT ledger_entries_source_id_type_part_key UNIQUE (source_id, type, part);

ALTER TABLE ledger_entries ENABLE TRIGGER ledger_entries_are_never_changed;
CREATE INDEX ledger_entries_by_actor ON ledger_entries (account_id, actor, id) WHERE type = 'adjust';

-- A lot that never expires has the first instant of the year 10000. A held lot is pending until its case is closed.
ALTER TABLE lots
    ADD COLUMN account_id TEXT,
    ADD COLUMN transaction_id TEXT,
    ADD COLUMN hold_case_id TEXT;
UPDATE lots l SET account_id = e.account_id, expires_at = COALESCE(l.expires_at, 253402300800000),
    transaction_id = CASE e.source_type WHEN 'transaction' THEN e.source_id END
FROM ledger_entries e WHERE e.id = l.entry_id;
ALTER TABLE lots ALTER COLUMN account_id SET NOT NULL, ALTER COLUMN expires_at SET NOT NULL;
DROP INDEX lots_to_expire;
CREATE INDEX lots_by_transaction ON lots (transaction_id, id) WHERE transaction_id IS NOT NULL;

-- What entries took out of lots; `restore` puts back, so its points are negative. Of each lot, the original is what remains and
-- the sum of its allocations.
ALTER TABLE allocations ADD COLUMN kind TEXT;
UPDATE allocations a SET kind = CASE e.type WHEN 'earn' THEN 'absorb' WHEN 'activate' THEN 'absorb' WHEN 'expire' THEN 'expire'
    WHEN 'cancel_pending' THEN 'cancel' WHEN 'clawback' THEN 'claw' WHEN 'adjust' THEN CASE WHEN e.points > 0 THEN 'absorb'
    ELSE 'spend' END ELSE 'spend' END
FROM ledger_entries e WHERE e.id = a.entry_id;
ALTER TABLE allocations
    ALTER COLUMN kind SET NOT NULL,
    DROP CONSTRAINT allocations_points_check,
    DROP CONSTRAINT allocations_pkey,
    ADD PRIMARY KEY (entry_id, lot_id, kind),
    ADD CONSTRAINT allocations_kind_check CHECK (kind IN ('spend', 'absorb', 'claw', 'expire', 'cancel', 'restore', 'merge')),
    ADD CONSTRAINT allocations_points_check CHECK (points <> 0 AND (points < 0) = (kind = 'restore'));

CREATE INDEX allocations_by_lot ON allocations (lot_id);

CREATE TABLE adjustments (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    external_id TEXT,
    points BIGINT NOT NULL CHECK (points <> 0),
    reason_code TEXT NOT NULL,
    expires_at BIGINT,
    counts_toward_tier BIGINT NOT NULL CHECK (counts_toward_tier IN (0, 1)),
    allow_negative BIGINT NOT NULL CHECK (allow_negative IN (0, 1)),
    entry_id TEXT NOT NULL,
    lot_id TEXT,
    actor TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (account_id, external_id),
    CHECK ((points > 0) = (lot_id IS NOT NULL))
);

CREATE INDEX adjustments_by_customer ON adjustments (customer_id, id);

CREATE TABLE rewards (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL CHECK (type IN ('amount_off', 'percent_off', 'free_item', 'custom')),
    amount BIGINT CHECK (amount > 0),
    currency TEXT,
    percent BIGINT CHECK (percent BETWEEN 1 AND 100),
    sku TEXT,
    cost_points BIGINT NOT NULL CHECK (cost_points > 0),
    min_spend BIGINT CHECK (min_spend >= 0),
    tier_ids TEXT NOT NULL DEFAULT '[]',
    tags TEXT NOT NULL DEFAULT '[]',
    stock BIGINT CHECK (stock >= 0),
    limit_per_customer BIGINT CHECK (limit_per_customer > 0),
    starts_at BIGINT,
    ends_at BIGINT,
    status TEXT NOT NULL CHECK (status IN ('draft', 'active', 'archived')),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CHECK ((type = 'amount_off') = (amount IS NOT NULL AND currency IS NOT NULL)),
    CHECK ((type = 'percent_off') = (percent IS NOT NULL)),
    CHECK ((type = 'free_item') = (sku IS NOT NULL)),
    CHECK (starts_at < ends_at)
);

CREATE INDEX rewards_by_account ON rewards (account_id, id);

-- A reservation is a debit already; `points_returned` came back.
CREATE TABLE redemptions (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    reward_id TEXT,
    reward TEXT,
    points BIGINT NOT NULL CHECK (points > 0),
    points_returned BIGINT NOT NULL DEFAULT 0 CHECK (points_returned BETWEEN 0 AND points),
    status TEXT NOT NULL CHECK (status IN ('reserved', 'redeemed', 'reversed', 'canceled', 'expired')),
    transaction_id TEXT,
    code TEXT,
    external_id TEXT,
    reserved_until BIGINT,
    captured_at BIGINT,
    ended_at BIGINT,
    actor TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    day BIGINT NOT NULL,
    UNIQUE (account_id, external_id),
    CHECK (status <> 'reserved' OR (reserved_until IS NOT NULL AND points_returned = 0)),
    CHECK (status <> 'redeemed' OR points_returned < points),
    CHECK (status NOT IN ('reversed', 'canceled', 'expired') OR points_returned = points)
);

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
    multiplier_permille BIGINT CHECK (multiplier_permille > 0),
    points BIGINT CHECK (points > 0),
    match TEXT,
    min_spend BIGINT,
    tags TEXT NOT NULL DEFAULT '[]',
    tier_ids TEXT NOT NULL DEFAULT '[]',
    starts_at BIGINT NOT NULL,
    ends_at BIGINT,
    weekdays TEXT NOT NULL DEFAULT '[]',
    limit_per_customer BIGINT CHECK (limit_per_customer > 0),
    status TEXT NOT NULL CHECK (status IN ('active', 'paused', 'archived')),
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CHECK ((kind = 'multiplier') = (multiplier_permille IS NOT NULL)),
    CHECK ((kind = 'bonus') = (points IS NOT NULL))
);

CREATE INDEX campaigns_by_account ON campaigns (account_id, id);

CREATE TABLE campaign_uses (
    campaign_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    uses BIGINT NOT NULL,
    PRIMARY KEY (campaign_id, customer_id)
);

CREATE INDEX campaign_uses_by_customer ON campaign_uses (customer_id, campaign_id);

-- The rules that differ from the defaults, which are in the code.
CREATE TABLE fraud_rules (
    account_id TEXT NOT NULL,
    code TEXT NOT NULL,
    params TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('flag', 'hold', 'block')),
    severity TEXT NOT NULL CHECK (severity IN ('low', 'medium', 'high')),
    score BIGINT NOT NULL CHECK (score BETWEEN 0 AND 100),
    cooldown_ms BIGINT NOT NULL CHECK (cooldown_ms >= 0),
    enabled BIGINT NOT NULL CHECK (enabled IN (0, 1)),
    shadow BIGINT NOT NULL CHECK (shadow IN (0, 1)),
    version BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, code)
);

-- A closed case is `settling` while it still holds lots.
CREATE TABLE fraud_cases (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    rule_code TEXT NOT NULL,
    rule_version BIGINT NOT NULL,
    key_type TEXT NOT NULL,
    key_hash BYTEA NOT NULL,
    customer_id TEXT,
    measurement TEXT NOT NULL,
    evidence TEXT NOT NULL,
    hits BIGINT NOT NULL CHECK (hits > 0),
    status TEXT NOT NULL CHECK (status IN ('open', 'confirmed', 'false_positive', 'lapsed')),
    shadow BIGINT NOT NULL CHECK (shadow IN (0, 1)),
    action TEXT NOT NULL,
    severity TEXT NOT NULL,
    score BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    resolved_at BIGINT,
    resolved_by TEXT,
    note TEXT,
    settling BIGINT NOT NULL DEFAULT 0 CHECK (settling IN (0, 1) AND (settling = 0 OR status <> 'open'))
);

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
);

CREATE INDEX held_lots_by_lot ON held_lots (lot_id, case_id);

-- With which customers a value was seen, as its keyed hash, and the object that it was last seen in.
CREATE TABLE identity_values (
    account_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('email', 'phone', 'device', 'payment', 'receipt')),
    hash BYTEA NOT NULL,
    customer_id TEXT NOT NULL,
    object_id TEXT NOT NULL,
    last_seen BIGINT NOT NULL,
    PRIMARY KEY (account_id, kind, hash, customer_id)
);

CREATE INDEX identity_values_by_customer ON identity_values (customer_id);
CREATE INDEX identity_values_by_age ON identity_values (last_seen);

-- The key of an account for the keyed hashes of e-mail addresses, phone numbers, devices and payments, sealed.
CREATE TABLE hash_keys (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id),
    sealed BYTEA NOT NULL
);

-- `next_run_at`: when the next scheduled run is due; 253402300800000 = none is scheduled.
CREATE TABLE churn_settings (
    account_id TEXT PRIMARY KEY,
    settings TEXT NOT NULL,
    next_run_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- `version` is the day as of which a model was made, such as 2026-11-22. Without parameters, scores come from gaps.
CREATE TABLE churn_models (
    account_id TEXT NOT NULL,
    version TEXT NOT NULL,
    parameters TEXT,
    gap_days DOUBLE PRECISION,
    fitted_customers BIGINT NOT NULL,
    log_likelihood DOUBLE PRECISION,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, version)
);

-- Days count from 1970-01-01. The parameters are a copy of those of the model, which another run of the same day may replace.
CREATE TABLE churn_runs (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    as_of BIGINT NOT NULL,
    requested BIGINT NOT NULL CHECK (requested IN (0, 1)),
    baseline BIGINT NOT NULL CHECK (baseline IN (0, 1)),
    actor TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed')),
    cursor TEXT NOT NULL,
    settings TEXT,
    announcement TEXT CHECK (announcement IN ('report', 'silent', 'emit')),
    model_version TEXT,
    parameters TEXT,
    low BIGINT NOT NULL,
    medium BIGINT NOT NULL,
    high BIGINT NOT NULL,
    events BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    claimed_until BIGINT
);

CREATE INDEX churn_runs_by_account ON churn_runs (account_id, id);
CREATE INDEX churn_runs_unfinished ON churn_runs (account_id, id) WHERE status IN ('queued', 'running');

CREATE TABLE churn_scores (
    customer_id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    score DOUBLE PRECISION NOT NULL CHECK (score BETWEEN 0 AND 1),
    p_alive DOUBLE PRECISION,
    p_purchase DOUBLE PRECISION,
    model_version TEXT NOT NULL,
    scored_at BIGINT NOT NULL,
    level TEXT NOT NULL CHECK (level IN ('low', 'medium', 'high')),
    level_since BIGINT NOT NULL,
    last_purchase_on BIGINT NOT NULL,
    medium_event_on BIGINT,
    high_event_on BIGINT
);

CREATE INDEX churn_scores_by_account ON churn_scores (account_id, customer_id);
CREATE INDEX churn_scores_by_level ON churn_scores (account_id, level, customer_id);

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('queued', 'running', 'done', 'failed', 'canceled')),
    params TEXT NOT NULL,
    cursor TEXT NOT NULL DEFAULT '',
    total BIGINT,
    done BIGINT NOT NULL DEFAULT 0,
    unchanged BIGINT NOT NULL DEFAULT 0,
    refused BIGINT NOT NULL DEFAULT 0,
    result TEXT,
    actor TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    finished_at BIGINT
);

CREATE INDEX jobs_by_account ON jobs (account_id, id);
CREATE INDEX jobs_unfinished ON jobs (id) WHERE status IN ('queued', 'running');
CREATE INDEX jobs_finished ON jobs (finished_at, id) WHERE finished_at IS NOT NULL;

-- The rows that an import was given, and the file that an export makes, in pieces.
CREATE TABLE job_pieces (
    job_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (job_id, number)
);

CREATE TABLE job_refusals (
    job_id TEXT NOT NULL,
    line BIGINT NOT NULL,
    code TEXT NOT NULL,
    detail TEXT NOT NULL,
    param TEXT,
    PRIMARY KEY (job_id, line)
);

-- False: the endpoint is not sent what imports cause.
ALTER TABLE endpoints ADD COLUMN imports BIGINT NOT NULL DEFAULT 1 CHECK (imports IN (0, 1));
-- True: an import caused the event.
ALTER TABLE events ADD COLUMN imported BIGINT NOT NULL DEFAULT 0 CHECK (imported IN (0, 1));

ALTER TABLE audit_log ADD COLUMN request_id TEXT, ADD COLUMN address TEXT, ADD COLUMN changes TEXT;
