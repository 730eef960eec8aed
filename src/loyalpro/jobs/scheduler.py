"""Runs periodic jobs, each in a task of its own: piece by piece, with a pause between pieces that leaves room for requests."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from loyalpro.jobs.periodic_job import JobKind, JobRun, PeriodicJob
from loyalpro.jobs.ports import JobMetrics
from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import StoreError

_PAUSE_S = 0.02
_RECORD_IDLE_EVERY_S = 60.0
_RECORD_CHANGES_EVERY_S = 1.0
_FAILED = "internal_error"

RecordRuns = Callable[[Sequence[JobRun]], Awaitable[None]]
"""Stores runs as the last ones of their jobs; raises `StoreError` when the database cannot."""


class JobScheduler:
    """Keeps every job running until it is cancelled. A job that fails runs again at its next time, and stops no other job.

    Runs are recorded in batches: within a second when a run changed something or failed, else within a minute, so that an
    idle server writes little. A record that is lost with the process is followed by the next run's.
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
        self._unrecorded: dict[str, JobRun] = {}
        self._changed = asyncio.Event()
        self._never = asyncio.Event()

    def wake(self, kind: JobKind) -> None:
        """Hint that this job has something to do now. A hint may be lost; the job's interval finds the work all the same."""
        self._wakes[kind].set()

    async def run(self) -> None:
        """Run all jobs until cancelled."""
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
        except StoreError as failure:
            error = failure.code
            self._log.warning("job_failed", job=job.kind.name, code=error)
        except Exception:  # noqa: BLE001 - logged and recorded; the next run tries again, and the other jobs go on
            error = _FAILED
            self._log.exception("job_crashed", job=job.kind.name)
        return JobRun(job.kind.name, self._process, started_at, self._clock.now_ms(), pieces, items, error)

    def _finished(self, run: JobRun) -> None:
        self._metrics.job_ran(run)
        self._unrecorded[run.job] = _joined(self._unrecorded.get(run.job), run)
        if run.items or run.error is not None:
            self._changed.set()

    async def _keep_recording(self) -> None:
        while True:
            await self._clock.wait(self._changed, _RECORD_IDLE_EVERY_S)
            await self._clock.wait(self._never, _RECORD_CHANGES_EVERY_S)
            self._changed.clear()
            runs, self._unrecorded = self._unrecorded, {}
            try:
                await self._record([runs[job] for job in sorted(runs)])
            except StoreError as failure:
                self._log.warning("job_runs_not_recorded", code=failure.code)
            except Exception:  # noqa: BLE001 - logged; the jobs themselves go on
                self._log.exception("job_recorder_crashed")


def _joined(earlier: JobRun | None, run: JobRun) -> JobRun:
    """The run to record: an idle one does not hide an earlier one, not recorded yet, that changed something or failed."""
    idle = not run.items and run.error is None
    return earlier if earlier is not None and idle and (earlier.items or earlier.error is not None) else run
