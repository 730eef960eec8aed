"""The PostgreSQL database: one writer each for ingestion, deliveries and upkeep, and a few readers."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import DiskFull
from loyalpro.kernel.unit_of_work import WriterName
from loyalpro.storage import migrations
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import POSTGRES
from loyalpro.storage.disk_space import require
from loyalpro.storage.postgres import partitions, restored_dump, statistics
from loyalpro.storage.postgres.connection import PostgresConnection
from loyalpro.storage.postgres.disk_space import ServerDiskSpace
from loyalpro.storage.readers import Readers
from loyalpro.storage.writer import GroupWriter

T = TypeVar("T")
MIGRATIONS = Path(__file__).parent / "migrations"
_READERS = 4
_ENGINE_READERS = 2
"""For the engine and for API keys, so that neither waits for the lists that callers read."""
_MAX_GROUP_SIZE: dict[WriterName, int] = {"ingest": 60, "delivery": 60, "upkeep": 1}
"""PostgreSQL caches 64 subtransactions of a session; with more, every snapshot in the server gets slower. A transaction of the
upkeep sets a lock timeout, which must not apply to other writes, so it is alone in its group."""


class PostgresDatabase:
    """Satisfies `Database`."""

    dialect = POSTGRES
    exclusive = False

    def __init__(self, dsn: str, clock: Clock, migrations_folder: Path = MIGRATIONS) -> None:
        self._dsn = dsn
        self._clock = clock
        self._migrations = migrations.load(migrations_folder)
        self._writers = {
            name: GroupWriter(
                lambda: PostgresConnection(dsn, read_only=False), name=f"postgres-{name}", max_group_size=size
            )
            for name, size in _MAX_GROUP_SIZE.items()
        }
        self.disk_space = ServerDiskSpace(self._writers["upkeep"].submit)
        self._readers = Readers(lambda: PostgresConnection(dsn, read_only=True), count=_READERS)
        self._engine_readers = Readers(lambda: PostgresConnection(dsn, read_only=True), count=_ENGINE_READERS)

    @property
    def available(self) -> bool:
        """Whether the database accepts writes now."""
        return self._writers["ingest"].available and self._writers["delivery"].available

    async def start(self) -> None:
        """Check the server and the schema, and connect."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        connection = PostgresConnection(self._dsn, read_only=False)
        try:
            migrations.prepare(connection, self._migrations, self._clock)
            self._prepare(connection)
        finally:
            connection.close()
        for writer in self._writers.values():
            writer.start()

    async def stop(self) -> None:
        """Finish the queued writes and disconnect."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._readers.stop()
        self._engine_readers.stop()
        for writer in self._writers.values():
            writer.stop()

    async def write(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` in the next group of its writer. `DiskFull` for new data while there is too little disk space."""
        if writer == "ingest":
            require(self.disk_space)
        try:
            return await self._writers["ingest" if writer == "control" else writer].submit(work)
        except DiskFull:
            self.disk_space.ran_out()
            raise

    async def read(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` on a reader; the engine has its own."""
        readers = self._engine_readers if writer == "delivery" else self._readers
        return await readers.run(work)

    async def lookup(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which is one statement, on a reader without a transaction: each round trip to the server counts."""
        return await self._engine_readers.run_statement(work)

    def migrate(self) -> list[str]:
        """Apply the missing migrations, and analyze the tables that are larger than their statistics say."""
        connection = PostgresConnection(self._dsn, read_only=False)
        try:
            applied = migrations.migrate(connection, self._migrations, self._clock)
            self._prepare(connection)
            while statistics.analyze_grown_table(connection):
                pass
        finally:
            connection.close()
        return applied

    def _prepare(self, connection: PostgresConnection) -> None:
        restored_dump.advance_offset(connection)
        partitions.prepare(connection, self._clock.now_ms())
