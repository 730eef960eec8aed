"""Workers and their leases: who is alive, and what happens to what the dead were sending."""

from collections.abc import Collection
from typing import Final

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.ports import Attempt, WorkerId
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.tables.attempts import insert_attempts

_INTERRUPTED = "The process that was sending this stopped before the outcome was written down."

# It keeps its place before what became due while its worker was dead. One that has been cut short before goes to the end:
# it may be what kills us, and must not be in the way of others.
_FREE = """
UPDATE deliveries SET attempts = leases.attempt, first_attempt_at = COALESCE(first_attempt_at, leases.started_at),
    due_at = CASE WHEN outcome = 'interrupted' THEN ? ELSE due_at END, outcome = 'interrupted',
    uncounted_attempts = uncounted_attempts + CASE WHEN fallback_status IS NULL THEN 0 ELSE 1 END
FROM leases
WHERE deliveries.id = leases.delivery_id AND leases.worker = ? AND deliveries.status = 'pending'
"""

# What its owner has canceled meanwhile stays so; the number of its next attempt, by hand perhaps, must be a new one.
_COUNT = """
UPDATE deliveries SET attempts = leases.attempt, first_attempt_at = COALESCE(first_attempt_at, leases.started_at)
FROM leases
WHERE deliveries.id = leases.delivery_id AND leases.worker = ?
    AND deliveries.status IN ('canceled', 'succeeded', 'exhausted')
"""


# Rows that somebody holds are not waited for: whoever rescues has deliveries of its own, and has to renew.
_LOCK_MS: Final = 100


class LeaseTables:
    """The workers and leases tables, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = " FOR UPDATE" if connection.dialect.is_postgres else ""

    def register(self, worker: WorkerId, *, host: str, pid: int, now: UnixMs, ttl_ms: int) -> None:
        """Make a worker known."""
        now = self._shared_now(now)
        self._connection.execute(
            "INSERT INTO workers (id, host, pid, started_at, expires_at) VALUES (?, ?, ?, ?, ?)",
            (worker, host, pid, now, now + ttl_ms),
        )

    def renew(self, worker: WorkerId, *, now: UnixMs, ttl_ms: int) -> bool:
        """Push the end of the worker's leases out; False when they have been taken from it."""
        expires_at = self._shared_now(now) + ttl_ms
        return self._connection.change("UPDATE workers SET expires_at = ? WHERE id = ?", (expires_at, worker)) == 1

    def release(self, worker: WorkerId, now: UnixMs) -> None:
        """Free what the worker holds and forget it."""
        self._free(worker, now)

    def disown(self, worker: WorkerId, keep: Collection[str]) -> None:
        """Free leases that the worker does not know it has: nothing was sent for them, so nothing is counted.

        On PostgreSQL the commit that nobody heard of may still be to come. It holds the worker's row: wait for its end.
        """
        self._connection.execute(f"SELECT 1 FROM workers WHERE id = ?{self._lock}", (worker,))
        held = self._connection.execute("SELECT delivery_id FROM leases WHERE worker = ?", (worker,))
        unknown = sorted({id_ for (id_,) in held}.difference(keep))
        self._connection.execute_many(
            "DELETE FROM leases WHERE delivery_id = ? AND worker = ?", [(id_, worker) for id_ in unknown]
        )

    def silent(self, now: UnixMs) -> list[WorkerId]:
        """The workers that have been silent for too long."""
        rows = self._connection.execute("SELECT id FROM workers WHERE expires_at < ?", (self._shared_now(now),))
        return [id_ for (id_,) in rows]

    def rescue(self, worker: WorkerId, now: UnixMs) -> frozenset[str]:
        """Free what a worker holds, if it is still silent; the endpoints it is for.

        `LockTaken` when somebody holds a row of it: a process that was stopped within a transaction, say.
        """
        silent_at = self._shared_now(now)
        self._limit_waits(str(_LOCK_MS))
        freed = self._free(worker, now, " AND expires_at < ?", silent_at)
        self._limit_waits("DEFAULT")
        return freed

    def rescue_all_but(self, worker: WorkerId, now: UnixMs) -> frozenset[str]:
        """The same for every other worker: only for a database that one process at a time can open."""
        rows = self._connection.execute("SELECT id FROM workers WHERE id <> ?", (worker,))
        return frozenset().union(*(self._free(id_, now) for (id_,) in rows))

    def rescue_strays(self, now: UnixMs) -> bool:
        """Free the leases of a worker that is not known; whether there was one.

        There should be none: a worker is made known before it leases anything, and forgotten with what it holds.
        """
        rows = self._connection.execute(
            "SELECT worker FROM leases l WHERE NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = l.worker) LIMIT 1"
        )
        for (worker,) in rows:
            self._free_leases(worker, now)
        return bool(rows)

    def _free(self, worker: WorkerId, now: UnixMs, condition: str = "", *params: object) -> frozenset[str]:
        """Deleting the worker's row comes first: of two rescuers only one gets it, and a late `renew` finds nothing."""
        if self._connection.change(f"DELETE FROM workers WHERE id = ?{condition}", (worker, *params)) == 0:
            return frozenset()
        return frozenset(self._free_leases(worker, now))

    def _limit_waits(self, limit: str) -> None:
        """Until this is called again: other work of the same transaction may wait as it likes."""
        if self._connection.dialect.is_postgres:
            self._connection.execute(f"SET LOCAL lock_timeout = {limit}")

    def _free_leases(self, worker: WorkerId, now: UnixMs) -> set[str]:
        """An attempt that was cut short counts: the receiver may have had it."""
        self._connection.execute(_FREE, (now, worker))
        self._connection.execute(_COUNT, (worker,))
        freed = self._connection.execute(
            "DELETE FROM leases WHERE worker = ? RETURNING delivery_id, endpoint_id, attempt, started_at", (worker,)
        )
        insert_attempts(self._connection, [(id_, _interrupted(number, at)) for id_, _, number, at in freed])
        return {endpoint_id for _, endpoint_id, _, _ in freed}

    def _shared_now(self, now: UnixMs) -> UnixMs:
        """Leases are judged by one clock: on PostgreSQL the database's, because hosts disagree about the time."""
        if not self._connection.dialect.is_postgres:
            return now
        [(shared,)] = self._connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
        return int(shared)


def _interrupted(number: int, started_at: UnixMs) -> Attempt:
    return Attempt(number, started_at, OutcomeCode.INTERRUPTED, _INTERRUPTED, (), None, None, None)
