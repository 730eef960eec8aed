"""`/v1/campaigns`: more points for a time, for some customers, or for some items."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.loyalty import campaigns
from loyalpro.loyalty.earning import Campaign
from loyalpro.web.answers import CampaignId, Page, Time, answers
from loyalpro.web.auth import AccountId, Caller
from loyalpro.web.documents.campaigns import CampaignBody, CampaignContent, Status, campaign_content, patched_campaign
from loyalpro.web.fields import Body, Cursor, Limit, Whole, known_id, page
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.web.unit import Unit

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"], route_class=StrictRoute.needing(write="program"))


class CampaignView(CampaignContent):
    """A campaign."""

    id: CampaignId
    created_at: Time
    updated_at: Time


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
    command = campaigns.ChangeCampaign(
        account_id, known_id("camp", campaign_id), lambda known: patched_campaign(known, patch)
    )
    changed = await services.runner.change(lambda unit: campaigns.change_campaign(unit, command), actor=caller.actor)
    return _shown(changed)


@router.delete("/{campaign_id}", summary="Archive a campaign")
async def archive(account_id: AccountId, caller: Caller, services: ServicesDep, campaign_id: str) -> CampaignView:
    """It counts for no further purchase. It can still be read, because ledger entries name it."""
    command = campaigns.CampaignRef(account_id, known_id("camp", campaign_id))
    archived = await services.runner.change(lambda unit: campaigns.archive_campaign(unit, command), actor=caller.actor)
    return _shown(archived)


def _shown(campaign: Campaign) -> CampaignView:
    return {
        "id": campaign.id,
        **campaign_content(campaign),
        "created_at": rfc3339(campaign.created_at),
        "updated_at": rfc3339(campaign.updated_at),
    }
