"""Campaigns. Satisfies `loyalty.ports.CampaignStore`."""

from typing import Final

import msgspec

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.earning import Campaign, ItemMatch
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import JSON_TUPLE, Codec, RowMapper

_MATCH: Final = Codec(
    lambda value: msgspec.json.encode(value).decode(), lambda text: msgspec.json.decode(text, type=ItemMatch)
)
_CAMPAIGNS: Final = RowMapper(
    Campaign,
    "campaigns",
    codecs={"match": _MATCH, "tags": JSON_TUPLE, "tier_ids": JSON_TUPLE, "weekdays": JSON_TUPLE},
)


class CampaignTables:
    """Campaigns, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def during(self, account_id: str, first: UnixMs, last: UnixMs) -> list[Campaign]:
        """The active campaigns that were running at some time from `first` to `last`."""
        rows = self._connection.execute(
            f"SELECT {_CAMPAIGNS.columns()} FROM campaigns WHERE account_id = ? AND status = 'active'"
            " AND starts_at <= ? AND (ends_at IS NULL OR ends_at > ?) ORDER BY id",
            (account_id, last, first),
        )
        return _CAMPAIGNS.records(rows)
