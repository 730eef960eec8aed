"""Adjustments by hand. Satisfies `loyalty.ports.AdjustmentStore`."""

from typing import Final

from loyalpro.loyalty.entities import PointsAdjustment
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import FLAG, RowMapper

_MAPPER: Final = RowMapper(PointsAdjustment, "adjustments", codecs={"counts_toward_tier": FLAG, "allow_negative": FLAG})


class AdjustmentTables:
    """Adjustments, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, adjustment: PointsAdjustment) -> bool:
        """Store an adjustment. False when another one of the account has this external id."""
        return self._connection.change(f"{_MAPPER.insert} ON CONFLICT DO NOTHING", _MAPPER.values(adjustment)) == 1

    def by_external_id(self, account_id: str, external_id: str) -> PointsAdjustment | None:
        """The adjustment that has this external id."""
        rows = self._connection.execute(
            f"SELECT {_MAPPER.columns()} FROM adjustments WHERE account_id = ? AND external_id = ?",
            (account_id, external_id),
        )
        return _MAPPER.record(rows[0]) if rows else None
