"""Program > Rules and tiers: the campaigns, which give more points for a time."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import ValidationError

from loyalpro.kernel.errors import NotFound, Refused
from loyalpro.loyalty.campaigns import (
    CampaignRef,
    ChangeCampaign,
    CreateCampaign,
    archive_campaign,
    change_campaign,
    create_campaign,
    get_campaign,
)
from loyalpro.loyalty.earning import Campaign
from loyalpro.loyalty.program import ProgramVersion
from loyalpro.loyalty.program_changes import GetProgram, get_program
from loyalpro.web.dashboard.forms import Form, SentForm, commit, refused
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.rule_forms import CAMPAIGN_FIELDS, campaign_form, campaign_of
from loyalpro.web.dashboard.rule_words import WEEKDAYS
from loyalpro.web.dashboard.toasts import Toast
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.documents.campaigns import WEEKDAY_NAMES, CampaignBody, patched_campaign
from loyalpro.web.errors import status_of
from loyalpro.web.field_errors import refusal
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.unit import Unit

_RULES: Final = "/rules"
_PATH: Final = "/rules/campaigns"
_NEW: Final = f"{_PATH}/new"
_ONE: Final = f"{_PATH}/{{campaign_id}}"

CampaignId = Annotated[str, Path(max_length=64)]

router = APIRouter(route_class=PageRoute)


@router.get(_NEW, name="campaigns.new")
async def new(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """The form of a new campaign."""
    version, _ = await _look(visitor, services, None)
    return _page(request, campaign_form(request, None, version.rules.currency, visitor.zone), version, None)


@router.post(_NEW, name="campaigns.create")
async def create(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """Add a campaign."""
    version, _ = await _look(visitor, services, None)

    try:
        body = _body(campaign_of(form, version.rules.currency, visitor.zone))
        command = CreateCampaign(body.campaign(None, visitor.account_id), starts_now=body.starts_at is None)
        made, _ = await commit(request, form, lambda unit: {"name": create_campaign(unit, command).name})
    except Refused as error:
        return _page(request, refused(request, form, error, *CAMPAIGN_FIELDS), version, None, status_of(error))
    return redirect(request, _RULES, f"The campaign {made['name']} is added.")


@router.get(_ONE, name="campaign")
async def show(request: Request, visitor: Visitor, services: ServicesDep, campaign_id: CampaignId) -> Response:
    """The form of a campaign."""
    version, campaign = await _look(visitor, services, campaign_id)
    return _page(request, campaign_form(request, campaign, version.rules.currency, visitor.zone), version, campaign)


@router.post(_ONE, name="campaign.change")
async def save(
    request: Request, visitor: Visitor, services: ServicesDep, campaign_id: CampaignId, form: SentForm
) -> Response:
    """Change a campaign."""
    version, campaign = await _look(visitor, services, campaign_id)
    try:
        patch = {
            name: value
            for name, value in campaign_of(form, version.rules.currency, visitor.zone).items()
            if value is not None or name != "starts_at"
        }
        changed = await _changed(
            visitor, services, campaign_id, lambda known: patched_campaign(known, _named_days(patch))
        )
    except Refused as error:
        return _page(request, refused(request, form, error, *CAMPAIGN_FIELDS), version, campaign, status_of(error))
    return redirect(request, _RULES, f"The campaign {changed.name} is saved.")


@router.post(f"{_ONE}/pause", name="campaign.pause")
async def pause(request: Request, visitor: Visitor, services: ServicesDep, campaign_id: CampaignId) -> Response:
    """Let a campaign count for no purchase for now."""
    paused = await _put(visitor, services, campaign_id, "paused")
    undo = f"{_PATH}/{campaign_id}/resume"
    return redirect(request, _RULES, Toast(f"The campaign {paused.name} is paused.", undo))


@router.post(f"{_ONE}/resume", name="campaign.resume")
async def resume(request: Request, visitor: Visitor, services: ServicesDep, campaign_id: CampaignId) -> Response:
    """Let a campaign count again."""
    resumed = await _put(visitor, services, campaign_id, "active")
    return redirect(request, _RULES, f"The campaign {resumed.name} is active.")


@router.post(f"{_ONE}/archive", name="campaign.archive")
async def archive(request: Request, visitor: Visitor, services: ServicesDep, campaign_id: CampaignId) -> Response:
    """End a campaign for good."""
    command = CampaignRef(visitor.account_id, campaign_id)
    archived = await services.runner.change(lambda unit: archive_campaign(unit, command), actor=visitor.actor)
    return redirect(request, _RULES, f"The campaign {archived.name} is archived.")


async def _put(visitor: Visit, services: Services, campaign_id: str, status: Literal["active", "paused"]) -> Campaign:
    """A campaign with another status. One that is archived is over."""

    def revise(known: Campaign) -> Campaign:
        if known.status == "archived":
            raise NotFound("The campaign is archived.")
        return replace(known, status=status)

    return await _changed(visitor, services, campaign_id, revise)


async def _changed(
    visitor: Visit, services: Services, campaign_id: str, revise: Callable[[Campaign], Campaign]
) -> Campaign:
    command = ChangeCampaign(visitor.account_id, campaign_id, revise)
    return await services.runner.change(lambda unit: change_campaign(unit, command), actor=visitor.actor)


def _body(given: dict[str, Any]) -> CampaignBody:
    try:
        return CampaignBody.model_validate(_named_days(given))
    except ValidationError as error:
        raise refusal(error) from None


def _named_days(given: dict[str, Any]) -> dict[str, Any]:
    """The fields with the names that calls give to weekdays; the form numbers them."""
    days = dict(zip(map(str, range(len(WEEKDAY_NAMES))), WEEKDAY_NAMES, strict=True))
    return given | {"weekdays": [days.get(each, each) for each in given["weekdays"]]}


async def _look(visitor: Visit, services: Services, campaign_id: str | None) -> tuple[ProgramVersion, Campaign | None]:
    def look(unit: Unit) -> tuple[ProgramVersion, Campaign | None]:
        version = get_program(unit, GetProgram(visitor.account_id))
        known = None if campaign_id is None else get_campaign(unit, CampaignRef(visitor.account_id, campaign_id))
        return version, known

    return await services.runner.read(look)


def _page(
    request: Request, form: Form, version: ProgramVersion, campaign: Campaign | None, status: int = 200
) -> Response:
    return page(
        request,
        "rules/campaign.html",
        title="New campaign" if campaign is None else campaign.name,
        status=status,
        form=form,
        campaign=campaign,
        currency=version.rules.currency,
        tiers=version.tiers,
        weekdays=[(str(number), name) for number, name in enumerate(WEEKDAYS)],
        path_=_NEW if campaign is None else f"{_PATH}/{campaign.id}",
    )
