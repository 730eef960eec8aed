"""Writes millions of rows in a short time: a delivery of every event to every endpoint, pending or finished.

The indexes are created after the rows. For that, PostgreSQL's partition is detached from its parent, filled on two connections
concurrently, and not logged: it is discarded afterwards. The statements that are measured read and lock these rows, and write to
other tables.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from loyalpro.storage.connection import DriverConnection
from support.history import connect

ATTEMPTS_EACH = 4
_CONNECTIONS = 2
_COLUMNS = "id, account_id, endpoint_id, event_id, event_type, status, due_at, created_at"
_PENDING = f"""
INSERT INTO {{table}} ({_COLUMNS})
SELECT 'dlv_' || substr(e.id, 5) || substr(p.id, length(p.id) - 9), e.account_id, p.id, e.id, e.type, 'pending',
    e.created_at, e.created_at
FROM events e CROSS JOIN endpoints p WHERE e.position % {_CONNECTIONS} IN ({{parts}})
"""
_FINISHED = f"""
INSERT INTO deliveries ({_COLUMNS}, attempts, first_attempt_at, finished_at, outcome)
SELECT 'dlv_' || substr(e.id, 5) || substr(p.id, length(p.id) - 9), e.account_id, p.id, e.id, e.type, 'succeeded',
    e.created_at, e.created_at, {ATTEMPTS_EACH}, e.created_at, e.created_at, 'succeeded'
FROM events e CROSS JOIN endpoints p
"""
_ATTEMPTS = f"""
INSERT INTO attempts (delivery_id, number, started_at, outcome, detail, request_headers, response_status,
    response_headers, response_excerpt, response_truncated, total_ms)
SELECT d.id, n.number, d.created_at, 'succeeded', '', '[["content-type","application/json"],["webhook-id","evt"]]', 200,
    '[["content-type","application/json"]]', NULL, 0, 1.5
FROM deliveries d CROSS JOIN (
    SELECT column1 AS number FROM (VALUES {", ".join(f"({n})" for n in range(1, ATTEMPTS_EACH + 1))}) v) n
WHERE d.status = 'succeeded' ORDER BY d.id, n.number
"""
_INDEXES = {
    "sqlite": "SELECT name, sql FROM sqlite_master"
    " WHERE type = 'index' AND tbl_name = 'deliveries' AND sql IS NOT NULL",
    "postgres": "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'deliveries_owed'",
}


def enqueue_everything(url: str) -> None:
    """Insert a pending delivery of every event to every endpoint."""
    connection = _connect(url)
    if connection.dialect.is_postgres:
        _enqueue_detached(connection, url)
    else:
        connection.begin()
        indexes = _without_indexes(connection)
        for each in (_PENDING.format(table="deliveries", parts="0, 1"), *indexes):
            connection.execute(each)
        connection.commit()
    _analyze(connection)


def deliver_everything(url: str) -> None:
    """Insert a delivery of every event to every endpoint, each with several attempts, the last of which succeeded."""
    connection = _connect(url)
    connection.begin()
    connection.execute(_FINISHED)
    connection.execute(_ATTEMPTS)
    connection.commit()
    _analyze(connection)


def _enqueue_detached(connection: DriverConnection, url: str) -> None:
    """Fill the detached partition. Its primary key can only be dropped while it has no parent."""
    connection.execute("ALTER TABLE deliveries DETACH PARTITION deliveries_owed")
    [(key, definition)] = connection.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'deliveries_owed'::regclass AND contype = 'p'"
    )
    connection.execute(f'ALTER TABLE deliveries_owed DROP CONSTRAINT "{key}"')
    indexes = _without_indexes(connection)
    connection.execute("ALTER TABLE deliveries_owed SET UNLOGGED")
    _concurrently(url, [_PENDING.format(table="deliveries_owed", parts=part) for part in range(_CONNECTIONS)])
    _concurrently(url, indexes)
    connection.execute(f'ALTER TABLE deliveries_owed ADD CONSTRAINT "{key}" {definition}')
    connection.execute("ALTER TABLE deliveries ATTACH PARTITION deliveries_owed FOR VALUES IN ('pending')")


def _without_indexes(connection: DriverConnection) -> list[str]:
    """Drop the indexes; the statements that create them again."""
    kept = connection.execute(_INDEXES[connection.dialect.name])
    for name, _ in kept:
        connection.execute(f"DROP INDEX {name}")
    return [sql for _, sql in kept]


def _concurrently(url: str, statements: Sequence[str]) -> None:
    def run(statement: str) -> None:
        connection = _connect(url)
        connection.execute(statement)
        connection.close()

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        list(pool.map(run, statements))


def _connect(url: str) -> DriverConnection:
    """A connection with the memory and the time for large statements."""
    connection = connect(url)
    if not connection.dialect.is_postgres:
        connection.execute("PRAGMA cache_size = -500000")
    else:
        connection.execute("SET statement_timeout = 0")
        connection.execute("SET maintenance_work_mem = '512MB'")
    return connection


def _analyze(connection: DriverConnection) -> None:
    """Collect statistics, as PostgreSQL's autovacuum does; LoyalPro does not do it on SQLite."""
    if connection.dialect.is_postgres:
        connection.execute("ANALYZE")
    connection.close()
