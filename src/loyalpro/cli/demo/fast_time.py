"""An event loop whose clock jumps to the next timer when nothing is under way, so that a week passes in seconds."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from loyalpro.kernel.clock import MS_PER_S, SystemClock, UnixMs
from loyalpro.kernel.unit_of_work import WriterName
from loyalpro.storage.connection import Connection
from loyalpro.storage.database import Database
from loyalpro.storage.dialect import Dialect

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    """Moves the time instead of waiting, unless a thread has work whose result has to come first."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.under_way = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        if self.under_way:
            return super().select(None)
        self.now_s += timeout
        return []


class FastLoop(asyncio.SelectorEventLoop):
    """The loop. Its time starts at 0, and stands still while a thread works for it."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds since its start."""
        return self._jumping.now_s

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """No time passes inside."""
        self._jumping.under_way += 1
        try:
            yield
        finally:
            self._jumping.under_way -= 1


class FastClock(SystemClock):
    """The clock of everything that runs on the loop; it shows `start_ms` at the loop's start."""

    def __init__(self, loop: FastLoop, start_ms: UnixMs) -> None:
        self._loop = loop
        self._start_ms = start_ms

    def now_ms(self) -> UnixMs:
        """The wall time in Unix milliseconds."""
        return self._start_ms + round(self._loop.time() * MS_PER_S)

    def monotonic_s(self) -> float:
        """Seconds since the start of the loop."""
        return self._loop.time()


class StillDatabase:
    """Satisfies `Database`: another database, during whose work no time passes."""

    def __init__(self, inner: Database, loop: FastLoop) -> None:
        self._inner = inner
        self._loop = loop

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
        await self._still(self._inner.start())

    async def stop(self) -> None:
        """Stop the database."""
        await self._still(self._inner.stop())

    async def write(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` in a transaction of a writer."""
        return await self._still(self._inner.write(work, writer))

    async def read(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        """Run `work` on a connection that cannot write."""
        return await self._still(self._inner.read(work, writer))

    async def lookup(self, work: Callable[[Connection], T]) -> T:
        """`read`, for `work` of one statement."""
        return await self._still(self._inner.lookup(work))

    async def _still(self, operation: Awaitable[T]) -> T:
        with self._loop.standing_still():
            return await operation
