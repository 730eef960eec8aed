"""The scheduler of periodic jobs, on a virtual clock."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from loyalpro.jobs.periodic_job import JobKind, JobRun, PeriodicJob, Piece
from loyalpro.jobs.scheduler import JobScheduler
from loyalpro.kernel.clock import UnixMs, VirtualClock
from loyalpro.kernel.errors import DiskFull, LockTaken, StoreUnavailable

FIRST = JobKind("first")
SECOND = JobKind("second")
START_MS = VirtualClock().now_ms()
TURNS_TO_SETTLE = 20
"""More turns of the event loop than any chain of wake-ups in the scheduler takes."""


@dataclass
class ScriptedJob:
    """A job whose pieces follow a script: a piece, or an error to raise. After the script, every piece is idle."""

    clock: VirtualClock
    script: list[Piece | Exception] = field(default_factory=list)
    ran_at_s: list[float] = field(default_factory=list)

    async def run_piece(self, now: UnixMs) -> Piece:
        assert now == self.clock.now_ms()
        self.ran_at_s.append((now - START_MS) / 1_000)
        result = self.script.pop(0) if self.script else Piece(0)
        if isinstance(result, Exception):
            raise result
        return result


class RecordingMetrics:
    """Keeps every run that is counted."""

    def __init__(self) -> None:
        self.runs: list[JobRun] = []

    def job_ran(self, run: JobRun) -> None:
        self.runs.append(run)


class JobRunLog:
    """Keeps the time and the runs of every batch that is recorded. The first calls raise `failures`.

    Every call waits for `may_continue`.
    """

    def __init__(self, clock: VirtualClock, failures: Iterable[Exception] = ()) -> None:
        self._clock = clock
        self._failures = list(failures)
        self.may_continue = asyncio.Event()
        self.may_continue.set()
        self.calls_at_s: list[float] = []
        self.batches: list[tuple[float, list[JobRun]]] = []

    async def record(self, runs: Sequence[JobRun]) -> None:
        at_s = (self._clock.now_ms() - START_MS) / 1_000
        self.calls_at_s.append(at_s)
        await self.may_continue.wait()
        if self._failures:
            raise self._failures.pop(0)
        self.batches.append((at_s, list(runs)))


class Setup:
    """A scheduler of scripted jobs, whose clock moves only with `pass_time`."""

    def __init__(self, failures: Iterable[Exception] = ()) -> None:
        self.clock = VirtualClock()
        self.first = ScriptedJob(self.clock)
        self.second = ScriptedJob(self.clock)
        self.metrics = RecordingMetrics()
        self.log = JobRunLog(self.clock, failures)
        jobs = [
            PeriodicJob(FIRST, 10.0, self.first.run_piece),
            PeriodicJob(SECOND, 10.0, self.second.run_piece),
        ]
        self.scheduler = JobScheduler(jobs, self.clock, process="host:1", record=self.log.record, metrics=self.metrics)

    def run(self, script: Callable[["Setup"], Awaitable[None]]) -> list[EventDict]:
        """Run the script beside the scheduler, which must still run at its end; the log."""

        async def main() -> None:
            running = asyncio.create_task(self.scheduler.run())
            await settle()
            await script(self)
            assert not running.done()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        with capture_logs() as logs:
            asyncio.run(main())
        return logs

    async def pass_time(self, seconds: float, step_s: float = 0.01) -> None:
        """Advance in steps that are shorter than every wait of the scheduler."""
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            await settle()

    def recorded(self, kind: JobKind) -> list[tuple[float, list[tuple[int, str | None]]]]:
        """The time of each batch with runs of this job, and the items and the error of each of these runs."""
        batches = [
            (at_s, [(run.items, run.error) for run in runs if run.job == kind.name]) for at_s, runs in self.log.batches
        ]
        return [(at_s, runs) for at_s, runs in batches if runs]


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(TURNS_TO_SETTLE):
        await asyncio.sleep(0)


def test_a_job_runs_at_once_and_then_at_its_interval() -> None:
    setup = Setup()
    setup.run(lambda setup: setup.pass_time(25, step_s=0.5))
    assert setup.first.ran_at_s == [0, 10, 20]


def test_a_job_that_is_woken_runs_sooner_and_no_other_job_does() -> None:
    async def script(setup: Setup) -> None:
        await setup.pass_time(3, step_s=0.5)
        setup.scheduler.wake(FIRST)
        await settle()
        await setup.pass_time(12, step_s=0.5)

    setup = Setup()
    setup.run(script)
    assert setup.first.ran_at_s == [0, 3, 13]
    assert setup.second.ran_at_s == [0, 10]


def test_a_job_that_is_woken_during_a_run_runs_again() -> None:
    async def script(setup: Setup) -> None:
        setup.scheduler.wake(FIRST)
        await setup.pass_time(1)

    setup = Setup()
    setup.first.script = [Piece(1, more=True), Piece(1)]
    setup.run(script)
    assert setup.first.ran_at_s == [0, 0.02, 0.02]


def test_pieces_follow_each_other_after_a_pause_while_there_is_more_to_do() -> None:
    setup = Setup()
    setup.first.script = [Piece(200, more=True), Piece(200, more=True), Piece(7)]
    setup.run(lambda setup: setup.pass_time(1))
    assert setup.first.ran_at_s == [0, 0.02, 0.04]
    [run] = [run for run in setup.metrics.runs if run.job == "first"]
    assert run == JobRun("first", "host:1", START_MS, START_MS + 40, pieces=3, items=407)


@pytest.mark.parametrize(
    ("error", "code", "event", "level"),
    [
        (StoreUnavailable("The database is down."), "store_unavailable", "job_failed", "debug"),
        (DiskFull("The disk is full."), "disk_full", "job_failed", "debug"),
        (LockTaken("A query reads the table."), "lock_taken", "job_waits", "info"),
        (RuntimeError("a bug"), "internal_error", "job_crashed", "error"),
    ],
)
def test_an_error_ends_the_run_and_is_recorded_and_stops_no_job(
    error: Exception, code: str, event: str, level: str
) -> None:
    setup = Setup()
    setup.first.script = [Piece(200, more=True), error]
    logs = setup.run(lambda setup: setup.pass_time(12))
    assert setup.first.ran_at_s == [0, 0.02, 10.02]
    assert setup.second.ran_at_s == [0, 10]
    failed, next_run = [run for run in setup.metrics.runs if run.job == "first"]
    assert (failed.pieces, failed.items, failed.error) == (1, 200, code)
    assert next_run.error is None
    assert setup.recorded(FIRST)[0][1] == [(200, code)]
    assert [(each["event"], each["job"], each["log_level"]) for each in logs] == [(event, "first", level)]


def test_two_jobs_with_one_name_are_refused() -> None:
    setup = Setup()
    jobs = [PeriodicJob(JobKind("same"), 1.0, setup.first.run_piece) for _ in range(2)]
    with pytest.raises(ValueError, match="two jobs have one name"):
        JobScheduler(jobs, setup.clock, process="host:1", record=setup.log.record, metrics=setup.metrics)


@pytest.mark.parametrize(
    ("result", "recorded"),
    [(Piece(3), (3, None)), (StoreUnavailable("The database is down."), (0, "store_unavailable"))],
)
def test_a_run_that_changed_something_or_failed_is_recorded_within_about_a_second(
    result: Piece | Exception, recorded: tuple[int, str | None]
) -> None:
    setup = Setup()
    setup.first.script = [result]
    setup.run(lambda setup: setup.pass_time(5))
    assert setup.recorded(FIRST) == [(1, [recorded])]


def test_idle_runs_are_recorded_once_a_minute() -> None:
    setup = Setup()
    setup.run(lambda setup: setup.pass_time(130, step_s=0.5))
    assert [at_s for at_s, _ in setup.log.batches] == [61, 122]
    assert [[run.job for run in runs] for _, runs in setup.log.batches] == [["first", "second"]] * 2
    assert setup.log.batches[0][1][0].finished_at == START_MS + 60_000, "the last of the idle runs"


def test_an_idle_run_does_not_hide_a_run_with_changes_that_is_not_recorded_yet() -> None:
    async def script(setup: Setup) -> None:
        await setup.pass_time(0.5)
        setup.scheduler.wake(FIRST)
        await setup.pass_time(2)

    setup = Setup()
    setup.first.script = [Piece(3)]
    setup.run(script)
    assert setup.first.ran_at_s == [0, 0.51]
    assert setup.recorded(FIRST) == [(1, [(3, None)])]


def test_a_failure_is_recorded_after_the_changes_before_it() -> None:
    async def script(setup: Setup) -> None:
        for _ in range(3):
            setup.scheduler.wake(FIRST)
            await settle()
        await setup.pass_time(2)

    setup = Setup()
    down = StoreUnavailable("The database is down.")
    setup.first.script = [Piece(2), Piece(3), down, down]
    setup.run(script)
    assert setup.recorded(FIRST) == [(1, [(3, None), (0, "store_unavailable")])]


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (StoreUnavailable("The database is down."), "job_runs_not_recorded"),
        (LockTaken("A migration locks the table."), "job_runs_not_recorded"),
        (RuntimeError("a bug"), "job_recorder_crashed"),
    ],
    ids=["store_error", "lock_taken", "bug"],
)
def test_a_recorder_that_fails_stops_no_job_and_loses_no_run(error: Exception, event: str) -> None:
    setup = Setup(failures=[error, error])
    setup.first.script = [Piece(3)]
    setup.second.script = [Piece(0), Piece(5)]
    logs = setup.run(lambda setup: setup.pass_time(25))
    assert setup.log.calls_at_s == [1, 11, 21]
    assert setup.recorded(FIRST) == [(21, [(3, None)])], "the idle runs since then do not hide it"
    assert setup.recorded(SECOND) == [(21, [(5, None)])], "the later run takes the place of the first"
    assert setup.first.ran_at_s == setup.second.ran_at_s == [0, 10, 20]
    assert [each["event"] for each in logs] == [event] * 2


def test_a_run_that_ends_while_the_recorder_fails_is_recorded_too() -> None:
    async def script(setup: Setup) -> None:
        setup.log.may_continue.clear()
        await setup.pass_time(2)
        setup.scheduler.wake(FIRST)
        setup.scheduler.wake(SECOND)
        await setup.pass_time(1)
        setup.log.may_continue.set()
        await setup.pass_time(11)

    down = StoreUnavailable("The database is down.")
    setup = Setup(failures=[down])
    setup.first.script = [Piece(3), Piece(4)]
    setup.second.script = [Piece(6), Piece(0)]
    setup.run(script)
    assert setup.recorded(FIRST) == [(13.01, [(4, None)])]
    assert setup.recorded(SECOND) == [(13.01, [(6, None)])]


async def start_and_cancel(clock: VirtualClock, rng: random.Random) -> None:
    """Start one scheduler 50 times, and cancel it at a random point each time."""
    active = 0

    async def run_piece(_: UnixMs) -> Piece:
        nonlocal active
        active += 1
        assert active == 1, "no two runs of one job at once"
        try:
            await settle()
        finally:
            active -= 1
        return Piece(1, more=rng.random() < 0.5)

    async def record(_: Sequence[JobRun]) -> None:
        await asyncio.sleep(0)

    jobs = [PeriodicJob(FIRST, 0.05, run_piece)]
    scheduler = JobScheduler(jobs, clock, process="host:1", record=record, metrics=RecordingMetrics())
    for _ in range(50):
        running = asyncio.create_task(scheduler.run())
        for _ in range(rng.randrange(60)):
            if rng.random() < 0.1:
                scheduler.wake(FIRST)
            clock.advance(rng.choice([0, 0.01, 0.5]))
            await asyncio.sleep(0)
        running.cancel()
        [ended] = await asyncio.gather(running, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError)
        assert active == 0


def test_a_scheduler_can_be_started_and_canceled_at_any_point_and_leaves_no_task() -> None:
    async def main() -> None:
        clock = VirtualClock()
        await asyncio.gather(*(start_and_cancel(clock, random.Random(seed)) for seed in range(10)))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
