"""One thread with one writing connection that commits in groups: a savepoint for each write, one fsync for the group."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

import structlog

from loyalpro.kernel.errors import ConfigurationError, DiskFull, LockTaken, StoreError, StoreUnavailable
from loyalpro.storage.answers import CHECK_EVERY_S, Answers, CallLimit, unanswered
from loyalpro.storage.connection import Connection, DriverConnection, RetryTransaction, limit_lock_waits, run_work

T = TypeVar("T")
WriteFunction = Callable[[Connection], Any]
"""Reads and writes inside an open transaction. It runs again when the database asks for another try."""

_MAX_QUEUED: Final = 10_000
_MAX_TRIES: Final = 5
_GROUPED_LOCK_WAIT_MS: Final = 1
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0


@dataclass(slots=True)
class _QueuedWrite:
    """A write, the future that its caller awaits, and its outcome once it has run."""

    work: WriteFunction
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    alone: bool
    result: Any = None
    error: BaseException | None = None
    has_begun: bool = False
    is_given_up: bool = False
    """Its caller no longer waits. If it has not begun by then, it never does."""
    is_final: bool = False
    """The outcome no longer depends on the rest of the group: the write is committed, or it was undone by itself."""


class GroupWriter:
    """Runs submitted functions of a connection in groups, and returns their results after COMMIT.

    A group is what is queued when its transaction begins; nothing joins it later. A function may therefore read something
    once for its whole group (the subscribed endpoints, say), as long as it sees all that was committed before it was submitted.
    """

    def __init__(
        self,
        connect: Callable[[], DriverConnection],
        answers: Answers,
        call_limit: CallLimit,
        *,
        name: str,
        max_group_size: int,
    ) -> None:
        self._connect = connect
        self._name = name
        self._max_group_size = max_group_size
        self._call_limit = call_limit
        self._connection: DriverConnection | None = None
        self._queue: deque[_QueuedWrite] = deque()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.answers = answers
        self.group_count = 0
        self._refusal = ""
        self._connected = False

    @property
    def available(self) -> bool:
        """Whether the writer is connected, and its database answers."""
        return self._connected and not self.answers.is_silent

    def start(self) -> None:
        """Connect on the thread of the caller, so that it gets the error if that fails, and start the writing thread."""
        self._connection = self._connect()
        self.answers.got()
        self._connected = True
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def request_stop(self) -> None:
        """Finish the queued writes, and then end; accept no more."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()

    @property
    def threads(self) -> list[threading.Thread]:
        """The writing thread, once it was started."""
        return [] if self._thread is None else [self._thread]

    def disconnect(self) -> None:
        """Close the connection, after the thread has ended."""
        if self._connection is not None:
            self._connection.close()
        self._connected = False

    async def submit(self, work: Callable[[Connection], T], *, alone: bool = False) -> T:
        """The result of `work`, once its transaction is durable. What `work` raises undoes it and is raised here.

        `alone`: in a transaction of its own, for work that takes so long that others should not wait until it is committed.
        `StoreUnavailable` when nothing was written, `CommitUnknown` when the write may or may not be durable.
        """
        loop = asyncio.get_running_loop()
        write = _QueuedWrite(work, loop, loop.create_future(), alone)
        with self._changed:
            if self._stopping.is_set() or len(self._queue) >= _MAX_QUEUED:
                raise StoreUnavailable("The server is busy or stopping; nothing was written. Repeat it in a second.")
            self._queue.append(write)
            self._changed.notify()
        watch = self._call_limit.watch(loop, lambda: self._give_up(write))
        try:
            result: T = await write.future
        finally:
            watch.cancel()
        return result

    def _give_up(self, write: _QueuedWrite) -> None:
        """Raise an error for the caller, who has waited too long."""
        with self._changed:
            write.is_given_up = True
        if not write.future.done():
            write.future.set_exception(unanswered(may_be_written=write.has_begun))

    # -- the writing thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Run groups until the writer stops.

        A connection is checked, and a lost one is replaced, even when nothing is queued: a server that is not ready gets no
        requests, so it could not wait for one.
        """
        while (group := self._next_group()) is not None:
            self._write_group(group)

    def _next_group(self) -> list[_QueuedWrite] | None:
        """The next writes, empty when none is queued for a while; None when the writer has to end."""
        with self._changed:
            if not self._queue and not self._stopping.is_set():
                self._changed.wait(CHECK_EVERY_S)
            if not self._queue and self._stopping.is_set():
                return None
            group = [write for write in self._take_group() if not write.is_given_up]
            for write in group:
                write.has_begun = True
            return group

    def _take_group(self) -> list[_QueuedWrite]:
        """The longest queued writes, up to one that has to be alone."""
        size = min(len(self._queue), self._max_group_size)
        first_alone = next((at for at, write in enumerate(islice(self._queue, size)) if write.alone), size)
        return [self._queue.popleft() for _ in range(max(first_alone, min(size, 1)))]

    def _write_group(self, group: list[_QueuedWrite]) -> None:
        self.answers.wait()
        try:
            connection = self._ensure_connected()
            if group:
                self._commit_group(connection, group)
            else:
                connection.check()
        except StoreError as error:
            self._fail_group(error, group)
        except ConfigurationError as error:
            self._log_refusal(error.detail)
            self._fail_group(StoreUnavailable(f"{error.detail} Nothing was written."), group)
        except Exception as error:  # noqa: BLE001 - the thread continues; the callers get the error
            structlog.get_logger("storage").exception("writer_crashed", writer=self._name)
            reason = f"The database failed ({type(error).__name__}); nothing was written."
            self._fail_group(StoreUnavailable(reason), group)
        else:
            self.answers.got()
            self._refusal = ""
        _return_outcomes(group)

    def _log_refusal(self, reason: str) -> None:
        """Log why the database cannot be used until its operator changes it; once, because every try finds the same."""
        if reason != self._refusal:
            self._refusal = reason
            structlog.get_logger("storage").error("database_refused", writer=self._name, reason=reason)

    def _ensure_connected(self) -> DriverConnection:
        """The connection, replaced if it was lost. Pauses between tries double; a stop ends them."""
        pause_s = _FIRST_PAUSE_S
        while self._connection is None:
            try:
                self._connection = _connect_and_check(self._connect)
            except StoreUnavailable:
                if pause_s > _LONGEST_PAUSE_S or self._stopping.wait(pause_s):
                    raise
                pause_s *= 2
        self._connected = True
        return self._connection

    def _commit_group(self, connection: DriverConnection, group: list[_QueuedWrite]) -> None:
        """One transaction for the whole group. If the database asks for another try, one transaction for each write.

        A write that would have to wait for a lock while the group holds others is postponed to a transaction of its own.
        """
        try:
            _run_group(connection, group, self.answers)
        except RetryTransaction:
            connection.rollback()
            postponed = group
        else:
            postponed = [write for write in group[1:] if isinstance(write.error, LockTaken)]
        for write in postponed:
            write.is_final = False
            _run_alone(connection, write, self.answers)
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
            self.answers.got()
        else:
            self._connection.close()
            self._connection = None
            self._connected = False


def _connect_and_check(connect: Callable[[], DriverConnection]) -> DriverConnection:
    """A connection to a database that answers. One that only accepts connections is not back yet."""
    connection = connect()
    try:
        connection.check()
    except BaseException:
        connection.close()
        raise
    return connection


def _run_group(connection: DriverConnection, group: list[_QueuedWrite], answers: Answers) -> None:
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
            if write is group[0]:
                # From here on the group holds locks. Two groups that wait for locks of each other would be a deadlock.
                limit_lock_waits(connection, _GROUPED_LOCK_WAIT_MS)
        answers.got(more=True)
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


def _run_alone(connection: DriverConnection, write: _QueuedWrite, answers: Answers) -> None:
    for _ in range(_MAX_TRIES):
        try:
            _run_group(connection, [write], answers)
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
