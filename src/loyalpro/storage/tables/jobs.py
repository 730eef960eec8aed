"""Jobs, their pieces and the rows that they refused. Satisfies `loyalty.ports.JobStore`."""

from collections.abc import Collection, Sequence
from typing import Final

from loyalpro.jobs.periodic_job import BATCH_SIZE
from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.entities import Job, JobStatus, RowRefusal
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.rows import JSON, RowMapper
from loyalpro.storage.sql import marks, where

_JOBS: Final = RowMapper(Job, "jobs", codecs={"params": JSON})
_REFUSALS: Final = RowMapper(RowRefusal, "job_refusals")
_SELECT: Final = f"SELECT {_JOBS.columns()} FROM jobs"
_UNFINISHED: Final = "status IN ('queued', 'running')"
_LOCK: Final = DialectSql(
    lambda dialect: (
        f"SELECT id FROM jobs WHERE id = ? AND cursor = ? AND {_UNFINISHED} {dialect.for_update} {dialect.skip_locked}"
    )
)
_INSERT_REFUSAL: Final = (
    f"INSERT INTO job_refusals (job_id, {_REFUSALS.columns()}) VALUES ({marks(1 + _REFUSALS.width)})"
)
_OLD: Final = "SELECT id FROM jobs WHERE finished_at IS NOT NULL AND finished_at < ? ORDER BY finished_at, id LIMIT ?"
_JOBS_OF_BATCH: Final = 20


class JobTables:
    """Jobs, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, job: Job) -> None:
        """Store a new job."""
        self._connection.execute(_JOBS.insert, _JOBS.values(job))

    def get(self, account_id: str, job_id: str) -> Job | None:
        """One job."""
        rows = self._connection.execute(f"{_SELECT} WHERE account_id = ? AND id = ?", (account_id, job_id))
        return _JOBS.record(rows[0]) if rows else None

    def list_newest(self, account_id: str, kinds: Collection[str], before_id: str | None, limit: int) -> list[Job]:
        """Jobs of these kinds, newest first."""
        clause, params = where(("account_id = ?", account_id), ("id < ?", before_id))
        rows = self._connection.execute(
            f"{_SELECT} {clause} AND kind IN ({marks(len(kinds))}) ORDER BY id DESC LIMIT ?", (*params, *kinds, limit)
        )
        return _JOBS.records(rows)

    def unfinished(self, kinds: Collection[str]) -> list[Job]:
        """The jobs of these kinds that are queued or running, of all accounts, oldest first."""
        rows = self._connection.execute(
            f"{_SELECT} WHERE {_UNFINISHED} AND kind IN ({marks(len(kinds))}) ORDER BY id LIMIT ?",
            (*kinds, BATCH_SIZE),
        )
        return _JOBS.records(rows)

    # -- one piece ---------------------------------------------------------------------------------------------------

    def lock(self, job: Job) -> bool:
        """Lock an unfinished job whose cursor is still the same; False without one, or when another transaction holds it."""
        return bool(self._connection.execute(_LOCK[self._connection.dialect], (job.id, job.cursor)))

    def advance(self, before: Job, after: Job, now: UnixMs) -> None:
        """Store the cursor and the counts of an unfinished job, which is running from then on."""
        self._connection.execute(
            "UPDATE jobs SET status = 'running', cursor = ?, done = ?, unchanged = ?, refused = ?, updated_at = ?"
            f" WHERE id = ? AND cursor = ? AND {_UNFINISHED}",
            (after.cursor, after.done, after.unchanged, after.refused, now, before.id, before.cursor),
        )

    def finish(self, job: Job, status: JobStatus, now: UnixMs, result: str | None = None) -> bool:
        """End an unfinished job. False when it has ended."""
        changed = self._connection.change(
            f"UPDATE jobs SET status = ?, result = ?, updated_at = ?, finished_at = ? WHERE id = ? AND {_UNFINISHED}",
            (status, result, now, now, job.id),
        )
        return changed == 1

    def add_pieces(self, job_id: str, first: int, pieces: Sequence[bytes]) -> None:
        """Store pieces; `first` is the number of the first one."""
        self._connection.execute_many(
            "INSERT INTO job_pieces (job_id, number, content) VALUES (?, ?, ?)",
            [(job_id, number, content) for number, content in enumerate(pieces, first)],
        )

    def piece(self, job_id: str, number: int) -> bytes | None:
        """One piece."""
        rows = self._connection.execute(
            "SELECT content FROM job_pieces WHERE job_id = ? AND number = ?", (job_id, number)
        )
        return bytes(rows[0][0]) if rows else None

    def pieces(self, job_id: str, first: int, limit: int) -> list[bytes]:
        """The pieces from a number on, in their order."""
        rows = self._connection.execute(
            "SELECT content FROM job_pieces WHERE job_id = ? AND number >= ? ORDER BY number LIMIT ?",
            (job_id, first, limit),
        )
        return [bytes(content) for (content,) in rows]

    def remove_pieces(self, job_id: str, before: int | None = None) -> None:
        """Remove pieces of a job, with numbers below `before`, or all."""
        clause, params = where(("job_id = ?", job_id), ("number < ?", before))
        self._connection.execute(f"DELETE FROM job_pieces {clause}", params)

    def refuse(self, job_id: str, refusals: Sequence[RowRefusal]) -> None:
        """Store rows that were refused."""
        self._connection.execute_many(_INSERT_REFUSAL, [(job_id, *_REFUSALS.values(each)) for each in refusals])

    def refusals(self, job_id: str, after_line: int, limit: int) -> list[RowRefusal]:
        """The refused rows behind a line, in their order."""
        rows = self._connection.execute(
            f"SELECT {_REFUSALS.columns()} FROM job_refusals WHERE job_id = ? AND line > ? ORDER BY line LIMIT ?",
            (job_id, after_line, limit),
        )
        return _REFUSALS.records(rows)

    # -- retention ---------------------------------------------------------------------------------------------------

    def remove_finished(self, before: UnixMs) -> int:
        """Remove some jobs that ended before an instant, with their pieces and refusals; how many jobs.

        A job may have many pieces, so a batch has few jobs.
        """
        jobs = [id_ for (id_,) in self._connection.execute(_OLD, (before, _JOBS_OF_BATCH))]
        for table, key in (("job_pieces", "job_id"), ("job_refusals", "job_id"), ("jobs", "id")):
            if jobs:
                self._connection.execute(f"DELETE FROM {table} WHERE {key} IN ({marks(len(jobs))})", jobs)
        return len(jobs)
