"""Brings a schema forward: numbered files, each applied once, in one transaction with the record that it was."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import SchemaMismatch
from loyalpro.storage.connection import DriverConnection

_TABLE = "CREATE TABLE schema_migrations (name TEXT PRIMARY KEY, checksum TEXT NOT NULL, applied_at BIGINT NOT NULL)"
_MIGRATE = "Stop the other processes if they are of an older version, then run: loyalpro migrate"


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its name and what it does."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """A file that was applied may never change: its checksum stands in the database."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load(folder: Path) -> list[Migration]:
    """The migrations of a store, in order."""
    return [Migration(path.stem, path.read_text("utf-8")) for path in sorted(folder.glob("[0-9]*.sql"))]


def migrate(connection: DriverConnection, migrations: Sequence[Migration], clock: Clock) -> list[str]:
    """Apply what is missing; the names of what was. Two hosts may do this at once: the second finds nothing to do."""
    connection.begin()
    try:
        if connection.dialect == "postgres":
            connection.execute("SELECT pg_advisory_xact_lock(7011963125)")
        applied = _applied(connection)
        if applied is None:
            connection.run_script(_TABLE)
        _refuse_strangers(applied or {}, migrations)
        missing = [each for each in migrations if each.name not in (applied or {})]
        for each in missing:
            connection.run_script(each.sql)
            connection.execute(
                "INSERT INTO schema_migrations (name, checksum, applied_at) VALUES (?, ?, ?)",
                (each.name, each.checksum, clock.now_ms()),
            )
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return [each.name for each in missing]


def prepare(connection: DriverConnection, migrations: Sequence[Migration], clock: Clock) -> None:
    """Set up an empty database; refuse one of another version, and say what to do."""
    connection.begin()
    applied = _applied(connection)
    connection.rollback()
    if not applied:
        migrate(connection, migrations, clock)
        return
    _refuse_strangers(applied, migrations)
    missing = [each.name for each in migrations if each.name not in applied]
    if missing:
        raise SchemaMismatch(f"The database is older than this program: {missing[0]} is missing. {_MIGRATE}")


def _applied(connection: DriverConnection) -> dict[str, str] | None:
    """Name and checksum of what was applied; None on a database that was never set up."""
    if connection.dialect == "sqlite":
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_migrations'")
    else:
        known = connection.execute("SELECT 1 WHERE to_regclass('schema_migrations') IS NOT NULL")
    if not known:
        return None
    return dict(connection.execute("SELECT name, checksum FROM schema_migrations"))


def _refuse_strangers(applied: dict[str, str], migrations: Sequence[Migration]) -> None:
    known = {each.name: each.checksum for each in migrations}
    for name, checksum in applied.items():
        if name not in known:
            raise SchemaMismatch(
                f"The database is newer than this program: it has {name}. Install the newer LoyalPro, then run: "
                "loyalpro migrate"
            )
        if known[name] != checksum:
            raise SchemaMismatch(
                f"Migration {name} in the database is not the one in this program. Install the LoyalPro that made "
                "this database, then upgrade from there with: loyalpro migrate"
            )
