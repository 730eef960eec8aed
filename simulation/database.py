"""One database for all simulated processes: the product's SQL runs on a real file; connections to it have faults."""

import asyncio
import contextlib
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import CommitUnknown, DiskFull, StoreUnavailable
from loyalpro.kernel.unit_of_work import WriterName
from loyalpro.storage.connection import Connection, DriverConnection, RetryTransaction, Row, Statement
from loyalpro.storage.dialect import Dialect
from loyalpro.storage.open import migrate_database
from loyalpro.storage.sqlite.connection import SqliteConnection
from simulation.loop import PROCESS, Process, VirtualLoop, stop_if_dead
from simulation.mutation import statement

T = TypeVar("T")
_LATEST_COMMIT_S = 60.0
_LONGEST_SILENCE_S = 20.0
"""A broken connection is detected after at most this time, as `tcp_user_timeout` does."""


class Fault(StrEnum):
    """How one call of the database can fail."""

    NONE = "none"
    UNAVAILABLE = "unavailable"
    DISK_FULL = "disk_full"
    COMMIT_LOST = "commit_lost"
    ANSWER_LOST = "answer_lost"
    LATE_COMMIT = "late_commit"
    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"
    FREEZE_BEFORE = "freeze_before"
    FREEZE_AFTER = "freeze_after"


ON_READS = (Fault.UNAVAILABLE, Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.FREEZE_BEFORE, Fault.FREEZE_AFTER)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one process, before its fault is chosen."""

    number: int
    process: Process
    writes: bool


class Faults(Protocol):
    """Chooses which calls fail, and how."""

    def fault(self, call: Call) -> Fault:
        """The fault of this call."""
        ...

    def freeze_s(self) -> float:
        """How long the process is frozen, if that is the fault."""
        ...

    def late_s(self) -> float:
        """How long after its client has lost the connection a transaction is committed, if that is the fault."""
        ...

    def silence_s(self) -> float:
        """How long a client waits for a lost answer, if that is the fault."""
        ...

    def latency_s(self) -> float:
        """How long a call takes to arrive, or its answer."""
        ...


class NoFaults:
    """No call fails, and every call is answered at once."""

    def fault(self, call: Call) -> Fault:  # noqa: ARG002 - `Faults` passes it
        return Fault.NONE

    def freeze_s(self) -> float:
        return 0.0

    def late_s(self) -> float:
        return 0.0

    def silence_s(self) -> float:
        return 0.0

    def latency_s(self) -> float:
        return 0.0


@dataclass
class FaultAt:
    """One call fails: the one with this number, counted from 1."""

    number: int
    kind: Fault
    pause_s: float
    fired: bool = False

    def fault(self, call: Call) -> Fault:
        if call.number != self.number:
            return Fault.NONE
        self.fired = True
        return self.kind if call.writes or self.kind in ON_READS else Fault.UNAVAILABLE

    def freeze_s(self) -> float:
        return self.pause_s

    def late_s(self) -> float:
        return self.pause_s

    def silence_s(self) -> float:
        return self.pause_s

    def latency_s(self) -> float:
        return 0.001


@dataclass
class RandomFaults:
    """Each fault has its probability. `heal` ends all of them."""

    seed: str
    rates: dict[Fault, float]
    longest_freeze_s: float
    longest_latency_s: float
    outages: tuple[tuple[float, float], ...]
    loop: asyncio.AbstractEventLoop
    healed: bool = False
    _faults: list[Fault] = field(init=False)
    _weights: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self._faults = [Fault.NONE, *self.rates]
        self._weights = [max(0.0, 1.0 - sum(self.rates.values())), *self.rates.values()]

    def fault(self, call: Call) -> Fault:
        if self.healed:
            return Fault.NONE
        now_s = self.loop.time()
        if any(begin <= now_s < end for begin, end in self.outages):
            return Fault.UNAVAILABLE
        kind = self.rng.choices(self._faults, self._weights)[0]
        return kind if call.writes or kind in ON_READS else Fault.NONE

    def freeze_s(self) -> float:
        return self.rng.uniform(0.0, self.longest_freeze_s)

    def late_s(self) -> float:
        return self.rng.uniform(0.0, _LATEST_COMMIT_S)

    def silence_s(self) -> float:
        return self.rng.uniform(0.0, _LONGEST_SILENCE_S)

    def latency_s(self) -> float:
        return self.rng.random() ** 3 * self.longest_latency_s

    def heal(self) -> None:
        """From now on no call fails."""
        self.healed = True


@dataclass(slots=True)
class _Job:
    work: Callable[[Connection], Any]
    writes: bool
    future: asyncio.Future[Any]


class _Statements:
    """A connection for the product. It runs each statement as the mutant that is in place changes it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.dialect: Dialect = connection.dialect

    def execute(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        return self._connection.execute(statement(sql), params)

    def execute_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        return self._connection.execute_all([(statement(sql), params) for sql, params in statements])

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        self._connection.execute_many(statement(sql), rows)

    def change(self, sql: str, params: Sequence[object] = ()) -> int:
        return self._connection.change(statement(sql), params)

    def run_script(self, sql: str) -> None:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Locks:
    """Which rows a transaction locks: those that a change names by a key that begins so, or a read with such a text in it."""

    keys: tuple[str, ...]
    reads: str


DELIVERY_LOCKS = Locks(("wrk_", "dlv_", "order-"), "FROM workers WHERE id")


class _LockRecorder:
    """A connection that records the rows that a transaction locks until it ends.

    Reading a row by its id can count as a lock, because on PostgreSQL the product locks some of the rows that it reads.
    """

    def __init__(self, connection: Connection, locks: "Locks") -> None:
        self._connection = connection
        self._locks = locks
        self.dialect: Dialect = connection.dialect
        self.rows: set[str] = set()

    def execute(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        self._record(sql, params)
        return self._connection.execute(sql, params)

    def execute_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        return [self.execute(sql, params) for sql, params in statements]

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        for row in rows:
            self._record(sql, row)
        self._connection.execute_many(sql, rows)

    def change(self, sql: str, params: Sequence[object] = ()) -> int:
        self._record(sql, params)
        return self._connection.change(sql, params)

    def run_script(self, sql: str) -> None:
        raise NotImplementedError

    def _record(self, sql: str, params: Sequence[object]) -> None:
        if not sql.lstrip().startswith("SELECT") or self._locks.reads in sql:
            self.rows |= {each for each in params if isinstance(each, str) and each.startswith(self._locks.keys)}


class SharedDatabase:
    """The database. It outlives every process and runs one transaction at a time."""

    def __init__(
        self,
        loop: VirtualLoop,
        writer: DriverConnection,
        reader: DriverConnection,
        faults: Faults,
        locks: Locks = DELIVERY_LOCKS,
    ) -> None:
        self.loop = loop
        self.faults = faults
        self.calls = 0
        self.fired: Counter[Fault] = Counter()
        self.on_commit: Callable[[], None] = lambda: None
        self._writer = writer
        self._reader = reader
        self._locks = locks
        self._locked: set[str] = set()
        self._waiting: list[Callable[[], None]] = []
        self.dialect: Dialect = writer.dialect

    def run(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        """Run one transaction, from begin to commit, without any fault."""
        connection = self._writer if writes else self._reader
        while True:
            connection.begin()
            try:
                result = work(_Statements(connection))
                if writes:
                    connection.commit()
            except RetryTransaction:
                continue
            finally:
                connection.rollback()
            if writes:
                self.on_commit()
            return result

    @property
    def connection(self) -> DriverConnection:
        """The connection that reads, for checks that begin transactions of their own."""
        return self._reader

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def execute(self, process: Process, job: _Job) -> None:  # noqa: C901 - one case for each fault
        """Run a call of a process, with the fault that is chosen for it."""
        if process.dead:
            return
        self.calls += 1
        fault = self.faults.fault(Call(self.calls, process, job.writes))
        self.fired[fault] += 1
        match fault:
            case Fault.UNAVAILABLE:
                self._answer(job, error=StoreUnavailable("The database does not answer."))
            case Fault.DISK_FULL:
                self._answer(job, error=DiskFull("The disk is full."))
            case Fault.COMMIT_LOST:
                self._lose_answer(job)
            case Fault.ANSWER_LOST:
                self._commit(process, job, lost=True)
            case Fault.LATE_COMMIT:
                self._commit_late(process, job)
            case Fault.CRASH_BEFORE:
                process.kill()
            case Fault.CRASH_AFTER:
                self._commit(process, job)
                process.kill()
            case Fault.FREEZE_BEFORE:
                process.freeze(self.faults.freeze_s())
                self.loop.call_soon(self._commit, process, job)
            case Fault.FREEZE_AFTER:
                process.freeze(self.faults.freeze_s())
                self._commit(process, job)
            case Fault.NONE:
                self._commit(process, job)

    def _commit(self, process: Process, job: _Job, *, lost: bool = False) -> None:
        if process.dead:
            return  # it waited for a lock, and its client died before COMMIT
        if self._locked and job.writes and self._rows(job) & self._locked:
            self._waiting.append(partial(self._commit, process, job, lost=lost))
            return
        try:
            result = self.run(job.work, writes=job.writes)
        except Exception as error:  # noqa: BLE001 - handed to the caller
            self._answer(job, error=error)
        else:
            if lost:
                self._lose_answer(job)
            else:
                self._answer(job, result)

    def _commit_late(self, process: Process, job: _Job) -> None:
        """The client gets a broken connection; the server commits some time later and holds its locks until then."""
        rows = self._rows(job)
        if self._locked:
            self._commit(process, job, lost=True)
            return
        self._locked = rows
        self._answer(job, error=CommitUnknown("The connection broke at COMMIT."))
        Context().run(self.loop.call_later, self.faults.late_s(), self._end_late, job, rows)

    def _end_late(self, job: _Job, rows: set[str]) -> None:
        with contextlib.suppress(Exception):  # its client has left
            self.run(job.work, writes=True)
        waiting, self._waiting = self._waiting, []
        self._locked = self._locked - rows  # a transaction without locks may end while another one runs
        for commit in waiting:
            commit()

    def _rows(self, job: _Job) -> set[str]:
        """The rows that a transaction locks, found by running it and rolling it back."""
        recorder = _LockRecorder(self._writer, self._locks)
        self._writer.begin()
        try:
            with contextlib.suppress(Exception):  # it fails again when it is run to be committed
                job.work(_Statements(recorder))
        finally:
            self._writer.rollback()
        return recorder.rows

    def _lose_answer(self, job: _Job) -> None:
        """The client detects the loss some time later; its other connections are not affected."""
        self.loop.call_later(
            self.faults.silence_s(), self._answer, job, None, CommitUnknown("The answer to COMMIT was lost.")
        )

    def _answer(self, job: _Job, result: object = None, error: Exception | None = None) -> None:
        delay_s = self.faults.latency_s()
        if delay_s:
            self.loop.call_later(delay_s, _resolve, job, result, error)
        else:
            _resolve(job, result, error)


def _resolve(job: _Job, result: object, error: Exception | None) -> None:
    if job.future.done():
        return  # the caller was canceled; the transaction is committed all the same
    if error is None:
        job.future.set_result(result)
    else:
        job.future.set_exception(error)


class ProcessDatabase:
    """The database as one process uses it. Satisfies `Database`, with the rules of a database that processes share."""

    def __init__(self, shared: SharedDatabase, *, exclusive: bool = False) -> None:
        self._shared = shared
        self.exclusive = exclusive
        self._free_at: dict[str, float] = {}
        self.dialect: Dialect = shared.dialect
        self.available = True
        self.answered_s = 0.0

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def write(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:
        return await self._submit(work, writer)

    async def read(self, work: Callable[[Connection], T], writer: WriterName = "ingest") -> T:  # noqa: ARG002 - `Database` has it
        return await self._submit(work, None)

    async def lookup(self, work: Callable[[Connection], T]) -> T:
        return await self._submit(work, None)

    def _submit(self, work: Callable[[Connection], T], writer: WriterName | None) -> asyncio.Future[T]:
        """Send a call. It is run even if the caller is canceled meanwhile. The writes of one writer stay in order."""
        stop_if_dead()
        process, loop = PROCESS.get(), self._shared.loop
        assert process is not None, "a process's database is used by that process"
        future: asyncio.Future[T] = loop.create_future()
        job = _Job(work, writer is not None, future)
        due_s = loop.time() + self._shared.faults.latency_s()
        if writer is not None:
            due_s = self._free_at[writer] = max(due_s, self._free_at.get(writer, 0.0) + 1e-6)
        if due_s > loop.time():
            loop.call_at(due_s, loop.call_soon, self._shared.execute, process, job)
        else:
            loop.call_soon(self._shared.execute, process, job)
        return future


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A temporary folder, in memory if the system has /dev/shm, so that the fsync of a commit costs nothing."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=shm if os.access(shm, os.W_OK) else None) as folder:
        yield Path(folder)


def open_sqlite(loop: VirtualLoop, folder: Path, faults: Faults, locks: Locks = DELIVERY_LOCKS) -> SharedDatabase:
    """A new SQLite file with the product's schema, opened with the product's own connections."""
    path = folder / "loyalpro.db"
    path.write_bytes(_empty_sqlite())
    writer, reader = SqliteConnection(path, read_only=False), SqliteConnection(path, read_only=True)
    return SharedDatabase(loop, writer, reader, faults, locks)


@cache
def _empty_sqlite() -> bytes:
    with memory_folder() as folder:
        path = folder / "template.db"
        migrate_database(f"sqlite:///{path}", SystemClock())
        return path.read_bytes()
