"""Program > Rewards: what customers can have for points, its stock, and what was redeemed."""

from functools import partial
from typing import Annotated, Any, Final, Literal, cast

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import ValidationError

from loyalpro.accounts.roles import ROLES
from loyalpro.kernel.errors import Refused
from loyalpro.kernel.ids import is_id
from loyalpro.loyalty.customer_names import customers_named
from loyalpro.loyalty.entities import Reward, RewardStatus
from loyalpro.loyalty.program import ProgramVersion
from loyalpro.loyalty.program_changes import GetProgram, get_program
from loyalpro.loyalty.redemptions import (
    ListRedemptions,
    RedemptionRef,
    ReverseRedemption,
    cancel_redemption,
    list_redemptions,
    reverse_redemption,
)
from loyalpro.loyalty.rewards import (
    FIELDS_OF_TYPE,
    ChangeReward,
    ListRewards,
    NewReward,
    RewardRef,
    archive_reward,
    change_reward,
    create_reward,
    get_reward,
    list_rewards,
)
from loyalpro.web.dashboard.amounts import (
    form_instant,
    plain_money,
    read_instant,
    read_list,
    read_money,
    read_whole,
)
from loyalpro.web.dashboard.formats import money
from loyalpro.web.dashboard.forms import Form, SentForm, blank, commit, refused
from loyalpro.web.dashboard.links import customer_names, page_of
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.documents.rewards import CreateReward, UpdateReward, with_tuples
from loyalpro.web.errors import status_of
from loyalpro.web.field_errors import refusal
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.unit import Unit

PATH: Final = "/rewards"
_NEW: Final = f"{PATH}/new"
_ONE: Final = f"{PATH}/{{reward_id}}"
_REDEMPTIONS: Final = f"{PATH}/redemptions"
_PAGE: Final = 50
_FIELDS: Final = (
    "name", "type", "amount", "percent", "sku", "cost_points", "min_spend", "tier_ids", "tags", "stock", "limit_per_customer",
    "starts_at", "ends_at", "status",
)  # fmt: skip
_TABS: Final[tuple[tuple[str, RewardStatus | None], ...]] = (
    ("Active", "active"),
    ("Drafts", "draft"),
    ("Archived", "archived"),
    ("All", None),
)

RewardId = Annotated[str, Path(max_length=64)]
Cursor = Annotated[str | None, Query(max_length=64)]

router = APIRouter(route_class=PageRoute)


@router.get(PATH, name="rewards")
async def show(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    status: Literal["active", "draft", "archived", "all"] = "active",
    before: Cursor = None,
) -> Response:
    """Rewards with one status, newest first."""
    known = before if before is not None and is_id("rew", before) else None
    query = ListRewards(visitor.account_id, None if status == "all" else status, None, known, _PAGE + 1)
    found = cast("list[Reward]", await services.runner.read(lambda unit: list_rewards(unit, query)))
    return page(
        request,
        "rewards/rewards.html",
        title="Rewards",
        rewards=found[:_PAGE],
        gives=gives,
        tabs=[(text, f"{PATH}?status={each or 'all'}", (each or "all") == status, None) for text, each in _TABS],
        newest=f"{PATH}?status={status}" if known else None,
        older=f"{PATH}?status={status}&before={found[_PAGE - 1].id}" if len(found) > _PAGE else None,
        may_change=_may_change(visitor),
    )


def gives(reward: Reward) -> str:
    """What a customer gets: `5.00 EUR off`, `10 % off`, `free: COFFEE`."""
    if reward.type == "amount_off" and reward.amount is not None and reward.currency is not None:
        return f"{money(reward.amount, reward.currency)} off"
    if reward.type == "percent_off":
        return f"{reward.percent} % off"
    return f"Free: {reward.sku}" if reward.type == "free_item" else "As its name says"


# -- redemptions -----------------------------------------------------------------------------------------------------------


@router.get(_REDEMPTIONS, name="redemptions")
async def redemptions(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    code: Annotated[str, Query(max_length=64)] = "",
    before: Cursor = None,
) -> Response:
    """What was redeemed, newest first; or the redemption with a code."""
    account_id = visitor.account_id
    known = before if before is not None and is_id("red", before) else None
    wanted = code.strip().upper() or None

    def look(unit: Unit) -> dict[str, Any]:
        query = ListRedemptions(account_id, None, None, None, wanted, known, _PAGE + 1)
        found = list_redemptions(unit, query)
        names = customers_named(unit, account_id, [each.customer_id for each in found[:_PAGE]])
        return {"redemptions": found, "customer_name": customer_names(visitor, names)}

    found = await services.runner.read(look)
    listed = found["redemptions"]
    return page(
        request,
        "rewards/redemptions.html",
        title="Redemptions",
        code=wanted or "",
        page_of=partial(page_of, request),
        form=blank(request),
        newest=_REDEMPTIONS if known else None,
        older=f"{_REDEMPTIONS}?before={listed[_PAGE - 1].id}" if len(listed) > _PAGE else None,
        may_change=_may_change(visitor),
        **found | {"redemptions": listed[:_PAGE]},
    )


@router.post(f"{_REDEMPTIONS}/{{redemption_id}}/reverse", name="redemption.reverse")
async def reverse(request: Request, visitor: Visitor, redemption_id: RewardId, form: SentForm) -> Response:
    """Give the points of a redemption back."""
    command = ReverseRedemption(visitor.account_id, redemption_id, None)
    made, _ = await commit(request, form, lambda unit: {"points": reverse_redemption(unit, command).points_returned})
    return redirect(request, _REDEMPTIONS, f"{made['points']:,} points are given back.")


@router.post(f"{_REDEMPTIONS}/{{redemption_id}}/cancel", name="redemption.cancel")
async def cancel(request: Request, visitor: Visitor, redemption_id: RewardId, form: SentForm) -> Response:
    """End a reservation, whose points come back."""
    command = RedemptionRef(visitor.account_id, redemption_id)
    made, _ = await commit(request, form, lambda unit: {"points": cancel_redemption(unit, command).points_returned})
    return redirect(request, _REDEMPTIONS, f"The reservation is canceled. {made['points']:,} points are given back.")


# -- one reward ------------------------------------------------------------------------------------------------------------


@router.get(_NEW, name="rewards.new")
async def new(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """The form of a new reward."""
    version, _ = await _look(visitor, services, None)
    return _page(request, blank(request, type="amount_off", status="active"), version, None)


@router.post(_NEW, name="rewards.create")
async def create(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """Add a reward."""
    version, _ = await _look(visitor, services, None)
    try:
        given = _checked(CreateReward, _given(form, version.rules.currency, visitor))
        command = NewReward(visitor.account_id, **given)
        made, _ = await commit(request, form, lambda unit: {"name": create_reward(unit, command).name})
    except Refused as error:
        return _page(request, refused(request, form, error, *_FIELDS), version, None, status_of(error))
    return redirect(request, PATH, f"The reward {made['name']} is added.")


@router.get(_ONE, name="reward")
async def show_reward(request: Request, visitor: Visitor, services: ServicesDep, reward_id: RewardId) -> Response:
    """The form of a reward, with its stock."""
    version, reward = await _look(visitor, services, reward_id)
    assert reward is not None
    currency = reward.currency or version.rules.currency
    form = blank(
        request,
        name=reward.name,
        type=reward.type,
        amount="" if reward.amount is None else plain_money(reward.amount, currency),
        percent=_shown(reward.percent),
        sku=reward.sku or "",
        cost_points=str(reward.cost_points),
        min_spend="" if reward.min_spend is None else plain_money(reward.min_spend, currency),
        tier_ids=list(reward.tier_ids),
        tags=", ".join(reward.tags),
        stock=_shown(reward.stock),
        limit_per_customer=_shown(reward.limit_per_customer),
        starts_at=form_instant(reward.starts_at, visitor.zone),
        ends_at=form_instant(reward.ends_at, visitor.zone),
        status=reward.status,
    )
    return _page(request, form, version, reward)


@router.post(_ONE, name="reward.change")
async def change(
    request: Request, visitor: Visitor, services: ServicesDep, reward_id: RewardId, form: SentForm
) -> Response:
    """Change a reward. What was redeemed before keeps the reward as it was."""
    version, reward = await _look(visitor, services, reward_id)
    assert reward is not None
    try:
        currency = reward.currency or version.rules.currency
        command = ChangeReward(visitor.account_id, reward.id, _checked(UpdateReward, _given(form, currency, visitor)))
        changed = await services.runner.change(lambda unit: change_reward(unit, command), actor=visitor.actor)
    except Refused as error:
        return _page(request, refused(request, form, error, *_FIELDS), version, reward, status_of(error))
    return redirect(request, PATH, f"The reward {changed.name} is saved.")


@router.post(f"{_ONE}/archive", name="reward.archive")
async def archive(request: Request, visitor: Visitor, services: ServicesDep, reward_id: RewardId) -> Response:
    """End a reward."""
    command = RewardRef(visitor.account_id, reward_id)
    archived = await services.runner.change(lambda unit: archive_reward(unit, command), actor=visitor.actor)
    return redirect(request, PATH, f"The reward {archived.name} is archived.")


def _given(form: Form, currency: str, visitor: Visit) -> dict[str, Any]:
    """The fields of a reward in a form, as `/v1/rewards` has them; those of other types are left empty."""
    kind = form.text("type")
    own = FIELDS_OF_TYPE.get(kind, ())  # type: ignore[call-overload]  # an unknown type is refused with the rest
    stated = {
        "amount": read_money(form.text("amount"), currency, "amount"),
        "currency": currency,
        "percent": read_whole(form.text("percent"), "percent"),
        "sku": form.text("sku") or None,
    }
    return {
        **{name: value if name in own else None for name, value in stated.items()},
        "name": form.text("name"),
        "type": kind,
        "cost_points": read_whole(form.text("cost_points"), "cost_points"),
        "min_spend": read_money(form.text("min_spend"), currency, "min_spend"),
        "tier_ids": form.texts("tier_ids"),
        "tags": read_list(form.raw("tags")),
        "stock": read_whole(form.text("stock"), "stock"),
        "limit_per_customer": read_whole(form.text("limit_per_customer"), "limit_per_customer"),
        "starts_at": read_instant(form.text("starts_at"), visitor.zone, "starts_at"),
        "ends_at": read_instant(form.text("ends_at"), visitor.zone, "ends_at"),
        "status": form.text("status"),
    }


def _checked(model: type[CreateReward | UpdateReward], given: dict[str, Any]) -> dict[str, Any]:
    """The fields as the commands take them. Raises `InvalidInput` that names the field."""
    try:
        # what a new reward needs, a changed one needs as well
        CreateReward.model_validate(given | {"status": "active"})
        return with_tuples(model.model_validate(given).model_dump())
    except ValidationError as error:
        raise refusal(error) from None


async def _look(visitor: Visit, services: Services, reward_id: str | None) -> tuple[ProgramVersion, Reward | None]:
    def look(unit: Unit) -> tuple[ProgramVersion, Reward | None]:
        version = get_program(unit, GetProgram(visitor.account_id))
        reward = None if reward_id is None else get_reward(unit, RewardRef(visitor.account_id, reward_id))
        return version, reward

    return await services.runner.read(look)


def _page(request: Request, form: Form, version: ProgramVersion, reward: Reward | None, status: int = 200) -> Response:
    statuses = [("active", "Active"), ("draft", "Draft: nobody can have it")]
    if reward is not None and reward.status == "archived":
        statuses.append(("archived", "Archived"))
    return page(
        request,
        "rewards/reward.html",
        title="New reward" if reward is None else reward.name,
        status=status,
        form=form,
        reward=reward,
        statuses=statuses,
        tiers=version.tiers,
        currency=(None if reward is None else reward.currency) or version.rules.currency,
        path_=_NEW if reward is None else f"{PATH}/{reward.id}",
    )


def _may_change(visitor: Visit) -> bool:
    return "rewards.change" in ROLES[visitor.member.membership.role]


def _shown(value: int | None) -> str:
    return "" if value is None else str(value)
