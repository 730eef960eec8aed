"""The PostgreSQL database: one writer each for ingestion, deliveries and upkeep, and a few readers."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import DiskFull
from loyalpro.kernel.unit_of_work import NEW_DATA, WriterName
from loyalpro.storage import answers, migrations, threads
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import POSTGRES
from loyalpro.storage.disk_space import require
from loyalpro.storage.postgres import partitions, restored_dump, statistics
from loyalpro.storage.postgres.connection import PostgresConnection
from loyalpro.storage.postgres.disk_space import ServerDiskSpace
from loyalpro.storage.postgres.pooler import require_own_sessions
from loyalpro.storage.postgres.requirements import require_rights
from loyalpro.storage.postgres.session import ADMINISTRATION, UPKEEP, WORK
from loyalpro.storage.readers import Readers
from loyalpro.storage.threads import in_daemon_thread
from loyalpro.storage.writer import GroupWriter

T = TypeVar("T")
_ESSENTIAL: tuple[WriterName, ...] = ("ingest", "delivery")
"""The writers without which the process can do nothing."""
MIGRATIONS = Path(__file__).parent / "migrations"
_UPKEEP_LIMIT_S = 120.0
"""A piece of upkeep is several statements, and the limit of each of them is longer than that of other writers."""
_READERS = 4
_ENGINE_READERS = 2
"""For the engine and for API keys, so that neither waits for the lists that callers read."""
_MAX_GROUP_SIZE: dict[WriterName, int] = {"ingest": 60, "delivery": 60, "upkeep": 1}
"""PostgreSQL caches 64 subtransactions of a session; with more, every snapshot in the server gets slower. A transaction of the
upkeep sets a lock timeout, which must not apply to other writes, so it is alone in its group."""
_SHARED: dict[WriterName, WriterName] = {"control": "ingest", "bulk": "upkeep"}
"""Writers without a connection of their own, and whose they use."""


class PostgresDatabase:
    """Satisfies `Database`."""

    dialect = POSTGRES
    exclusive = False

    def __init__(self, dsn: str, clock: Clock, migrations_folder: Path = MIGRATIONS) -> None:
        self._dsn = dsn
        self._clock = clock
        self._migrations = migrations.load(migrations_folder)
        self._call_limit = answers.CallLimit(self._is_silent)
        self._writers = {name: self._writer(name, size) for name, size in _MAX_GROUP_SIZE.items()}
        self.disk_space = ServerDiskSpace(self._writers["upkeep"].submit)
        self._readers = Readers(self._connect_reader, self._call_limit, count=_READERS)
        self._engine_readers = Readers(
            self._connect_reader, self._call_limit, count=_ENGINE_READERS, name="engine-reader"
        )

    def _writer(self, name: WriterName, max_group_size: int) -> GroupWriter:
        kind = UPKEEP if name == "upkeep" else WORK
        return GroupWriter(
            lambda: PostgresConnection(self._dsn, read_only=False, kind=kind),
            answers.Answers(self._clock),
            answers.CallLimit(self._is_silent, _UPKEEP_LIMIT_S) if kind is UPKEEP else self._call_limit,
            name=f"postgres-{name}",
            max_group_size=max_group_size,
        )

    def _connect_reader(self) -> PostgresConnection:
        return PostgresConnection(self._dsn, read_only=True)

    def _is_silent(self) -> bool:
        """Whether the whole server is silent. One writer may only be waiting for a lock."""
        return all(self._writers[name].answers.is_silent for name in _ESSENTIAL)

    @property
    def available(self) -> bool:
        """Whether the database accepts writes now."""
        return all(self._writers[name].available for name in _ESSENTIAL)

    @property
    def answered_s(self) -> float:
        """When the server last answered, on the monotonic clock: the older of the answers to two writers."""
        return min(self._writers[name].answers.last_s for name in _ESSENTIAL)

    async def start(self) -> None:
        """Check the server and the schema, and connect."""
        await in_daemon_thread(self._open)

    def _open(self) -> None:
        require_own_sessions(self._dsn)
        connection = PostgresConnection(self._dsn, read_only=False, kind=UPKEEP)
        try:
            require_rights(connection)
            migrations.prepare(connection, self._migrations, self._clock)
            self._prepare(connection)
        finally:
            connection.close()
        for writer in self._writers.values():
            writer.start()

    async def stop(self) -> None:
        """Finish the queued writes and disconnect, within seconds. The server undoes what a hanging thread has begun."""
        parts: list[threads.ConnectedThreads] = [self._readers, self._engine_readers, *self._writers.values()]
        await in_daemon_thread(lambda: threads.stop(parts, self._clock))

    async def write(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` in the next group of its writer. `DiskFull` for new data while there is too little disk space."""
        if writer in NEW_DATA:
            require(self.disk_space)
        self._refuse_if_silent()
        try:
            return await self._writers[_SHARED.get(writer, writer)].submit(work)
        except DiskFull:
            self.disk_space.ran_out()
            raise

    async def read(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` on a reader; the engine has its own."""
        self._refuse_if_silent()
        readers = self._engine_readers if writer == "delivery" else self._readers
        return await readers.run(work)

    async def lookup(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which is one statement, on a reader without a transaction: each round trip to the server counts."""
        self._refuse_if_silent()
        return await self._engine_readers.run_statement(work)

    def _refuse_if_silent(self) -> None:
        """`StoreUnavailable` when the whole server is silent."""
        if self._is_silent():
            raise answers.silent()

    def migrate(self, report: migrations.Report = migrations.ignore_report) -> list[str]:
        """Apply the missing migrations, and analyze the tables that are larger than their statistics say."""
        require_own_sessions(self._dsn)
        connection = PostgresConnection(self._dsn, read_only=False, kind=ADMINISTRATION)
        try:
            require_rights(connection)
            applied = migrations.migrate(connection, self._migrations, self._clock, report)
            self._prepare(connection)
            while statistics.analyze_grown_table(connection):
                pass
        finally:
            connection.close()
        return applied

    def _prepare(self, connection: PostgresConnection) -> None:
        restored_dump.advance_offset(connection)
        partitions.prepare(connection, self._clock.now_ms())
