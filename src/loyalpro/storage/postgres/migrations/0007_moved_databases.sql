-- compatible: older programs may go on using this schema; stop them before a database is moved
-- A dump that is restored on another server keeps the order of its events, and what is new there comes after them.

-- What a server's own transaction id is in the order of events: the id itself, until the database comes to a server that
-- counts from lower. Then the program replaces this function by one that adds what the new server lacks.
CREATE FUNCTION lasting_transaction_id(id XID8) RETURNS XID8 LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT id';

ALTER TABLE events ALTER COLUMN transaction_id SET DEFAULT lasting_transaction_id(pg_current_xact_id());
