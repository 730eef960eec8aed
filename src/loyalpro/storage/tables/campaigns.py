"""Campaigns. Satisfies `loyalty.ports.CampaignStore`."""

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.earning import Campaign, ItemMatch
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import JSON_TUPLE, Codec, RowMapper
from loyalpro.storage.sql import marks, padded_chunks, padded_list

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

    def uses(self, customer_ids: Collection[str], campaign_ids: Collection[str]) -> dict[str, dict[str, int]]:
        """How often each of these customers has used each of these campaigns. There is at least one of both."""
        campaigns = padded_list(campaign_ids)
        found: dict[str, dict[str, int]] = {}
        for customers in padded_chunks(list(customer_ids)):
            rows = self._connection.execute(
                "SELECT customer_id, campaign_id, uses FROM campaign_uses"
                f" WHERE campaign_id IN ({marks(len(campaigns))}) AND customer_id IN ({marks(len(customers))})",
                (*campaigns, *customers),
            )
            for customer_id, campaign_id, uses in rows:
                found.setdefault(customer_id, {})[campaign_id] = uses
        return found

    def add_uses(self, added: Mapping[tuple[str, str], int]) -> None:
        """Count uses, by campaign and customer."""
        self._connection.execute_many(
            "INSERT INTO campaign_uses (campaign_id, customer_id, uses) VALUES (?, ?, ?)"
            " ON CONFLICT (campaign_id, customer_id) DO UPDATE SET uses = campaign_uses.uses + excluded.uses",
            [(campaign_id, customer_id, uses) for (campaign_id, customer_id), uses in sorted(added.items())],
        )
