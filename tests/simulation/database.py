"""One database that many simulated processes share: the product's SQL on a real file, faults where the network would be."""

import asyncio
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.errors import CommitUnknown, DiskFull, StoreUnavailable
from loyalpro.storage.connection import Connection, Dialect, DriverConnection, RetryTransaction
from loyalpro.storage.database import Lane
from loyalpro.storage.open import migrate_database
from loyalpro.storage.sqlite.connection import SqliteConnection
from simulation.loop import PROCESS, Process, VirtualLoop, stop_if_dead

T = TypeVar("T")


class Fault(StrEnum):
    """What may go wrong with one call of the database."""

    NONE = "none"
    UNAVAILABLE = "unavailable"
    DISK_FULL = "disk_full"
    COMMIT_LOST = "commit_lost"
    ANSWER_LOST = "answer_lost"
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
    """Chooses what goes wrong."""

    def fault(self, call: Call) -> Fault:
        """Of this call."""
        ...

    def freeze_s(self) -> float:
        """How long the process stands still, when that is the fault."""
        ...

    def latency_s(self) -> float:
        """How long a call is on its way; so much again is its answer."""
        ...


class NoFaults:
    """A database that always works, and answers at once."""

    def fault(self, call: Call) -> Fault:
        return Fault.NONE

    def freeze_s(self) -> float:
        return 0.0

    def latency_s(self) -> float:
        return 0.0


@dataclass
class FaultAt:
    """Everything works but one call, the first or a later one."""

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

    def latency_s(self) -> float:
        return 0.001


@dataclass
class RandomFaults:
    """Each kind has its probability; `heal` ends them all."""

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
        self.chance = random.Random(self.seed)
        self._faults = [Fault.NONE, *self.rates]
        self._weights = [max(0.0, 1.0 - sum(self.rates.values())), *self.rates.values()]

    def fault(self, call: Call) -> Fault:
        if self.healed:
            return Fault.NONE
        now_s = self.loop.time()
        if any(begin <= now_s < end for begin, end in self.outages):
            return Fault.UNAVAILABLE
        kind = self.chance.choices(self._faults, self._weights)[0]
        return kind if call.writes or kind in ON_READS else Fault.NONE

    def freeze_s(self) -> float:
        return self.chance.uniform(0.0, self.longest_freeze_s)

    def latency_s(self) -> float:
        return self.chance.random() ** 3 * self.longest_latency_s

    def heal(self) -> None:
        """From now on the database always works."""
        self.healed = True


@dataclass(slots=True)
class _Job:
    work: Callable[[Connection], Any]
    writes: bool
    future: asyncio.Future[Any]


class SharedDatabase:
    """The database itself. It outlives every process, and does one thing at a time."""

    def __init__(self, loop: VirtualLoop, writer: DriverConnection, reader: DriverConnection, faults: Faults) -> None:
        self.loop = loop
        self.faults = faults
        self.calls = 0
        self.fired: Counter[Fault] = Counter()
        self._writer = writer
        self._reader = reader
        self.dialect: Dialect = writer.dialect

    def run(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        """One transaction, from begin to commit, without any fault."""
        connection = self._writer if writes else self._reader
        while True:
            connection.begin()
            try:
                result = work(connection)
                if writes:
                    connection.commit()
            except RetryTransaction:
                continue
            finally:
                connection.rollback()
            return result

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def execute(self, process: Process, job: _Job) -> None:
        """What the thread or server at the other end does with a call."""
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
                self._answer(job, error=CommitUnknown("The answer to COMMIT was lost."))
            case Fault.ANSWER_LOST:
                self._commit(job, lost=CommitUnknown("The answer to COMMIT was lost."))
            case Fault.CRASH_BEFORE:
                process.kill()
            case Fault.CRASH_AFTER:
                self._commit(job)
                process.kill()
            case Fault.FREEZE_BEFORE:
                process.freeze(self.faults.freeze_s())
                self.loop.call_soon(self._commit, job)
            case Fault.FREEZE_AFTER:
                process.freeze(self.faults.freeze_s())
                self._commit(job)
            case Fault.NONE:
                self._commit(job)

    def _commit(self, job: _Job, lost: CommitUnknown | None = None) -> None:
        try:
            result = self.run(job.work, writes=job.writes)
        except Exception as error:  # noqa: BLE001 - handed to the caller
            self._answer(job, error=error)
        else:
            self._answer(job, result, lost)

    def _answer(self, job: _Job, result: object = None, error: Exception | None = None) -> None:
        delay_s = self.faults.latency_s()
        if delay_s:
            self.loop.call_later(delay_s, _resolve, job, result, error)
        else:
            _resolve(job, result, error)


def _resolve(job: _Job, result: object, error: Exception | None) -> None:
    if job.future.done():
        return  # the caller went away; what it asked for is done all the same
    if error is None:
        job.future.set_result(result)
    else:
        job.future.set_exception(error)


class ProcessDatabase:
    """The database as one process holds it. Satisfies `Database`, with the rules of one that many processes share."""

    def __init__(self, shared: SharedDatabase, *, exclusive: bool = False) -> None:
        self._shared = shared
        self.exclusive = exclusive
        self._free_at: dict[str, float] = {}
        self.dialect: Dialect = shared.dialect
        self.available = True

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def write(self, work: Callable[[Connection], T], lane: Lane = "ingest") -> T:
        return await self._submit(work, lane)

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await self._submit(work, None)

    async def lookup(self, work: Callable[[Connection], T]) -> T:
        return await self.read(work)

    def _submit(self, work: Callable[[Connection], T], lane: Lane | None) -> asyncio.Future[T]:
        """On its way: it is done even if the caller is cancelled meanwhile. The writes of one lane stay in order."""
        stop_if_dead()
        process, loop = PROCESS.get(), self._shared.loop
        assert process is not None, "a process's database is used by that process"
        future: asyncio.Future[T] = loop.create_future()
        job = _Job(work, lane is not None, future)
        due_s = loop.time() + self._shared.faults.latency_s()
        if lane is not None:
            due_s = self._free_at[lane] = max(due_s, self._free_at.get(lane, 0.0) + 1e-6)
        if due_s > loop.time():
            loop.call_at(due_s, loop.call_soon, self._shared.execute, process, job)
        else:
            loop.call_soon(self._shared.execute, process, job)
        return future


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder in memory where there is one, so that a commit's fsync costs nothing."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=shm if os.access(shm, os.W_OK) else None) as folder:
        yield Path(folder)


def open_sqlite(loop: VirtualLoop, folder: Path, faults: Faults) -> SharedDatabase:
    """A fresh SQLite file with the product's own schema, over the product's own connections."""
    path = folder / "loyalpro.db"
    path.write_bytes(_empty_sqlite())
    return SharedDatabase(loop, SqliteConnection(path, read_only=False), SqliteConnection(path, read_only=True), faults)


@cache
def _empty_sqlite() -> bytes:
    with memory_folder() as folder:
        path = folder / "template.db"
        migrate_database(f"sqlite:///{path}", SystemClock())
        return path.read_bytes()
