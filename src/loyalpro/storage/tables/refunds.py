"""Refunds of purchases. Satisfies `loyalty.ports.RefundStore`."""

from collections.abc import Collection, Sequence
from typing import Final

from loyalpro.loyalty.entities import Refund
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import JSON, RowMapper
from loyalpro.storage.sql import flat, keys_table, marks, padded_chunks, padded_keys, where

_MAPPER: Final = RowMapper(Refund, "refunds", codecs={"items": JSON})


class RefundTables:
    """Refunds, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, refunds: Sequence[Refund]) -> None:
        """Store refunds."""
        self._connection.execute_many(_MAPPER.insert, [_MAPPER.values(each) for each in refunds])

    def of_transactions(self, transaction_ids: Collection[str]) -> list[Refund]:
        """All refunds of these purchases, of which there is at least one, oldest first."""
        found: list[Refund] = []
        for chunk in padded_chunks(list(transaction_ids)):
            found += self._select(f"WHERE transaction_id IN ({marks(len(chunk))})", chunk)
        return sorted(found, key=lambda each: each.id)

    def by_external_ids(self, account_id: str, external_ids: Collection[str]) -> list[Refund]:
        """The refunds that have these external ids, of which there is at least one."""
        keys = padded_keys(account_id, external_ids)
        rows = self._connection.execute(
            f"SELECT {_MAPPER.columns('r')} {keys_table(len(keys))} refunds r"
            " WHERE r.account_id = keys.column1 AND r.external_id = keys.column2",
            flat(keys),
        )
        return _MAPPER.records(rows)

    def list_newest(self, transaction_id: str, before_id: str | None, limit: int) -> list[Refund]:
        """The refunds of a purchase, newest first."""
        clause, params = where(("transaction_id = ?", transaction_id), ("id < ?", before_id))
        return self._select(f"{clause} ORDER BY id DESC LIMIT ?", (*params, limit))

    def _select(self, rest: str, params: Sequence[object]) -> list[Refund]:
        return _MAPPER.records(self._connection.execute(f"SELECT {_MAPPER.columns()} FROM refunds {rest}", params))
