"""Opens the database of a URL."""

from pathlib import Path

from loyalpro.kernel.clock import Clock
from loyalpro.storage.migrations import Report, ignore_report
from loyalpro.storage.postgres.database import PostgresDatabase
from loyalpro.storage.sqlite.database import SqliteDatabase


def open_database(url: str, clock: Clock, *, min_free_bytes: int = 0) -> SqliteDatabase | PostgresDatabase:
    """The database of `sqlite:///path` or `postgresql://...`. It connects when `start` is called.

    `min_free_bytes` have to stay free on the disk of a SQLite file; 0 means no minimum.
    """
    if url.startswith("sqlite:///"):
        return SqliteDatabase(Path(url.removeprefix("sqlite:///")), clock, min_free_bytes=min_free_bytes)
    return PostgresDatabase(url, clock)


def migrate_database(url: str, clock: Clock, report: Report = ignore_report) -> list[str]:
    """Apply the missing migrations to the database of a URL; their names."""
    return open_database(url, clock).migrate(report)
