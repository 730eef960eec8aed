"""`/v1/customers/{id}/tier`: puts a customer into a tier by hand. Also how the tier of a customer is shown."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.loyalty import tier_assignment
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.program import Program
from loyalpro.loyalty.qualifying import TierStatus
from loyalpro.loyalty.tier_moves import window_instants
from loyalpro.web.answers import Count, TierId, Time
from loyalpro.web.auth import AccountId, Caller
from loyalpro.web.fields import Body, Instant, LongText, known_id
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.web.unit import Unit

router = APIRouter(prefix="/v1/customers", tags=["customers"], route_class=StrictRoute.needing(write="customers"))


class TierView(TypedDict):
    """The tier of a customer as lists show it."""

    id: TierId
    name: str
    rank: Count
    since: Time
    review_at: Time | None
    locked_until: Time | None


class QualifyingView(TypedDict):
    """How the customer stands today."""

    metric: str
    value: Count
    window_start: Time | None
    window_end: Time | None


class NextTierView(TypedDict):
    """The next tier, and what is missing to its threshold."""

    id: TierId
    name: str
    remaining: Count


class TierInFullView(TierView):
    """The tier of one customer, with how it stands today and the next tier."""

    qualifying: QualifyingView
    next: NextTierView | None


class AssignTier(Body):
    """A tier for a customer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"tier_id": "tier_01m8hv8b2n4w6tq7s9e3r5x1zc", "reason": "moved from the old card"}]
        }
    )

    tier_id: Annotated[LongText, Field(examples=["tier_01m8hv8b2n4w6tq7s9e3r5x1zc"])]
    locked_until: Annotated[
        Instant | None, Field(description="Nothing else moves the customer before; then its tier is reviewed.")
    ] = None
    reason: Annotated[LongText, Field(description="Why, for people.", examples=["moved from the old card"])]


@router.put("/{customer_id}/tier", summary="Put a customer into a tier")
async def assign(
    account_id: AccountId, caller: Caller, services: ServicesDep, customer_id: str, body: AssignTier
) -> TierInFullView:
    """Causes `customer.tier_changed` with the reason `manual` when the customer had another tier."""
    command = tier_assignment.AssignTier(
        account_id, known_id("cus", customer_id), body.tier_id, body.locked_until, body.reason
    )

    def work(unit: Unit) -> TierInFullView:
        customer = tier_assignment.assign_tier(unit, command)
        return tier_in_full(customer, *tier_assignment.status_of(unit, customer))

    return await services.runner.change(work, actor=caller.actor)


def tier_shown(customer: Customer) -> TierView:
    """The tier of a customer as lists show it."""
    return {
        "id": customer.tier.id,
        "name": customer.tier.name,
        "rank": customer.tier.rank,
        "since": rfc3339(customer.tier_since),
        "review_at": _time(customer.tier_review_at),
        "locked_until": _time(customer.tier_locked_until),
    }


def tier_in_full(customer: Customer, program: Program, status: TierStatus) -> TierInFullView:
    """The tier of one customer, with how it stands today and the next tier."""
    start, end = window_instants(status.standing, program.rules.time_zone)
    following = status.following
    return {
        **tier_shown(customer),
        "qualifying": {
            "metric": program.rules.tiering.metric,
            "value": status.standing.value,
            "window_start": start,
            "window_end": end,
        },
        "next": None
        if following is None
        else {"id": following.id, "name": following.name, "remaining": status.remaining},
    }


def _time(instant: UnixMs | None) -> str | None:
    return None if instant is None else rfc3339(instant)
