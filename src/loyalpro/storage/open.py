"""Opens the store that an address names."""

from pathlib import Path

from loyalpro.kernel.clock import Clock
from loyalpro.storage.postgres.database import PostgresDatabase
from loyalpro.storage.sqlite.database import SqliteDatabase


def open_database(url: str, clock: Clock, *, min_free_bytes: int = 0) -> SqliteDatabase | PostgresDatabase:
    """`sqlite:///path` or `postgresql://...`; connected by `start`. Beside a SQLite file so much has to stay free."""
    if url.startswith("sqlite:///"):
        return SqliteDatabase(Path(url.removeprefix("sqlite:///")), clock, min_free_bytes=min_free_bytes)
    return PostgresDatabase(url, clock)


def migrate_database(url: str, clock: Clock) -> list[str]:
    """Bring the schema forward; the names of the migrations that were applied."""
    return open_database(url, clock).migrate()
