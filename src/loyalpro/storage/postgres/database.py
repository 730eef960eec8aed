"""The PostgreSQL store: a writer each for what comes in, what goes out and upkeep, and a few readers."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import DiskFull
from loyalpro.storage import migrations
from loyalpro.storage.connection import Connection
from loyalpro.storage.database import Lane
from loyalpro.storage.dialect import POSTGRES
from loyalpro.storage.disk_space import require
from loyalpro.storage.postgres import partitions, restored_dump
from loyalpro.storage.postgres.connection import PostgresConnection
from loyalpro.storage.postgres.disk_space import ServerDiskSpace
from loyalpro.storage.readers import Readers
from loyalpro.storage.writer import GroupWriter

T = TypeVar("T")
MIGRATIONS = Path(__file__).parent / "migrations"
_READERS = 4
_OWN_READERS = 2
"""For keys and the engine: however long callers' lists take, neither waits for them."""
_MOST_IN_GROUP: dict[Lane, int] = {"ingest": 60, "delivery": 60, "upkeep": 1}
"""PostgreSQL keeps 64 subtransactions of a session at hand; with more, every snapshot in the server gets slower.
Upkeep sets limits for its transaction that nobody else may suffer from."""


class PostgresDatabase:
    """Satisfies `Database`."""

    dialect = POSTGRES
    exclusive = False

    def __init__(self, dsn: str, clock: Clock, migrations_folder: Path = MIGRATIONS) -> None:
        self._dsn = dsn
        self._clock = clock
        self._migrations = migrations.load(migrations_folder)
        self._writers = {
            lane: GroupWriter(
                lambda: PostgresConnection(dsn, read_only=False), name=f"postgres-{lane}", most_in_group=most
            )
            for lane, most in _MOST_IN_GROUP.items()
        }
        self.disk_space = ServerDiskSpace(self._writers["upkeep"].submit)
        self._readers = Readers(lambda: PostgresConnection(dsn, read_only=True), count=_READERS)
        self._own_readers = Readers(lambda: PostgresConnection(dsn, read_only=True), count=_OWN_READERS)

    @property
    def available(self) -> bool:
        """Whether writes can be taken now."""
        return self._writers["ingest"].available and self._writers["delivery"].available

    async def start(self) -> None:
        """Check the server and the schema, connect."""
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
        """Finish what is queued and disconnect."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._readers.stop()
        self._own_readers.stop()
        for writer in self._writers.values():
            writer.stop()

    async def write(self, work: Callable[[Connection], T], lane: Lane = "ingest") -> T:
        """Run `work` in its lane's next group; nothing is taken in without room for it."""
        if lane == "ingest":
            require(self.disk_space)
        try:
            return await self._writers["ingest" if lane == "control" else lane].submit(work)
        except DiskFull:
            self.disk_space.ran_out()
            raise

    async def read(self, work: Callable[[Connection], T], lane: Lane = "ingest") -> T:
        """Run `work` on a reader."""
        readers = self._own_readers if lane == "delivery" else self._readers
        return await readers.run(work)

    async def lookup(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on a reader: the server may be far away."""
        return await self._own_readers.look(work)

    def migrate(self) -> list[str]:
        """Bring the schema forward."""
        connection = PostgresConnection(self._dsn, read_only=False)
        try:
            applied = migrations.migrate(connection, self._migrations, self._clock)
            self._prepare(connection)
        finally:
            connection.close()
        return applied

    def _prepare(self, connection: PostgresConnection) -> None:
        restored_dump.advance_offset(connection)
        partitions.prepare(connection, self._clock.now_ms())
