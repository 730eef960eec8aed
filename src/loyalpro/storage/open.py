"""Opens the database of a URL."""

from pathlib import Path

from loyalpro.kernel.clock import Clock
from loyalpro.storage import migrations
from loyalpro.storage.connection import DriverConnection
from loyalpro.storage.migrations import Report, ignore_report
from loyalpro.storage.postgres import database as postgres_database
from loyalpro.storage.postgres.connection import PostgresConnection
from loyalpro.storage.postgres.database import PostgresDatabase
from loyalpro.storage.postgres.session import ADMINISTRATION
from loyalpro.storage.sqlite import database as sqlite_database
from loyalpro.storage.sqlite.connection import SqliteConnection
from loyalpro.storage.sqlite.database import SqliteDatabase


def open_database(url: str, clock: Clock, *, min_free_bytes: int = 0) -> SqliteDatabase | PostgresDatabase:
    """The database of `sqlite:///path` or `postgresql://...`. It connects when `start` is called.

    `min_free_bytes` have to stay free on the disk of a SQLite file; 0 means no minimum.
    """
    if url.startswith("sqlite:///"):
        return SqliteDatabase(Path(url.removeprefix("sqlite:///")), clock, min_free_bytes=min_free_bytes)
    return PostgresDatabase(url, clock)


def open_reader(url: str) -> DriverConnection:
    """A connection that cannot write, to a database of this version of the program. It may be in use.

    Raises `SchemaMismatch`, with advice, for a database of another version.
    """
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        connection: DriverConnection = SqliteConnection(path, read_only=True)
        folder = sqlite_database.MIGRATIONS
    else:
        connection = PostgresConnection(url, read_only=True, kind=ADMINISTRATION)
        folder = postgres_database.MIGRATIONS
    try:
        migrations.require_current(connection, migrations.load(folder))
    except BaseException:
        connection.close()
        raise
    return connection


def migrate_database(url: str, clock: Clock, report: Report = ignore_report) -> list[str]:
    """Apply the missing migrations to the database of a URL; their names."""
    return open_database(url, clock).migrate(report)
