"""Commands about rewards: what customers can have for points. And who can have one now, and why not."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from loyalpro.kernel.changes import changes_of
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import InvalidInput, NotFound
from loyalpro.kernel.record import record
from loyalpro.loyalty.customers import GetCustomer, get_customer
from loyalpro.loyalty.entities import Customer, Reward, RewardStatus, RewardType
from loyalpro.loyalty.money import minor_units
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.program import Program

FIELDS_OF_TYPE: Final[dict[RewardType, tuple[str, ...]]] = {
    "amount_off": ("amount", "currency"),
    "percent_off": ("percent",),
    "free_item": ("sku",),
    "custom": (),
}
"""What a reward of each type states. It states nothing of the other types."""

UnavailableReason = Literal[
    "not_active",
    "not_started",
    "ended",
    "tier",
    "tags",
    "limit_reached",
    "out_of_stock",
    "currency",
    "min_spend",
]


@record
class NewReward:
    """A reward to create."""

    account_id: str
    name: str
    type: RewardType
    amount: int | None
    currency: str | None
    percent: int | None
    sku: str | None
    cost_points: int
    min_spend: int | None
    tier_ids: tuple[str, ...]
    tags: tuple[str, ...]
    stock: int | None
    limit_per_customer: int | None
    starts_at: UnixMs | None
    ends_at: UnixMs | None
    status: RewardStatus


@record
class RewardRef:
    """A reward to read or to archive."""

    account_id: str
    reward_id: str


@record
class ChangeReward:
    """The fields of a reward to change, each with its new value."""

    account_id: str
    reward_id: str
    changes: dict[str, Any]


@record
class ListRewards:
    """Rewards to read, newest first, before `before_id`. `customer_id`: also whether this customer can have each."""

    account_id: str
    status: RewardStatus | None
    customer_id: str | None
    before_id: str | None
    limit: int


@record
class Order:
    """The order that a reward is for. `amount`: minor units."""

    amount: int
    currency: str


@record
class Unavailable:
    """Why a customer cannot have a reward: for programs, and in words that say what to do."""

    reason: UnavailableReason
    detail: str


@record
class Offer:
    """A reward as one customer sees it. `unavailable` None: the customer can have it. `missing`: points to be earned for it."""

    reward: Reward
    unavailable: Unavailable | None
    missing: int


def create_reward(unit: LoyaltyUnit, command: NewReward) -> Reward:
    """Store a new reward. Raises `InvalidInput` for fields that do not fit its type, and for unknown tiers."""
    reward = Reward(
        id=unit.ids.new("rew"),
        account_id=command.account_id,
        name=command.name,
        type=command.type,
        amount=command.amount,
        currency=command.currency,
        percent=command.percent,
        sku=command.sku,
        cost_points=command.cost_points,
        min_spend=command.min_spend,
        tier_ids=command.tier_ids,
        tags=command.tags,
        stock=command.stock,
        limit_per_customer=command.limit_per_customer,
        starts_at=command.starts_at,
        ends_at=command.ends_at,
        status=command.status,
        created_at=unit.now,
        updated_at=unit.now,
    )
    require_valid(reward, unit.programs.get(command.account_id))
    unit.rewards.insert(reward)
    unit.audit(command.account_id, "reward.created", reward.id, changes_of(None, reward))
    return reward


def get_reward(unit: LoyaltyUnit, command: RewardRef) -> Reward:
    """One reward, also an archived one. Raises `NotFound`."""
    return existing_reward(unit.rewards.get(command.account_id, command.reward_id), command.reward_id, param="id")


def change_reward(unit: LoyaltyUnit, command: ChangeReward) -> Reward:
    """Change fields; what was redeemed before keeps the reward as it was. Raises `NotFound` and `InvalidInput`."""
    before = existing_reward(unit.rewards.lock(command.account_id, command.reward_id), command.reward_id, param="id")
    after = replace(before, **command.changes)
    if after == before:
        return before
    require_valid(after, unit.programs.get(command.account_id))
    after = replace(after, updated_at=unit.now)
    unit.rewards.update(after)
    unit.audit(command.account_id, "reward.updated", after.id, changes_of(before, after))
    return after


def archive_reward(unit: LoyaltyUnit, command: RewardRef) -> Reward:
    """End a reward: it can be read, and not redeemed. Archiving it again changes nothing. Raises `NotFound`."""
    before = existing_reward(unit.rewards.lock(command.account_id, command.reward_id), command.reward_id, param="id")
    if before.status == "archived":
        return before
    archived = replace(before, status="archived", updated_at=unit.now)
    unit.rewards.update(archived)
    unit.audit(command.account_id, "reward.archived", archived.id, changes_of(before, archived))
    return archived


def list_rewards(unit: LoyaltyUnit, command: ListRewards) -> list[Reward] | list[Offer]:
    """Rewards, newest first; offers when a customer is named. Raises `NotFound` `customer_not_found`."""
    found = unit.rewards.list_newest(command.account_id, command.status, command.before_id, command.limit)
    if command.customer_id is None:
        return found
    customer = get_customer(unit, GetCustomer(command.account_id, command.customer_id))
    return offers(unit, found, customer)


def offers(unit: LoyaltyUnit, rewards: Sequence[Reward], customer: Customer, order: Order | None = None) -> list[Offer]:
    """These rewards as a customer sees them. Without an order, nothing is said about the money that has to be spent."""
    redeemed = unit.redemptions.counts(customer.id, [each.id for each in rewards]) if rewards else {}
    program = unit.programs.get(customer.account_id)
    return [
        Offer(
            reward=each,
            unavailable=why_not(each, customer, redeemed.get(each.id, 0), unit.now)
            or (None if order is None else why_not_for(each, order, program)),
            missing=max(0, each.cost_points - customer.balance.available),
        )
        for each in rewards
    ]


def why_not(reward: Reward, customer: Customer, redeemed: int, now: UnixMs) -> Unavailable | None:
    """Why a customer cannot have a reward now, whatever the order. `redeemed`: how many the customer has, not returned."""
    return next(_obstacles(reward, customer, redeemed, now), None)


def _obstacles(reward: Reward, customer: Customer, redeemed: int, now: UnixMs) -> Iterator[Unavailable]:
    if reward.status != "active":
        yield Unavailable("not_active", f"The reward is {reward.status}; only an active one can be redeemed.")
    if reward.starts_at is not None and now < reward.starts_at:
        yield Unavailable("not_started", f"The reward can be redeemed from {rfc3339(reward.starts_at)}.")
    if reward.ends_at is not None and reward.ends_at <= now:
        yield Unavailable("ended", f"The reward could be redeemed until {rfc3339(reward.ends_at)}.")
    if reward.tier_ids and customer.tier.id not in reward.tier_ids:
        yield Unavailable("tier", f"The reward is not for customers in the tier {customer.tier.name}.")
    if reward.tags and not set(reward.tags) & set(customer.tags):
        yield Unavailable("tags", f"The reward is for customers with one of the tags {', '.join(reward.tags)}.")
    if reward.limit_per_customer is not None and redeemed >= reward.limit_per_customer:
        yield Unavailable("limit_reached", f"The customer has redeemed it {redeemed} time(s), which is the limit.")
    if reward.stock == 0:
        yield out_of_stock()


def why_not_for(reward: Reward, order: Order | None, program: Program) -> Unavailable | None:
    """Why a reward is not for an order. Without one, a reward that asks for a minimum spend is not available."""
    currency = reward.currency or program.rules.currency
    if order is not None and (reward.currency or reward.min_spend) and order.currency != currency:
        return Unavailable("currency", f"The reward is for orders in {currency}, not in {order.currency}.")
    if reward.min_spend and (order is None or order.amount < reward.min_spend):
        spent = "send amount and currency of the order" if order is None else f"the order has {order.amount}"
        detail = f"The reward is for orders of at least {reward.min_spend} minor units of {currency}; {spent}."
        return Unavailable("min_spend", detail)
    return None


def out_of_stock() -> Unavailable:
    """No piece of a reward is left."""
    return Unavailable("out_of_stock", "No piece of the reward is left.")


def reward_not_available(unavailable: Unavailable) -> InvalidInput:
    """The error for a reward that the customer cannot have; its fact `reason` says why."""
    return InvalidInput(
        unavailable.detail, code="reward_not_available", param="reward_id", facts={"reason": unavailable.reason}
    )


def existing_reward(found: Reward | None, reward_id: str, *, param: str) -> Reward:
    """The reward that was found. Raises `NotFound`."""
    if found is None:
        raise NotFound(f"There is no reward {reward_id}.", param=param)
    return found


def require_valid(reward: Reward, program: Program) -> None:
    """Raise `InvalidInput` for fields that do not fit the type, a window without time, and tiers that do not exist."""
    own = FIELDS_OF_TYPE[reward.type]
    for name in _every_field(FIELDS_OF_TYPE.values()):
        given = getattr(reward, name) is not None
        if name in own and not given:
            raise InvalidInput(f"A reward of the type {reward.type} needs {name}.", code="missing_field", param=name)
        if given and name not in own:
            raise _invalid(name, f"A reward of the type {reward.type} has no {name}; leave it out or set it to null.")
    if reward.currency is not None:
        minor_units(reward.currency)
    if reward.starts_at is not None and reward.ends_at is not None and reward.ends_at <= reward.starts_at:
        raise _invalid("ends_at", "ends_at has to be after starts_at.")
    known = {tier.id for tier in (*program.tiers, *program.retired_tiers)}
    for number, tier_id in enumerate(reward.tier_ids):
        if tier_id not in known:
            raise InvalidInput(
                f"The program has no tier {tier_id[:64]!r}; GET /v1/program lists the tiers.",
                code="unknown_tier",
                param=f"tier_ids[{number}]",
            )


def _every_field(fields: Iterable[tuple[str, ...]]) -> list[str]:
    return [name for names in fields for name in names]


def _invalid(param: str, detail: str) -> InvalidInput:
    return InvalidInput(detail, code="invalid_field", param=param)
