"""Jobs that apply changed tiers: rows of `jobs` of the kind `retier`. Satisfies `loyalty.ports.RetierStore`."""

from typing import Final

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.entities import Retier
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import DialectSql

_UNFINISHED: Final = "status IN ('queued', 'running')"
_LOCK: Final = DialectSql(
    lambda dialect: (
        f"SELECT id FROM jobs WHERE id = ? AND cursor = ? AND {_UNFINISHED} {dialect.for_update} {dialect.skip_locked}"
    )
)


class RetierTables:
    """These jobs, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def unfinished(self, limit: int) -> list[Retier]:
        """Jobs that have customers left, oldest first."""
        rows = self._connection.execute(
            f"SELECT id, account_id, cursor FROM jobs WHERE {_UNFINISHED} AND kind = 'retier' ORDER BY id LIMIT ?",
            (limit,),
        )
        return [Retier(*row) for row in rows]

    def lock(self, job: Retier) -> bool:
        """Lock an unfinished job whose cursor is still the same; False when there is none, or another transaction holds it."""
        return bool(self._connection.execute(_LOCK[self._connection.dialect], (job.id, job.cursor)))

    def advance(self, job: Retier, cursor: str, done: int, now: UnixMs) -> None:
        """Move the cursor of a locked job."""
        self._connection.execute(
            "UPDATE jobs SET status = 'running', cursor = ?, done = done + ?, updated_at = ?"
            f" WHERE id = ? AND cursor = ? AND {_UNFINISHED}",
            (cursor, done, now, job.id, job.cursor),
        )

    def finish(self, job: Retier, now: UnixMs) -> None:
        """Mark a locked job as done."""
        self._connection.execute(
            f"UPDATE jobs SET status = 'done', updated_at = ?, finished_at = ? WHERE id = ? AND cursor = ? AND {_UNFINISHED}",
            (now, now, job.id, job.cursor),
        )
