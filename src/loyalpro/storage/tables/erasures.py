"""Erasures of deleted customers, and the rows that they erase. Satisfies `loyalty.ports.ErasureStore`.

On PostgreSQL the events of a piece are locked before their deliveries are read. A transaction that makes a delivery due again
locks its event first, too. So either the delivery is canceled here, or that transaction sees that the event is erased.
"""

from typing import Final

from loyalpro.jobs.periodic_job import BATCH_SIZE
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import delivery_id
from loyalpro.loyalty.entities import Erasure, StoredBody
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import RowMapper
from loyalpro.storage.tables.settlements import advance

_MAPPER: Final = RowMapper(Erasure, "erasures")
_PROGRESS: Final = ("event_cursor", "transaction_cursor", "events", "canceled")

_CANCEL = """
UPDATE deliveries SET status = CASE WHEN fallback_status IN ('succeeded', 'exhausted') THEN fallback_status ELSE 'canceled' END,
    outcome = 'erased', finished_at = ?, fallback_status = NULL, fallback_due_at = NULL
WHERE id >= ? AND id < ? AND status = 'pending'
RETURNING status, endpoint_id, customer_id, sequence
"""
_ERASE_RESPONSES = """
UPDATE attempts SET response_headers = NULL, response_excerpt = NULL, response_truncated = NULL, responses = NULL
WHERE delivery_id >= ? AND delivery_id < ? AND (response_status IS NOT NULL OR responses IS NOT NULL)
"""
_ERASE_PURCHASES = """
UPDATE transactions SET metadata = '{}', items = '[]', payment_fingerprint = NULL, device_id = NULL WHERE id IN (
    SELECT id FROM transactions WHERE customer_id = ? AND id > ? ORDER BY id LIMIT ?)
RETURNING id, account_id
"""
_ERASE_ORIGIN = """
UPDATE audit_log SET request_id = NULL WHERE account_id = ? AND object_id = ? AND request_id IS NOT NULL
"""
_ERASE_TEXTS = (
    """
UPDATE ledger_entries SET note = NULL WHERE id IN (
    SELECT id FROM ledger_entries WHERE customer_id = ? AND note IS NOT NULL LIMIT ?)
""",
    """
UPDATE refunds SET reason = NULL, items = '[]' WHERE id IN (
    SELECT id FROM refunds WHERE customer_id = ? AND (reason IS NOT NULL OR items <> '[]') LIMIT ?)
""",
    """
UPDATE fraud_cases SET note = NULL WHERE id IN (
    SELECT id FROM fraud_cases WHERE customer_id = ? AND note IS NOT NULL LIMIT ?)
""",
    """
UPDATE audit_log SET request_id = NULL WHERE id IN (
    SELECT a.id FROM customers c JOIN audit_log a ON a.account_id = c.account_id AND a.object_id = c.id
    WHERE c.id = ? AND a.request_id IS NOT NULL LIMIT ?)
""",
)


class ErasureTables:
    """Erasures, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect

    def insert(self, erasure: Erasure, now: UnixMs) -> None:
        """Store an erasure that is to be done."""
        self._connection.execute(
            f"INSERT INTO erasures ({_MAPPER.columns()}, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*_MAPPER.values(erasure), now),
        )

    def list_running(self, limit: int) -> list[str]:
        """The ids of customers whose erasure is not finished."""
        rows = self._connection.execute(
            "SELECT customer_id FROM erasures WHERE finished_at IS NULL ORDER BY customer_id LIMIT ?", (limit,)
        )
        return [customer_id for (customer_id,) in rows]

    def lock(self, customer_id: str) -> Erasure | None:
        """The running erasure of a customer; None when there is none, or when another transaction has locked it."""
        rows = self._connection.execute(
            f"SELECT {_MAPPER.columns()} FROM erasures WHERE customer_id = ? AND finished_at IS NULL"
            f" {self._dialect.for_update} {self._dialect.skip_locked}",
            (customer_id,),
        )
        return _MAPPER.record(rows[0]) if rows else None

    def update(self, erasure: Erasure) -> None:
        """Store cursors and counts."""
        self._connection.execute(
            f"UPDATE erasures SET {_MAPPER.assignments(*_PROGRESS)} WHERE customer_id = ?",
            (*_MAPPER.values_of(erasure, *_PROGRESS), erasure.customer_id),
        )

    def finish(self, erasure: Erasure, now: UnixMs) -> None:
        """Mark the erasure as finished."""
        self._connection.execute(
            "UPDATE erasures SET finished_at = ? WHERE customer_id = ?", (now, erasure.customer_id)
        )

    def remove_finished(self, before: UnixMs) -> int:
        """Remove erasures that finished before this instant, one batch at most; how many."""
        return self._connection.change(
            "DELETE FROM erasures WHERE customer_id IN ("
            "SELECT customer_id FROM erasures WHERE finished_at < ? ORDER BY finished_at LIMIT ?)",
            (before, BATCH_SIZE),
        )

    def next_events(self, erasure: Erasure, limit: int) -> list[StoredBody]:
        """The customer's next events to erase, locked. When the event of the cursor was removed, the search starts anew."""
        order, cursor = self._dialect.customer_event_order, erasure.event_cursor
        kept = cursor is not None and self._connection.execute("SELECT 1 FROM events WHERE id = ?", (cursor,))
        after = f"AND ({order}) > (SELECT {order} FROM events WHERE id = ?)" if kept else ""
        rows = self._connection.execute(
            f"SELECT id, body FROM events WHERE customer_id = ? AND sequence <= ? AND erased_at IS NULL {after}"
            f" ORDER BY {order} LIMIT ? {self._dialect.for_update}",
            (erasure.customer_id, erasure.through_sequence, *((cursor,) if kept else ()), limit),
        )
        return [StoredBody(id_, body) for id_, body in rows]

    def is_being_sent(self, event_id: str) -> bool:
        """Whether a delivery of the event is leased.

        A worker locks the row of a delivery before it leases it, so the rows are locked before the leases are read.
        """
        pending = (
            f"SELECT id FROM deliveries WHERE id >= ? AND id < ? AND status = 'pending' {self._dialect.for_update}"
        )
        self._connection.execute(pending, _deliveries_of(event_id))
        leased = "SELECT 1 FROM leases WHERE delivery_id >= ? AND delivery_id < ? LIMIT 1"
        return bool(self._connection.execute(leased, _deliveries_of(event_id)))

    def cancel_deliveries(self, event_id: str, now: UnixMs) -> int:
        """Cancel the pending deliveries of an event, and release the deliveries that wait behind them; return how many."""
        rows = self._connection.execute(_CANCEL, (now, *_deliveries_of(event_id)))
        advance(self._connection, [place for _, *place in rows], now)
        return sum(status == "canceled" for status, *_ in rows)

    def erase_event(self, event: StoredBody, now: UnixMs) -> None:
        """Replace the event's body by `event.body`, and erase its origin and what receivers answered to it."""
        self._connection.execute(_ERASE_RESPONSES, _deliveries_of(event.event_id))
        self._connection.execute(
            "UPDATE events SET body = ?, erased_at = ?, request_id = NULL, traceparent = NULL WHERE id = ?",
            (event.body, now, event.event_id),
        )

    def erase_purchases(self, customer_id: str, after_id: str, limit: int) -> list[str]:
        """Erase items, metadata, device and payment of the next purchases; amounts, times and external ids stay."""
        rows = self._connection.execute(_ERASE_PURCHASES, (customer_id, after_id, limit))
        self._connection.execute_many(_ERASE_ORIGIN, [(account_id, id_) for id_, account_id in rows])
        return [id_ for id_, _ in rows]

    def erase_texts(self, customer_id: str, limit: int) -> int:
        """Erase free texts, and the request ids of changes of the customer; return in how many rows.

        The texts are reasons and items of refunds, and notes in the ledger and of fraud cases.
        """
        return sum(self._connection.change(statement, (customer_id, limit)) for statement in _ERASE_TEXTS)


def _deliveries_of(event_id: str) -> tuple[str, str]:
    """The range of the ids of an event's deliveries."""
    return delivery_id(event_id, ""), delivery_id(event_id, "~")
