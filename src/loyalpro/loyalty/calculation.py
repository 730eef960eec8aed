"""What a purchase would bring, without recording it: points and their dates, the tier after it, and the rewards in reach."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from loyalpro.events.points import AppliedRule
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import NotFound
from loyalpro.kernel.record import record
from loyalpro.loyalty.entities import Customer, Reward
from loyalpro.loyalty.expiry import NEVER, Day, activates_at, day_of, expires_at
from loyalpro.loyalty.lots import held_on
from loyalpro.loyalty.orders import Order, check, time_of
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.pricing import Earner, Priced, price
from loyalpro.loyalty.program import Program
from loyalpro.loyalty.qualifying import tier_status
from loyalpro.loyalty.recording import CampaignsInForce
from loyalpro.loyalty.rewards import Order as OrderOfReward
from loyalpro.loyalty.rewards import offers
from loyalpro.loyalty.tiers import Metric, Tier, is_locked, raised
from loyalpro.loyalty.wallet import Wallet

MAX_REWARDS: Final = 100
"""How many active rewards a calculation looks at."""


@record
class CalculatePurchase:
    """An order to calculate, of at most one customer, named by one of both ids. `occurred_at` None: now."""

    account_id: str
    customer_id: str | None
    customer_external_id: str | None
    order: Order
    occurred_at: UnixMs | None


@record
class Calculation:
    """What a purchase would bring. `tier_after` is None without a customer.

    `rewards`: what the customer can redeem for this order now, with the points that are available before it.
    """

    points: int
    eligible_amount: int
    rules: tuple[AppliedRule, ...]
    tier_after: Tier | None
    expires_at: UnixMs | None
    activates_at: UnixMs | None
    rewards: tuple[Reward, ...]


def calculate_purchase(unit: LoyaltyUnit, query: CalculatePurchase) -> Calculation:
    """What `record_purchases` would do with this order now. Nothing is written.

    Raises `InvalidInput` for what recording would refuse, and `NotFound` `customer_not_found`.
    """
    program = unit.programs.get(query.account_id)
    program.require_currency(query.order.currency)
    check(query.order)
    occurred_at = time_of(query.occurred_at, unit.now)
    customer = _customer(unit, query, program)
    priced = _price(unit, program, customer, query.order, occurred_at)
    zone = program.rules.time_zone
    is_known = bool(customer.id)
    expiry = expires_at(program.rules.expiry, occurred_at, zone)
    return Calculation(
        points=priced.points,
        eligible_amount=priced.eligible_amount,
        rules=priced.rules,
        tier_after=_tier_after(unit, program, customer, priced, day_of(occurred_at, zone)) if is_known else None,
        expires_at=expiry if priced.points and expiry < NEVER else None,
        activates_at=activates_at(program.rules.pending_days, occurred_at, zone) if priced.points else None,
        rewards=tuple(_rewards(unit, customer, query.order)) if is_known else (),
    )


def _price(unit: LoyaltyUnit, program: Program, customer: Customer, order: Order, occurred_at: UnixMs) -> Priced:
    """What the order earns; nothing for a customer whose earning is blocked."""
    ids = [customer.id] if customer.id else []
    campaigns = CampaignsInForce(unit, customer.account_id, [occurred_at], ids)
    earned = 0
    if ids and program.rules.earning.max_points_per_day is not None:
        day = day_of(occurred_at, program.rules.time_zone)
        earned = sum(each.points_qualifying for each in unit.days.sums_in({customer.id: (day, day)}))
        lots = unit.ledger.lots_with_points(ids) if customer.balance.pending else ()
        earned += held_on(lots, day, program.rules.time_zone)
    earner = Earner(customer.tier, customer.tags, campaigns.uses(customer.id), earned)
    priced = price(order, program.rules, earner, campaigns.running, occurred_at)
    return replace(priced, points=0, rules=()) if customer.earning_blocked else priced


def _customer(unit: LoyaltyUnit, query: CalculatePurchase, program: Program) -> Customer:
    """The customer that the order names, as it is after what is due; without one, a customer that begins, with an empty id."""
    if query.customer_id is None and query.customer_external_id is None:
        return _beginner(query.account_id, program, unit.now)
    if query.customer_id is not None:
        found, param = unit.customers.get(query.account_id, query.customer_id), "customer_id"
    else:
        named = unit.customers.ids_of(query.account_id, [query.customer_external_id or ""])
        found, param = (unit.customers.get(query.account_id, named[0]) if named else None), "customer_external_id"
    if found is None or found.status != "active":
        raise NotFound(
            f"There is no customer with this {param}; enroll it first.", code="customer_not_found", param=param
        )
    return _settled(unit, found, program)


def _beginner(account_id: str, program: Program, now: UnixMs) -> Customer:
    return Customer("", account_id, None, None, None, None, {}, program.tiers[0], now, now)


def _settled(unit: LoyaltyUnit, customer: Customer, program: Program) -> Customer:
    """The customer after what is due, because a sweep may be late. The unit of work only reads, so the events are dropped."""
    if customer.next_due_at is None or customer.next_due_at > unit.now:
        return customer
    wallet = Wallet(customer, unit, program, lots=unit.ledger.lots_with_points([customer.id]))
    wallet.settle()
    return wallet.customer


def _tier_after(unit: LoyaltyUnit, program: Program, customer: Customer, priced: Priced, day: Day) -> Tier:
    """The tier after the purchase: it may raise the customer at once, and it never lowers it."""
    if is_locked(customer.tier_locked_until, unit.now):
        return customer.tier
    standing = tier_status(unit, program, customer).standing
    gains: dict[Metric, int] = {"points_earned": priced.points, "spend": priced.base_amount, "transactions": 1}
    gained = gains[program.rules.tiering.metric] if standing.first <= day <= standing.last else 0
    return raised(program.tiers, customer.tier, standing.value + gained)


def _rewards(unit: LoyaltyUnit, customer: Customer, order: Order) -> Iterator[Reward]:
    """The rewards that the customer can have and afford, newest first, of the newest ones that are active."""
    if customer.redeeming_blocked:
        return
    active = unit.rewards.list_newest(customer.account_id, "active", None, MAX_REWARDS)
    for offer in offers(unit, active, customer, OrderOfReward(order.amount, order.currency)):
        if offer.unavailable is None and not offer.missing:
            yield offer.reward
