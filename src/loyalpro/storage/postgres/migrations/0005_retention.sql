-- compatible: older programs may go on using this schema
-- What is too old goes, and customers can be erased.

ALTER TABLE notices DROP CONSTRAINT notices_kind_check,
    ADD CONSTRAINT notices_kind_check CHECK (kind IN ('endpoint_failing', 'endpoint_disabled', 'deliveries_given_up'));

-- A deleted customer whose past is being erased: events up to `through_sequence`, then purchases, then ledger notes.
-- The cursors move in the transaction of what they passed, so a crash costs nothing and nothing is left out.
CREATE TABLE erasures (
    customer_id TEXT COLLATE "C" PRIMARY KEY,
    account_id TEXT NOT NULL,
    through_sequence BIGINT NOT NULL CHECK (through_sequence >= 0),
    event_cursor TEXT,
    transaction_cursor TEXT,
    events BIGINT NOT NULL DEFAULT 0,
    canceled BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    finished_at BIGINT
);

CREATE INDEX erasures_running ON erasures (customer_id) WHERE finished_at IS NULL;
CREATE INDEX erasures_finished ON erasures (finished_at) WHERE finished_at IS NOT NULL;

-- What somebody wrote beside an entry is the one thing in the ledger that may go, and only go.
CREATE OR REPLACE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.note IS NULL THEN
        OLD.note := NULL;
        IF NEW IS NOT DISTINCT FROM OLD THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the ledger is append-only';
END;
$$;
