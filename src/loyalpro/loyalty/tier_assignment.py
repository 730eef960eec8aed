"""Puts a customer into a tier by hand, and tells how a customer stands."""

from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.record import record
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.customers import unknown_customer
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.program import Program
from loyalpro.loyalty.qualifying import TierStatus, tier_status
from loyalpro.loyalty.tiers import Tier


@record
class AssignTier:
    """A tier to put a customer into. Until `locked_until` nothing else moves the customer. `reason`: why, for people."""

    account_id: str
    customer_id: str
    tier_id: str
    locked_until: UnixMs | None
    reason: str


def assign_tier(unit: LoyaltyUnit, command: AssignTier) -> Customer:
    """Put a customer into a tier. Emits `customer.tier_changed` if it had another one.

    Raises `NotFound` `customer_not_found`, and `InvalidInput`: `unknown_tier` for a tier that the program does not have or that
    is retired, `locked_until_in_past`.
    """
    if command.locked_until is not None and command.locked_until <= unit.now:
        raise InvalidInput(
            f"locked_until is not in the future; it is {rfc3339(unit.now)} now. Leave it out for no lock.",
            code="locked_until_in_past",
            param="locked_until",
        )
    book = Book(unit, command.account_id, ids=[command.customer_id])
    tier = _tier(book.program, command.tier_id)
    wallet = book.wallet(command.customer_id)
    if wallet is None:
        raise unknown_customer(command.customer_id)
    book.tiers.assign(wallet, tier, locked_until=command.locked_until, lock_reason=command.reason)
    book.write()
    unit.audit(command.account_id, "customer.tier_assigned", wallet.id)
    return wallet.customer


def status_of(unit: LoyaltyUnit, customer: Customer) -> tuple[Program, TierStatus]:
    """The program, and how a stored customer stands in it today."""
    program = unit.programs.get(customer.account_id)
    return program, tier_status(unit, program, customer)


def _tier(program: Program, tier_id: str) -> Tier:
    for tier in program.tiers:
        if tier.id == tier_id:
            return tier
    raise InvalidInput(
        f"The program has no tier {tier_id[:64]!r} that customers can have; GET /v1/program lists its tiers.",
        code="unknown_tier",
        param="tier_id",
    )
