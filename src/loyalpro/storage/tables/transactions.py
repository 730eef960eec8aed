"""Purchases. Satisfies `loyalty.ports.TransactionStore`."""

from collections.abc import Collection, Sequence
from typing import Final

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.recent_tail import RecentTail
from loyalpro.loyalty.entities import Buyer, PastOrder, Transaction
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import JSON, JSON_TUPLE, RowMapper
from loyalpro.storage.sql import flat, keys_table, marks, padded_chunks, padded_keys, where
from loyalpro.storage.tables.tails import recent_with_tail

_MAPPER: Final = RowMapper(Transaction, "transactions", codecs={"items": JSON, "metadata": JSON, "priced": JSON})
_PAST_ORDERS: Final = RowMapper(PastOrder, "transactions", codecs={"items": JSON})
_BUYERS: Final = RowMapper(Buyer, "customers", codecs={"tags": JSON_TUPLE}, columns={"enrolled_at": "created_at"})
_REFUNDED: Final = ("status", "refunded_amount", "points_clawed_back", "points_restored", "points_shortfall")
_LEFT: Final = ("status", "refunded_amount")
_UPDATE_REFUNDED: Final = (
    f"{_MAPPER.update_many('id', *_REFUNDED)} AND transactions.status = v.column{len(_REFUNDED) + 2}"
    f" AND transactions.refunded_amount = v.column{len(_REFUNDED) + 3}"
)


class TransactionTables:
    """Purchases, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, transactions: Sequence[Transaction]) -> None:
        """Store purchases."""
        self._connection.execute_many(_MAPPER.insert, [_MAPPER.values(each) for each in transactions])

    def get(self, account_id: str, transaction_id: str) -> Transaction | None:
        """One purchase."""
        found = self.select("WHERE account_id = ? AND id = ?", (account_id, transaction_id))
        return found[0] if found else None

    def by_ids(self, account_id: str, transaction_ids: Collection[str]) -> list[Transaction]:
        """These purchases, of which there is at least one."""
        found: list[Transaction] = []
        for chunk in padded_chunks(list(transaction_ids)):
            found += self.select(f"WHERE account_id || '' = ? AND id IN ({marks(len(chunk))})", (account_id, *chunk))
        return found

    def by_external_ids(self, account_id: str, external_ids: Collection[str]) -> list[Transaction]:
        """The purchases that have these external ids, of which there is at least one."""
        keys = padded_keys(account_id, external_ids)
        rows = self._connection.execute(
            f"SELECT {_MAPPER.columns('t')} {keys_table(len(keys))} transactions t"
            " WHERE t.account_id = keys.column1 AND t.external_id = keys.column2",
            flat(keys),
        )
        return _MAPPER.records(rows)

    def update_refunded(self, changes: Sequence[tuple[Transaction, Transaction]]) -> bool:
        """Store what refunds changed of purchases: each as it was read, and as it is now. False when one had changed."""
        rows = [
            (now.id, *_MAPPER.values_of(now, *_REFUNDED), *_MAPPER.values_of(read, *_LEFT)) for read, now in changes
        ]
        changed = 0
        for chunk in padded_chunks(rows):
            sql = _UPDATE_REFUNDED.format(rows=marks(len(chunk), f"({marks(len(chunk[0]))})"))
            changed += self._connection.change(sql, flat(chunk))
        return changed == len(rows)

    def list_newest(
        self, account_id: str, customer_id: str | None, external_id: str | None, before_id: str | None, limit: int
    ) -> list[Transaction]:
        """Purchases, newest first; at most one has an external id."""
        clause, params = where(
            ("account_id = ?", account_id),
            ("customer_id = ?", customer_id),
            ("external_id = ?", external_id),
            ("id < ?", before_id),
        )
        order = "" if external_id else "ORDER BY id DESC"
        return self.select(f"{clause} {order} LIMIT ?", (*params, limit))

    def recent_with_tail(self, query: RecentTail) -> list[str]:
        """The ids of the purchases that a tail names, newest first."""
        return recent_with_tail(self._connection, "transactions", "txn", query)

    def past_orders(
        self, account_id: str, after_id: str, since: UnixMs, before_id: str | None, limit: int
    ) -> list[tuple[PastOrder, Buyer]]:
        """Purchases of active customers that happened since then, newest first, without those that are refunded in full."""
        clause, params = where(
            ("t.account_id = ?", account_id),
            ("t.id > ?", after_id),
            ("t.id < ?", before_id),
            ("t.occurred_at >= ?", since),
        )
        rows = self._connection.execute(
            f"SELECT {_PAST_ORDERS.columns('t')}, {_BUYERS.columns('c')}"
            f" FROM transactions t JOIN customers c ON c.id = t.customer_id {clause}"
            " AND t.status <> 'refunded' AND c.status = 'active' AND c.earning_blocked = ? ORDER BY t.id DESC LIMIT ?",
            (*params, 0, limit),
        )
        split = [_PAST_ORDERS.split(row) for row in rows]
        return [(past, _BUYERS.record(rest)) for past, rest in split]

    def select(self, rest: str, params: Sequence[object]) -> list[Transaction]:
        """The purchases that the rest of a SELECT finds."""
        return _MAPPER.records(self._connection.execute(f"SELECT {_MAPPER.columns()} FROM transactions {rest}", params))
