-- compatible: older programs may go on using this schema
-- What is too old goes, and customers can be erased.

-- The oldest that is still owed, however much has been delivered since.
CREATE INDEX deliveries_waiting ON deliveries (id) WHERE status = 'pending';

-- Ids begin with their time: they find what is old, and an index on the time finds nothing more.
DROP INDEX events_by_age;

CREATE TABLE new_notices (
    id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('endpoint_failing', 'endpoint_disabled', 'deliveries_given_up')),
    detail TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO new_notices SELECT id, account_id, endpoint_id, kind, detail, created_at FROM notices;
DROP TABLE notices;
ALTER TABLE new_notices RENAME TO notices;
CREATE INDEX notices_by_account ON notices (account_id, id);

-- A deleted customer whose past is being erased: events up to `through_sequence`, then purchases, then ledger notes.
-- The cursors move in the transaction of what they passed, so a crash costs nothing and nothing is left out.
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

CREATE INDEX erasures_running ON erasures (customer_id) WHERE finished_at IS NULL;
CREATE INDEX erasures_finished ON erasures (finished_at) WHERE finished_at IS NOT NULL;

-- What somebody wrote beside an entry is the one thing in the ledger that may go, and only go.
DROP TRIGGER ledger_entries_are_never_changed;
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
