"""The events table: append-only, read by pollers in an order in which nothing ever appears late."""

from collections.abc import Sequence
from dataclasses import dataclass

from loyalpro.events.envelope import Event
from loyalpro.events.outbox import Owed, Subscription
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.tables.endpoints import split_types

OWE = (
    "INSERT INTO deliveries (id, account_id, endpoint_id, event_id, event_type, status, due_at, customer_id, sequence,"
    " created_at) VALUES (?, ?, ?, ?, ?, 'pending', ?, ?, ?, ?)"
)
_COLUMNS = "id, account_id, type, customer_id, sequence, created_at, body"


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What a reader of the events list asks for."""

    type: str | None = None
    customer_id: str | None = None


class EventTables:
    """Events and what they are owed, inside one transaction. Satisfies `events.outbox.EventStore`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def subscriptions(self, account_id: str) -> list[Subscription]:
        """Every endpoint of the account that is not deleted, whatever its status."""
        rows = self._connection.execute(
            "SELECT id, types, ordering FROM endpoints WHERE account_id = ? AND deleted_at IS NULL", (account_id,)
        )
        return [
            Subscription(id_, frozenset(split_types(types)), ordered=ordering == "customer")
            for id_, types, ordering in rows
        ]

    def append(self, events: Sequence[tuple[Event, int]], *, test: bool = False) -> None:
        """Store events with the number of deliveries that each is owed."""
        self._connection.execute_many(
            f"INSERT INTO events ({_COLUMNS}, owed, test) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (e.id, e.account_id, e.type, e.customer_id, e.sequence, e.created_at, e.body, owed, int(test))
                for e, owed in events
            ],
        )

    def owe(self, owed: Sequence[Owed], now: UnixMs) -> None:
        """Store deliveries, due now, or in their turn where the endpoint wants a customer's events in order."""
        behind: set[tuple[str, str]] = set()
        self._connection.execute_many(OWE, [self._owe_values(each, now, behind) for each in owed])

    def _owe_values(self, owed: Owed, now: UnixMs, behind: set[tuple[str, str]]) -> tuple[object, ...]:
        event = owed.event
        due_at: UnixMs | None = now
        if owed.ordered and event.customer_id is not None:
            queue = (owed.endpoint_id, event.customer_id)
            due_at = None if queue in behind or self._is_busy(*queue) else now
            behind.add(queue)
        in_order = (event.customer_id, event.sequence) if owed.ordered else (None, None)
        return (
            owed.delivery_id,
            event.account_id,
            owed.endpoint_id,
            event.id,
            event.type,
            due_at,
            *in_order,
            now,
        )

    def _is_busy(self, endpoint_id: str, customer_id: str) -> bool:
        """Whether an earlier event of the customer is still owed to the endpoint: then that one lets the next one go.

        On PostgreSQL its row is kept from being settled until we have committed, so that whoever settles it sees what
        comes behind it. One that is being settled right now is passed over: the new delivery is due at once, and the
        claim's own look at the order holds it back for as long as is needed.
        """
        lock = " FOR SHARE SKIP LOCKED" if self._connection.dialect.is_postgres else ""
        return bool(
            self._connection.execute(
                "SELECT 1 FROM deliveries WHERE endpoint_id = ? AND customer_id = ? AND status = 'pending'"
                f" ORDER BY sequence DESC LIMIT 1{lock}",
                (endpoint_id, customer_id),
            )
        )

    def get(self, account_id: str, event_id: str) -> Event | None:
        """One event, test events included."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM events WHERE account_id = ? AND id = ?", (account_id, event_id)
        )
        return Event(*rows[0]) if rows else None

    def is_kept(self, account_id: str, event_id: str) -> bool:
        """Whether the event is there, so that a poller can go on from it."""
        return bool(
            self._connection.execute("SELECT 1 FROM events WHERE account_id = ? AND id = ?", (account_id, event_id))
        )

    def list_after(self, account_id: str, after_id: str | None, wanted: EventFilter, limit: int) -> list[Event]:
        """The next events in the order they were committed, oldest first; `after_id` is the last one already seen.

        Erased ones are left out: whoever follows along reads what events say, and these say nothing any more.
        """
        clauses, params = ["account_id = ?", "test = 0", "erased_at IS NULL"], [account_id]
        clauses += self._settled_clause()
        if after_id is not None:
            clauses.append(f"{self._order} > (SELECT {self._order_columns} FROM events WHERE id = ?)")
            params.append(after_id)
        for column, value in (("type", wanted.type), ("customer_id", wanted.customer_id)):
            if value is not None:
                clauses.append(f"{column} = ?")
                params.append(value)
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM events WHERE {' AND '.join(clauses)} ORDER BY {self._order_columns} LIMIT ?",
            (*params, limit),
        )
        return [Event(*row) for row in rows]

    @property
    def _order_columns(self) -> str:
        return self._connection.dialect.event_order

    @property
    def _order(self) -> str:
        return f"({self._order_columns})"

    def _settled_clause(self) -> list[str]:
        """PostgreSQL gives positions out before commit, so a reader stops short of the oldest open transaction.

        Every transaction that may still commit has an id of at least `pg_snapshot_xmin`; what is below it is complete.
        `lasting_transaction_id` makes of the server's ids those in the order, wherever the database came from. SQLite has
        one writer: its positions appear in order.
        """
        if not self._connection.dialect.is_postgres:
            return []
        return ["transaction_id < lasting_transaction_id(pg_snapshot_xmin(pg_current_snapshot()))"]
