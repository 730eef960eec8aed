"""Rewards and their stock. Satisfies `loyalty.ports.RewardStore`."""

from collections.abc import Mapping, Sequence
from typing import Final

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.entities import Reward
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import JSON_TUPLE, RowMapper
from loyalpro.storage.sql import where

_MAPPER: Final = RowMapper(Reward, "rewards", codecs={"tier_ids": JSON_TUPLE, "tags": JSON_TUPLE})
_CHANGING: Final = (
    *("name", "type", "amount", "currency", "percent", "sku", "cost_points", "min_spend", "tier_ids", "tags"),
    *("stock", "limit_per_customer", "starts_at", "ends_at", "status", "updated_at"),
)


class RewardTables:
    """Rewards, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, reward: Reward) -> None:
        """Store a new reward."""
        self._connection.execute(_MAPPER.insert, _MAPPER.values(reward))

    def get(self, account_id: str, reward_id: str) -> Reward | None:
        """One reward, also an archived one."""
        return self._one(account_id, reward_id, "")

    def lock(self, account_id: str, reward_id: str) -> Reward | None:
        """One reward, locked."""
        return self._one(account_id, reward_id, self._connection.dialect.for_update)

    def update(self, reward: Reward) -> None:
        """Store everything of a reward that is locked."""
        self._connection.execute(
            f"UPDATE rewards SET {_MAPPER.assignments(*_CHANGING)} WHERE id = ?",
            (*_MAPPER.values_of(reward, *_CHANGING), reward.id),
        )

    def list_newest(self, account_id: str, status: str | None, before_id: str | None, limit: int) -> list[Reward]:
        """Rewards, newest first."""
        clause, params = where(("account_id = ?", account_id), ("status = ?", status), ("id < ?", before_id))
        return self._select(f"{clause} ORDER BY id DESC LIMIT ?", (*params, limit))

    def take_from_stock(self, reward_id: str, now: UnixMs) -> bool:
        """Take one piece out of the stock of a reward that has a stock. False when none is left."""
        sql = "UPDATE rewards SET stock = stock - 1, updated_at = ? WHERE id = ? AND stock > 0"
        return self._connection.change(sql, (now, reward_id)) == 1

    def return_to_stock(self, pieces: Mapping[str, int], now: UnixMs) -> None:
        """Put pieces back into the stock of those of these rewards that have a stock, in the order of their ids."""
        self._connection.execute_many(
            "UPDATE rewards SET stock = stock + ?, updated_at = ? WHERE id = ? AND stock IS NOT NULL",
            [(count, now, reward_id) for reward_id, count in sorted(pieces.items())],
        )

    def _one(self, account_id: str, reward_id: str, lock: str) -> Reward | None:
        found = self._select(f"WHERE account_id = ? AND id = ? {lock}", (account_id, reward_id))
        return found[0] if found else None

    def _select(self, rest: str, params: Sequence[object]) -> list[Reward]:
        return _MAPPER.records(self._connection.execute(f"SELECT {_MAPPER.columns()} FROM rewards {rest}", params))
