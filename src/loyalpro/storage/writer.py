"""One thread that owns one writing connection and commits in groups: a savepoint for each piece of work, one fsync for all."""

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
Work = Callable[[Connection], Any]

_MOST_QUEUED: Final = 10_000
_MOST_TRIES: Final = 5
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0


@dataclass(slots=True)
class _Job:
    work: Work
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    over: bool = False


class GroupWriter:
    """Takes functions of a connection, runs them in groups, and answers after COMMIT.

    A group is what is queued when it begins; nobody joins late. A function may read something once for its whole group
    (say, who is subscribed), and must then see everything that was committed before it was submitted.
    """

    def __init__(self, connect: Callable[[], DriverConnection], *, name: str, most_in_group: int) -> None:
        self._connect = connect
        self._name = name
        self._most_in_group = most_in_group
        self._connection: DriverConnection | None = None
        self._queue: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.groups = 0
        self.available = False

    def start(self) -> None:
        """Connect, so that what is wrong is said now, and begin to serve."""
        self._connection = self._connect()
        self.available = True
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish what is queued, then disconnect."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        if self._connection is not None:
            self._connection.close()
        self.available = False

    async def submit(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction; its result, once that is durable."""
        loop = asyncio.get_running_loop()
        job = _Job(work, loop, loop.create_future())
        with self._changed:
            if self._stopping.is_set() or len(self._queue) >= _MOST_QUEUED:
                raise StoreUnavailable("The server is busy or stopping; nothing was written. Repeat it in a second.")
            self._queue.append(job)
            self._changed.notify()
        result: T = await job.future
        return result

    # -- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Serve what is queued. A lost connection is made anew without being asked: nobody writes where it is missing."""
        while True:
            with self._changed:
                if not self._queue and not self._stopping.is_set():
                    self._changed.wait(None if self._connection is not None else _LONGEST_PAUSE_S)
                if not self._queue and self._stopping.is_set():
                    return
                group = [self._queue.popleft() for _ in range(min(len(self._queue), self._most_in_group))]
            if group or self._connection is None:
                self._serve(group)

    def _serve(self, group: list[_Job]) -> None:
        try:
            connection = self._connected()
            if group:
                self._commit(connection, group)
        except StoreError as error:
            self._lost(error, group)
        except Exception as error:  # noqa: BLE001 - the thread must live on; the callers are told
            structlog.get_logger("storage").exception("writer_broke", writer=self._name)
            self._lost(StoreUnavailable(f"The database failed ({type(error).__name__}); nothing was written."), group)
        _deliver(group)

    def _commit(self, connection: DriverConnection, group: list[_Job]) -> None:
        """One transaction for the whole group; if the database asks for another try, one for each member."""
        try:
            _run_group(connection, group)
        except RetryTransaction:
            connection.rollback()
            for job in group:
                _run_alone(connection, job)
        self.groups += 1

    def _connected(self) -> DriverConnection:
        """The connection, made anew after a loss. Waits grow, and a stop ends them."""
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

    def _lost(self, error: StoreError, group: list[_Job]) -> None:
        """Nobody may believe that it was written, but those who have been committed already, each alone."""
        for job in group:
            if not job.over:
                job.error = error
        if self._connection is not None and not isinstance(error, DiskFull):
            self._connection.close()
            self._connection = None
            self.available = False
        elif self._connection is not None:
            self._connection.rollback()


def _run_group(connection: DriverConnection, group: list[_Job]) -> None:
    connection.begin()
    for job in group:
        if len(group) == 1:
            _run_job(connection, job)
            if job.error is not None:
                connection.rollback()
                job.over = True
                return
        else:
            _run_in_savepoint(connection, job)
    connection.commit()
    for job in group:
        job.over = True


def _run_in_savepoint(connection: DriverConnection, job: _Job) -> None:
    connection.savepoint()
    _run_job(connection, job)
    if job.error is None:
        connection.release()
    else:
        connection.undo()


def _run_alone(connection: DriverConnection, job: _Job) -> None:
    for _ in range(_MOST_TRIES):
        try:
            _run_group(connection, [job])
        except RetryTransaction:
            connection.rollback()
        else:
            return
    job.error = StoreUnavailable("The database was too busy with the same rows; nothing was written. Repeat it.")


def _run_job(connection: DriverConnection, job: _Job) -> None:
    """A mistake of the work is its caller's alone; a loss of the database is everybody's."""
    job.result = job.error = None
    try:
        job.result = run_work(job.work, connection)
        connection.flush()
    except (StoreError, RetryTransaction):
        raise
    except Exception as error:  # noqa: BLE001 - handed to the caller
        job.error = error


def _deliver(group: list[_Job]) -> None:
    """Answer everybody, with one wake-up for each event loop."""
    for loop in {job.loop for job in group}:
        mine = [job for job in group if job.loop is loop]
        try:
            loop.call_soon_threadsafe(_resolve, mine)
        except RuntimeError:
            structlog.get_logger("storage").warning("answers_dropped", count=len(mine))  # their loop is closed


def _resolve(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.future.done():
            continue  # the caller went away
        if job.error is None:
            job.future.set_result(job.result)
        else:
            job.future.set_exception(job.error)
