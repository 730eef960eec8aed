"""`/v1/rewards`: what customers can have for points."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field
from typing_extensions import TypedDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.loyalty import rewards
from loyalpro.loyalty.entities import Reward, RewardStatus
from loyalpro.loyalty.rewards import Offer
from loyalpro.web.answers import Count, CurrencyCode, MinorUnits, Page, PointCount, RewardId, TierId, Time, answers
from loyalpro.web.auth import AccountId, Caller
from loyalpro.web.documents.rewards import CreateReward, UpdateReward, refuse_nulls, with_tuples
from loyalpro.web.fields import (
    Cursor,
    Limit,
    SearchText,
    known_id,
    page,
)
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.web.unit import Unit

router = APIRouter(prefix="/v1/rewards", tags=["rewards"], route_class=StrictRoute.needing(write="program"))


class RewardView(TypedDict):
    """What customers can have for points."""

    id: RewardId
    name: str
    type: str
    amount: MinorUnits | None
    currency: CurrencyCode | None
    percent: Annotated[int | None, Field(examples=[10])]
    sku: str | None
    cost_points: PointCount
    min_spend: MinorUnits | None
    tier_ids: list[TierId]
    tags: list[str]
    stock: Count | None
    limit_per_customer: Count | None
    starts_at: Time | None
    ends_at: Time | None
    status: str
    created_at: Time
    updated_at: Time


class OfferedView(TypedDict):
    """Whether a customer can have the reward now, and why not."""

    available: bool
    reason: str | None
    detail: str | None
    affordable: bool
    missing_points: PointCount


class OfferedReward(RewardView):
    """A reward as it is listed for a customer."""

    offer: OfferedView


@router.post("", status_code=201, summary="Create a reward", responses=answers(RewardView, 201))
async def create(request: Request, account_id: AccountId, body: CreateReward) -> Response:
    """Customers can have it from now on, or from `starts_at`, unless it is a draft."""
    given = body.model_dump()
    command = rewards.NewReward(account_id, **with_tuples(given))

    def work(unit: Unit) -> Reply:
        return Reply(201, reward_view(rewards.create_reward(unit, command)))

    return await commit(request, account_id, work)


@router.get("", summary="List rewards, newest first")
async def list_rewards(
    account_id: AccountId,
    services: ServicesDep,
    status: Annotated[RewardStatus | None, Query()] = None,
    customer_id: SearchText = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[RewardView | OfferedReward]:
    """One page of rewards. With `customer_id`, each has an `offer`: whether this customer can have it, and why not."""
    customer = known_id("cus", customer_id, param="customer_id") if customer_id else None
    before = known_id("rew", cursor, param="cursor") if cursor else None
    command = rewards.ListRewards(account_id, status, customer, before, limit + 1)
    found = await services.runner.read(lambda unit: rewards.list_rewards(unit, command))
    shown: list[RewardView | OfferedReward] = [
        _offer(each) if isinstance(each, Offer) else reward_view(each) for each in found
    ]
    return page(shown, limit)


@router.get("/{reward_id}", summary="Get a reward")
async def get(account_id: AccountId, services: ServicesDep, reward_id: str) -> RewardView:
    """One reward, also an archived one."""
    command = rewards.RewardRef(account_id, known_id("rew", reward_id))
    return reward_view(await services.runner.read(lambda unit: rewards.get_reward(unit, command)))


@router.patch("/{reward_id}", summary="Change a reward")
async def update(
    account_id: AccountId, caller: Caller, services: ServicesDep, reward_id: str, body: UpdateReward
) -> RewardView:
    """Redemptions that were made before keep the reward as it was."""
    given: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    refuse_nulls(given)
    command = rewards.ChangeReward(account_id, known_id("rew", reward_id), with_tuples(given))
    changed = await services.runner.change(lambda unit: rewards.change_reward(unit, command), actor=caller.actor)
    return reward_view(changed)


@router.delete("/{reward_id}", summary="Archive a reward")
async def archive(account_id: AccountId, caller: Caller, services: ServicesDep, reward_id: str) -> RewardView:
    """It cannot be redeemed from now on; what was redeemed or reserved before stays."""
    command = rewards.RewardRef(account_id, known_id("rew", reward_id))
    archived = await services.runner.change(lambda unit: rewards.archive_reward(unit, command), actor=caller.actor)
    return reward_view(archived)


def reward_view(reward: Reward) -> RewardView:
    """A reward in JSON."""
    return {
        "id": reward.id,
        "name": reward.name,
        "type": reward.type,
        "amount": reward.amount,
        "currency": reward.currency,
        "percent": reward.percent,
        "sku": reward.sku,
        "cost_points": reward.cost_points,
        "min_spend": reward.min_spend,
        "tier_ids": list(reward.tier_ids),
        "tags": list(reward.tags),
        "stock": reward.stock,
        "limit_per_customer": reward.limit_per_customer,
        "starts_at": None if reward.starts_at is None else rfc3339(reward.starts_at),
        "ends_at": None if reward.ends_at is None else rfc3339(reward.ends_at),
        "status": reward.status,
        "created_at": rfc3339(reward.created_at),
        "updated_at": rfc3339(reward.updated_at),
    }


def _offer(offer: Offer) -> OfferedReward:
    why = offer.unavailable
    return {
        **reward_view(offer.reward),
        "offer": {
            "available": why is None,
            "reason": None if why is None else why.reason,
            "detail": None if why is None else why.detail,
            "affordable": not offer.missing,
            "missing_points": offer.missing,
        },
    }
