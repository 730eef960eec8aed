"""One thread with one writing connection that commits in groups: a savepoint for each write, one fsync for the group."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from loyalpro.kernel.errors import DiskFull, StoreError, StoreUnavailable
from loyalpro.storage.connection import Connection, DriverConnection, RetryTransaction, run_work

T = TypeVar("T")
WriteFunction = Callable[[Connection], Any]
"""Reads and writes inside an open transaction. It runs again when the database asks for another try."""

_MAX_QUEUED: Final = 10_000
_MAX_TRIES: Final = 5
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0


@dataclass(slots=True)
class _QueuedWrite:
    """A write, the future that its caller awaits, and its outcome once it has run."""

    work: WriteFunction
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    is_final: bool = False
    """The outcome no longer depends on the rest of the group: the write is committed, or it was undone by itself."""


class GroupWriter:
    """Runs submitted functions of a connection in groups, and returns their results after COMMIT.

    A group is what is queued when its transaction begins; nothing joins it later. A function may therefore read something
    once for its whole group (the subscribed endpoints, say), as long as it sees all that was committed before it was submitted.
    """

    def __init__(self, connect: Callable[[], DriverConnection], *, name: str, max_group_size: int) -> None:
        self._connect = connect
        self._name = name
        self._max_group_size = max_group_size
        self._connection: DriverConnection | None = None
        self._queue: deque[_QueuedWrite] = deque()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.group_count = 0
        self.available = False

    def start(self) -> None:
        """Connect on the thread of the caller, so that it gets the error if that fails, and start the writing thread."""
        self._connection = self._connect()
        self.available = True
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the queued writes, then disconnect."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        if self._connection is not None:
            self._connection.close()
        self.available = False

    async def submit(self, work: Callable[[Connection], T]) -> T:
        """The result of `work`, once its transaction is durable. What `work` raises undoes it and is raised here.

        `StoreUnavailable` when nothing was written, `CommitUnknown` when the write may or may not be durable.
        """
        loop = asyncio.get_running_loop()
        write = _QueuedWrite(work, loop, loop.create_future())
        with self._changed:
            if self._stopping.is_set() or len(self._queue) >= _MAX_QUEUED:
                raise StoreUnavailable("The server is busy or stopping; nothing was written. Repeat it in a second.")
            self._queue.append(write)
            self._changed.notify()
        result: T = await write.future
        return result

    # -- the writing thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Run groups until the writer stops.

        A lost connection is replaced even when nothing is queued: a server that is not ready gets no requests, so it could
        not wait for one.
        """
        while True:
            with self._changed:
                if not self._queue and not self._stopping.is_set():
                    self._changed.wait(None if self._connection is not None else _LONGEST_PAUSE_S)
                if not self._queue and self._stopping.is_set():
                    return
                group = [self._queue.popleft() for _ in range(min(len(self._queue), self._max_group_size))]
            if group or self._connection is None:
                self._write_group(group)

    def _write_group(self, group: list[_QueuedWrite]) -> None:
        try:
            connection = self._ensure_connected()
            if group:
                self._commit_group(connection, group)
        except StoreError as error:
            self._fail_group(error, group)
        except Exception as error:  # noqa: BLE001 - the thread continues; the callers get the error
            structlog.get_logger("storage").exception("writer_crashed", writer=self._name)
            reason = f"The database failed ({type(error).__name__}); nothing was written."
            self._fail_group(StoreUnavailable(reason), group)
        _return_outcomes(group)

    def _ensure_connected(self) -> DriverConnection:
        """The connection, replaced if it was lost. Pauses between tries double; a stop ends them."""
        pause_s = _FIRST_PAUSE_S
        while self._connection is None:
            try:
                self._connection = self._connect()
            except StoreUnavailable:
                if pause_s > _LONGEST_PAUSE_S or self._stopping.wait(pause_s):
                    raise
                pause_s *= 2
        self.available = True
        return self._connection

    def _commit_group(self, connection: DriverConnection, group: list[_QueuedWrite]) -> None:
        """One transaction for the whole group. If the database asks for another try, one transaction for each write."""
        try:
            _run_group(connection, group)
        except RetryTransaction:
            connection.rollback()
            for write in group:
                _run_alone(connection, write)
        self.group_count += 1

    def _fail_group(self, error: StoreError, group: list[_QueuedWrite]) -> None:
        """Give the error to every write that is not final, and drop the connection unless only the disk is full."""
        for write in group:
            if not write.is_final:
                write.error = error
        if self._connection is None:
            return
        if isinstance(error, DiskFull):
            self._connection.rollback()
        else:
            self._connection.close()
            self._connection = None
            self.available = False


def _run_group(connection: DriverConnection, group: list[_QueuedWrite]) -> None:
    connection.begin()
    for write in group:
        if len(group) == 1:
            _run_write(connection, write)
            if write.error is not None:
                connection.rollback()
                write.is_final = True
                return
        else:
            _run_in_savepoint(connection, write)
    connection.commit()
    for write in group:
        write.is_final = True


def _run_in_savepoint(connection: DriverConnection, write: _QueuedWrite) -> None:
    connection.savepoint()
    _run_write(connection, write)
    if write.error is None:
        connection.release()
    else:
        connection.undo()


def _run_alone(connection: DriverConnection, write: _QueuedWrite) -> None:
    for _ in range(_MAX_TRIES):
        try:
            _run_group(connection, [write])
        except RetryTransaction:
            connection.rollback()
        else:
            return
    write.error = StoreUnavailable("The database was too busy with the same rows; nothing was written. Repeat it.")


def _run_write(connection: DriverConnection, write: _QueuedWrite) -> None:
    """Run one write. What it raises is its own error, but an error of the database ends the whole group."""
    write.result = write.error = None
    try:
        write.result = run_work(write.work, connection)
        connection.flush()
    except (StoreError, RetryTransaction):
        raise
    except Exception as error:  # noqa: BLE001 - raised again for the caller
        write.error = error


def _return_outcomes(group: list[_QueuedWrite]) -> None:
    """Resolve the futures of all callers, with one wake-up for each event loop."""
    for loop in {write.loop for write in group}:
        writes = [write for write in group if write.loop is loop]
        try:
            loop.call_soon_threadsafe(_resolve_futures, writes)
        except RuntimeError:
            structlog.get_logger("storage").warning("results_dropped", count=len(writes))  # the loop is closed


def _resolve_futures(writes: list[_QueuedWrite]) -> None:
    for write in writes:
        if write.future.done():
            continue  # the caller was canceled
        if write.error is None:
            write.future.set_result(write.result)
        else:
            write.future.set_exception(write.error)
