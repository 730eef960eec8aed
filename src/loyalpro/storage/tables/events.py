"""The events table: append-only, read by pollers in an order in which no event ever appears late.

Satisfies `events.outbox.EventStore` and `webhooks.ports.PastEventStore`.
"""

from collections.abc import Sequence

from loyalpro.events.envelope import Event
from loyalpro.events.outbox import NewDelivery, Subscription
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.rows import FLAG, RowMapper
from loyalpro.storage.sql import marks, where
from loyalpro.storage.tables.deliveries import ENQUEUE
from loyalpro.webhooks.entities import PastEvent

PAST_EVENTS = RowMapper(PastEvent, "events", codecs={"test": FLAG})
_EVENTS = RowMapper(Event, "events")
_INSERT = f"INSERT INTO events ({_EVENTS.columns()}, owed, test) VALUES ({marks(_EVENTS.width + 2)})"
_SELECT = f"SELECT {_EVENTS.columns()} FROM events"
_HAS_PENDING = DialectSql(
    lambda dialect: (
        "SELECT 1 FROM deliveries WHERE endpoint_id = ? AND customer_id = ? AND status = 'pending'"
        f" ORDER BY sequence DESC LIMIT 1 {dialect.for_share} {dialect.skip_locked}"
    )
)
_HOLD = DialectSql(
    lambda dialect: f"SELECT {PAST_EVENTS.columns()} FROM events WHERE account_id = ? AND id = ? {dialect.for_share}"
)


class EventTables:
    """Events and the deliveries that they cause, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect

    # -- written with their cause ------------------------------------------------------------------------------------

    def subscriptions(self, account_id: str) -> list[Subscription]:
        """Every endpoint of the account that is not deleted, whatever its status."""
        rows = self._connection.execute(
            "SELECT id, types, ordering FROM endpoints WHERE account_id = ? AND deleted_at IS NULL", (account_id,)
        )
        return [
            Subscription(id_, frozenset(types.split(" ")), ordered=ordering == "customer")
            for id_, types, ordering in rows
        ]

    def append(self, events: Sequence[tuple[Event, int]], *, test: bool = False) -> None:
        """Store events with the number of their deliveries; `test`: samples, which lists leave out."""
        self._connection.execute_many(
            _INSERT, [(*_EVENTS.values(event), pending, int(test)) for event, pending in events]
        )

    def enqueue(self, deliveries: Sequence[NewDelivery], now: UnixMs) -> None:
        """Store pending deliveries: due now, or behind the earlier ones of the customer where the endpoint wants order."""
        queued: set[tuple[str, str]] = set()
        self._connection.execute_many(ENQUEUE, [self._pending_values(each, now, queued) for each in deliveries])

    def _pending_values(self, delivery: NewDelivery, now: UnixMs, queued: set[tuple[str, str]]) -> tuple[object, ...]:
        event = delivery.event
        due_at: UnixMs | None = now
        if delivery.ordered and event.customer_id is not None:
            queue = (delivery.endpoint_id, event.customer_id)
            due_at = None if queue in queued or self._has_pending(*queue) else now
            queued.add(queue)
        in_order = (event.customer_id, event.sequence) if delivery.ordered else (None, None)
        return (
            delivery.delivery_id,
            event.account_id,
            delivery.endpoint_id,
            event.id,
            event.type,
            due_at,
            *in_order,
            now,
        )

    def _has_pending(self, endpoint_id: str, customer_id: str) -> bool:
        """Whether an earlier delivery of the customer's queue is pending: its end makes the next one due.

        On PostgreSQL its row is share-locked, so it is settled only after this transaction has committed, and its
        settlement sees the new delivery. A row that is being settled right now is skipped: the new delivery is due at once,
        and the claim's own check of the order holds it back for as long as needed.
        """
        return bool(self._connection.execute(_HAS_PENDING[self._dialect], (endpoint_id, customer_id)))

    # -- read again --------------------------------------------------------------------------------------------------

    def get(self, account_id: str, event_id: str) -> Event | None:
        """One event, samples included."""
        rows = self._connection.execute(f"{_SELECT} WHERE account_id = ? AND id = ?", (account_id, event_id))
        return _EVENTS.record(rows[0]) if rows else None

    def is_kept(self, account_id: str, event_id: str) -> bool:
        """Whether the event is still stored."""
        return bool(
            self._connection.execute("SELECT 1 FROM events WHERE account_id = ? AND id = ?", (account_id, event_id))
        )

    def list_after(
        self,
        account_id: str,
        after_id: str | None,
        limit: int,
        *,
        event_type: str | None = None,
        customer_id: str | None = None,
    ) -> list[Event]:
        """The next events in the order of their commits, oldest first, without samples and erased ones."""
        order = self._dialect.event_order
        clause, params = where(
            ("account_id = ?", account_id),
            "test = 0",
            "erased_at IS NULL",
            self._dialect.is_settled_event,
            (f"({order}) > (SELECT {order} FROM events WHERE id = ?)", after_id),
            ("type = ?", event_type),
            ("customer_id = ?", customer_id),
        )
        rows = self._connection.execute(f"{_SELECT} {clause} ORDER BY {order} LIMIT ?", (*params, limit))
        return _EVENTS.records(rows)

    def hold(self, account_id: str, event_id: str) -> PastEvent | None:
        """One event without its body; no other transaction erases it until this one ends."""
        rows = self._connection.execute(_HOLD[self._dialect], (account_id, event_id))
        return PAST_EVENTS.record(rows[0]) if rows else None

    def hold_unerased(self, event_ids: Sequence[str]) -> set[str]:
        """The ids among these whose event is not erased; no other transaction erases them until this one ends."""
        if not event_ids:
            return set()
        rows = self._connection.execute(
            f"SELECT id FROM events WHERE id IN ({marks(len(event_ids))}) AND erased_at IS NULL ORDER BY id"
            f" {self._dialect.for_share}",
            event_ids,
        )
        return {id_ for (id_,) in rows}
