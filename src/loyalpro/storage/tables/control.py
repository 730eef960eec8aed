"""What owners do with single deliveries. Every write follows a look at the locked row, in the same transaction."""

from loyalpro.delivery.by_hand import Standing
from loyalpro.delivery.states import DeliveryStatus, EndpointStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.tables.settlements import advance

_STANDING = """
SELECT d.id, d.endpoint_id, d.customer_id, d.status, d.due_at, p.status, p.deleted_at, d.fallback_status, d.sequence
FROM deliveries d JOIN endpoints p ON p.id = d.endpoint_id
WHERE d.account_id = ? AND d.id = ?
"""

_EVENT = """
SELECT 1 FROM events
WHERE id = (SELECT event_id FROM deliveries WHERE account_id = ? AND id = ?) AND erased_at IS NULL
"""

# The last condition is for two who do it at once: the second one changes nothing.
_SEND = """
UPDATE deliveries SET status = 'pending', due_at = ?, finished_at = NULL, fallback_status = status,
    fallback_due_at = CASE WHEN status = 'pending' THEN due_at END
WHERE id = ? AND status = ? AND fallback_status IS NULL
"""

_CANCEL = """
UPDATE deliveries SET status = ?, finished_at = ?, fallback_status = NULL, fallback_due_at = NULL
WHERE id = ? AND status = 'pending'
RETURNING endpoint_id, customer_id, sequence
"""


class ControlTables:
    """Deliveries, to be moved by hand, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        postgres = connection.dialect.is_postgres
        self._lock = " FOR UPDATE OF d" if postgres else ""
        self._share = " FOR SHARE" if postgres else ""

    def standing(self, account_id: str, delivery_id: str) -> Standing | None:
        """Where a delivery stands; nobody else moves it, or erases its event, until this transaction ends.

        The event comes first, as it does for whoever erases it. Leases are looked at after the row is locked: whoever
        takes one locks the row first.
        """
        event_kept = self._any(_EVENT + self._share, account_id, delivery_id)
        rows = self._connection.execute(_STANDING + self._lock, (account_id, delivery_id))
        return self._standing(rows[0], event_kept=event_kept) if rows else None

    def send(self, standing: Standing, now: UnixMs) -> None:
        """Make an attempt due now. If it fails, the delivery goes back to where it stood."""
        self._connection.execute(_SEND, (now, standing.delivery_id, standing.status.value))

    def cancel(self, standing: Standing, now: UnixMs) -> None:
        """End it, also while it is being sent, and let the customer's next one go. What had ended before is that again."""
        canceled = self._connection.execute(_CANCEL, (standing.once_canceled.value, now, standing.delivery_id))
        advance(self._connection, canceled, now)

    def _standing(self, row: Row, *, event_kept: bool) -> Standing:
        id_, endpoint_id, customer_id, status, due_at, endpoint, deleted_at, fallback, sequence = row
        return Standing(
            delivery_id=id_,
            endpoint_id=endpoint_id,
            customer_id=customer_id,
            status=DeliveryStatus(status),
            due_at=due_at,
            endpoint=None if deleted_at is not None else EndpointStatus(endpoint),
            being_sent=self._any("SELECT 1 FROM leases WHERE delivery_id = ?", id_),
            fallback=None if fallback is None else DeliveryStatus(fallback),
            waits_for=customer_id and self._earlier(endpoint_id, customer_id, sequence),
            event_kept=event_kept,
        )

    def _earlier(self, endpoint_id: str, customer_id: str, sequence: int) -> str | None:
        """The first delivery of the customer's queue that is before this place in it."""
        rows = self._connection.execute(
            "SELECT id FROM deliveries WHERE endpoint_id = ? AND customer_id = ? AND status = 'pending' AND sequence < ?"
            " ORDER BY sequence LIMIT 1",
            (endpoint_id, customer_id, sequence),
        )
        return str(rows[0][0]) if rows else None

    def _any(self, sql: str, *params: object) -> bool:
        return bool(self._connection.execute(sql, params))
