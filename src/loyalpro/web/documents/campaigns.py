"""A campaign as a document: what the calls of `/v1/campaigns` and the forms of the dashboard state, checked in one place."""

import json
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, ValidationError
from typing_extensions import TypedDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.merge_patch import merged
from loyalpro.loyalty.earning import Campaign
from loyalpro.web.answers import Count, MinorUnits, PointCount, TierId, Time
from loyalpro.web.documents.program import MatchBody, MinSpend, Points
from loyalpro.web.field_errors import refusal
from loyalpro.web.fields import Body, Instant, LongText, ShortText, Whole


class MatchView(TypedDict):
    """Items by SKU or category."""

    skus: list[str]
    categories: list[str]


class CampaignContent(TypedDict):
    """What a patch of a campaign can change."""

    name: str
    kind: str
    multiplier_permille: Annotated[int | None, Field(examples=[2000])]
    points: PointCount | None
    match: MatchView | None
    min_spend: MinorUnits | None
    tags: list[str]
    tier_ids: list[TierId]
    starts_at: Time
    ends_at: Time | None
    weekdays: list[str]
    limit_per_customer: Count | None
    status: str


Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Status = Literal["active", "paused", "archived"]
WEEKDAY_NAMES: Final[tuple[Weekday, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class CampaignBody(Body):
    """A campaign: `multiplier` needs `multiplier_permille`, `bonus` needs `points`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Double points on weekends",
                    "kind": "multiplier",
                    "multiplier_permille": 2_000,
                    "weekdays": ["sat", "sun"],
                    "ends_at": "2027-01-01T00:00:00Z",
                },
                {"name": "Welcome", "kind": "bonus", "points": 100, "min_spend": 5_000, "limit_per_customer": 1},
            ]
        }
    )

    name: LongText
    kind: Literal["multiplier", "bonus"]
    multiplier_permille: (
        Annotated[Whole, Field(ge=1_001, le=100_000, description="2000 is twice the points.")] | None
    ) = None
    points: Points | None = None
    match: MatchBody | None = None
    min_spend: MinSpend | None = None
    tags: Annotated[list[ShortText], Field(max_length=50)] = Field(default_factory=list)
    tier_ids: Annotated[list[ShortText], Field(max_length=20)] = Field(default_factory=list)
    starts_at: Instant | None = None
    ends_at: Instant | None = None
    weekdays: Annotated[list[Weekday], Field(max_length=7, description="In the program's time zone.")] = Field(
        default_factory=list
    )
    limit_per_customer: Annotated[Whole, Field(ge=1, le=10**6)] | None = None
    status: Status = "active"

    def campaign(self, known: Campaign | None, account_id: str) -> Campaign:
        """The campaign; it keeps the id and the times of the one that is `known`, if they are not stated."""
        begins = 0 if known is None else known.starts_at
        return Campaign(
            id="" if known is None else known.id,
            account_id=account_id,
            name=self.name,
            kind=self.kind,
            multiplier_permille=self.multiplier_permille,
            points=self.points,
            match=None if self.match is None else self.match.match(),
            min_spend=self.min_spend,
            tags=tuple(self.tags),
            tier_ids=tuple(self.tier_ids),
            starts_at=begins if self.starts_at is None else self.starts_at,
            ends_at=self.ends_at,
            weekdays=tuple(sorted({WEEKDAY_NAMES.index(each) for each in self.weekdays})),
            limit_per_customer=self.limit_per_customer,
            status=self.status,
            created_at=0 if known is None else known.created_at,
            updated_at=0 if known is None else known.updated_at,
        )


def patched_campaign(known: Campaign, patch: dict[str, Any]) -> Campaign:
    """The campaign after a patch. Raises `InvalidInput` that names the field."""
    document = json.loads(json.dumps(campaign_content(known)))
    try:
        body = CampaignBody.model_validate(merged(document, patch))
    except ValidationError as error:
        raise refusal(error) from None
    return body.campaign(known, known.account_id)


def campaign_content(campaign: Campaign) -> CampaignContent:
    """What a patch can change."""
    match = campaign.match
    return {
        "name": campaign.name,
        "kind": campaign.kind,
        "multiplier_permille": campaign.multiplier_permille,
        "points": campaign.points,
        "match": None if match is None else {"skus": list(match.skus), "categories": list(match.categories)},
        "min_spend": campaign.min_spend,
        "tags": list(campaign.tags),
        "tier_ids": list(campaign.tier_ids),
        "starts_at": rfc3339(campaign.starts_at),
        "ends_at": None if campaign.ends_at is None else rfc3339(campaign.ends_at),
        "weekdays": [WEEKDAY_NAMES[each] for each in campaign.weekdays],
        "limit_per_customer": campaign.limit_per_customer,
        "status": campaign.status,
    }
