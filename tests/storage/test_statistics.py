"""PostgreSQL tables that have grown get statistics, whatever autovacuum does."""

import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.storage.open import open_database
from loyalpro.storage.postgres.statistics import analyze_grown_table
from support.databases import Databases
from support.history import History, query, transaction
from support.jobs import run_jobs

ROWS = 10_000


@pytest.fixture
def history(databases: Databases) -> History:
    url = databases.fresh("postgres")
    for table in ("customers", "transactions"):
        query(url, f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    return History(url, SystemClock().now_ms())


def analyzed(url: str) -> set[str]:
    """The tables with statistics."""
    return {name for (name,) in query(url, "SELECT DISTINCT tablename::text FROM pg_stats WHERE schemaname = 'public'")}


def analyze_all(url: str) -> int:
    """Analyze until no table has grown; how many were analyzed."""
    number = 0
    while True:
        with transaction(url) as connection:
            if not analyze_grown_table(connection):
                return number
        number += 1


def test_tables_that_were_never_analyzed_are_analyzed_once_they_have_many_rows(history: History) -> None:
    history.purchases(100)
    assert analyze_all(history.url) == 0
    history.purchases(ROWS)
    assert analyze_all(history.url) >= 2
    assert {"customers", "transactions"} <= analyzed(history.url)
    assert analyze_all(history.url) == 0


def test_a_table_is_analyzed_again_when_it_has_ten_times_as_many_rows(history: History) -> None:
    history.purchases(2_000)
    query(history.url, "ANALYZE customers, transactions")
    history.purchases(ROWS)
    before = query(history.url, "SELECT reltuples::bigint FROM pg_class WHERE relname = 'customers'")
    analyze_all(history.url)
    assert query(history.url, "SELECT reltuples::bigint FROM pg_class WHERE relname = 'customers'") == before
    history.purchases(ROWS)
    assert analyze_all(history.url) >= 2
    [(rows,)] = query(history.url, "SELECT reltuples::bigint FROM pg_class WHERE relname = 'customers'")
    assert rows == 2_000 + 2 * ROWS


def test_the_periodic_job_analyzes(history: History) -> None:
    history.purchases(ROWS)
    run_jobs(history.url, history.now, "statistics")
    assert {"customers", "transactions"} <= analyzed(history.url)


def test_migrating_analyzes_as_well_after_a_restore(history: History) -> None:
    history.purchases(ROWS)
    open_database(history.url, SystemClock()).migrate()
    assert {"customers", "transactions"} <= analyzed(history.url)
