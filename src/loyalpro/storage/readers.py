"""A few threads, each with a connection, for functions that only read."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from loyalpro.kernel.errors import StoreError, StoreUnavailable
from loyalpro.storage.answers import CallLimit, unanswered
from loyalpro.storage.connection import Connection, DriverConnection, run_work
from loyalpro.storage.threads import resolve

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _QueuedRead:
    """A read, and the future that its caller awaits."""

    run: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class Readers:
    """Runs functions on connections that cannot write, `count` at a time."""

    def __init__(
        self,
        connect: Callable[[], DriverConnection],
        call_limit: CallLimit,
        *,
        count: int,
        name: str = "reader",
    ) -> None:
        self._connect = connect
        self._call_limit = call_limit
        self._queue: queue.SimpleQueue[_QueuedRead | None] = queue.SimpleQueue()
        self._idle: queue.SimpleQueue[DriverConnection] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"{name}-{n}", daemon=True) for n in range(count)]
        self._starting = threading.Lock()
        self._stopping = False

    async def run(self, work: Callable[[Connection], T]) -> T:
        """The result of `work`, which reads in one transaction."""
        return await self._submit(lambda: self._run_in_transaction(work))

    async def run_statement(self, work: Callable[[Connection], T]) -> T:
        """The result of `work` that runs one statement. It needs no transaction, which saves two round trips."""
        return await self._submit(lambda: self._run_without_transaction(work))

    def run_inline(self, work: Callable[[Connection], T]) -> T:
        """The result of `work`, on the thread of the caller: one row of a local file costs less than a change of threads."""
        return self._run_in_transaction(work)

    def request_stop(self) -> None:
        """Finish the queued functions, and then end; accept no more."""
        self._stopping = True
        for _ in self._threads:
            self._queue.put(None)

    @property
    def threads(self) -> list[threading.Thread]:
        """Those that were started."""
        return [thread for thread in self._threads if thread.ident is not None]

    def disconnect(self) -> None:
        """Close the connections, after the threads have ended."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    async def _submit(self, run: Callable[[], T]) -> T:
        if self._stopping:
            raise StoreUnavailable("The server is stopping.")
        self._start()
        loop = asyncio.get_running_loop()
        read = _QueuedRead(run, loop, loop.create_future())
        self._queue.put(read)
        watch = self._call_limit.watch(loop, lambda: _give_up(read.future))
        try:
            result: T = await read.future
        finally:
            watch.cancel()
        return result

    def _start(self) -> None:
        """Start the threads when the first function comes."""
        if self._threads[-1].ident is None:
            with self._starting:
                for thread in self._threads:
                    if thread.ident is None:
                        thread.start()

    def _work(self) -> None:
        while (read := self._queue.get()) is not None:
            if not read.future.done():  # else the caller has given up, or was canceled
                resolve(read.loop, read.future, read.run)

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


def _give_up(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(unanswered(may_be_written=False))
