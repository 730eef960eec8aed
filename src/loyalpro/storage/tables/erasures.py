"""Erases the past of deleted customers, a bounded piece at a time: events, then purchases, then notes in the ledger.

Each piece is one transaction that moves a cursor, so it may stop anywhere and goes on where it was. What is being sent while
it is to be erased is waited for: the attempt would be written down with its answer afterwards.

On PostgreSQL the events of a piece are locked before their deliveries are looked at. Who makes one due once more holds the
event first, too: so either it is canceled here, or it is seen there that nothing is left to be sent.
"""

from dataclasses import dataclass

from loyalpro.events.tombstone import tombstone
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import delivery_id
from loyalpro.storage.connection import Connection
from loyalpro.storage.tables.settlements import advance

_EVENTS_AT_ONCE = 50
_ROWS_AT_ONCE = 200

_CANCEL = """
UPDATE deliveries SET status = CASE WHEN fallback_status IN ('succeeded', 'exhausted') THEN fallback_status ELSE 'canceled' END,
    outcome = 'erased', finished_at = ?, fallback_status = NULL, fallback_due_at = NULL
WHERE id >= ? AND id < ? AND status = 'pending'
RETURNING status, endpoint_id, customer_id, sequence
"""
_FORGET_ANSWERS = """
UPDATE attempts SET response_headers = NULL, response_excerpt = NULL, response_truncated = NULL
WHERE delivery_id >= ? AND delivery_id < ? AND response_status IS NOT NULL
"""
_FORGET_PURCHASES = """
UPDATE transactions SET metadata = '{}', items = '[]' WHERE id IN (
    SELECT id FROM transactions WHERE customer_id = ? AND id > ? ORDER BY id LIMIT ?)
RETURNING id
"""
_FORGET_NOTES = """
UPDATE ledger_entries SET note = NULL WHERE id IN (
    SELECT id FROM ledger_entries WHERE customer_id = ? AND note IS NOT NULL LIMIT ?)
"""


@dataclass(frozen=True, slots=True)
class Erasure:
    """How far the erasing of one customer is."""

    customer_id: str
    account_id: str
    through_sequence: int
    event_cursor: str | None
    transaction_cursor: str | None
    events: int
    canceled: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What a piece has come to: `finished` for good, or `more` to do at once; neither: something is waited for."""

    more: bool
    finished: Erasure | None = None


class ErasureTables:
    """Erasures, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        postgres = connection.dialect.is_postgres
        self._lock = " FOR UPDATE" if postgres else ""
        self._skip_locked = " FOR UPDATE SKIP LOCKED" if postgres else ""
        self._order = "transaction_id, position" if postgres else "sequence"

    def begin(self, account_id: str, customer_id: str, through_sequence: int, now: UnixMs) -> None:
        """Have everything erased that the customer's events up to this one say."""
        self._connection.execute(
            "INSERT INTO erasures (customer_id, account_id, through_sequence, created_at) VALUES (?, ?, ?, ?)",
            (customer_id, account_id, through_sequence, now),
        )

    def running(self) -> list[str]:
        """The customers that are being erased, some of them."""
        rows = self._connection.execute(
            "SELECT customer_id FROM erasures WHERE finished_at IS NULL ORDER BY customer_id LIMIT ?", (_ROWS_AT_ONCE,)
        )
        return [customer_id for (customer_id,) in rows]

    def advance(self, customer_id: str, now: UnixMs) -> Progress:
        """Erase the next piece of this customer's past, unless another process is at it."""
        rows = self._connection.execute(
            "SELECT customer_id, account_id, through_sequence, event_cursor, transaction_cursor, events, canceled"
            f" FROM erasures WHERE customer_id = ? AND finished_at IS NULL{self._skip_locked}",
            (customer_id,),
        )
        if not rows:
            return Progress(more=False)
        erasure = Erasure(*rows[0])
        found = self._events(erasure)
        if found:
            return Progress(more=self._erase_events(erasure, found, now))
        if self._forget_purchases(erasure) or self._forget_notes(erasure):
            return Progress(more=True)
        self._connection.execute("UPDATE erasures SET finished_at = ? WHERE customer_id = ?", (now, customer_id))
        return Progress(more=False, finished=erasure)

    def remove_finished(self, before: UnixMs) -> int:
        """Forget erasures that ended before this; how many."""
        return self._connection.change(
            "DELETE FROM erasures WHERE customer_id IN ("
            "SELECT customer_id FROM erasures WHERE finished_at < ? ORDER BY finished_at LIMIT ?)",
            (before, _ROWS_AT_ONCE),
        )

    def _events(self, erasure: Erasure) -> list[tuple[str, bytes]]:
        """The next events to erase. The cursor's own may have grown too old meanwhile: then it is looked for from the start."""
        cursor = erasure.event_cursor
        kept = cursor is not None and self._connection.execute("SELECT 1 FROM events WHERE id = ?", (cursor,))
        after = f"AND ({self._order}) > (SELECT {self._order} FROM events WHERE id = ?)" if kept else ""
        rows = self._connection.execute(
            f"SELECT id, body FROM events WHERE customer_id = ? AND sequence <= ? AND erased_at IS NULL {after}"
            f" ORDER BY {self._order} LIMIT ?{self._lock}",
            (erasure.customer_id, erasure.through_sequence, *((cursor,) if kept else ()), _EVENTS_AT_ONCE),
        )
        return [(id_, body) for id_, body in rows]

    def _erase_events(self, erasure: Erasure, events: list[tuple[str, bytes]], now: UnixMs) -> bool:
        """Whether all of them could be erased: not beyond the first one that is being sent."""
        done, canceled, last = 0, 0, erasure.event_cursor
        for event_id, body in events:
            if self._is_being_sent(event_id):
                break
            canceled += self._cancel(event_id, now)
            self._connection.execute(_FORGET_ANSWERS, _deliveries_of(event_id))
            self._connection.execute(
                "UPDATE events SET body = ?, erased_at = ? WHERE id = ?", (tombstone(body, now), now, event_id)
            )
            done, last = done + 1, event_id
        self._connection.execute(
            "UPDATE erasures SET event_cursor = ?, events = events + ?, canceled = canceled + ? WHERE customer_id = ?",
            (last, done, canceled, erasure.customer_id),
        )
        return done == len(events)

    def _is_being_sent(self, event_id: str) -> bool:
        """Whoever leases a delivery locks its row first: so the rows are locked here before the leases are looked at."""
        pending = f"SELECT id FROM deliveries WHERE id >= ? AND id < ? AND status = 'pending'{self._lock}"
        self._connection.execute(pending, _deliveries_of(event_id))
        leased = "SELECT 1 FROM leases WHERE delivery_id >= ? AND delivery_id < ? LIMIT 1"
        return bool(self._connection.execute(leased, _deliveries_of(event_id)))

    def _cancel(self, event_id: str, now: UnixMs) -> int:
        """Cancel what is owed of an event, and let what comes after it go; how many were canceled."""
        rows = self._connection.execute(_CANCEL, (now, *_deliveries_of(event_id)))
        advance(self._connection, [place for _, *place in rows], now)
        return sum(status == "canceled" for status, *_ in rows)

    def _forget_purchases(self, erasure: Erasure) -> bool:
        """What was bought, and what the merchant wrote beside it; amounts, times and numbers stay for the books."""
        params = (erasure.customer_id, erasure.transaction_cursor or "", _ROWS_AT_ONCE)
        rows = self._connection.execute(_FORGET_PURCHASES, params)
        if rows:
            last = max(id_ for (id_,) in rows)
            sql = "UPDATE erasures SET transaction_cursor = ? WHERE customer_id = ?"
            self._connection.execute(sql, (last, erasure.customer_id))
        return bool(rows)

    def _forget_notes(self, erasure: Erasure) -> bool:
        return self._connection.change(_FORGET_NOTES, (erasure.customer_id, _ROWS_AT_ONCE)) > 0


def _deliveries_of(event_id: str) -> tuple[str, str]:
    """The range of the ids of an event's deliveries."""
    return delivery_id(event_id, ""), delivery_id(event_id, "~")
