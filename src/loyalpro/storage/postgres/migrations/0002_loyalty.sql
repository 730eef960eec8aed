-- Customers, their purchases, and every point they ever had.

CREATE TABLE programs (
    account_id TEXT PRIMARY KEY REFERENCES accounts (id),
    rules TEXT NOT NULL,
    version BIGINT NOT NULL
);

-- The balance stands here, with the customer, because it changes under the lock of this row; it always equals the fold of
-- the ledger. `debt` is what was clawed back after it had been spent: later credits repay it first.
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
    available BIGINT NOT NULL DEFAULT 0 CHECK (available >= 0),
    pending BIGINT NOT NULL DEFAULT 0 CHECK (pending >= 0),
    debt BIGINT NOT NULL DEFAULT 0 CHECK (debt >= 0),
    lifetime_earned BIGINT NOT NULL DEFAULT 0 CHECK (lifetime_earned >= 0),
    lifetime_redeemed BIGINT NOT NULL DEFAULT 0 CHECK (lifetime_redeemed >= 0),
    ledger_sequence BIGINT NOT NULL DEFAULT 0,
    event_sequence BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (account_id, external_id),
    CHECK (debt = 0 OR available = 0)
);

CREATE INDEX customers_by_account ON customers (account_id, id);
CREATE INDEX customers_by_email ON customers (account_id, email) WHERE email IS NOT NULL;

CREATE TABLE transactions (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    customer_id TEXT NOT NULL,
    external_id TEXT,
    status TEXT NOT NULL CHECK (status IN ('completed')),
    currency TEXT NOT NULL,
    amount BIGINT NOT NULL CHECK (amount >= 0),
    items TEXT NOT NULL,
    channel TEXT,
    location_id TEXT,
    employee_id TEXT,
    metadata TEXT NOT NULL,
    points_earned BIGINT NOT NULL CHECK (points_earned >= 0),
    occurred_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (account_id, external_id)
);

CREATE INDEX transactions_by_account ON transactions (account_id, id);
CREATE INDEX transactions_by_customer ON transactions (customer_id, id);

CREATE TABLE ledger_entries (
    id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL,
    sequence BIGINT NOT NULL CHECK (sequence > 0),
    type TEXT NOT NULL CHECK (type IN ('earn', 'promo_earn', 'redeem', 'redeem_reversal', 'clawback', 'expire',
        'adjust', 'activate', 'cancel_pending', 'import')),
    points BIGINT NOT NULL CHECK (points <> 0),
    balance_after BIGINT NOT NULL,
    pending_after BIGINT NOT NULL CHECK (pending_after >= 0),
    source_type TEXT NOT NULL,
    source_id TEXT NOT NULL,
    part BIGINT NOT NULL DEFAULT 0,
    reverses_entry_id TEXT,
    reason_code TEXT,
    note TEXT,
    actor TEXT NOT NULL,
    rules TEXT NOT NULL,
    occurred_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (customer_id, sequence),
    UNIQUE (customer_id, type, source_type, source_id, part)
);

CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only';
END;
$$;

CREATE TRIGGER ledger_entries_are_never_changed BEFORE UPDATE OR DELETE ON ledger_entries
    FOR EACH ROW EXECUTE FUNCTION refuse_ledger_change();

-- One for each credit. `expires_at` is frozen when it is made: a change of policy applies to what is earned after it.
CREATE TABLE lots (
    id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL,
    entry_id TEXT NOT NULL,
    original BIGINT NOT NULL CHECK (original > 0),
    remaining BIGINT NOT NULL CHECK (remaining >= 0 AND remaining <= original),
    earned_at BIGINT NOT NULL,
    activates_at BIGINT,
    expires_at BIGINT,
    status TEXT NOT NULL CHECK (status IN ('pending', 'active', 'canceled')),
    created_at BIGINT NOT NULL
);

CREATE INDEX lots_by_customer ON lots (customer_id, id);
CREATE INDEX lots_to_spend ON lots (customer_id, expires_at, id) WHERE remaining > 0;
CREATE INDEX lots_to_expire ON lots (expires_at) WHERE remaining > 0 AND expires_at IS NOT NULL;

-- Which lots a debit took its points from; a credit that repays debt takes from its own lot.
CREATE TABLE allocations (
    entry_id TEXT NOT NULL,
    lot_id TEXT NOT NULL,
    points BIGINT NOT NULL CHECK (points > 0),
    PRIMARY KEY (entry_id, lot_id)
);
