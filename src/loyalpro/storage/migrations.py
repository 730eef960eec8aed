"""Brings a schema up to date. Migrations are numbered files; each is applied once, in one transaction with its record.

A file whose first line begins with `-- compatible:` changes nothing that an older program relies on. Older and newer programs
can use the database at the same time, so hosts are upgraded one after the other: first the schema, then each program.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import LockTaken, SchemaMismatch
from loyalpro.storage.connection import DriverConnection, limit_lock_waits

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
_ADVISORY_LOCK: Final = 7_011_963_125
_LOCK_LIMIT_MS: Final = 5_000
"""A statement that waits for the lock of a table holds up every later one that needs the table."""
_IN_USE = (
    "Migration {name} needs a table that another transaction has used for over 5 seconds; nothing was changed. Find and end "
    "that transaction (SELECT pid, xact_start, query FROM pg_stat_activity ORDER BY xact_start), then run: loyalpro migrate"
)
_MIGRATE = "Stop the other processes if they are of an older version, then run: loyalpro migrate"

Report = Callable[[str], None]
"""Gets a line for each step, when it begins."""


def ignore_report(_: str) -> None:
    """A report that is not shown."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration file: its name without the suffix, and its SQL."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, in hexadecimal. The database records it: a file that was applied must not change."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def compatible(self) -> bool:
        """Whether a program without this migration can still use the database."""
        return self.sql.startswith(_COMPATIBLE)


@dataclass(frozen=True, slots=True)
class Applied:
    """The record of a migration in the database."""

    checksum: str
    compatible: bool


def load(folder: Path) -> list[Migration]:
    """The migrations in a folder, in order."""
    return [Migration(path.stem, path.read_text("utf-8")) for path in sorted(folder.glob("[0-9]*.sql"))]


def migrate(
    connection: DriverConnection, migrations: Sequence[Migration], clock: Clock, report: Report = ignore_report
) -> list[str]:
    """Apply the missing migrations; their names. When two hosts do this at the same time, the second has nothing to apply.

    `LockTaken`, with advice, when a table stays in use by another transaction; then nothing is changed.
    """
    connection.begin()
    try:
        _wait_for_others(connection, report)
        missing = _missing(_recorded(connection), migrations)
        for number, each in enumerate(missing, start=1):
            report(f"applying {each.name} ({number} of {len(missing)}) ...")
            _apply(connection, each, clock)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return [each.name for each in missing]


def _wait_for_others(connection: DriverConnection, report: Report) -> None:
    """Let one process at a time migrate a database. The wait for it has no limit, as its migrations have none."""
    if not connection.dialect.is_postgres:
        return
    limit_lock_waits(connection, 0)
    if connection.execute("SELECT pg_try_advisory_xact_lock(?)", (_ADVISORY_LOCK,)) == [(False,)]:
        report("waiting for another process that migrates this database ...")
        connection.execute("SELECT pg_advisory_xact_lock(?)", (_ADVISORY_LOCK,))
    limit_lock_waits(connection, _LOCK_LIMIT_MS)


def _apply(connection: DriverConnection, migration: Migration, clock: Clock) -> None:
    try:
        connection.run_script(migration.sql)
    except LockTaken as error:
        raise LockTaken(_IN_USE.format(name=migration.name)) from error
    connection.execute(
        "INSERT INTO schema_migrations (name, checksum, applied_at, compatible) VALUES (?, ?, ?, ?)",
        (migration.name, migration.checksum, clock.now_ms(), int(migration.compatible)),
    )


def prepare(connection: DriverConnection, migrations: Sequence[Migration], clock: Clock) -> None:
    """Set up an empty database. `SchemaMismatch`, with advice, when an existing schema does not fit this program."""
    connection.begin()
    applied = _applied(connection)
    connection.rollback()
    if not applied:
        migrate(connection, migrations, clock)
        return
    _require_none_missing(applied, migrations)


def require_current(connection: DriverConnection, migrations: Sequence[Migration]) -> None:
    """Raise `SchemaMismatch`, with advice, when the schema does not fit this program. It only reads."""
    connection.begin()
    applied = _applied(connection)
    connection.rollback()
    if applied is None:
        raise SchemaMismatch("The database is empty: it was never set up by LoyalPro.")
    _require_none_missing(applied, migrations)


def _require_none_missing(applied: dict[str, Applied], migrations: Sequence[Migration]) -> None:
    missing = _missing(applied, migrations)
    if missing:
        raise SchemaMismatch(f"The database is older than this program: {missing[0].name} is missing. {_MIGRATE}")


def _recorded(connection: DriverConnection) -> dict[str, Applied]:
    """The applied migrations. Creates their table, or adds the column that the first version of the table did not have."""
    applied = _applied(connection)
    if applied is None:
        connection.run_script(_TABLE)
    elif not _has_compatible(connection):
        connection.run_script(_ADD_COMPATIBLE)
    return applied or {}


def _applied(connection: DriverConnection) -> dict[str, Applied] | None:
    """The applied migrations by name; None when the database was never set up."""
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
    """The migrations to apply. `SchemaMismatch` when this program cannot work with the applied ones."""
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
