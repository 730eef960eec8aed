"""Bounded changes of pending deliveries when time has passed. Satisfies `delivery.maintenance.DeliveryMaintenance`."""

from collections.abc import Sequence
from typing import Final

from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.tables.leases import UNLEASED, LeaseTables
from loyalpro.storage.tables.settlements import advance

# The worker that has leased a delivery ends it. A manual attempt has no window.
_CLOSE_WINDOWS: Final = DialectSql(
    lambda dialect: (
        f"""
UPDATE deliveries SET status = 'exhausted', finished_at = ? WHERE status = 'pending' AND id IN (
    SELECT d.id FROM deliveries d
    WHERE d.status = 'pending' AND d.first_attempt_at IS NOT NULL AND d.first_attempt_at < ? AND d.fallback_status IS NULL
      AND {UNLEASED}
    ORDER BY d.first_attempt_at LIMIT ? {dialect.for_update_of("d")} {dialect.skip_locked})
RETURNING endpoint_id, customer_id, sequence
"""
    )
)

# A pending delivery is in one of two indexes, or in both; the order of each condition makes the database use its index.
_IN_INDEX: Final = ("d.due_at IS NOT NULL ORDER BY d.due_at", "d.customer_id IS NOT NULL ORDER BY d.customer_id")


def _find_deleted_endpoint(in_index: str) -> str:
    """The statement that finds a deleted endpoint with pending deliveries.

    Leased deliveries do not count: an endpoint that has no others must not keep those of other endpoints from being canceled.
    """
    return f"""
SELECT e.id FROM endpoints e WHERE e.deleted_at IS NOT NULL AND (
    SELECT d.id FROM deliveries d WHERE d.endpoint_id = e.id AND d.status = 'pending'
      AND {UNLEASED}
      AND {in_index} LIMIT 1) IS NOT NULL
LIMIT 1
"""


def _cancel(in_index: str) -> DialectSql:
    """The statement that cancels. A delivery that had ended before a manual attempt gets that end back."""
    return DialectSql(
        lambda dialect: (
            f"""
UPDATE deliveries SET status = COALESCE(NULLIF(fallback_status, 'pending'), 'canceled'), finished_at = ?,
    fallback_status = NULL, fallback_due_at = NULL
WHERE status = 'pending' AND id IN (
    SELECT d.id FROM deliveries d WHERE d.endpoint_id = ? AND d.status = 'pending'
      AND {UNLEASED}
      AND {in_index} LIMIT ? {dialect.for_update_of("d")} {dialect.skip_locked})
"""
        )
    )


_FIND_AND_CANCEL: Final[Sequence[tuple[str, DialectSql]]] = [
    (_find_deleted_endpoint(each), _cancel(each)) for each in _IN_INDEX
]


class MaintenanceTables:
    """Changes of pending deliveries, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def close_windows(self, now: UnixMs, closed_since: UnixMs, limit: int) -> int:
        """Exhaust waiting deliveries whose first attempt was before `closed_since`; how many."""
        closed = self._connection.execute(_CLOSE_WINDOWS[self._connection.dialect], (now, closed_since, limit))
        advance(self._connection, closed, now)
        return len(closed)

    def cancel_of_deleted_endpoint(self, now: UnixMs, limit: int) -> int:
        """Cancel pending deliveries of one deleted endpoint; how many. Leased ones stay until their attempts have ended."""
        for find, cancel in _FIND_AND_CANCEL:
            for (endpoint_id,) in self._connection.execute(find):
                sql = cancel[self._connection.dialect]
                if canceled := self._connection.change(sql, (now, endpoint_id, limit)):
                    return canceled
        return 0

    def free_orphaned_leases(self, now: UnixMs) -> int:
        """Release the leases of one worker that is not registered; 1 if there was such a worker, else 0."""
        return int(LeaseTables(self._connection).rescue_orphaned_leases(now))
