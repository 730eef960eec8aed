"""The events table: append-only, read by pollers in an order in which no event appears in front of one that was read.

Satisfies `events.outbox.EventStore` and `webhooks.ports.PastEventStore`.
"""

from collections.abc import Collection, Sequence

from loyalpro.events.envelope import Event
from loyalpro.kernel.ids import floor
from loyalpro.kernel.recent_tail import RecentTail
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.rows import FLAG, RowMapper
from loyalpro.storage.sql import flat, keys_table, marks, padded_keys, where
from loyalpro.webhooks.entities import PastEvent

PAST_EVENTS = RowMapper(PastEvent, "events", codecs={"test": FLAG, "imported": FLAG})
_EVENTS = RowMapper(Event, "events", codecs={"imported": FLAG})
_INSERT = f"INSERT INTO events ({_EVENTS.columns()}, owed, test) VALUES ({marks(_EVENTS.width + 2)})"
_SELECT = f"SELECT {_EVENTS.columns()} FROM events"
_OWNED = "account_id || '' = ?"
"""The account of events that are found by their customer: PostgreSQL would otherwise look for them among all of the account."""
_HOLD = DialectSql(
    lambda dialect: f"SELECT {PAST_EVENTS.columns()} FROM events WHERE account_id = ? AND id = ? {dialect.for_share}"
)


def _newest(order: str) -> str:
    """The ids of a customer's events, of which only the newest ones are looked at."""
    return (
        f"SELECT id FROM (SELECT id, type FROM events WHERE customer_id = ? ORDER BY {order} LIMIT ?) newest"
        " WHERE id BETWEEN ? AND ? AND type LIKE ?"
    )


class EventTables:
    """Events, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect

    # -- write --------------------------------------------------------------------------------------------------------

    def append(self, events: Sequence[tuple[Event, int]], *, test: bool = False) -> None:
        """Store events with the number of their deliveries; `test`: test events, which lists leave out."""
        self._connection.execute_many(
            _INSERT, [(*_EVENTS.values(event), pending, int(test)) for event, pending in events]
        )

    # -- read ---------------------------------------------------------------------------------------------------------

    def get(self, account_id: str, event_id: str) -> Event | None:
        """One event; test events are found as well."""
        rows = self._connection.execute(f"{_SELECT} WHERE account_id = ? AND id = ?", (account_id, event_id))
        return _EVENTS.record(rows[0]) if rows else None

    def customers_of(self, account_id: str, event_ids: Collection[str]) -> dict[str, str | None]:
        """The customer of each of these events that is kept; None for an event without one."""
        if not event_ids:
            return {}
        keys = padded_keys(account_id, event_ids)
        join = f"{keys_table(len(keys))} events e WHERE e.id = keys.column2 AND e.account_id = keys.column1"
        sql = f"SELECT e.id, e.customer_id {join}"
        return dict[str, str | None](self._connection.execute(sql, flat(keys)))

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
        """The next events in the order of their commits, oldest first, without test events and erased ones."""
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

    def newest(
        self,
        account_id: str,
        before_id: str | None,
        limit: int,
        most: int,
        *,
        event_type: str | None = None,
        customer_id: str | None = None,
    ) -> list[PastEvent]:
        """Events in the reverse order of their commits, those before `before_id`, without samples. `most` are looked at."""
        source, order, params = self._newest(account_id, before_id, most, customer_id)
        clause, filters = where(("type = ?", event_type))
        rows = self._connection.execute(
            f"SELECT {PAST_EVENTS.columns()} FROM ({source}) AS looked_at {clause} ORDER BY {order} LIMIT ?",
            (*params, *filters, limit),
        )
        return PAST_EVENTS.records(rows)

    def newest_bound(self, account_id: str, before_id: str | None, most: int, *, customer_id: str | None) -> str | None:
        """The oldest of the next `most` events before `before_id`; None when there are fewer."""
        source, _, params = self._newest(account_id, before_id, most, customer_id)
        [(oldest, count)] = self._connection.execute(f"SELECT MIN(id), COUNT(*) FROM ({source}) AS looked_at", params)
        return oldest if count == most else None

    def around(self, account_id: str, event_id: str, customer_id: str, most: int) -> list[PastEvent]:
        """What preceded an event of a customer, and what followed it, at most so many of each, newest first."""
        order = self._dialect.customer_event_order
        place = f"(SELECT {order} FROM events WHERE id = ?)"
        found: list[PastEvent] = []
        for sign, direction in (("<", "DESC"), (">", "ASC")):
            ordered = ", ".join(f"{column} {direction}" for column in order.split(", "))
            rows = self._connection.execute(
                f"SELECT {PAST_EVENTS.columns()} FROM events WHERE {_OWNED} AND customer_id = ?"
                f" AND ({order}) {sign} {place} ORDER BY {ordered} LIMIT ?",
                (account_id, customer_id, event_id, most),
            )
            found += PAST_EVENTS.records(rows)
        return sorted(found, key=lambda each: each.sequence or 0, reverse=True)

    def _newest(
        self, account_id: str, before_id: str | None, most: int, customer_id: str | None
    ) -> tuple[str, str, list[object]]:
        """The newest events before one, without their bodies; their order, and the parameters."""
        order = self._dialect.event_order if customer_id is None else self._dialect.customer_event_order
        descending = ", ".join(f"{column} DESC" for column in order.split(", "))
        clause, params = where(
            ("account_id = ?" if customer_id is None else _OWNED, account_id),
            ("customer_id = ?", customer_id),
            "test = 0",
            (f"({order}) < (SELECT {order} FROM events WHERE id = ?)", before_id),
        )
        columns = PAST_EVENTS.columns()
        more = "" if customer_id is not None and order == "sequence" else f", {order}"
        return f"SELECT {columns}{more} FROM events {clause} ORDER BY {descending} LIMIT ?", descending, [*params, most]

    def of_customer(
        self, account_id: str, customer_id: str, ids: tuple[str, str], limit: int, *, start: str = ""
    ) -> list[Event]:
        """A customer's events between two ids, both included, newest first, whose types begin with `start`.

        At most `limit` of the customer's newest events are looked at, without their bodies.
        """
        order = self._dialect.customer_event_order
        newest = ", ".join(f"{column} DESC" for column in order.split(", "))
        rows = self._connection.execute(
            f"{_SELECT} WHERE account_id = ? AND erased_at IS NULL AND id {self._dialect.among(_newest(newest))}",
            (account_id, customer_id, limit, *ids, f"{start}%"),
        )
        return sorted(_EVENTS.records(rows), key=lambda each: each.id, reverse=True)

    def recent_with_tail(self, query: RecentTail) -> list[str]:
        """The ids of the events that a tail names, newest first."""
        newest = ", ".join(f"{column} DESC" for column in self._dialect.event_order.split(", "))
        rows = self._connection.execute(
            "SELECT id FROM (SELECT id FROM events WHERE account_id = ? AND test = 0"
            f" ORDER BY {newest} LIMIT ?) newest WHERE id >= ? AND id LIKE ? ORDER BY id DESC",
            (query.account_id, query.most, floor("evt", query.since), f"%{query.tail}"),
        )
        return [id_ for (id_,) in rows]

    def hold(self, account_id: str, event_id: str) -> PastEvent | None:
        """One event without its body; no other transaction erases it until this one ends."""
        rows = self._connection.execute(_HOLD[self._dialect], (account_id, event_id))
        return PAST_EVENTS.record(rows[0]) if rows else None

    def hold_unerased(self, event_ids: Sequence[str]) -> set[str]:
        """Those of these ids whose event is not erased; no other transaction erases these events until this one ends."""
        if not event_ids:
            return set()
        rows = self._connection.execute(
            f"SELECT id FROM events WHERE id IN ({marks(len(event_ids))}) AND erased_at IS NULL ORDER BY id"
            f" {self._dialect.for_share}",
            event_ids,
        )
        return {id_ for (id_,) in rows}
