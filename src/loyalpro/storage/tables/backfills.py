"""Events of the past that are owed to an endpoint after all, or once more."""

from collections.abc import Sequence
from dataclasses import dataclass

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import delivery_id
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.sql import marks
from loyalpro.storage.tables.endpoints import Endpoint
from loyalpro.storage.tables.events import OWE

# A fresh window: it counts from its next attempt, and the schedule forgets the ones before. One that was canceled while
# it is being sent is left to whoever sends it.
_RENEW = """
UPDATE deliveries SET status = 'pending', due_at = ?, customer_id = ?, sequence = ?, first_attempt_at = NULL,
    finished_at = NULL, uncounted_attempts = attempts
WHERE id = ? AND status IN ({marks}) AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.delivery_id = deliveries.id)
"""


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event that was committed some time ago. `test`: a sample. `erased`: its customer had it erased."""

    id: str
    account_id: str
    type: str
    customer_id: str | None
    sequence: int | None
    test: bool
    erased: bool


PAST_EVENT_COLUMNS = "id, account_id, type, customer_id, sequence, test, erased_at"


def past_event(row: Row) -> PastEvent:
    """The value of `PAST_EVENT_COLUMNS`."""
    id_, account_id, type_, customer_id, sequence, test, erased_at = row
    return PastEvent(id_, account_id, type_, customer_id, sequence, bool(test), erased_at is not None)


class BackfillTables:
    """Deliveries of past events, inside one transaction that holds the endpoint's row: nobody else makes the same ones."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        postgres = connection.dialect.is_postgres
        self._share = " FOR SHARE" if postgres else ""
        self._share_or_skip = " FOR SHARE SKIP LOCKED" if postgres else ""

    def event(self, account_id: str, event_id: str) -> PastEvent | None:
        """One event, samples included; nobody erases it until this transaction ends."""
        rows = self._connection.execute(
            f"SELECT {PAST_EVENT_COLUMNS} FROM events WHERE account_id = ? AND id = ?{self._share}",
            (account_id, event_id),
        )
        return past_event(rows[0]) if rows else None

    def kept(self, event_ids: Sequence[str]) -> set[str]:
        """Those of some events that are not erased; nobody erases them until this transaction ends."""
        if not event_ids:
            return set()
        rows = self._connection.execute(
            f"SELECT id FROM events WHERE id IN ({marks(len(event_ids))}) AND erased_at IS NULL ORDER BY id{self._share}",
            event_ids,
        )
        return {id_ for (id_,) in rows}

    def owe(self, event: PastEvent, endpoint: Endpoint, now: UnixMs) -> str:
        """Store a delivery that was never owed before; its id."""
        id_ = delivery_id(event.id, endpoint.id)
        place = _place(event, endpoint)
        values = (
            id_,
            event.account_id,
            endpoint.id,
            event.id,
            event.type,
            self._turn(endpoint, place, now),
            *place,
            now,
        )
        self._connection.execute(OWE, values)
        return id_

    def renew(self, statuses: Sequence[str], event: PastEvent, endpoint: Endpoint, now: UnixMs) -> bool:
        """Make a delivery that has ended as one of these due again, as if it had never been tried."""
        place = _place(event, endpoint)
        sql = _RENEW.format(marks=", ".join("?" * len(statuses)))
        values = (self._turn(endpoint, place, now), *place, delivery_id(event.id, endpoint.id), *statuses)
        return self._connection.change(sql, values) == 1

    def _turn(self, endpoint: Endpoint, place: tuple[str | None, int | None], now: UnixMs) -> UnixMs | None:
        """Now, or when the ones before it in the customer's queue have ended.

        On PostgreSQL the one before is kept from being settled until we have committed, so that whoever settles it sees
        this one behind it. If it is being settled right now, this one is due at once: claims keep the order by themselves.
        """
        customer_id, sequence = place
        if customer_id is None:
            return now
        earlier = self._connection.execute(
            "SELECT 1 FROM deliveries WHERE endpoint_id = ? AND customer_id = ? AND status = 'pending' AND sequence < ?"
            f" ORDER BY sequence DESC LIMIT 1{self._share_or_skip}",
            (endpoint.id, customer_id, sequence),
        )
        return None if earlier else now


def _place(event: PastEvent, endpoint: Endpoint) -> tuple[str | None, int | None]:
    """The customer's queue and the place in it, where the endpoint wants a customer's events in order."""
    in_order = endpoint.ordering == "customer" and not event.test
    return (event.customer_id, event.sequence) if in_order else (None, None)
