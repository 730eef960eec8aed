"""`/v1/campaigns`: more points for a time, for some customers, or for some items."""

import json
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict, Field, ValidationError
from typing_extensions import TypedDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.merge_patch import merged
from loyalpro.loyalty import campaigns
from loyalpro.loyalty.earning import Campaign
from loyalpro.web.answers import CampaignId, Count, MinorUnits, Page, PointCount, TierId, Time, answers
from loyalpro.web.api.fields import Body, Cursor, Instant, Limit, LongText, ShortText, Whole, known_id, page
from loyalpro.web.api.program import MatchBody, MinSpend, Points
from loyalpro.web.auth import AccountId, Caller
from loyalpro.web.field_errors import refusal
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.web.unit import Unit

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"], route_class=StrictRoute.needing(write="program"))


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


class CampaignView(CampaignContent):
    """A campaign."""

    id: CampaignId
    created_at: Time
    updated_at: Time


Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Status = Literal["active", "paused", "archived"]
_WEEKDAYS: Final[tuple[Weekday, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


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
            weekdays=tuple(sorted({_WEEKDAYS.index(each) for each in self.weekdays})),
            limit_per_customer=self.limit_per_customer,
            status=self.status,
            created_at=0 if known is None else known.created_at,
            updated_at=0 if known is None else known.updated_at,
        )


class CampaignPatch(Body):
    """A JSON Merge Patch (RFC 7396): what is left out stays, null sets the default."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "paused"}, {"ends_at": None}]})

    name: str | None = None
    kind: str | None = None
    multiplier_permille: Whole | None = None
    points: Whole | None = None
    match: dict[str, Any] | None = None
    min_spend: Whole | None = None
    tags: list[str] | None = None
    tier_ids: list[str] | None = None
    starts_at: str | None = None
    ends_at: str | None = None
    weekdays: list[str] | None = None
    limit_per_customer: Whole | None = None
    status: str | None = None


@router.post("", status_code=201, summary="Create a campaign", responses=answers(CampaignView, 201))
async def create(request: Request, account_id: AccountId, body: CampaignBody) -> Response:
    """It counts for purchases that happen from `starts_at` (default: now) until `ends_at`."""
    command = campaigns.CreateCampaign(body.campaign(None, account_id), starts_now=body.starts_at is None)

    def work(unit: Unit) -> Reply:
        return Reply(201, _shown(campaigns.create_campaign(unit, command)))

    return await commit(request, account_id, work)


@router.get("", summary="List campaigns, newest first")
async def list_campaigns(
    account_id: AccountId,
    services: ServicesDep,
    status: Annotated[Status | None, Query()] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[CampaignView]:
    """One page of campaigns."""
    before = known_id("camp", cursor, param="cursor") if cursor else None
    query = campaigns.ListCampaigns(account_id, status, before, limit + 1)
    found = await services.runner.read(lambda unit: campaigns.list_campaigns(unit, query))
    return page([_shown(each) for each in found], limit)


@router.get("/{campaign_id}", summary="Get a campaign")
async def get(account_id: AccountId, services: ServicesDep, campaign_id: str) -> CampaignView:
    """One campaign, also an archived one."""
    query = campaigns.CampaignRef(account_id, known_id("camp", campaign_id))
    return _shown(await services.runner.read(lambda unit: campaigns.get_campaign(unit, query)))


@router.patch("/{campaign_id}", summary="Change a campaign")
async def update(
    account_id: AccountId, caller: Caller, services: ServicesDep, campaign_id: str, body: CampaignPatch
) -> CampaignView:
    """Purchases that are recorded already keep what they earned."""
    patch = {name: getattr(body, name) for name in body.model_fields_set}
    command = campaigns.ChangeCampaign(account_id, known_id("camp", campaign_id), lambda known: _patched(known, patch))
    changed = await services.runner.change(lambda unit: campaigns.change_campaign(unit, command), actor=caller.actor)
    return _shown(changed)


@router.delete("/{campaign_id}", summary="Archive a campaign")
async def archive(account_id: AccountId, caller: Caller, services: ServicesDep, campaign_id: str) -> CampaignView:
    """It counts for no further purchase. It can still be read, because ledger entries name it."""
    command = campaigns.CampaignRef(account_id, known_id("camp", campaign_id))
    archived = await services.runner.change(lambda unit: campaigns.archive_campaign(unit, command), actor=caller.actor)
    return _shown(archived)


def _patched(known: Campaign, patch: dict[str, Any]) -> Campaign:
    """The campaign after a patch. Raises `InvalidInput` that names the field."""
    document = json.loads(json.dumps(_content(known)))
    try:
        body = CampaignBody.model_validate(merged(document, patch))
    except ValidationError as error:
        raise refusal(error) from None
    return body.campaign(known, known.account_id)


def _shown(campaign: Campaign) -> CampaignView:
    return {
        "id": campaign.id,
        **_content(campaign),
        "created_at": rfc3339(campaign.created_at),
        "updated_at": rfc3339(campaign.updated_at),
    }


def _content(campaign: Campaign) -> CampaignContent:
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
        "weekdays": [_WEEKDAYS[each] for each in campaign.weekdays],
        "limit_per_customer": campaign.limit_per_customer,
        "status": campaign.status,
    }
