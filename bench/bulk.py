"""Millions of rows in a short time: every event of a database, owed to every endpoint, and attempted if so wished.

PostgreSQL's table is taken apart and put together again around it, and is not logged: it is thrown away afterwards. The
statements that are measured read and lock what is here; what they write goes to other tables.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from loyalpro.storage.connection import DriverConnection
from support.history import connect

ATTEMPTS_EACH = 4
_COLUMNS = "id, account_id, endpoint_id, event_id, event_type, status, due_at, created_at"
_OWED = f"""
INSERT INTO {{table}} ({_COLUMNS})
SELECT 'dlv_' || substr(e.id, 5) || substr(p.id, length(p.id) - 9), e.account_id, p.id, e.id, e.type, 'pending',
    e.created_at, e.created_at
FROM events e CROSS JOIN endpoints p
"""
_DONE = f"""
INSERT INTO deliveries ({_COLUMNS}, attempts, first_attempt_at, finished_at, outcome)
SELECT 'dlv_' || substr(e.id, 5) || substr(p.id, length(p.id) - 9), e.account_id, p.id, e.id, e.type, 'succeeded',
    e.created_at, e.created_at, {ATTEMPTS_EACH}, e.created_at, e.created_at, 'succeeded'
FROM events e CROSS JOIN endpoints p
"""
_ATTEMPTED = f"""
INSERT INTO attempts (delivery_id, number, started_at, outcome, detail, request_headers, response_status,
    response_headers, response_excerpt, response_truncated, total_ms)
SELECT d.id, n.number, d.created_at, 'succeeded', '', '[["content-type","application/json"],["webhook-id","evt"]]', 200,
    '[["content-type","application/json"]]', NULL, 0, 1.5
FROM deliveries d CROSS JOIN (SELECT column1 AS number FROM (VALUES {", ".join(f"({n})" for n in range(1, ATTEMPTS_EACH + 1))}) v) n WHERE d.status = 'succeeded'
ORDER BY d.id, n.number
"""
_INHERITED = "SELECT relname FROM pg_class WHERE relispartition"


def owe_everything(url: str) -> None:
    """Every event to every endpoint, pending."""
    connection = _connect(url)
    with _without_indexes(connection) as table:
        connection.execute(_OWED.format(table=table))
    _analyze(connection)


def deliver_everything(url: str) -> None:
    """Every event to every endpoint, delivered at the last of a few attempts."""
    connection = _connect(url)
    connection.begin()
    connection.execute(_DONE)
    connection.execute(_ATTEMPTED)
    connection.commit()
    _analyze(connection)


def _connect(url: str) -> DriverConnection:
    """With room and time for large statements."""
    connection = connect(url)
    patient = "SET statement_timeout = 0" if connection.dialect == "postgres" else "PRAGMA cache_size = -500000"
    connection.execute(patient)
    return connection


@contextmanager
def _without_indexes(connection: DriverConnection) -> Iterator[str]:
    """The table to fill; its indexes are made when that is done, which is many times quicker."""
    connection.begin()
    rebuild = _apart(connection) if connection.dialect == "postgres" else _sqlite_apart(connection)
    yield "deliveries_owed" if connection.dialect == "postgres" else "deliveries"
    for each in rebuild:
        connection.execute(each)
    connection.commit()


def _sqlite_apart(connection: DriverConnection) -> list[str]:
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'deliveries'")
    kept = [(name, sql) for name, sql in rows if sql is not None]
    for name, _ in kept:
        connection.execute(f"DROP INDEX {name}")
    return [sql for _, sql in kept]


def _apart(connection: DriverConnection) -> list[str]:
    """Detached, so that its key and the indexes that all partitions have can be dropped too: attaching makes them again."""
    own = connection.execute(
        f"SELECT indexdef FROM pg_indexes WHERE tablename = 'deliveries_owed' AND indexname NOT IN ({_INHERITED})"
    )
    connection.execute("ALTER TABLE deliveries DETACH PARTITION deliveries_owed")
    keys = connection.execute(
        "SELECT conname FROM pg_constraint WHERE conrelid = 'deliveries_owed'::regclass AND contype = 'p'"
    )
    for (name,) in keys:
        connection.execute(f'ALTER TABLE deliveries_owed DROP CONSTRAINT "{name}"')
    for (name,) in connection.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'deliveries_owed'"):
        connection.execute(f"DROP INDEX {name}")
    connection.execute("ALTER TABLE deliveries_owed SET UNLOGGED")
    connection.execute("SET LOCAL maintenance_work_mem = '1GB'")
    attach = "ALTER TABLE deliveries ATTACH PARTITION deliveries_owed FOR VALUES IN ('pending')"
    return [*(sql for (sql,) in own), attach]


def _analyze(connection: DriverConnection) -> None:
    """As PostgreSQL's autovacuum does; SQLite is never told to."""
    if connection.dialect == "postgres":
        connection.execute("ANALYZE")
    connection.close()
