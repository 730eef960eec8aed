"""What the scheduler needs from outside: a place to record runs, and a place to count them."""

from collections.abc import Sequence
from typing import Protocol

from loyalpro.jobs.periodic_job import JobRun, LastRun


class JobRunStore(Protocol):
    """The last run of each job, in any process, inside one database transaction."""

    def record(self, runs: Sequence[JobRun]) -> None:
        """Store each run, unless a later one of the same job is stored already."""
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
    """Where the scheduler reports finished runs."""

    def job_ran(self, run: JobRun) -> None:
        """One run ended, with or without an error."""
        ...


def record_job_runs(unit: JobsUnit, runs: Sequence[JobRun]) -> None:
    """Record runs as the last ones of their jobs."""
    unit.job_runs.record(runs)
