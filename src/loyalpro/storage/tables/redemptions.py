"""Redemptions. Satisfies `loyalty.ports.RedemptionStore`."""

from collections.abc import Collection, Sequence
from typing import Final

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import LockTaken
from loyalpro.loyalty.entities import Redemption
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import JSON, RowMapper
from loyalpro.storage.sql import FIRST, flat, keys_table, marks, padded_chunks, padded_keys, padded_list, where

_MAPPER: Final = RowMapper(Redemption, "redemptions", codecs={"reward": JSON})
_CHANGING: Final = ("status", "transaction_id", "captured_at", "ended_at", "points_returned")
_LEAVING: Final = ("customer_id", "status", "points_returned")
_UPDATE: Final = f"{_MAPPER.update_many('id', *_CHANGING)} AND " + " AND ".join(
    f"redemptions.{name} = v.column{number}" for number, name in enumerate(_LEAVING, 2 + len(_CHANGING))
)
_CHUNK: Final = 256

Change = tuple[Redemption, Redemption]
"""A redemption as it is stored, and as it becomes."""


class RedemptionTables:
    """Redemptions, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, redemption: Redemption) -> bool:
        """Store a redemption. False when another one of the account has this external id."""
        return self._connection.change(f"{_MAPPER.insert} ON CONFLICT DO NOTHING", _MAPPER.values(redemption)) == 1

    def get(self, account_id: str, redemption_id: str) -> Redemption | None:
        """One redemption."""
        found = self.by_ids(account_id, [redemption_id])
        return found[0] if found else None

    def by_ids(self, account_id: str, redemption_ids: Collection[str]) -> list[Redemption]:
        """These redemptions, of which there is at least one, in the order of their ids."""
        return [each for each in self._by_key("id", redemption_ids) if each.account_id == account_id]

    def by_external_id(self, account_id: str, external_id: str) -> Redemption | None:
        """The redemption that has this external id."""
        found = self._select("WHERE account_id = ? AND external_id = ?", (account_id, external_id))
        return found[0] if found else None

    def of_transactions(self, transaction_ids: Collection[str]) -> list[Redemption]:
        """The redemptions that are linked to these purchases, of which there is at least one, in the order of their ids."""
        return self._by_key("transaction_id", transaction_ids)

    def reserved_of(self, customer_ids: Collection[str]) -> list[Redemption]:
        """The reservations of these customers, of which there is at least one, in the order of their ids."""
        return self._by_key("customer_id", customer_ids, "AND status = 'reserved'")

    def overdue(self, now: UnixMs, after: tuple[UnixMs, str] | None, limit: int) -> list[tuple[str, str, UnixMs]]:
        """Account, id and `reserved_until` of reservations whose time has passed, by it and the id: those after such a pair."""
        return self._connection.execute(
            "SELECT account_id, id, reserved_until FROM redemptions WHERE status = 'reserved' AND reserved_until <= ?"
            " AND (reserved_until, id) > (?, ?) ORDER BY reserved_until, id LIMIT ?",
            (now, *(after or FIRST), limit),
        )

    def counts(self, customer_id: str, reward_ids: Collection[str]) -> dict[str, int]:
        """How many redemptions a customer has, not returned, of each of these rewards, of which there is at least one."""
        found: dict[str, int] = {}
        for chunk in padded_chunks(list(reward_ids)):
            rows = self._connection.execute(
                "SELECT reward_id, COUNT(*) FROM redemptions WHERE customer_id = ? AND status IN ('reserved', 'redeemed')"
                f" AND reward_id IN ({marks(len(chunk))}) GROUP BY reward_id",
                (customer_id, *chunk),
            )
            found |= dict(rows)
        return found

    def codes_in_use(self, account_id: str, codes: Collection[str]) -> set[str]:
        """Those of these codes, of which there is at least one, that a redemption has."""
        keys = padded_keys(account_id, codes)
        rows = self._connection.execute(
            f"SELECT DISTINCT r.code {keys_table(len(keys))} redemptions r"
            " WHERE r.account_id = keys.column1 AND r.code = keys.column2",
            flat(keys),
        )
        return {code for (code,) in rows}

    def update(self, changes: Sequence[Change]) -> None:
        """Store what becomes of redemptions, each found as it is before. Raises `LockTaken` when one is not as it was."""
        for start in range(0, len(changes), _CHUNK):
            rows = padded_list([_row(*each) for each in changes[start : start + _CHUNK]])
            sql = _UPDATE.format(rows=marks(len(rows), f"({marks(len(rows[0]))})"))
            if self._connection.change(sql, flat(rows)) != len(set(rows)):
                raise LockTaken(
                    "A redemption is being changed by another request; nothing was changed. Repeat it soon."
                )

    def list_newest(
        self,
        account_id: str,
        before_id: str | None,
        limit: int,
        *,
        customer_id: str | None = None,
        transaction_id: str | None = None,
        external_id: str | None = None,
        code: str | None = None,
    ) -> list[Redemption]:
        """Redemptions that match every filter, newest first; at most one has an external id."""
        clause, params = where(
            ("account_id = ?", account_id),
            ("customer_id = ?", customer_id),
            ("transaction_id = ?", transaction_id),
            ("external_id = ?", external_id),
            ("code = ?", code),
            ("id < ?", before_id),
        )
        order = "" if external_id else "ORDER BY id DESC"
        return self._select(f"{clause} {order} LIMIT ?", (*params, limit))

    def _by_key(self, column: str, keys: Collection[str], condition: str = "") -> list[Redemption]:
        found: list[Redemption] = []
        for chunk in padded_chunks(list(keys)):
            found += self._select(f"WHERE {column} IN ({marks(len(chunk))}) {condition}", chunk)
        return sorted(found, key=lambda redemption: redemption.id)

    def _select(self, rest: str, params: Sequence[object]) -> list[Redemption]:
        return _MAPPER.records(self._connection.execute(f"SELECT {_MAPPER.columns()} FROM redemptions {rest}", params))


def _row(before: Redemption, after: Redemption) -> tuple[object, ...]:
    return (before.id, *_MAPPER.values_of(after, *_CHANGING), *_MAPPER.values_of(before, *_LEAVING))
