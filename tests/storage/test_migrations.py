"""Databases and programs of different versions, and the schema after all migrations."""

import asyncio
import json
import queue
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import LockTaken, SchemaMismatch
from loyalpro.loyalty.earning import EarnRule, EarnSettings, Rate
from loyalpro.loyalty.expiry import ExpiryPolicy
from loyalpro.loyalty.program import ProgramVersion, Rules
from loyalpro.loyalty.tiers import Tier
from loyalpro.storage import migrations
from loyalpro.storage.connection import DriverConnection
from loyalpro.storage.migrations import Migration
from loyalpro.storage.open import migrate_database, open_database
from loyalpro.storage.postgres.database import MIGRATIONS as POSTGRES
from loyalpro.storage.postgres.database import PostgresDatabase
from loyalpro.storage.sqlite.database import MIGRATIONS as SQLITE
from loyalpro.storage.tables.programs import ProgramTables
from support.databases import Databases
from support.history import connect, query
from support.postgres import OwnCluster, embedded_binaries
from support.schema import FILES, dump

COMPATIBLE = "-- compatible: older programs can use this schema\n"
FIRST = Migration("0001_first", "CREATE TABLE first (id TEXT)")
WIDER = Migration("0002_wider", COMPATIBLE + "CREATE TABLE second (id TEXT)")
OTHER = Migration("0003_other", "DROP TABLE first")


@pytest.fixture
def connection(databases: Databases, store: str, tmp_path: Path) -> Iterator[DriverConnection]:
    url = databases.empty(store) if store == "postgres" else f"sqlite:///{tmp_path}/loyalpro.db"
    opened = connect(url)
    yield opened
    opened.close()


def migrate(connection: DriverConnection, known: Sequence[Migration]) -> list[str]:
    return migrations.migrate(connection, known, SystemClock())


def start(connection: DriverConnection, known: Sequence[Migration]) -> None:
    migrations.prepare(connection, known, SystemClock())


def test_an_older_program_uses_a_newer_schema_that_is_marked_compatible(connection: DriverConnection) -> None:
    migrate(connection, [FIRST, WIDER])
    start(connection, [FIRST])
    assert migrate(connection, [FIRST]) == []


def test_an_older_program_refuses_a_newer_schema_that_is_not_marked_compatible(connection: DriverConnection) -> None:
    migrate(connection, [FIRST, WIDER, OTHER])
    for act in (start, migrate):
        with pytest.raises(SchemaMismatch, match="newer than this program: it has 0003_other"):
            act(connection, [FIRST])


def test_a_newer_program_refuses_an_older_schema_even_if_its_migration_is_compatible(
    connection: DriverConnection,
) -> None:
    migrate(connection, [FIRST])
    with pytest.raises(SchemaMismatch, match=r"older than this program: 0002_wider is missing.*loyalpro migrate"):
        start(connection, [FIRST, WIDER])


def test_unknown_and_missing_migrations_together_are_refused(connection: DriverConnection) -> None:
    migrate(connection, [FIRST, WIDER])
    fork = Migration("0002_fork", COMPATIBLE + "CREATE TABLE third (id TEXT)")
    with pytest.raises(SchemaMismatch, match="newer than this program: it has 0002_wider"):
        migrate(connection, [FIRST, fork])


def test_only_the_first_line_can_mark_a_migration_compatible(connection: DriverConnection) -> None:
    migrate(connection, [FIRST, Migration("0002_late", f"CREATE TABLE second (id TEXT);\n{COMPATIBLE}")])
    with pytest.raises(SchemaMismatch, match="0002_late"):
        start(connection, [FIRST])


def test_records_without_the_compatible_column_count_as_incompatible(
    connection: DriverConnection,
) -> None:
    migrate(connection, [FIRST])
    connection.begin()
    connection.execute("ALTER TABLE schema_migrations DROP COLUMN compatible")
    connection.execute("INSERT INTO schema_migrations (name, checksum, applied_at) VALUES ('0009_unknown', 'x', 1)")
    connection.commit()
    with pytest.raises(SchemaMismatch, match="0009_unknown"):
        start(connection, [FIRST])
    connection.begin()
    connection.execute("DELETE FROM schema_migrations WHERE name = '0009_unknown'")
    connection.commit()
    start(connection, [FIRST])
    assert migrate(connection, [FIRST, WIDER]) == ["0002_wider"]
    start(connection, [FIRST])


def test_an_older_program_writes_to_a_newer_compatible_schema(databases: Databases) -> None:
    url = databases.fresh("postgres")
    wider = Migration("9999_wider", COMPATIBLE + "ALTER TABLE accounts ADD COLUMN note TEXT")
    session = connect(url)
    migrate(session, [*migrations.load(POSTGRES), wider])
    session.close()

    async def main() -> None:
        old = open_database(url, SystemClock())
        await old.start()
        insert = "INSERT INTO accounts (id, name, created_at) VALUES ('a', 'a', 1)"
        await old.write(lambda connection: connection.execute(insert))
        await old.stop()

    asyncio.run(main())
    assert query(url, "SELECT id, note FROM accounts") == [("a", None)]
    assert migrate_database(url, SystemClock()) == []


# -- the resulting schema --------------------------------------------------------------------------------------------


def test_all_migrations_result_in_the_schema_file(databases: Databases, store: str) -> None:
    assert dump(databases.fresh(store)) == FILES[store].read_text(), "run: make schema"


def test_another_version_of_postgres_has_the_same_schema() -> None:
    binaries = embedded_binaries()
    assert binaries is not None, "no embedded PostgreSQL: run make setup-dev"
    cluster = OwnCluster(binaries)
    try:
        url = cluster.create_database("other")
        migrate_database(url, SystemClock())
        assert dump(url) == FILES["postgres"].read_text()
    finally:
        cluster.stop()


def test_migrations_have_the_same_names_on_both_databases_and_consecutive_numbers() -> None:
    names = [each.name for each in migrations.load(SQLITE)]
    assert names == [each.name for each in migrations.load(POSTGRES)]
    assert [name[:4] for name in names] == [f"{number:04}" for number in range(1, len(names) + 1)]


# -- migrations that change rows ---------------------------------------------------------------------------------------


def test_sealed_headers_remove_what_attempts_recorded_of_custom_headers(
    connection: DriverConnection, store: str
) -> None:
    known = migrations.load(SQLITE if store == "sqlite" else POSTGRES)
    at = next(index for index, each in enumerate(known) if each.name.endswith("sealed_headers"))
    migrate(connection, known[:at])
    connection.begin()
    connection.run_script("""
        INSERT INTO accounts (id, name, created_at) VALUES ('acct', 'A', 1);
        INSERT INTO endpoints (id, account_id, url, types, ordering, headers, status, created_at, updated_at, deleted_at)
            VALUES ('with', 'acct', 'https://a.example/', '*', 'none', '{"X":"token"}', 'enabled', 1, 1, NULL),
                   ('without', 'acct', 'https://a.example/', '*', 'none', '{}', 'enabled', 1, 1, NULL),
                   ('gone', 'acct', 'https://a.example/', '*', 'none', '{"X":"token"}', 'enabled', 1, 1, 1);
        INSERT INTO deliveries (id, account_id, endpoint_id, event_id, event_type, status, due_at, created_at, finished_at)
            VALUES ('d1', 'acct', 'with', 'e', 't', 'succeeded', 1, 1, 1), ('d2', 'acct', 'without', 'e', 't', 'succeeded', 1, 1, 1);
        INSERT INTO attempts (delivery_id, number, started_at, outcome, detail, request_headers, response_headers)
            VALUES ('d1', 1, 1, 'succeeded', '', '[["X","token"]]', '[["Y","token"]]'),
                   ('d2', 1, 1, 'succeeded', '', '[["A","b"]]', '[["C","d"]]');
    """)
    connection.commit()
    migrate(connection, known)
    connection.begin()
    select = "SELECT delivery_id, request_headers, response_headers FROM attempts ORDER BY delivery_id"
    assert connection.execute(select) == [("d1", "[]", None), ("d2", '[["A","b"]]', '[["C","d"]]')]
    assert connection.execute("SELECT headers FROM endpoints WHERE id = 'gone'") == [("{}",)]
    connection.rollback()


def test_a_program_of_an_older_database_becomes_its_first_version(connection: DriverConnection, store: str) -> None:
    known = migrations.load(SQLITE if store == "sqlite" else POSTGRES)
    at = next(index for index, each in enumerate(known) if each.name.endswith("_program"))
    migrate(connection, known[:at])
    rules = {
        "currency": "EUR",
        "time_zone": "Europe/Berlin",
        "earn": {"id": "rule_1", "name": "1 point per 1.00 EUR", "points": 1, "per_amount": 100},
        "points_valid_months": 24,
        "tiers": [{"id": f"tier_{n}", "name": f"T{n}", "threshold": n * 1_000} for n in range(3)],
    }
    connection.begin()
    connection.execute("INSERT INTO accounts (id, name, created_at) VALUES ('acct', 'A', 7)")
    connection.execute("INSERT INTO programs (account_id, rules, version) VALUES ('acct', ?, 1)", (json.dumps(rules),))
    connection.commit()
    migrate(connection, known)
    connection.begin()
    program, version = ProgramTables(connection).get("acct"), ProgramTables(connection).version("acct", 1)
    connection.rollback()
    rule = EarnRule("rule_1", "1 point per 1.00 EUR", {"EUR": Rate(1, 100)})
    assert program.rules == Rules("EUR", "Europe/Berlin", EarnSettings((rule,)), ExpiryPolicy("months", 24))
    assert program.tiers == tuple(Tier(f"tier_{n}", f"T{n}", n + 1, n * 1_000) for n in range(3))
    assert version == ProgramVersion(1, program.rules, program.tiers, "system:bootstrap", None, 7)


OPTIONS = ("statement_timeout", "lock_timeout", "enable_seqscan", "enable_sort", "jit", "default_transaction_isolation")
SEEN = "CREATE TABLE seen AS SELECT name, current_setting(name) AS value FROM unnest(ARRAY[{}]) AS name"


def folder_with(path: Path, **files: str) -> Path:
    """A folder of migrations after those of the product."""
    for each in POSTGRES.glob("*.sql"):
        (path / each.name).write_text(each.read_text("utf-8"), "utf-8")
    for name, text in files.items():
        (path / f"{name.removeprefix('m')}.sql").write_text(text)
    return path


def test_a_migration_has_the_time_and_the_plans_that_it_needs(databases: Databases, tmp_path: Path) -> None:
    url = databases.fresh("postgres")
    with psycopg.connect(url, autocommit=True) as operator:
        operator.execute(f"ALTER DATABASE {operator.info.dbname} SET statement_timeout = '30s'")
        operator.execute(f"ALTER DATABASE {operator.info.dbname} SET jit = off")
    folder = folder_with(tmp_path, m9000_long=SEEN.format(", ".join(f"'{name}'" for name in OPTIONS)))
    lines: list[str] = []
    assert PostgresDatabase(url, SystemClock(), folder).migrate(lines.append) == ["9000_long"]
    assert lines == ["applying 9000_long (1 of 1) ..."]
    assert dict(query(url, "SELECT name, value FROM seen")) == {
        "statement_timeout": "0",
        "lock_timeout": "5s",
        "enable_seqscan": "on",
        "enable_sort": "on",
        "jit": "off",
        "default_transaction_isolation": "read committed",
    }


def test_a_migration_that_needs_a_table_in_use_changes_nothing_and_says_so(
    databases: Databases, tmp_path: Path
) -> None:
    url = databases.fresh("postgres")
    folder = folder_with(tmp_path, m9000_alter="ALTER TABLE accounts ADD COLUMN note TEXT")
    database = PostgresDatabase(url, SystemClock(), folder)
    with psycopg.connect(url) as reader:
        reader.execute("SELECT 1 FROM accounts")
        with pytest.raises(LockTaken, match=r"9000_alter needs a table .* pg_stat_activity .* loyalpro migrate"):
            database.migrate()
    assert database.migrate() == ["9000_alter"]


def test_a_migration_waits_for_the_one_of_another_process_and_says_so(databases: Databases) -> None:
    url = databases.fresh("postgres")
    lines: queue.Queue[str] = queue.Queue()
    with psycopg.connect(url, autocommit=True) as operator:
        operator.execute(f"ALTER DATABASE {operator.info.dbname} SET lock_timeout = '50ms'")
        operator.execute("SELECT pg_advisory_lock(7011963125)")
        waiting = threading.Thread(target=migrate_database, args=(url, SystemClock(), lines.put))
        waiting.start()
        assert "waiting for another process" in lines.get(timeout=30)
        operator.execute("SELECT pg_sleep(0.2)")  # longer than the lock timeout of the database
        assert waiting.is_alive()
        operator.execute("SELECT pg_advisory_unlock(7011963125)")
        waiting.join(30)
        assert not waiting.is_alive()
