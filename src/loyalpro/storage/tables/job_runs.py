"""The job_runs table: one row for each periodic job, with its last run in any process. Satisfies `jobs.ports.JobRunStore`."""

from collections.abc import Sequence

from loyalpro.jobs.periodic_job import JobRun, LastRun
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import RowMapper

_RUNS = RowMapper(JobRun, "job_runs")

# Processes upsert the rows in the order of their keys, so that no two of them wait for each other in a cycle.
_RECORD = f"""
INSERT INTO job_runs ({_RUNS.columns()}, changed_at, changed_items) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (job) DO UPDATE SET process = excluded.process, started_at = excluded.started_at,
    finished_at = excluded.finished_at, pieces = excluded.pieces, items = excluded.items, error = excluded.error,
    changed_at = COALESCE(excluded.changed_at, job_runs.changed_at),
    changed_items = COALESCE(excluded.changed_items, job_runs.changed_items)
WHERE excluded.finished_at >= job_runs.finished_at
"""


class JobRunTables:
    """The last runs of periodic jobs, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def record(self, runs: Sequence[JobRun]) -> None:
        """Store each run, unless a later one of the same job is stored already."""
        rows = [(*_RUNS.values(run), *_change(run)) for run in sorted(runs, key=lambda run: run.job)]
        for row in rows:  # two runs may be of one job, whose row one statement does not update twice
            self._connection.execute_many(_RECORD, [row])

    def list_all(self) -> list[LastRun]:
        """The last run of every job, ordered by the name of the job."""
        rows = self._connection.execute(
            f"SELECT {_RUNS.columns()}, changed_at, changed_items FROM job_runs ORDER BY job"
        )
        return [LastRun(run, changed_at, changed_items) for run, (changed_at, changed_items) in map(_RUNS.split, rows)]


def _change(run: JobRun) -> tuple[object, object]:
    return (run.finished_at, run.items) if run.items else (None, None)
