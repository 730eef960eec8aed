"""Runs periodic jobs, each in a task of its own: piece by piece, with a pause between pieces that leaves room for requests."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog

from loyalpro.jobs.periodic_job import JobKind, JobRun, PeriodicJob
from loyalpro.jobs.ports import JobMetrics
from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import LockTaken, StoreError

_PAUSE_S = 0.02
_RECORD_IDLE_EVERY_S = 60.0
_RECORD_CHANGES_EVERY_S = 1.0
_RECORD_RETRY_EVERY_S = 10.0
_INTERNAL_ERROR = "internal_error"

RecordRuns = Callable[[Sequence[JobRun]], Awaitable[None]]
"""Stores runs as the last ones of their jobs. The runs of one job are in the order of their times.

Raises `StoreError` when the database fails, and `LockTaken` when the table stays locked for too long.
"""


class JobScheduler:
    """Keeps every job running until it is canceled. A job that fails runs again at its next time, and stops no other job.

    Runs are recorded in batches: within a second when a run changed something or failed, else within a minute, so that an
    idle server writes little. Runs that could not be recorded are recorded with the next batch, 10 seconds later. A crash of
    the process loses the runs that are not recorded yet; the next runs are recorded as usual.
    """

    def __init__(
        self, jobs: Sequence[PeriodicJob], clock: Clock, *, process: str, record: RecordRuns, metrics: JobMetrics
    ) -> None:
        kinds = [job.kind for job in jobs]
        if len({kind.name for kind in kinds}) != len(kinds):
            raise ValueError(f"two jobs have one name: {sorted(kind.name for kind in kinds)}")
        self._jobs = jobs
        self._clock = clock
        self._process = process
        self._record = record
        self._metrics = metrics
        self._log = structlog.get_logger("jobs")
        self._wakes = {kind: asyncio.Event() for kind in kinds}
        self._unrecorded: dict[str, list[JobRun]] = {}
        self._changed = asyncio.Event()
        self._never = asyncio.Event()

    def wake(self, kind: JobKind) -> None:
        """Hint that this job has work to do now. A hint may be lost: the next run at the job's interval finds the work."""
        self._wakes[kind].set()

    async def run(self) -> None:
        """Run all jobs until canceled."""
        async with asyncio.TaskGroup() as group:
            for job in self._jobs:
                group.create_task(self._keep_running(job), name=f"job {job.kind.name}")
            group.create_task(self._keep_recording(), name="job recorder")

    async def _keep_running(self, job: PeriodicJob) -> None:
        wake = self._wakes[job.kind]
        while True:
            wake.clear()
            self._finished(await self._run(job))
            await self._clock.wait(wake, job.every_s)

    async def _run(self, job: PeriodicJob) -> JobRun:
        """One run: pieces until nothing is left to do, or until one fails."""
        started_at, pieces, items, error = self._clock.now_ms(), 0, 0, None
        try:
            while True:
                piece = await job.run_piece(self._clock.now_ms())
                pieces, items = pieces + 1, items + piece.items
                if not piece.more:
                    break
                await self._clock.wait(self._never, _PAUSE_S)
        except LockTaken as failure:
            error = failure.code
            self._log.info("job_waits", job=job.kind.name, code=error)
        except StoreError as failure:
            error = failure.code
            self._log.debug("job_failed", job=job.kind.name, code=error)
        except Exception:  # noqa: BLE001 - logged and recorded; the next run tries again, and the other jobs continue
            error = _INTERNAL_ERROR
            self._log.exception("job_crashed", job=job.kind.name)
        return JobRun(job.kind.name, self._process, started_at, self._clock.now_ms(), pieces, items, error)

    def _finished(self, run: JobRun) -> None:
        self._metrics.job_ran(run)
        self._keep_to_record([run])
        if not _is_idle(run):
            self._changed.set()

    def _keep_to_record(self, runs: Iterable[JobRun]) -> None:
        for run in runs:
            self._unrecorded[run.job] = _followed_by(self._unrecorded.get(run.job, []), run)

    async def _keep_recording(self) -> None:
        while True:
            await self._clock.wait(self._changed, _RECORD_IDLE_EVERY_S)
            await self._clock.wait(self._never, _RECORD_CHANGES_EVERY_S)
            while not await self._record_all():
                await self._clock.wait(self._never, _RECORD_RETRY_EVERY_S)

    async def _record_all(self) -> bool:
        """Record the runs that are not recorded yet; False when that failed, and then they are kept."""
        self._changed.clear()
        runs, self._unrecorded = self._unrecorded, {}
        try:
            await self._record([run for job in sorted(runs) for run in runs[job]])
        except (StoreError, LockTaken) as failure:
            self._log.debug("job_runs_not_recorded", code=failure.code)
        except Exception:  # noqa: BLE001 - logged; the jobs themselves continue
            self._log.exception("job_recorder_crashed")
        else:
            return True
        newer, self._unrecorded = self._unrecorded, runs
        for later in newer.values():
            self._keep_to_record(later)
        return False


def _followed_by(earlier: list[JobRun], run: JobRun) -> list[JobRun]:
    """The runs of one job to record after `run`: the last one that changed something, and the last one that failed after it.

    An idle run is recorded only when there is neither.
    """
    if _is_idle(run):
        return [run] if all(map(_is_idle, earlier)) else earlier
    if run.items:
        return [run]
    return [*(each for each in earlier if each.items), run]


def _is_idle(run: JobRun) -> bool:
    return not run.items and run.error is None
