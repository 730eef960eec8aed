"""Campaigns that tests begin with."""

from typing import Any

from loyalpro.loyalty.earning import Campaign


def new_campaign(account_id: str = "acct_1", **changes: Any) -> Campaign:
    """An active campaign for every purchase since 1970: twice the points, or the bonus that `points` says."""
    fields: dict[str, Any] = {
        "id": "camp_1",
        "account_id": account_id,
        "name": "double",
        "kind": "bonus" if "points" in changes else "multiplier",
        "multiplier_permille": None if "points" in changes else 2_000,
        "points": None,
        "match": None,
        "min_spend": None,
        "tags": (),
        "tier_ids": (),
        "starts_at": 0,
        "ends_at": None,
        "weekdays": (),
        "limit_per_customer": None,
        "status": "active",
        "created_at": 0,
        "updated_at": 0,
    }
    return Campaign(**fields | changes)
