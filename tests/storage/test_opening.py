"""Opening a database: setup, refusals with their texts, and the translation of statements."""

import asyncio
import subprocess
import sys
from pathlib import Path

import apsw
import psycopg
import pytest

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import ConfigurationError, DiskFull, SchemaMismatch, StoreUnavailable
from loyalpro.storage import migrations
from loyalpro.storage.connection import Connection
from loyalpro.storage.open import migrate_database, open_database
from loyalpro.storage.postgres.connection import numbered, repeated
from loyalpro.storage.sqlite.connection import SqliteConnection
from support.databases import Databases
from support.postgres import OwnCluster, binary_sources


def start(url: str) -> None:
    async def main() -> None:
        database = open_database(url, SystemClock())
        await database.start()
        await database.stop()

    asyncio.run(main())


def execute(url: str, sql: str) -> None:
    if url.startswith("sqlite"):
        connection = apsw.Connection(url.removeprefix("sqlite:///"))
        connection.execute(sql)
        connection.close()
    else:
        with psycopg.connect(url, autocommit=True) as session:
            session.execute(sql.encode())


def test_the_first_start_creates_the_schema_and_the_second_start_uses_it(databases: Databases, store: str) -> None:
    url = databases.empty(store)
    start(url)
    start(url)
    assert migrate_database(url, SystemClock()) == []


def test_other_users_cannot_read_the_sqlite_files(databases: Databases) -> None:
    url = databases.empty("sqlite")
    start(url)
    path = Path(url.removeprefix("sqlite:///"))
    assert {each.stat().st_mode & 0o077 for each in path.parent.iterdir()} == {0}


def test_an_older_schema_is_refused_with_the_command_that_migrates(database_url: str) -> None:
    execute(database_url, "DELETE FROM schema_migrations WHERE name LIKE '0003%'")
    with pytest.raises(SchemaMismatch, match=r"older.*loyalpro migrate"):
        start(database_url)


def test_a_newer_schema_and_a_changed_migration_are_refused(database_url: str) -> None:
    execute(database_url, "INSERT INTO schema_migrations (name, checksum, applied_at) VALUES ('9999_x', 'x', 1)")
    with pytest.raises(SchemaMismatch, match="newer than this program: it has 9999_x"):
        start(database_url)
    execute(database_url, "DELETE FROM schema_migrations WHERE name = '9999_x'")
    execute(database_url, "UPDATE schema_migrations SET checksum = 'x' WHERE name LIKE '0001%'")
    with pytest.raises(SchemaMismatch, match="0001_accounts in the database is not the one"):
        migrate_database(database_url, SystemClock())


def test_a_failed_migration_changes_nothing(databases: Databases, store: str) -> None:
    from loyalpro.storage.postgres.connection import PostgresConnection

    url = databases.empty(store)
    if store == "sqlite":
        Path(url.removeprefix("sqlite:///")).parent.mkdir()
        connection: SqliteConnection | PostgresConnection = SqliteConnection(
            Path(url.removeprefix("sqlite:///")), read_only=False
        )
    else:
        connection = PostgresConnection(url, read_only=False)
    good = migrations.Migration("0001_a", "CREATE TABLE a (id TEXT)")
    bad = migrations.Migration("0002_b", "CREATE TABLE b (id TEXT); CREATE TABLE a (id TEXT)")
    with pytest.raises(Exception, match="already exists"):
        migrations.migrate(connection, [good, bad], SystemClock())
    assert migrations.migrate(connection, [good], SystemClock()) == ["0001_a"]
    connection.close()


def test_both_databases_have_the_same_tables_and_columns(databases: Databases) -> None:
    sqlite, postgres = databases.fresh("sqlite"), databases.fresh("postgres")
    connection = apsw.Connection(sqlite.removeprefix("sqlite:///"))
    in_sqlite = {
        (table, column)
        for (table,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        )
        for (column,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    }
    connection.close()
    with psycopg.connect(postgres) as session:
        in_postgres = set(
            session.execute(
                "SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
                " WHERE relkind IN ('r', 'p') AND NOT relispartition AND attnum > 0 AND NOT attisdropped"
                " AND relnamespace = 'public'::regnamespace"
            )
        )
    assert in_postgres - in_sqlite == {("events", "transaction_id")}
    assert in_sqlite - in_postgres == set()


def test_a_second_process_cannot_open_a_sqlite_database(databases: Databases) -> None:
    url = databases.fresh("sqlite")

    async def main() -> None:
        first, second = (open_database(url, SystemClock()) for _ in range(2))
        await first.start()
        with pytest.raises(ConfigurationError, match="Another LoyalPro"):
            await second.start()
        await first.stop()
        await second.start()
        await second.stop()

    asyncio.run(main())


def test_the_lock_of_a_killed_process_is_released(databases: Databases) -> None:
    url = databases.fresh("sqlite")
    script = (
        "import asyncio, os, signal\n"
        "from loyalpro.kernel.clock import SystemClock\n"
        "from loyalpro.storage.open import open_database\n"
        f"asyncio.run(open_database({url!r}, SystemClock()).start())\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert done.returncode == -9
    start(url)


@pytest.mark.parametrize("setting", ["synchronous_commit"])
def test_a_postgres_server_that_can_lose_commits_is_refused(databases: Databases, setting: str) -> None:
    url = databases.fresh("postgres")
    name = url.rpartition("/")[2]
    execute(url, f'ALTER DATABASE "{name}" SET {setting} = off')
    with pytest.raises(ConfigurationError, match=f"{setting}=off"):
        start(url)


def test_the_error_of_an_unreachable_server_has_no_password() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        start("postgresql://user:verysecret@127.0.0.1:1/none")
    assert "verysecret" not in caught.value.detail


@pytest.mark.parametrize("source", ["system", "embedded"])
def test_tests_run_with_the_postgres_of_each_source(source: str) -> None:
    binaries = dict(binary_sources())[source]
    assert binaries is not None, f"no {source} PostgreSQL: install Debian's postgresql, or run make setup-dev"
    cluster = OwnCluster(binaries)
    try:
        with psycopg.connect(cluster.create_database("tried")) as session:
            assert session.execute("SELECT 1").fetchone() == (1,)
    finally:
        cluster.stop()


def test_tests_run_with_the_postgres_server_of_the_environment(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    from support.postgres import DSN_VARIABLE, Cluster

    monkeypatch.setenv(DSN_VARIABLE, databases.cluster.dsn("postgres"))
    given = Cluster.start()
    assert not isinstance(given, OwnCluster)
    url = given.create_database("given")
    start(url)
    given.drop_database(url)


def test_writes_fail_on_a_full_disk_and_succeed_again_with_free_space(databases: Databases) -> None:
    url = databases.fresh("sqlite")

    def fill(connection: object) -> None:
        assert isinstance(connection, SqliteConnection)
        connection.execute("PRAGMA max_page_count = 1")  # SQLite uses the smallest possible size instead
        connection.execute("INSERT INTO accounts (id, name, created_at) VALUES ('big', printf('%.9000000c', 'x'), 1)")

    def write(connection: object) -> None:
        assert isinstance(connection, SqliteConnection)
        connection.execute("PRAGMA max_page_count = 1000000")
        connection.execute("INSERT INTO accounts (id, name, created_at) VALUES ('a', 'a', 1)")

    async def main() -> None:
        database = open_database(url, SystemClock())
        await database.start()
        with pytest.raises(DiskFull, match="disk is full"):
            await database.write(fill)
        assert await database.read(lambda connection: connection.execute("SELECT 1")) == [(1,)]
        await database.write(write)
        assert await database.read(lambda connection: connection.execute("SELECT id FROM accounts")) == [("a",)]
        await database.stop()

    asyncio.run(main())


def test_placeholders_in_quotes_are_not_translated() -> None:
    assert numbered("SELECT '?', '100%', x % 2 FROM t WHERE a = ? AND b = ?") == (
        "SELECT '?', '100%', x % 2 FROM t WHERE a = $1 AND b = $2"
    )


def test_the_row_of_an_insert_is_repeated() -> None:
    assert numbered(repeated("INSERT INTO t (a, b, c) VALUES (?, '?', ?)", 2)) == (
        "INSERT INTO t (a, b, c) VALUES ($1, '?', $2), ($3, '?', $4)"
    )


def test_execute_many_writes_every_row_for_any_number_of_rows(database_url: str) -> None:
    rows = [(f"a{n:03}", "name", 2**40 * n, None if n % 2 else "later") for n in range(217)]

    def write(connection: Connection) -> None:
        connection.run_script("CREATE TABLE t (id TEXT, name TEXT, at BIGINT, note TEXT)")
        for start, end in ((0, 0), (0, 1), (1, 9), (9, 73), (73, 217)):
            connection.execute_many("INSERT INTO t (id, name, at, note) VALUES (?, ?, ?, ?)", rows[start:end])

    async def main() -> None:
        database = open_database(database_url, SystemClock())
        await database.start()
        await database.write(write)
        assert await database.read(lambda connection: connection.execute("SELECT * FROM t ORDER BY id")) == rows
        await database.stop()

    asyncio.run(main())
