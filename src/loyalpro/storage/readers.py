"""A few threads with a connection each, for work that only reads."""

import asyncio
import contextlib
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from loyalpro.kernel.errors import StoreError
from loyalpro.storage.connection import Connection, DriverConnection, run_work

T = TypeVar("T")


class Readers:
    """Runs functions on connections that cannot write, several at a time."""

    def __init__(self, connect: Callable[[], DriverConnection], *, count: int) -> None:
        self._connect = connect
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="reader")
        self._idle: queue.SimpleQueue[DriverConnection] = queue.SimpleQueue()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """The result of `work`, which sees one state of the database throughout."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, work)

    async def look(self, work: Callable[[Connection], T]) -> T:
        """The same for work of one statement, which sees one state by itself: two round trips less."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._look, work)

    def run_here(self, work: Callable[[Connection], T]) -> T:
        """The same on the caller's thread: for a look at a row of a local file, which costs less than to ask a thread."""
        return self._read(work)

    def stop(self) -> None:
        """Finish what is under way, then disconnect."""
        self._pool.shutdown()
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._borrowed() as connection:
            connection.begin()
            try:
                return run_work(work, connection)
            finally:
                connection.rollback()

    def _look(self, work: Callable[[Connection], T]) -> T:
        with self._borrowed() as connection:
            return run_work(work, connection)

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[DriverConnection]:
        """A connection that is put back when it is still good."""
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = self._connect()
        try:
            yield connection
        except StoreError:
            connection.close()
            raise
        except BaseException:
            self._idle.put(connection)  # the work was refused; the connection is as good as before
            raise
        self._idle.put(connection)
