"""How a database and programs of different versions get on, and what all migrations add up to."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import SchemaMismatch
from loyalpro.storage import migrations
from loyalpro.storage.connection import DriverConnection
from loyalpro.storage.migrations import Migration
from loyalpro.storage.open import migrate_database, open_database
from loyalpro.storage.postgres.database import MIGRATIONS as POSTGRES
from loyalpro.storage.sqlite.database import MIGRATIONS as SQLITE
from support.databases import Databases
from support.history import connect, query
from support.postgres import OwnCluster, embedded_binaries
from support.schema import FILES, dump

COMPATIBLE = "-- compatible: older programs may go on using this schema\n"
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


def test_an_older_program_goes_on_beside_a_newer_schema_that_says_it_may(connection: DriverConnection) -> None:
    migrate(connection, [FIRST, WIDER])
    start(connection, [FIRST])
    assert migrate(connection, [FIRST]) == []


def test_an_older_program_stops_at_a_newer_schema_that_does_not(connection: DriverConnection) -> None:
    migrate(connection, [FIRST, WIDER, OTHER])
    for act in (start, migrate):
        with pytest.raises(SchemaMismatch, match="newer than this program: it has 0003_other"):
            act(connection, [FIRST])


def test_a_newer_program_waits_for_its_migration_even_if_older_ones_could_live_with_it(
    connection: DriverConnection,
) -> None:
    migrate(connection, [FIRST])
    with pytest.raises(SchemaMismatch, match=r"older than this program: 0002_wider is missing.*loyalpro migrate"):
        start(connection, [FIRST, WIDER])


def test_what_this_program_lacks_and_what_it_does_not_know_do_not_mix(connection: DriverConnection) -> None:
    migrate(connection, [FIRST, WIDER])
    fork = Migration("0002_fork", COMPATIBLE + "CREATE TABLE third (id TEXT)")
    with pytest.raises(SchemaMismatch, match="newer than this program: it has 0002_wider"):
        migrate(connection, [FIRST, fork])


def test_only_the_first_line_says_it(connection: DriverConnection) -> None:
    migrate(connection, [FIRST, Migration("0002_late", f"CREATE TABLE second (id TEXT);\n{COMPATIBLE}")])
    with pytest.raises(SchemaMismatch, match="0002_late"):
        start(connection, [FIRST])


def test_a_record_from_before_this_was_recorded_is_widened_and_trusted_no_further(
    connection: DriverConnection,
) -> None:
    migrate(connection, [FIRST])
    connection.begin()
    connection.execute("ALTER TABLE schema_migrations DROP COLUMN compatible")
    connection.execute("INSERT INTO schema_migrations (name, checksum, applied_at) VALUES ('0009_theirs', 'x', 1)")
    connection.commit()
    with pytest.raises(SchemaMismatch, match="0009_theirs"):
        start(connection, [FIRST])
    connection.begin()
    connection.execute("DELETE FROM schema_migrations WHERE name = '0009_theirs'")
    connection.commit()
    start(connection, [FIRST])
    assert migrate(connection, [FIRST, WIDER]) == ["0002_wider"]
    start(connection, [FIRST])


def test_old_and_new_run_side_by_side_on_a_real_database(databases: Databases) -> None:
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


# -- what they add up to ---------------------------------------------------------------------------------------------


def test_all_migrations_add_up_to_the_schema_in_the_file(databases: Databases, store: str) -> None:
    assert dump(databases.fresh(store)) == FILES[store].read_text(), "run: make schema"


def test_another_version_of_postgres_makes_the_same_schema() -> None:
    binaries = embedded_binaries()
    assert binaries is not None, "no embedded PostgreSQL: run make setup-dev"
    cluster = OwnCluster(binaries)
    try:
        url = cluster.create_database("other")
        migrate_database(url, SystemClock())
        assert dump(url) == FILES["postgres"].read_text()
    finally:
        cluster.stop()


def test_migrations_have_the_same_names_on_both_stores_and_no_number_twice() -> None:
    names = [each.name for each in migrations.load(SQLITE)]
    assert names == [each.name for each in migrations.load(POSTGRES)]
    assert [name[:4] for name in names] == [f"{number:04}" for number in range(1, len(names) + 1)]
