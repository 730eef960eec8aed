"""The PostgreSQL store: a writer each for what comes in, what goes out and upkeep, and a few readers."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import DiskFull
from loyalpro.kernel.unit_of_work import WriterName
from loyalpro.storage import migrations
from loyalpro.storage.connection import Connection, Dialect
from loyalpro.storage.postgres import moving, partitions
from loyalpro.storage.postgres.connection import PostgresConnection
from loyalpro.storage.postgres.room import ServerRoom
from loyalpro.storage.readers import Readers
from loyalpro.storage.room import require
from loyalpro.storage.writer import GroupWriter

T = TypeVar("T")
MIGRATIONS = Path(__file__).parent / "migrations"
_READERS = 4
_OWN_READERS = 2
"""For keys and the engine: however long callers' lists take, neither waits for them."""
_MOST_IN_GROUP: dict[WriterName, int] = {"ingest": 60, "delivery": 60, "upkeep": 1}
"""PostgreSQL keeps 64 subtransactions of a session at hand; with more, every snapshot in the server gets slower.
Upkeep sets limits for its transaction that nobody else may suffer from."""


class PostgresDatabase:
    """Satisfies `Database`."""

    dialect: Dialect = "postgres"
    exclusive = False

    def __init__(self, dsn: str, clock: Clock, migrations_folder: Path = MIGRATIONS) -> None:
        self._dsn = dsn
        self._clock = clock
        self._migrations = migrations.load(migrations_folder)
        self._writers = {
            name: GroupWriter(
                lambda: PostgresConnection(dsn, read_only=False), name=f"postgres-{name}", most_in_group=most
            )
            for name, most in _MOST_IN_GROUP.items()
        }
        self.room = ServerRoom(self._writers["upkeep"].submit)
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

    async def write(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` in the next group of this writer; `ingest` needs free disk space."""
        if writer == "ingest":
            require(self.room)
        try:
            return await self._writers["ingest" if writer == "control" else writer].submit(work)
        except DiskFull:
            self.room.ran_out()
            raise

    async def read(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` on a reader."""
        readers = self._own_readers if writer == "delivery" else self._readers
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
        moving.go_on(connection)
        partitions.prepare(connection, self._clock.now_ms())
