"""Bounded changes of pending deliveries when time has passed. Satisfies `delivery.maintenance.DeliveryMaintenance`."""

from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.tables.leases import LeaseTables
from loyalpro.storage.tables.settlements import advance

# A leased delivery is left to the process that sends it; a manual attempt has no window.
_CLOSE = """
UPDATE deliveries SET status = 'exhausted', finished_at = ? WHERE status = 'pending' AND id IN (
    SELECT d.id FROM deliveries d
    WHERE d.status = 'pending' AND d.first_attempt_at IS NOT NULL AND d.first_attempt_at < ? AND d.fallback_status IS NULL
      AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.delivery_id = d.id)
    ORDER BY d.first_attempt_at LIMIT ? {lock})
RETURNING endpoint_id, customer_id, sequence
"""

# A pending delivery is in one of two indexes, or in both; the order makes the database use them.
_PENDING = ("d.due_at IS NOT NULL ORDER BY d.due_at", "d.customer_id IS NOT NULL ORDER BY d.customer_id")

# A leased delivery is skipped until its attempt has ended; it does not keep other endpoints' deliveries from being canceled.
_DELETED = """
SELECT e.id FROM endpoints e WHERE e.deleted_at IS NOT NULL AND (
    SELECT d.id FROM deliveries d WHERE d.endpoint_id = e.id AND d.status = 'pending'
      AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.delivery_id = d.id)
      AND {pending} LIMIT 1) IS NOT NULL
LIMIT 1
"""

# A delivery that had ended before a manual attempt gets that end back.
_CANCEL = """
UPDATE deliveries SET status = COALESCE(NULLIF(fallback_status, 'pending'), 'canceled'), finished_at = ?,
    fallback_status = NULL, fallback_due_at = NULL
WHERE status = 'pending' AND id IN (
    SELECT d.id FROM deliveries d WHERE d.endpoint_id = ? AND d.status = 'pending'
      AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.delivery_id = d.id)
      AND {pending} LIMIT ? {lock})
"""


class MaintenanceTables:
    """Changes of pending deliveries, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = "FOR UPDATE OF d SKIP LOCKED" if connection.dialect.is_postgres else ""

    def close_windows(self, now: UnixMs, closed_since: UnixMs, limit: int) -> int:
        """Exhaust waiting deliveries whose first attempt was before `closed_since`; how many."""
        closed = self._connection.execute(_CLOSE.format(lock=self._lock), (now, closed_since, limit))
        advance(self._connection, closed, now)
        return len(closed)

    def cancel_of_deleted_endpoint(self, now: UnixMs, limit: int) -> int:
        """Cancel pending deliveries of one deleted endpoint; how many."""
        for pending in _PENDING:
            for (endpoint_id,) in self._connection.execute(_DELETED.format(pending=pending)):
                sql = _CANCEL.format(pending=pending, lock=self._lock)
                if canceled := self._connection.change(sql, (now, endpoint_id, limit)):
                    return canceled
        return 0

    def free_orphaned_leases(self, now: UnixMs) -> int:
        """Free the leases of one worker that is not registered; how many workers that were."""
        return int(LeaseTables(self._connection).rescue_orphaned_leases(now))
