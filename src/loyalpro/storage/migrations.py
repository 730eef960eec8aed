"""Brings a schema forward: numbered files, each applied once, in one transaction with the record that it was.

A file whose first line begins with `-- compatible:` changes nothing that an older program relies on. Old and new run side
by side on it, so hosts can be upgraded one after the other: migrate first, then replace the programs.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import SchemaMismatch
from loyalpro.storage.connection import DriverConnection

_COMPATIBLE = "-- compatible:"
_TABLE = """
CREATE TABLE schema_migrations (
    name TEXT PRIMARY KEY,
    checksum TEXT NOT NULL,
    applied_at BIGINT NOT NULL,
    compatible BIGINT NOT NULL DEFAULT 0
)
"""
_ADD_COMPATIBLE = "ALTER TABLE schema_migrations ADD COLUMN compatible BIGINT NOT NULL DEFAULT 0"
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

    @property
    def compatible(self) -> bool:
        """Whether programs that do not know this migration may go on using the database."""
        return self.sql.startswith(_COMPATIBLE)


@dataclass(frozen=True, slots=True)
class Applied:
    """What a database remembers of a migration."""

    checksum: str
    compatible: bool


def load(folder: Path) -> list[Migration]:
    """The migrations of a store, in order."""
    return [Migration(path.stem, path.read_text("utf-8")) for path in sorted(folder.glob("[0-9]*.sql"))]


def migrate(connection: DriverConnection, migrations: Sequence[Migration], clock: Clock) -> list[str]:
    """Apply what is missing; the names of what was. Two hosts may do this at once: the second finds nothing to do."""
    connection.begin()
    try:
        if connection.dialect.is_postgres:
            connection.execute("SELECT pg_advisory_xact_lock(7011963125)")
        missing = _missing(_recorded(connection), migrations)
        for each in missing:
            connection.run_script(each.sql)
            connection.execute(
                "INSERT INTO schema_migrations (name, checksum, applied_at, compatible) VALUES (?, ?, ?, ?)",
                (each.name, each.checksum, clock.now_ms(), int(each.compatible)),
            )
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return [each.name for each in missing]


def prepare(connection: DriverConnection, migrations: Sequence[Migration], clock: Clock) -> None:
    """Set up an empty database; refuse one that this program does not fit, and say what to do."""
    connection.begin()
    applied = _applied(connection)
    connection.rollback()
    if not applied:
        migrate(connection, migrations, clock)
        return
    missing = _missing(applied, migrations)
    if missing:
        raise SchemaMismatch(f"The database is older than this program: {missing[0].name} is missing. {_MIGRATE}")


def _recorded(connection: DriverConnection) -> dict[str, Applied]:
    """What was applied, and a table to record more in: made by the first program, widened by the first that needs it."""
    applied = _applied(connection)
    if applied is None:
        connection.run_script(_TABLE)
    elif not _has_compatible(connection):
        connection.run_script(_ADD_COMPATIBLE)
    return applied or {}


def _applied(connection: DriverConnection) -> dict[str, Applied] | None:
    """What was applied, by name; None on a database that was never set up."""
    if connection.dialect.is_postgres:
        known = connection.execute("SELECT 1 WHERE to_regclass('schema_migrations') IS NOT NULL")
    else:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_migrations'")
    if not known:
        return None
    compatible = "compatible" if _has_compatible(connection) else "0"
    rows = connection.execute(f"SELECT name, checksum, {compatible} FROM schema_migrations")
    return {name: Applied(checksum, bool(is_compatible)) for name, checksum, is_compatible in rows}


def _has_compatible(connection: DriverConnection) -> bool:
    if connection.dialect.is_postgres:
        sql = "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('schema_migrations') AND attname = 'compatible'"
    else:
        sql = "SELECT 1 FROM pragma_table_info('schema_migrations') WHERE name = 'compatible'"
    return bool(connection.execute(sql))


def _missing(applied: dict[str, Applied], migrations: Sequence[Migration]) -> list[Migration]:
    """What has to be applied; refused when what was applied is not what this program can live with."""
    known = {each.name: each.checksum for each in migrations}
    missing = [each for each in migrations if each.name not in applied]
    for name, record in applied.items():
        if name not in known and (missing or not record.compatible):
            raise SchemaMismatch(
                f"The database is newer than this program: it has {name}. Install the newer LoyalPro, then run: "
                "loyalpro migrate"
            )
        if name in known and known[name] != record.checksum:
            raise SchemaMismatch(
                f"Migration {name} in the database is not the one in this program. Install the LoyalPro that made "
                "this database, then upgrade from there with: loyalpro migrate"
            )
    return missing
