"""Bounded pieces of housekeeping on deliveries. Each is one short transaction; True means that there is more to do."""

from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.tables.settlements import advance

_PIECE = 200

# What is being sent is left to whoever sends it; what is sent by hand has no window.
_CLOSE = """
UPDATE deliveries SET status = 'exhausted', finished_at = ? WHERE status = 'pending' AND id IN (
    SELECT d.id FROM deliveries d
    WHERE d.status = 'pending' AND d.first_attempt_at IS NOT NULL AND d.first_attempt_at < ? AND d.fallback_status IS NULL
      AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.delivery_id = d.id)
    ORDER BY d.first_attempt_at LIMIT ? {lock})
RETURNING endpoint_id, customer_id, sequence
"""

# What is owed to an endpoint is in one of two indexes, or in both; the order makes the database use them.
_OWED = ("d.due_at IS NOT NULL ORDER BY d.due_at", "d.customer_id IS NOT NULL ORDER BY d.customer_id")

# What is being sent is waited for, and keeps no other endpoint's from being canceled.
_ORPHANED = """
SELECT e.id FROM endpoints e WHERE e.deleted_at IS NOT NULL AND (
    SELECT d.id FROM deliveries d WHERE d.endpoint_id = e.id AND d.status = 'pending'
      AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.delivery_id = d.id)
      AND {owed} LIMIT 1) IS NOT NULL
LIMIT 1
"""

# What had ended before its owner sent it by hand has ended as it had.
_CANCEL = """
UPDATE deliveries SET status = COALESCE(NULLIF(fallback_status, 'pending'), 'canceled'), finished_at = ?,
    fallback_status = NULL, fallback_due_at = NULL
WHERE status = 'pending' AND id IN (
    SELECT d.id FROM deliveries d WHERE d.endpoint_id = ? AND d.status = 'pending'
      AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.delivery_id = d.id)
      AND {owed} LIMIT ? {lock})
"""


class SweepTables:
    """Housekeeping, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = "FOR UPDATE OF d SKIP LOCKED" if connection.dialect.is_postgres else ""

    def close_windows(self, now: UnixMs, closed_since: UnixMs) -> bool:
        """Exhaust what has run out of its 72 hours while it waited, for an endpoint that is not enabled, say."""
        closed = self._connection.execute(_CLOSE.format(lock=self._lock), (now, closed_since, _PIECE))
        advance(self._connection, closed, now)
        return len(closed) == _PIECE

    def cancel_orphans(self, now: UnixMs) -> bool:
        """Write down that what a deleted endpoint was owed is canceled."""
        return any(self._cancel_orphans(owed, now) for owed in _OWED)

    def _cancel_orphans(self, owed: str, now: UnixMs) -> bool:
        for (endpoint_id,) in self._connection.execute(_ORPHANED.format(owed=owed)):
            sql = _CANCEL.format(owed=owed, lock=self._lock)
            return self._connection.change(sql, (now, endpoint_id, _PIECE)) > 0
        return False
