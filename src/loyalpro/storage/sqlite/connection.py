"""A connection to SQLite through apsw, the only library that may open the database file."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw

from loyalpro.kernel.errors import ConfigurationError, DiskFull, StoreUnavailable
from loyalpro.storage.connection import Row, Statement
from loyalpro.storage.dialect import SQLITE
from loyalpro.storage.sqlite.checkpoints import copy_long_log
from loyalpro.storage.sqlite.folder import unusable

_BUSY_MS = 10_000
_CACHE_KB = 64 * 1024
_BUSY = "Another program has locked the database file; nothing was written. Close that program: only LoyalPro may use the file."
_MACHINE_ERRORS = (
    apsw.FullError,
    apsw.IOError,
    apsw.CantOpenError,
    apsw.ReadOnlyError,
    apsw.BusyError,
    apsw.CorruptError,
)


class SqliteConnection:
    """Satisfies `DriverConnection`. `on_commit` gets the length of the log in pages and copies a long log."""

    dialect = SQLITE

    def __init__(
        self, path: Path, *, read_only: bool, on_commit: Callable[[int, apsw.Connection], None] = copy_long_log
    ) -> None:
        self._on_commit = on_commit
        try:
            if not read_only:
                path.touch(mode=0o600)  # SQLite gives its log files the same mode
            self._database = apsw.Connection(str(path), statementcachesize=300)
            self._configure(read_only=read_only)
        except OSError as error:
            raise unusable(path, error) from error
        except apsw.Error as error:
            raise _unopened(path, error) from error
        self._cursor = self._database.cursor()
        self._begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"

    def _configure(self, *, read_only: bool) -> None:
        database = self._database
        database.set_busy_timeout(_BUSY_MS)
        database.pragma("foreign_keys", True)
        if read_only:
            database.pragma("query_only", True)
            database.pragma("schema_version")  # reads the file, so that one that is no database is noticed here
            return
        if database.readonly("main"):  # SQLite opens a file that it may not write for reading
            raise apsw.ReadOnlyError
        if database.pragma("journal_mode", "wal") != "wal":
            raise ConfigurationError(
                "The write-ahead log of SQLite does not work on this file system; use a local disk."
            )
        database.pragma("cache_size", -_CACHE_KB)
        database.set_wal_hook(self._committed)
        database.pragma("secure_delete", True)  # overwrites deleted data instead of only unlinking it
        # FULL: a commit is on the disk before its result is returned. NORMAL loses commits when the power fails.
        database.pragma("synchronous", 2)
        if database.pragma("synchronous") != 2:
            raise ConfigurationError(
                "SQLite did not accept synchronous=FULL; a commit would not survive a power failure."
            )

    def _committed(self, _connection: apsw.Connection, _schema: str, log_pages: int) -> int:
        """Called by SQLite after each commit. What it raises would be taken for an error of the commit."""
        self._on_commit(log_pages, self._database)
        return apsw.SQLITE_OK

    def begin(self) -> None:
        """Begin a transaction. A writer takes the write lock at once, so that what it reads stays valid until it writes."""
        self.execute(self._begin)

    def savepoint(self) -> None:
        """Begin a part of the transaction."""
        self.execute("SAVEPOINT part")

    def release(self) -> None:
        """End the part and keep it."""
        self.execute("RELEASE part")

    def undo(self) -> None:
        """End the part and undo it."""
        self.execute("ROLLBACK TO part")
        self.execute("RELEASE part")

    def flush(self) -> None:
        """Do nothing: every statement has run when its method returns."""

    def commit(self) -> None:
        """Commit, with one fsync of the log."""
        self.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction. After some errors SQLite has already done so."""
        if self._database.in_transaction:
            with contextlib.suppress(apsw.Error):
                self._cursor.execute("ROLLBACK")

    def check(self) -> None:
        """Take the lock of this connection's transactions for a moment; for a writer, another program may hold it."""
        self.begin()
        self.rollback()

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(apsw.Error):
            self._database.close(True)

    def execute(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """Run one statement."""
        try:
            return self._cursor.execute(sql, tuple(params)).fetchall()
        except _MACHINE_ERRORS as error:
            raise _translated(error) from error

    def execute_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Run the statements one after the other: there are no round trips to save."""
        return [self.execute(sql, params) for sql, params in statements]

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement for each row."""
        try:
            self._cursor.executemany(sql, rows)
        except _MACHINE_ERRORS as error:
            raise _translated(error) from error

    def change(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run one statement; the number of rows that it changed."""
        self.execute(sql, params)
        return self._database.changes()

    def run_script(self, sql: str) -> None:
        """Run the statements of a migration."""
        try:
            self._cursor.execute(sql)
        except _MACHINE_ERRORS as error:
            raise _translated(error) from error


def _unopened(path: Path, error: apsw.Error) -> StoreUnavailable:
    """The error of LoyalPro for a file that SQLite does not open."""
    path = path.absolute()
    if path.is_dir():
        return StoreUnavailable(f"{path} is a folder. Choose the path of a file with LOYALPRO_DATABASE_URL.")
    if isinstance(error, apsw.NotADBError):
        return StoreUnavailable(f"{path} is not a SQLite database. Choose another file with LOYALPRO_DATABASE_URL.")
    if isinstance(error, apsw.CorruptError):
        return StoreUnavailable(f"The database {path} is damaged. Restore it from a backup.")
    if isinstance(error, apsw.FullError):
        return DiskFull(f"The disk of {path} is full. Free some space; then repeat it.")
    if isinstance(error, apsw.ReadOnlyError):
        return StoreUnavailable(f"{path} cannot be written. Give the user who runs LoyalPro the right to write to it.")
    return StoreUnavailable(f"SQLite cannot open {path}: {error}.")


def _translated(error: apsw.Error) -> StoreUnavailable:
    """The error of LoyalPro for an error of the machine. Errors in the SQL itself are bugs and are not translated."""
    if isinstance(error, apsw.FullError):
        return DiskFull("The disk is full; nothing was written. Free some space; writing then resumes by itself.")
    if isinstance(error, apsw.BusyError):
        return StoreUnavailable(_BUSY)
    if isinstance(error, apsw.CorruptError):
        return StoreUnavailable("The database is damaged; nothing was written. Restore it from a backup.")
    return StoreUnavailable(f"The database cannot be used ({type(error).__name__}); nothing was written.")
