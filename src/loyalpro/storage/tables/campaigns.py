"""Campaigns. Satisfies `loyalty.ports.CampaignStore`."""

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.earning import Campaign, ItemMatch
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import JSON_TUPLE, Codec, RowMapper
from loyalpro.storage.sql import marks, padded_chunks, padded_list, where

_MATCH: Final = Codec(
    lambda value: msgspec.json.encode(value).decode(), lambda text: msgspec.json.decode(text, type=ItemMatch)
)
_CAMPAIGNS: Final = RowMapper(
    Campaign,
    "campaigns",
    codecs={"match": _MATCH, "tags": JSON_TUPLE, "tier_ids": JSON_TUPLE, "weekdays": JSON_TUPLE},
)
_SELECT: Final = f"SELECT {_CAMPAIGNS.columns()} FROM campaigns"
_CHANGEABLE: Final = (
    *("name", "kind", "multiplier_permille", "points", "match", "min_spend", "tags", "tier_ids"),
    *("starts_at", "ends_at", "weekdays", "limit_per_customer", "status", "updated_at"),
)


class CampaignTables:
    """Campaigns, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def during(self, account_id: str, first: UnixMs, last: UnixMs) -> list[Campaign]:
        """The active campaigns that were running at some time from `first` to `last`, oldest first."""
        rows = self._connection.execute(
            f"{_SELECT} WHERE account_id = ? AND status = 'active'"
            " AND starts_at <= ? AND (ends_at IS NULL OR ends_at > ?) ORDER BY id",
            (account_id, last, first),
        )
        return _CAMPAIGNS.records(rows)

    def insert(self, campaign: Campaign) -> None:
        """Store a new campaign."""
        self._connection.execute(_CAMPAIGNS.insert, _CAMPAIGNS.values(campaign))

    def get(self, account_id: str, campaign_id: str, *, lock: bool = False) -> Campaign | None:
        """One campaign; locked, if it is to be changed."""
        for_update = self._connection.dialect.for_update if lock else ""
        rows = self._connection.execute(
            f"{_SELECT} WHERE account_id = ? AND id = ? {for_update}", (account_id, campaign_id)
        )
        return _CAMPAIGNS.record(rows[0]) if rows else None

    def list_newest(self, account_id: str, status: str | None, before_id: str | None, limit: int) -> list[Campaign]:
        """Campaigns with this status, newest first."""
        clause, params = where(("account_id = ?", account_id), ("status = ?", status), ("id < ?", before_id))
        rows = self._connection.execute(f"{_SELECT} {clause} ORDER BY id DESC LIMIT ?", (*params, limit))
        return _CAMPAIGNS.records(rows)

    def count_unarchived(self, account_id: str, most: int) -> int:
        """How many campaigns are not archived, counted up to `most`."""
        rows = self._connection.execute(
            "SELECT 1 FROM campaigns WHERE account_id = ? AND status <> 'archived' LIMIT ?", (account_id, most)
        )
        return len(rows)

    def update(self, before: Campaign, after: Campaign) -> None:
        """Store a campaign that was locked as `before`."""
        self._connection.execute(
            f"UPDATE campaigns SET {_CAMPAIGNS.assignments(*_CHANGEABLE)} WHERE id = ? AND account_id = ? AND status = ?",
            (*_CAMPAIGNS.values_of(after, *_CHANGEABLE), before.id, before.account_id, before.status),
        )

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
