"""The SQLite database: one writer, a few readers, and a lock file that allows one process at a time."""

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import ConfigurationError, DiskFull
from loyalpro.kernel.unit_of_work import ALONE, NEW_DATA, WriterName
from loyalpro.storage import answers, migrations, threads
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import SQLITE
from loyalpro.storage.disk_space import require
from loyalpro.storage.readers import Readers
from loyalpro.storage.sqlite.checkpoints import CheckpointThread
from loyalpro.storage.sqlite.connection import SqliteConnection
from loyalpro.storage.sqlite.data_folder import keep_to_user
from loyalpro.storage.sqlite.disk_space import FolderDiskSpace
from loyalpro.storage.sqlite.folder import make_folder, unusable
from loyalpro.storage.threads import in_daemon_thread
from loyalpro.storage.writer import GroupWriter

T = TypeVar("T")
MIGRATIONS = Path(__file__).parent / "migrations"
_READERS = 3
_MAX_GROUP_SIZE = 256


class SqliteDatabase:
    """Satisfies `Database`. Leases, the order of events and durability rely on the single process."""

    dialect = SQLITE
    exclusive = True

    def __init__(
        self, path: Path, clock: Clock, migrations_folder: Path = MIGRATIONS, *, min_free_bytes: int = 0
    ) -> None:
        self._path = path
        self._clock = clock
        self._migrations = migrations.load(migrations_folder)
        self._lock = FolderLock(path)
        self.disk_space = FolderDiskSpace(path, min_free_bytes)
        self._answers = answers.Answers(clock)
        call_limit = answers.CallLimit(lambda: self._answers.is_silent)
        self._checkpoints = CheckpointThread(path)
        self._writer = GroupWriter(
            lambda: SqliteConnection(path, read_only=False, on_commit=self._checkpoints.committed),
            self._answers,
            call_limit,
            name="sqlite-writer",
            max_group_size=_MAX_GROUP_SIZE,
        )
        self._readers = Readers(lambda: SqliteConnection(path, read_only=True), call_limit, count=_READERS)
        self._engine_reader = Readers(
            lambda: SqliteConnection(path, read_only=True), call_limit, count=1, name="engine-reader"
        )

    @property
    def available(self) -> bool:
        """Whether the database accepts writes now."""
        return self._writer.available

    @property
    def answered_s(self) -> float:
        """When the file was last used with success, on the monotonic clock."""
        return self._answers.last_s

    async def start(self) -> None:
        """Take the lock, check the schema, and connect."""
        await in_daemon_thread(self._open)

    def _open(self) -> None:
        self._lock.take()
        try:
            self.disk_space.start()
            _refuse_foreign(self._path)
            keep_to_user(self._path)
            connection = SqliteConnection(self._path, read_only=False)
            try:
                migrations.prepare(connection, self._migrations, self._clock)
            finally:
                connection.close()
            self._writer.start()
            self._checkpoints.start()
        except BaseException:
            self._lock.release()
            raise

    async def stop(self) -> None:
        """Finish the queued writes, disconnect, and release the lock. A thread that hangs keeps it until the process ends."""
        await in_daemon_thread(self._close)

    def _close(self) -> None:
        if threads.stop([self._readers, self._engine_reader, self._checkpoints, self._writer], self._clock):
            self._lock.release()

    async def write(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` in the next group of the only writer. `DiskFull` for new data while there is too little disk space."""
        if writer in NEW_DATA:
            require(self.disk_space)
        if self._answers.is_silent:
            raise answers.silent()
        try:
            return await self._writer.submit(work, alone=writer in ALONE)
        except DiskFull:
            self.disk_space.ran_out()
            raise

    async def read(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` on a reader; the engine has one of its own."""
        readers = self._engine_reader if writer == "delivery" else self._readers
        return await readers.run(work)

    async def lookup(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on the calling thread: the row is in memory, and a reader never waits for a writer.

        On a disk that may hang, run it on a thread of its own, so that the caller's thread does not hang with it.
        """
        if self._answers.is_silent:
            return await self._readers.run_statement(work)
        return self._readers.run_inline(work)

    def migrate(self, report: migrations.Report = migrations.ignore_report) -> list[str]:
        """Apply the missing migrations; no other process may have the database open."""
        self._lock.take()
        try:
            _refuse_foreign(self._path)
            keep_to_user(self._path)
            connection = SqliteConnection(self._path, read_only=False)
            try:
                return migrations.migrate(connection, self._migrations, self._clock, report)
            finally:
                connection.close()
        finally:
            self._lock.release()


def _refuse_foreign(path: Path) -> None:
    """`ConfigurationError` for a file that has tables, and no record of LoyalPro's migrations. It only reads the file."""
    if not path.exists() or (path.is_file() and not path.stat().st_size):
        return
    connection = SqliteConnection(path, read_only=True)
    try:
        tables = connection.execute(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' LIMIT 1"
        )
        record = connection.execute("SELECT 1 FROM pragma_table_info('schema_migrations') WHERE name = 'checksum'")
    finally:
        connection.close()
    if tables and not record:
        raise ConfigurationError(
            f"{path.absolute()} is the database of another program. Choose another file with LOYALPRO_DATABASE_URL."
        )


class FolderInUse(ConfigurationError):
    """Another process has the database open."""


class FolderLock:
    """A lock file beside the database. The operating system releases the lock when its process ends, even by a crash."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._fd: int | None = None

    def take(self) -> None:
        """Take the lock, in a folder that is made if it is missing. `ConfigurationError` when another process holds it."""
        make_folder(self._path.parent)
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unusable(self._path, error) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(fd)
            raise FolderInUse(
                f"Another LoyalPro (process {holder}) is using {self._path.parent}. Stop it, or choose another folder "
                "with LOYALPRO_DATA_DIR. To run several processes, use PostgreSQL."
            ) from None
        with contextlib.suppress(OSError):  # on a full disk the lock works without the number of its process
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
        self._fd = fd

    def release(self) -> None:
        """Release the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
