"""The ports of this package: a store of the last run of each job, and the metrics of runs."""

from collections.abc import Sequence
from typing import Protocol

from loyalpro.jobs.periodic_job import JobRun, LastRun


class JobRunStore(Protocol):
    """The last run of each job in any process. Each method runs in the open database transaction."""

    def record(self, runs: Sequence[JobRun]) -> None:
        """Store each run as the last one of its job, in the given order; a run that ended before the stored one is ignored."""
        ...

    def list_all(self) -> list[LastRun]:
        """The last run of every job, ordered by the name of the job."""
        ...


class JobsUnit(Protocol):
    """The unit of work of this package's functions."""

    @property
    def job_runs(self) -> JobRunStore:
        """The last run of each job."""
        ...


class JobMetrics(Protocol):
    """Counts runs of jobs."""

    def job_ran(self, run: JobRun) -> None:
        """Count one run that ended, with or without an error."""
        ...


def record_job_runs(unit: JobsUnit, runs: Sequence[JobRun]) -> None:
    """Record runs as the last ones of their jobs."""
    unit.job_runs.record(runs)
