"""Workers and their leases: which workers are alive, and what happens to the deliveries that a dead one had leased."""

from collections.abc import Collection
from typing import Final

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.ports import WorkerId
from loyalpro.delivery.settlement import Attempt
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.tables.attempts import insert_attempts

_INTERRUPTED = "The process that was sending this delivery stopped before the outcome was recorded."

# The delivery keeps its due time, and so its place before deliveries that became due while its worker was dead. A delivery
# that was interrupted before goes to the end of the queue: it may be the cause of the crashes, and must not block others.
_INTERRUPT = """
UPDATE deliveries SET attempts = leases.attempt, first_attempt_at = COALESCE(first_attempt_at, leases.started_at),
    due_at = CASE WHEN outcome = 'interrupted' THEN ? ELSE due_at END, outcome = 'interrupted',
    uncounted_attempts = uncounted_attempts + CASE WHEN fallback_status IS NULL THEN 0 ELSE 1 END
FROM leases
WHERE deliveries.id = leases.delivery_id AND leases.worker = ? AND deliveries.status = 'pending'
"""

# A delivery that its owner has canceled meanwhile keeps its state. The attempt counts: the next one, which may be manual,
# needs a new number.
_COUNT_FINISHED = """
UPDATE deliveries SET attempts = leases.attempt, first_attempt_at = COALESCE(first_attempt_at, leases.started_at)
FROM leases
WHERE deliveries.id = leases.delivery_id AND leases.worker = ?
    AND deliveries.status IN ('canceled', 'succeeded', 'exhausted')
"""


# A rescue does not wait longer for locked rows: its worker has deliveries of its own, and has to renew its leases.
_LOCK_MS: Final = 100


class LeaseTables:
    """The workers and leases tables, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = " FOR UPDATE" if connection.dialect.is_postgres else ""

    # -- a worker and its own leases ---------------------------------------------------------------------------------

    def register(self, worker: WorkerId, *, host: str, pid: int, now: UnixMs, ttl_ms: int) -> None:
        """Register a worker whose leases hold for `ttl_ms`."""
        now = self._shared_now(now)
        self._connection.execute(
            "INSERT INTO workers (id, host, pid, started_at, expires_at) VALUES (?, ?, ?, ?, ?)",
            (worker, host, pid, now, now + ttl_ms),
        )

    def renew(self, worker: WorkerId, *, now: UnixMs, ttl_ms: int) -> bool:
        """Extend the leases of the worker to `ttl_ms` from now; False when they have been taken from it."""
        expires_at = self._shared_now(now) + ttl_ms
        return self._connection.change("UPDATE workers SET expires_at = ? WHERE id = ?", (expires_at, worker)) == 1

    def release(self, worker: WorkerId, now: UnixMs) -> None:
        """Release all leases of the worker, and remove it."""
        self._remove(worker, now)

    def release_unknown(self, worker: WorkerId, keep: Collection[str]) -> None:
        """Release the leases of the worker for other deliveries than those in `keep`.

        The worker does not know of these leases, so it has sent nothing for them, and no attempt counts. On PostgreSQL the
        transaction of a claim whose result was lost may still commit. It holds the shared lock on the row of the worker, so
        the lock taken here waits until it has ended.
        """
        self._connection.execute(f"SELECT 1 FROM workers WHERE id = ?{self._lock}", (worker,))
        held = self._connection.execute("SELECT delivery_id FROM leases WHERE worker = ?", (worker,))
        unknown = sorted({id_ for (id_,) in held}.difference(keep))
        self._connection.execute_many(
            "DELETE FROM leases WHERE delivery_id = ? AND worker = ?", [(id_, worker) for id_ in unknown]
        )

    # -- dead workers ------------------------------------------------------------------------------------------------

    def expired(self, now: UnixMs) -> list[WorkerId]:
        """Return the workers that have not renewed their leases in time."""
        rows = self._connection.execute("SELECT id FROM workers WHERE expires_at < ?", (self._shared_now(now),))
        return [id_ for (id_,) in rows]

    def rescue(self, worker: WorkerId, now: UnixMs) -> frozenset[str]:
        """Release the leases of a worker if they have still not been renewed; return their endpoints.

        Raises LockTaken when another transaction holds one of the rows, such as that of a process which was stopped
        inside a transaction.
        """
        expired_at = self._shared_now(now)
        self._limit_lock_waits(str(_LOCK_MS))
        rescued = self._remove(worker, now, " AND expires_at < ?", expired_at)
        self._limit_lock_waits("DEFAULT")
        return rescued

    def rescue_all_but(self, worker: WorkerId, now: UnixMs) -> frozenset[str]:
        """Release the leases of all other workers: only for a database that one process at a time can open."""
        rows = self._connection.execute("SELECT id FROM workers WHERE id <> ?", (worker,))
        return frozenset().union(*(self._remove(id_, now) for (id_,) in rows))

    def rescue_orphaned_leases(self, now: UnixMs) -> bool:
        """Release the leases of one worker that is not registered; return whether there was one.

        There should be none: a worker registers before it leases anything, and is removed together with its leases.
        """
        rows = self._connection.execute(
            "SELECT worker FROM leases l WHERE NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = l.worker) LIMIT 1"
        )
        for (worker,) in rows:
            self._interrupt(worker, now)
        return bool(rows)

    def _remove(self, worker: WorkerId, now: UnixMs, condition: str = "", *params: object) -> frozenset[str]:
        """Remove a worker and its leases, if the condition holds; return the endpoints of the leases.

        The row of the worker is deleted first: of two rescues only one deletes it, and a late `renew` finds no row.
        """
        if self._connection.change(f"DELETE FROM workers WHERE id = ?{condition}", (worker, *params)) == 0:
            return frozenset()
        return frozenset(self._interrupt(worker, now))

    def _interrupt(self, worker: WorkerId, now: UnixMs) -> set[str]:
        """End all attempts of the worker as interrupted. They count, because the receivers may have got the requests."""
        self._connection.execute(_INTERRUPT, (now, worker))
        self._connection.execute(_COUNT_FINISHED, (worker,))
        released = self._connection.execute(
            "DELETE FROM leases WHERE worker = ? RETURNING delivery_id, endpoint_id, attempt, started_at", (worker,)
        )
        insert_attempts(self._connection, [(id_, _interrupted(number, at)) for id_, _, number, at in released])
        return {endpoint_id for _, endpoint_id, _, _ in released}

    def _limit_lock_waits(self, limit: str) -> None:
        """Set the limit until the next call: other statements of the same transaction may wait as long as usual."""
        if self._connection.dialect.is_postgres:
            self._connection.execute(f"SET LOCAL lock_timeout = {limit}")

    def _shared_now(self, now: UnixMs) -> UnixMs:
        """Return the time by which leases expire: on PostgreSQL that of the server, because the clocks of hosts differ."""
        if not self._connection.dialect.is_postgres:
            return now
        [(shared,)] = self._connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
        return int(shared)


def _interrupted(number: int, started_at: UnixMs) -> Attempt:
    return Attempt(number, started_at, OutcomeCode.INTERRUPTED, _INTERRUPTED, (), None, None, None)
