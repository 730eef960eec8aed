"""A few threads, each with a connection, for functions that only read."""

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
    """Runs functions on connections that cannot write, `count` at a time."""

    def __init__(self, connect: Callable[[], DriverConnection], *, count: int) -> None:
        self._connect = connect
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="reader")
        self._idle: queue.SimpleQueue[DriverConnection] = queue.SimpleQueue()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """The result of `work`, which reads in one transaction."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run_in_transaction, work)

    async def run_statement(self, work: Callable[[Connection], T]) -> T:
        """The result of `work` that runs one statement. It needs no transaction, which saves two round trips."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run_without_transaction, work)

    def run_inline(self, work: Callable[[Connection], T]) -> T:
        """The result of `work`, on the thread of the caller: one row of a local file costs less than a change of threads."""
        return self._run_in_transaction(work)

    def stop(self) -> None:
        """Finish the functions that run, then disconnect."""
        self._pool.shutdown()
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def _run_in_transaction(self, work: Callable[[Connection], T]) -> T:
        with self._borrowed() as connection:
            connection.begin()
            try:
                return run_work(work, connection)
            finally:
                connection.rollback()

    def _run_without_transaction(self, work: Callable[[Connection], T]) -> T:
        with self._borrowed() as connection:
            return run_work(work, connection)

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[DriverConnection]:
        """An idle or new connection. It becomes idle again unless the database failed."""
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
            self._idle.put(connection)  # the error is one of the function: the connection still works
            raise
        self._idle.put(connection)
