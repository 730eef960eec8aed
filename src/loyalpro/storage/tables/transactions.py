"""Purchases. Satisfies `loyalty.ports.TransactionStore`."""

from collections.abc import Collection, Sequence
from typing import Final

from loyalpro.loyalty.entities import Transaction
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import JSON, RowMapper
from loyalpro.storage.sql import flat, keys_table, padded_keys, where

_MAPPER: Final = RowMapper(Transaction, "transactions", codecs={"items": JSON, "metadata": JSON, "priced": JSON})


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

    def by_external_ids(self, account_id: str, external_ids: Collection[str]) -> list[Transaction]:
        """The purchases that have these external ids, of which there is at least one."""
        keys = padded_keys(account_id, external_ids)
        rows = self._connection.execute(
            f"SELECT {_MAPPER.columns('t')} {keys_table(len(keys))} transactions t"
            " WHERE t.account_id = keys.column1 AND t.external_id = keys.column2",
            flat(keys),
        )
        return _MAPPER.records(rows)

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

    def select(self, rest: str, params: Sequence[object]) -> list[Transaction]:
        """The purchases that the rest of a SELECT finds."""
        return _MAPPER.records(self._connection.execute(f"SELECT {_MAPPER.columns()} FROM transactions {rest}", params))
