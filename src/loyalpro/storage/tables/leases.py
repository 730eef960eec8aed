"""Workers and their leases: which workers are alive, and what happens to the deliveries that a dead one had leased.

The part of `delivery.ports.DeliveryStore` that concerns leases, as `delivery_store.py` calls it.
"""

from collections.abc import Collection
from typing import Final

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.ports import WorkerId
from loyalpro.delivery.settlement import Attempt
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import is_forged
from loyalpro.storage.connection import Connection, limit_lock_waits, server_now
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.tables.attempts import insert_attempts
from loyalpro.storage.tables.counters import count_attempts

UNLEASED: Final = "NOT EXISTS (SELECT 1 FROM leases l WHERE l.delivery_id = d.id)"
"""The condition under which no worker is sending the delivery of the row `d`."""

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

_LOCK_WORKER = DialectSql(lambda dialect: f"SELECT 1 FROM workers WHERE id = ? {dialect.for_update}")

_RESCUE_LOCK_MS: Final = 100
"""A rescue does not wait longer for locked rows: its worker has deliveries of its own, and has to renew its leases."""


class LeaseTables:
    """Workers and leases, inside one database transaction.

    Leases expire by `server_now`: on PostgreSQL by the time of the server, because the clocks of hosts differ.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- a worker and its own leases ---------------------------------------------------------------------------------

    def register(self, worker: WorkerId, *, host: str, pid: int, now: UnixMs, ttl_ms: int) -> None:
        """Register a worker whose leases hold for `ttl_ms`."""
        now = server_now(self._connection, now)
        self._connection.execute(
            "INSERT INTO workers (id, host, pid, started_at, expires_at) VALUES (?, ?, ?, ?, ?)",
            (worker, host, pid, now, now + ttl_ms),
        )

    def renew(self, worker: WorkerId, *, now: UnixMs, ttl_ms: int) -> bool:
        """Extend the leases of the worker to `ttl_ms` from now; False when they have been taken from it."""
        expires_at = server_now(self._connection, now) + ttl_ms
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
        self._connection.execute(_LOCK_WORKER[self._connection.dialect], (worker,))
        held = self._connection.execute("SELECT delivery_id FROM leases WHERE worker = ?", (worker,))
        unknown = sorted({id_ for (id_,) in held}.difference(keep))
        self._connection.execute_many(
            "DELETE FROM leases WHERE delivery_id = ? AND worker = ?", [(id_, worker) for id_ in unknown]
        )

    # -- dead workers ------------------------------------------------------------------------------------------------

    def expired(self, now: UnixMs) -> list[WorkerId]:
        """Return the workers that have not renewed their leases in time."""
        shared_now = server_now(self._connection, now)
        rows = self._connection.execute("SELECT id FROM workers WHERE expires_at < ?", (shared_now,))
        return [id_ for (id_,) in rows]

    def rescue(self, worker: WorkerId, now: UnixMs) -> frozenset[str]:
        """Release the leases of a worker if they have still not been renewed; return their endpoints.

        Raises LockTaken when another transaction holds one of the rows, such as that of a process which was stopped
        inside a transaction.
        """
        shared_now = server_now(self._connection, now)
        limit_lock_waits(self._connection, _RESCUE_LOCK_MS)
        rescued = self._remove(worker, now, " AND expires_at < ?", shared_now)
        limit_lock_waits(self._connection, None)  # other statements of the transaction may wait as long as usual
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
        attempts = [(id_, endpoint_id, _interrupted(number, at)) for id_, endpoint_id, number, at in released]
        insert_attempts(self._connection, [(id_, attempt) for id_, _, attempt in attempts])
        counted = [(endpoint_id, attempt) for id_, endpoint_id, attempt in attempts if not is_forged(id_, endpoint_id)]
        count_attempts(self._connection, worker, counted, now)
        return {endpoint_id for _, endpoint_id, _, _ in released}


def _interrupted(number: int, started_at: UnixMs) -> Attempt:
    return Attempt(number, started_at, OutcomeCode.INTERRUPTED, _INTERRUPTED, (), None, None, None)
