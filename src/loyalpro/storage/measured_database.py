"""A database whose operations are measured, and whose outages are logged."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import DiskFull, StoreError
from loyalpro.kernel.unit_of_work import NEW_DATA, WriterName
from loyalpro.storage.connection import Connection
from loyalpro.storage.database import Database
from loyalpro.storage.dialect import Dialect
from loyalpro.storage.outage_log import OutageLog

T = TypeVar("T")


class DatabaseMetrics(Protocol):
    """Receives what the operations of a database take."""

    def database_wrote(self, writer: WriterName, elapsed_s: float) -> None:
        """A write is durable, `elapsed_s` after it was submitted: with the waits for the writer and for locks."""
        ...

    def database_read(self, elapsed_s: float) -> None:
        """A read has ended, `elapsed_s` after it was submitted."""
        ...

    def database_failed(self, code: str) -> None:
        """An operation has failed with this error code."""
        ...


class MeasuredDatabase:
    """Satisfies `Database`. It adds measurements to another database, and changes no result of it."""

    def __init__(self, inner: Database, metrics: DatabaseMetrics, clock: Clock) -> None:
        self._inner = inner
        self._metrics = metrics
        self._clock = clock
        self._outage = OutageLog(clock)

    @property
    def dialect(self) -> Dialect:
        """What differs in the SQL of this database."""
        return self._inner.dialect

    @property
    def available(self) -> bool:
        """Whether the database accepts writes now."""
        return self._inner.available

    @property
    def answered_s(self) -> float:
        """When the database last answered, on the monotonic clock."""
        return self._inner.answered_s

    @property
    def exclusive(self) -> bool:
        """Whether only one process at a time can open the database."""
        return self._inner.exclusive

    async def start(self) -> None:
        """Start the database."""
        await self._inner.start()

    async def stop(self) -> None:
        """Stop the database."""
        await self._inner.stop()

    async def write(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` in a transaction of a writer."""
        began_s = self._clock.monotonic_s()
        result = await self._watched(writer, self._inner.write(work, writer))
        self._metrics.database_wrote(writer, self._clock.monotonic_s() - began_s)
        return result

    async def read(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` on a connection that cannot write."""
        return await self._read(self._inner.read(work, writer))

    async def lookup(self, work: Callable[[Connection], T]) -> T:
        """`read`, for `work` of one statement."""
        return await self._read(self._inner.lookup(work))

    async def _read(self, operation: Awaitable[T]) -> T:
        began_s = self._clock.monotonic_s()
        result = await self._watched("read", operation)
        self._metrics.database_read(self._clock.monotonic_s() - began_s)
        return result

    async def _watched(self, kind: str, operation: Awaitable[T]) -> T:
        """The result of an operation. New data that is refused for want of disk space is no outage."""
        try:
            result = await operation
        except StoreError as error:
            self._metrics.database_failed(error.code)
            if not (isinstance(error, DiskFull) and kind in NEW_DATA):
                self._outage.failed(kind, error)
            raise
        self._outage.succeeded(kind)
        return result
