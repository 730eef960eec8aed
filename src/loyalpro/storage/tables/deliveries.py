"""The deliveries table, as events add to it and as owners read and change it.

Satisfies `webhooks.ports.DeliveryStore` and `events.outbox.NewDeliveryStore`. A change of a delivery first locks and reads its
row, or its endpoint, in the same database transaction.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from loyalpro.delivery.states import DeliveryStatus, EndpointStatus, visible_status
from loyalpro.events.envelope import Event
from loyalpro.events.outbox import NewDelivery
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import delivery_id, event_id_of, floor, forged_delivery_id
from loyalpro.kernel.recent_tail import RecentTail
from loyalpro.kernel.record import record
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.rows import RowMapper, enum
from loyalpro.storage.sql import Condition, flat, keys_table, marks, padded_keys, where
from loyalpro.storage.tables.attempts import last_attempts, list_attempts
from loyalpro.storage.tables.settlements import advance
from loyalpro.storage.tables.tails import recent_with_tail
from loyalpro.webhooks.entities import (
    Delivery,
    DeliveryFilter,
    DeliverySnapshot,
    Endpoint,
    LastAttempt,
    PastAttempt,
    PastEvent,
    Reached,
)

_ENQUEUE = (
    "INSERT INTO deliveries (id, account_id, endpoint_id, event_id, event_type, status, due_at, customer_id, sequence,"
    " created_at) VALUES (?, ?, ?, ?, ?, 'pending', ?, ?, ?, ?)"
)
_ENQUEUE_FORGED = (
    "INSERT INTO deliveries (id, account_id, endpoint_id, event_id, event_type, status, due_at, created_at, fallback_status)"
    " VALUES (?, ?, ?, ?, ?, 'pending', ?, ?, 'canceled')"
)
_HAS_PENDING = DialectSql(
    lambda dialect: (
        "SELECT 1 FROM deliveries WHERE endpoint_id = ? AND customer_id = ? AND status = 'pending'"
        f" ORDER BY sequence DESC LIMIT 1 {dialect.for_share} {dialect.skip_locked}"
    )
)
_DELIVERIES = RowMapper(
    Delivery, "deliveries", codecs={"status": enum(DeliveryStatus)}, columns={"next_attempt_at": "due_at"}
)


@record
class _LockedDelivery:
    """The columns of a delivery that decide whether its owner may move it. `sequence`: its place in the customer's queue."""

    id: str
    endpoint_id: str
    customer_id: str | None
    status: DeliveryStatus
    due_at: UnixMs | None
    fallback_status: DeliveryStatus | None
    sequence: int | None


_LOCKED = RowMapper(
    _LockedDelivery,
    "deliveries",
    codecs={"status": enum(DeliveryStatus), "fallback_status": enum(DeliveryStatus)},
)
_SELECT = f"""
SELECT {_DELIVERIES.columns("d")}, p.status, p.deleted_at FROM deliveries d JOIN endpoints p ON p.id = d.endpoint_id
"""
# A status that few deliveries have is literal, so that the partial index of such deliveries is used. Those of an endpoint that
# was just deleted are still pending here; a periodic job cancels them within seconds.
_VISIBLE_AS = {
    DeliveryStatus.PENDING: "p.deleted_at IS NULL AND p.status = 'enabled'",
    DeliveryStatus.PARKED: "p.deleted_at IS NULL AND p.status <> 'enabled'",
    DeliveryStatus.SUCCEEDED: "d.status = 'succeeded'",
}
_STORED_AS = {
    DeliveryStatus.PENDING: "d.status = 'pending'",
    DeliveryStatus.PARKED: "d.status = 'pending'",
    DeliveryStatus.CANCELED: "d.status = 'canceled'",
    DeliveryStatus.EXHAUSTED: "d.status = 'exhausted'",
}
_COUNT_EXHAUSTED = """
SELECT COUNT(*) FROM (SELECT 1 FROM deliveries d WHERE d.account_id = ? AND d.status = 'exhausted' LIMIT ?) AS counted
"""
# The two halves are those of two indexes of pending deliveries; the limit ends the count of an endpoint that is owed many.
_WAITING = """
SELECT e.id, (SELECT COUNT(*) FROM (
    SELECT 1 FROM deliveries d WHERE d.endpoint_id = e.id AND d.status = 'pending' AND d.due_at IS NOT NULL
    UNION ALL
    SELECT 1 FROM deliveries d WHERE d.endpoint_id = e.id AND d.customer_id IS NOT NULL AND d.status = 'pending'
        AND d.due_at IS NULL
    LIMIT ?) AS counted)
FROM endpoints e WHERE e.id IN ({marks})
"""
# The id of a delivery begins with what follows the prefix of its event's id.
_REACHED = """
SELECT keys.column2, COUNT(CASE WHEN d.status = 'succeeded' THEN 1 END), COUNT(*)
{keys} deliveries d
WHERE d.account_id = keys.column1 AND d.id > 'dlv_' || substr(keys.column2, 5)
    AND d.id < 'dlv_' || substr(keys.column2, 5) || '~'
GROUP BY keys.column2
"""
_OLDEST_WAITING = """
SELECT MIN(created_at) FROM (
    SELECT * FROM (SELECT d.created_at FROM deliveries d
        WHERE d.endpoint_id = ? AND d.status = 'pending' AND d.due_at IS NOT NULL ORDER BY d.due_at LIMIT ?) AS in_lane
    UNION ALL
    SELECT * FROM (SELECT d.created_at FROM deliveries d WHERE d.endpoint_id = ? AND d.customer_id IS NOT NULL
        AND d.status = 'pending' AND d.due_at IS NULL LIMIT ?) AS in_order) AS looked_at
"""
_GIVEN_UP = """
SELECT COUNT(*) FROM (
    SELECT 1 FROM deliveries WHERE endpoint_id = ? AND status = 'exhausted' AND finished_at >= ? LIMIT ?) AS counted
"""
_LOCK_DELIVERY = DialectSql(
    lambda dialect: (
        f"""
SELECT {_LOCKED.columns("d")}, p.status, p.deleted_at FROM deliveries d JOIN endpoints p ON p.id = d.endpoint_id
WHERE d.account_id = ? AND d.id = ? {dialect.for_update_of("d")}
"""
    )
)
_LOCK_EVENT = DialectSql(
    lambda dialect: (
        f"""
SELECT 1 FROM events
WHERE id = (SELECT event_id FROM deliveries WHERE account_id = ? AND id = ?) AND erased_at IS NULL
{dialect.for_share}
"""
    )
)
_LOCK_EARLIER = DialectSql(
    lambda dialect: (
        "SELECT 1 FROM deliveries WHERE endpoint_id = ? AND customer_id = ? AND status = 'pending' AND sequence < ?"
        f" ORDER BY sequence DESC LIMIT 1 {dialect.for_share} {dialect.skip_locked}"
    )
)
# The last condition makes the second of two concurrent calls change nothing.
_MAKE_DUE = """
UPDATE deliveries SET status = 'pending', due_at = ?, finished_at = NULL, fallback_status = status,
    fallback_due_at = CASE WHEN status = 'pending' THEN due_at END
WHERE id = ? AND status = ? AND fallback_status IS NULL
"""
_CANCEL = """
UPDATE deliveries SET status = ?, finished_at = ?, fallback_status = NULL, fallback_due_at = NULL
WHERE id = ? AND status = 'pending'
RETURNING endpoint_id, customer_id, sequence
"""
# The window is fresh: it begins with the next attempt, and the schedule does not count the attempts before. A delivery that
# was canceled while it is being sent keeps its lease, so the process that sends it settles it.
_RENEW = """
UPDATE deliveries SET status = 'pending', due_at = ?, customer_id = ?, sequence = ?, first_attempt_at = NULL,
    finished_at = NULL, uncounted_attempts = attempts
WHERE id = ? AND status IN ({marks}) AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.delivery_id = deliveries.id)
"""


class DeliveryTables:
    """Deliveries and attempts, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect

    # -- read --------------------------------------------------------------------------------------------------------

    def get(self, account_id: str, delivery_id: str) -> Delivery | None:
        """One delivery."""
        rows = self._connection.execute(f"{_SELECT} WHERE d.account_id = ? AND d.id = ?", (account_id, delivery_id))
        return _delivery(rows[0]) if rows else None

    def list_before(
        self,
        account_id: str,
        before_id: str | None,
        limit: int,
        wanted: DeliveryFilter,
        *,
        from_id: str | None = None,
    ) -> list[Delivery]:
        """Deliveries that match, newest first; `from_id`: none that is older than this one."""
        source, clause, params = self._search(account_id, wanted, before_id, from_id)
        rows = self._connection.execute(
            f"SELECT {_DELIVERIES.columns('d')}, p.status, p.deleted_at {source} {clause} ORDER BY {_id(wanted)} DESC LIMIT ?",
            (*params, limit),
        )
        return [_delivery(row) for row in rows]

    def count_after(
        self, account_id: str, after_id: str, wanted: DeliveryFilter, most: int, *, from_id: str | None = None
    ) -> int:
        """How many deliveries match that are newer than `after_id`, and not older than `from_id`, counted up to `most`."""
        source, clause, params = self._search(account_id, wanted, None, from_id)
        [(count,)] = self._connection.execute(
            f"SELECT COUNT(*) FROM (SELECT 1 {source} {clause} AND {_id(wanted)} > ? ORDER BY {_id(wanted)} DESC LIMIT ?) AS c",
            (*params, after_id, most),
        )
        return int(count)

    def bound(self, account_id: str, before_id: str | None, wanted: DeliveryFilter, most: int) -> str | None:
        """The oldest of the next `most` deliveries that a search has to examine; None when it comes to the end before that.

        Of one customer, it is before the deliveries of the oldest of the next `most` events.
        """
        if wanted.customer_id is None:
            source, order = "SELECT d.id FROM deliveries d", "d.id DESC"
            clause, params = where(*_walk(account_id, wanted), *_range(wanted, before_id, None))
        else:
            source, order = "SELECT e.id FROM events e", ", ".join(f"{each} DESC" for each in self._customer_order())
            clause, params = where(*self._events_of(account_id, wanted.customer_id, before_id, None))
        [(oldest, count)] = self._connection.execute(
            f"SELECT MIN(id), COUNT(*) FROM ({source} {clause} ORDER BY {order} LIMIT ?) AS examined", (*params, most)
        )
        if count < most:
            return None
        return str(oldest) if wanted.customer_id is None else _before_all(oldest)

    def _search(
        self, account_id: str, wanted: DeliveryFilter, before_id: str | None, from_id: str | None
    ) -> tuple[str, str, list[object]]:
        """`FROM` and `WHERE` of a search, and the parameters: the walk along an index, and what else has to hold."""
        if wanted.customer_id is None:
            source, walk = "deliveries d", _walk(account_id, wanted)
        else:  # the ids of deliveries begin with those of their events
            source = "events e CROSS JOIN deliveries d"
            walk = (
                *self._events_of(account_id, wanted.customer_id, before_id, from_id),
                "d.account_id = e.account_id AND d.id > 'dlv_' || substr(e.id, 5) AND d.id < 'dlv_' || substr(e.id, 5) || '~'",
            )
        clause, params = where(*walk, *_range(wanted, before_id, from_id), *_matching(wanted))
        return f"FROM {source} JOIN endpoints p ON p.id = d.endpoint_id", clause, params

    def _events_of(
        self, account_id: str, customer_id: str, before_id: str | None, from_id: str | None
    ) -> Sequence[Condition]:
        """The events of a customer, from that of the delivery `before_id` back to that of the delivery `from_id`."""
        order = ", ".join(self._customer_order())
        place = f"(SELECT {self._dialect.customer_event_order} FROM events WHERE id = ?)"
        return (
            ("e.account_id || '' = ?", account_id),  # the index is that of the customer
            ("e.customer_id = ?", customer_id),
            (f"({order}) <= {place}", before_id and event_id_of(before_id)),
            (f"({order}) >= {place}", from_id and event_id_of(from_id)),
        )

    def _customer_order(self) -> list[str]:
        return [f"e.{each}" for each in self._dialect.customer_event_order.split(", ")]

    def count_exhausted(self, account_id: str, most: int) -> int:
        """How many deliveries of an account are exhausted, counted up to `most`."""
        [(count,)] = self._connection.execute(_COUNT_EXHAUSTED, (account_id, most))
        return int(count)

    def last_attempts(self, deliveries: Sequence[Delivery]) -> dict[str, LastAttempt]:
        """The last attempt of each of these deliveries that has one, by the id of the delivery."""
        return last_attempts(self._connection, {each.id: each.attempts for each in deliveries if each.attempts})

    def waiting(self, endpoint_ids: Sequence[str], most: int) -> dict[str, int]:
        """How many deliveries of each endpoint are pending or parked, counted up to `most`."""
        if not endpoint_ids:
            return {}
        rows = self._connection.execute(_WAITING.format(marks=marks(len(endpoint_ids))), (most, *endpoint_ids))
        return {id_: int(count) for id_, count in rows}

    def recent_with_tail(self, query: RecentTail) -> list[str]:
        """The ids of the deliveries that a tail names, newest first."""
        return recent_with_tail(self._connection, "deliveries", "dlv", query)

    def reached(self, account_id: str, event_ids: Collection[str]) -> dict[str, Reached]:
        """The deliveries of each of these events; an event without a delivery is left out."""
        if not event_ids:
            return {}
        keys = padded_keys(account_id, event_ids)
        rows = self._connection.execute(_REACHED.format(keys=keys_table(len(keys))), flat(keys))
        return {id_: Reached(int(delivered), int(total)) for id_, delivered, total in rows}

    def oldest_waiting(self, endpoint_id: str, most: int) -> UnixMs | None:
        """When the oldest of the pending or parked deliveries of an endpoint was made, of the `most` that are due first."""
        [(oldest,)] = self._connection.execute(_OLDEST_WAITING, (endpoint_id, most, endpoint_id, most))
        return None if oldest is None else int(oldest)

    def given_up(self, endpoint_id: str, since: UnixMs, most: int) -> int:
        """How many deliveries of an endpoint were exhausted since an instant, counted up to `most`."""
        [(count,)] = self._connection.execute(_GIVEN_UP, (endpoint_id, since, most))
        return int(count)

    def attempts(self, delivery_id: str) -> list[PastAttempt]:
        """All attempts of a delivery, oldest first."""
        return list_attempts(self._connection, delivery_id)

    def existing(self, delivery_ids: Collection[str]) -> set[str]:
        """Those of these ids that a delivery has."""
        if not delivery_ids:
            return set()
        rows = self._connection.execute(
            f"SELECT id FROM deliveries WHERE id IN ({marks(len(delivery_ids))})", sorted(delivery_ids)
        )
        return {id_ for (id_,) in rows}

    # -- change one manually -------------------------------------------------------------------------------------------

    def lock(self, account_id: str, delivery_id: str) -> DeliverySnapshot | None:
        """The state of a delivery; no other transaction changes it, or erases its event, until this one ends.

        The event is locked first, as an erasure does. Leases are read after the row is locked: a claim locks the row before
        it inserts a lease.
        """
        event_kept = self._any(_LOCK_EVENT[self._dialect], account_id, delivery_id)
        rows = self._connection.execute(_LOCK_DELIVERY[self._dialect], (account_id, delivery_id))
        return self._snapshot(rows[0], event_kept=event_kept) if rows else None

    def make_due(self, snapshot: DeliverySnapshot, now: UnixMs) -> None:
        """Make a manual attempt due now. If it fails, the delivery returns to the state of the snapshot."""
        self._connection.execute(_MAKE_DUE, (now, snapshot.delivery_id, snapshot.status.value))

    def cancel(self, snapshot: DeliverySnapshot, now: UnixMs) -> None:
        """End a pending delivery, and make the next one of the customer's queue due."""
        canceled = self._connection.execute(_CANCEL, (snapshot.once_canceled.value, now, snapshot.delivery_id))
        advance(self._connection, canceled, now)

    def _snapshot(self, row: Row, *, event_kept: bool) -> DeliverySnapshot:
        locked, (endpoint, endpoint_deleted_at) = _LOCKED.split(row)
        return DeliverySnapshot(
            delivery_id=locked.id,
            endpoint_id=locked.endpoint_id,
            customer_id=locked.customer_id,
            status=locked.status,
            due_at=locked.due_at,
            endpoint=None if endpoint_deleted_at is not None else EndpointStatus(endpoint),
            being_sent=self._any("SELECT 1 FROM leases WHERE delivery_id = ?", locked.id),
            fallback=locked.fallback_status,
            waits_for=self._first_earlier(locked),
            event_kept=event_kept,
        )

    def _first_earlier(self, locked: _LockedDelivery) -> str | None:
        """The first pending delivery of the customer's queue before this one; None without a queue."""
        if locked.customer_id is None:
            return None
        rows = self._connection.execute(
            "SELECT id FROM deliveries WHERE endpoint_id = ? AND customer_id = ? AND status = 'pending' AND sequence < ?"
            " ORDER BY sequence LIMIT 1",
            (locked.endpoint_id, locked.customer_id, locked.sequence),
        )
        return next((id_ for (id_,) in rows), None)

    # -- new events --------------------------------------------------------------------------------------------------

    def enqueue(self, deliveries: Sequence[NewDelivery], now: UnixMs) -> None:
        """Store pending deliveries: due now, or after the earlier ones of the customer where the endpoint is ordered."""
        queued: set[tuple[str, str]] = set()
        self._connection.execute_many(_ENQUEUE, [self._pending_values(each, now, queued) for each in deliveries])

    def enqueue_forged(self, event: Event, endpoint: Endpoint, now: UnixMs) -> str:
        """Store a delivery that is signed wrongly and sent once; its id. Unless it is accepted, it ends as canceled."""
        id_ = forged_delivery_id(event.id, endpoint.id)
        params = (id_, event.account_id, endpoint.id, event.id, event.type, now, now)
        self._connection.execute(_ENQUEUE_FORGED, params)
        return id_

    def _pending_values(self, delivery: NewDelivery, now: UnixMs, queued: set[tuple[str, str]]) -> tuple[object, ...]:
        """The parameters of `_ENQUEUE`. `queued`: the customers' queues to which the same call has added a delivery."""
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
        """Whether a delivery of the customer's queue is pending: its end makes the next one due.

        On PostgreSQL its row is share-locked, so it is settled only after this transaction has committed, and its settlement
        sees the new delivery. A row that another transaction is settling is skipped: the new delivery is then due at once,
        and claims keep the order.
        """
        return bool(self._connection.execute(_HAS_PENDING[self._dialect], (endpoint_id, customer_id)))

    # -- past events -------------------------------------------------------------------------------------------------

    def enqueue_past(self, event: PastEvent, endpoint: Endpoint, now: UnixMs) -> str:
        """Store a pending delivery of an event that the endpoint has none of; its id. Needs the lock of the endpoint."""
        id_ = delivery_id(event.id, endpoint.id)
        queue = _queue(event, endpoint)
        identity = (id_, event.account_id, endpoint.id, event.id, event.type)
        self._connection.execute(_ENQUEUE, (*identity, self._due_at(endpoint, queue, now), *queue, now))
        return id_

    def renew(self, statuses: Sequence[str], event: PastEvent, endpoint: Endpoint, now: UnixMs) -> bool:
        """Make a delivery that ended in one of these states pending with a fresh window. Needs the lock of the endpoint."""
        queue = _queue(event, endpoint)
        sql = _RENEW.format(marks=marks(len(statuses)))
        id_ = delivery_id(event.id, endpoint.id)
        return self._connection.change(sql, (self._due_at(endpoint, queue, now), *queue, id_, *statuses)) == 1

    def _due_at(self, endpoint: Endpoint, queue: tuple[str | None, int | None], now: UnixMs) -> UnixMs | None:
        """Now, or None while an earlier delivery of the customer's queue is pending, whose end makes this one due.

        The lock and its reason are those of `_has_pending`.
        """
        customer_id, sequence = queue
        if customer_id is None:
            return now
        earlier = self._any(_LOCK_EARLIER[self._dialect], endpoint.id, customer_id, sequence)
        return None if earlier else now

    def _any(self, sql: str, *params: object) -> bool:
        return bool(self._connection.execute(sql, params))


def _walk(account_id: str, wanted: DeliveryFilter) -> Sequence[Condition]:
    """The conditions of the index along which a search goes.

    With `|| ''` the account of the endpoint is only compared: PostgreSQL would go along the index of the account otherwise.
    """
    if wanted.event_id is not None:
        first, last = delivery_id(wanted.event_id, ""), delivery_id(wanted.event_id, "~")
        return (("d.account_id = ?", account_id), ("d.id >= ?", first), ("d.id < ?", last))
    if wanted.status in _STORED_AS:
        return (("d.account_id = ?", account_id), _STORED_AS[wanted.status])
    if wanted.endpoint_id is not None:
        return (("d.endpoint_id = ?", wanted.endpoint_id), ("d.account_id || '' = ?", account_id))
    return (("d.account_id = ?", account_id),)


def _range(wanted: DeliveryFilter, before_id: str | None, from_id: str | None) -> Sequence[Condition]:
    """The ids between which a search goes: they sort by the time of the event."""
    id_ = _id(wanted)
    return (
        (f"{id_} < ?", before_id),
        (f"{id_} >= ?", from_id),
        (f"{id_} >= ?", None if wanted.since is None else floor("dlv", wanted.since)),
        (f"{id_} < ?", None if wanted.until is None else floor("dlv", wanted.until + 1)),
    )


def _matching(wanted: DeliveryFilter) -> Sequence[Condition]:
    """What has to hold for each delivery that a search examines."""
    return (
        ("d.endpoint_id = ?", wanted.endpoint_id),
        ("d.event_id = ?", wanted.event_id),
        ("d.event_type = ?", wanted.event_type),
        ("d.outcome = ?", wanted.outcome),
        "" if wanted.status is None else _STORED_AS.get(wanted.status, ""),
        "" if wanted.status is None else _VISIBLE_AS.get(wanted.status, ""),
    )


def _id(wanted: DeliveryFilter) -> str:
    """The id to order and to compare by. The deliveries of a customer are found by the ids of the events.

    PostgreSQL would otherwise look for them among all deliveries in the order of their ids.
    """
    return "d.id" if wanted.customer_id is None else "(d.id || '')"


def _before_all(event_id: str) -> str:
    """An id before those of all deliveries of an event, of the shape of such an id."""
    return delivery_id(event_id, "0" * 10)


def _queue(event: PastEvent, endpoint: Endpoint) -> tuple[str | None, int | None]:
    """The customer's queue and the sequence in it; None for both unless the endpoint is ordered."""
    in_order = endpoint.ordering == "customer" and not event.test
    return (event.customer_id, event.sequence) if in_order else (None, None)


def _delivery(row: Row) -> Delivery:
    """The delivery with its visible status; only a pending one has a next attempt."""
    stored, (endpoint, endpoint_deleted_at) = _DELIVERIES.split(row)
    status = visible_status(stored.status, EndpointStatus(endpoint), endpoint_deleted=endpoint_deleted_at is not None)
    due_at = stored.next_attempt_at if status is DeliveryStatus.PENDING else None
    return replace(stored, status=status, next_attempt_at=due_at)
