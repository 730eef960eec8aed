"""What a purchase would bring, without recording it: points and their dates, the tier after it, and the rewards in reach."""

from loyalpro.events.points import AppliedRule
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import NotFound
from loyalpro.kernel.record import record
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.expiry import NEVER, activates_at, day_of, expires_at
from loyalpro.loyalty.ledger import Balance
from loyalpro.loyalty.orders import Order, check
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.pricer import Pricer
from loyalpro.loyalty.pricing import Priced
from loyalpro.loyalty.program import Program
from loyalpro.loyalty.tiers import Tier, is_locked, raised, window_days
from loyalpro.loyalty.transactions import checked_time
from loyalpro.loyalty.wallet import Wallet


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
    """What a purchase would bring. `tier_after` and `available_after` are None without a customer."""

    points: int
    eligible_amount: int
    rules: tuple[AppliedRule, ...]
    tier_after: Tier | None
    expires_at: UnixMs | None
    activates_at: UnixMs | None
    available_after: int | None


def calculate_purchase(unit: LoyaltyUnit, query: CalculatePurchase) -> Calculation:
    """What `record_purchases` would do with this order now. Nothing is written.

    Raises `InvalidInput` for what recording would refuse, and `NotFound` `customer_not_found`.
    """
    program = unit.programs.get(query.account_id)
    program.require_currency(query.order.currency)
    check(query.order)
    occurred_at = checked_time(query.occurred_at, unit.now)
    customer = _customer(unit, query, program)
    ids = [customer.id] if customer.id else []
    pricer = Pricer(unit, query.account_id, program.rules, ids, [occurred_at])
    priced = pricer.price(customer, query.order, occurred_at)
    zone = program.rules.time_zone
    expiry = expires_at(program.rules.expiry, occurred_at, zone)
    return Calculation(
        points=priced.points,
        eligible_amount=priced.eligible_amount,
        rules=priced.rules,
        tier_after=_tier_after(unit, program, customer, priced, day_of(occurred_at, zone)) if ids else None,
        expires_at=expiry if priced.points and expiry < NEVER else None,
        activates_at=activates_at(program.rules.pending_days, occurred_at, zone) if priced.points else None,
        available_after=_available_after(unit, program, customer, priced.points, expiry) if ids else None,
    )
