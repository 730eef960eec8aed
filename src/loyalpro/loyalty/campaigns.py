"""Commands about campaigns: create, change, archive and read them."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final, Literal

from loyalpro.kernel.changes import changes_of
from loyalpro.kernel.errors import Conflict, InvalidInput, NotFound
from loyalpro.kernel.record import record
from loyalpro.loyalty.earning import Campaign
from loyalpro.loyalty.ports import LoyaltyUnit

MAX_UNARCHIVED: Final = 100
"""How many campaigns may be active or paused: every purchase is compared with all that are active."""


@record
class CreateCampaign:
    """A campaign to create. Its id and times are set by the command; `starts_at` None: now."""

    campaign: Campaign
    starts_now: bool


@record
class ChangeCampaign:
    """A change of a campaign. `revise` makes of the campaign what it shall be."""

    account_id: str
    campaign_id: str
    revise: Callable[[Campaign], Campaign]


@record
class CampaignRef:
    """One campaign."""

    account_id: str
    campaign_id: str


@record
class ListCampaigns:
    """Campaigns to read, newest first: those before `before_id`, with this status."""

    account_id: str
    status: Literal["active", "paused", "archived"] | None
    before_id: str | None
    limit: int


def create_campaign(unit: LoyaltyUnit, command: CreateCampaign) -> Campaign:
    """Store a campaign. Raises `InvalidInput` that names the field, and `Conflict` `too_many_campaigns`."""
    given = command.campaign
    campaign = replace(
        given,
        id=unit.ids.new("camp"),
        starts_at=unit.now if command.starts_now else given.starts_at,
        created_at=unit.now,
        updated_at=unit.now,
    )
    _check(unit, campaign, checked_tiers=())
    unit.programs.lock(campaign.account_id)  # the number of campaigns is counted once at a time
    _require_room(unit, campaign)
    unit.campaigns.insert(campaign)
    unit.audit(campaign.account_id, "campaign.created", campaign.id, changes_of(None, campaign))
    return campaign


def change_campaign(unit: LoyaltyUnit, command: ChangeCampaign) -> Campaign:
    """Change a campaign; purchases that are recorded already keep what they earned. Raises what `create_campaign` raises."""
    unit.programs.lock(command.account_id)
    before = unit.campaigns.get(command.account_id, command.campaign_id, lock=True)
    if before is None:
        raise _unknown(command.campaign_id)
    after = command.revise(before)
    if after == before:
        return before
    after = replace(after, updated_at=unit.now)
    _check(unit, after, checked_tiers=before.tier_ids)
    if before.status == "archived":
        _require_room(unit, after)
    unit.campaigns.update(before, after)
    unit.audit(command.account_id, "campaign.changed", after.id, changes_of(before, after))
    return after


def archive_campaign(unit: LoyaltyUnit, command: CampaignRef) -> Campaign:
    """End a campaign for good; it can still be read. Raises `NotFound`."""
    return change_campaign(
        unit, ChangeCampaign(command.account_id, command.campaign_id, lambda found: replace(found, status="archived"))
    )


def get_campaign(unit: LoyaltyUnit, query: CampaignRef) -> Campaign:
    """One campaign. Raises `NotFound`."""
    found = unit.campaigns.get(query.account_id, query.campaign_id)
    if found is None:
        raise _unknown(query.campaign_id)
    return found


def list_campaigns(unit: LoyaltyUnit, query: ListCampaigns) -> list[Campaign]:
    """Campaigns, newest first."""
    return unit.campaigns.list_newest(query.account_id, query.status, query.before_id, query.limit)


def _check(unit: LoyaltyUnit, campaign: Campaign, *, checked_tiers: Collection[str]) -> None:
    """Raise `InvalidInput` for what contradicts itself. `checked_tiers`: they may have been retired since they were checked."""
    given = campaign.multiplier_permille if campaign.kind == "multiplier" else campaign.points
    other = campaign.points if campaign.kind == "multiplier" else campaign.multiplier_permille
    needed, unused = (
        ("multiplier_permille", "points") if campaign.kind == "multiplier" else ("points", "multiplier_permille")
    )
    if given is None:
        raise InvalidInput(
            f"A campaign of the kind {campaign.kind} needs {needed}.", code="missing_field", param=needed
        )
    if other is not None:
        raise _wrong(f"A campaign of the kind {campaign.kind} has no {unused}; leave it out.", unused)
    if campaign.ends_at is not None and campaign.ends_at <= campaign.starts_at:
        raise _wrong("ends_at has to be after starts_at.", "ends_at")
    known = {*checked_tiers, *(tier.id for tier in unit.programs.get(campaign.account_id).tiers)}
    for index, tier_id in enumerate(campaign.tier_ids):
        if tier_id not in known:
            raise InvalidInput(
                f"The program has no tier {tier_id[:64]}; GET /v1/program lists the tiers.",
                code="unknown_tier",
                param=f"tier_ids[{index}]",
            )


def _require_room(unit: LoyaltyUnit, campaign: Campaign) -> None:
    if (
        campaign.status != "archived"
        and unit.campaigns.count_unarchived(campaign.account_id, MAX_UNARCHIVED) >= MAX_UNARCHIVED
    ):
        raise Conflict(
            f"The account has {MAX_UNARCHIVED} campaigns that are active or paused; archive one of them first.",
            code="too_many_campaigns",
        )


def _wrong(detail: str, param: str) -> InvalidInput:
    return InvalidInput(detail, code="invalid_field", param=param)


def _unknown(campaign_id: str) -> NotFound:
    return NotFound(f"There is no campaign {campaign_id}.", param="id")
