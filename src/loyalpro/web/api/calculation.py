"""`/v1/transactions/calculate`: what a purchase would bring, for a till or a shop that shows it before the customer pays."""

from fastapi import APIRouter
from pydantic import ConfigDict
from typing_extensions import TypedDict

from loyalpro.events.points import AppliedRule
from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.errors import InvalidInput
from loyalpro.loyalty.calculation import CalculatePurchase, Calculation, calculate_purchase
from loyalpro.web.answers import Count, MinorUnits, PointCount, RewardId, TierId, Time
from loyalpro.web.api.transactions import CreateTransaction, purchase_of
from loyalpro.web.auth import AccountId
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute

router = APIRouter(
    prefix="/v1/transactions", tags=["transactions"], route_class=StrictRoute.needing(write="transactions")
)


class TierReached(TypedDict):
    """The tier after the purchase."""

    id: TierId
    name: str
    rank: Count


class RewardInReach(TypedDict):
    """A reward that the customer could have."""

    id: RewardId
    name: str
    type: str
    cost_points: PointCount


class CalculationView(TypedDict):
    """What a purchase would bring."""

    points: PointCount
    eligible_amount: MinorUnits
    rules: list[AppliedRule]
    tier_after: TierReached | None
    expires_at: Time | None
    activates_at: Time | None
    rewards_available: list[RewardInReach]


class CalculateTransaction(CreateTransaction):
    """A purchase as it would be recorded. It may name no customer: then it is priced for one that begins."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"amount": 5_600, "currency": "EUR"},
                {
                    "customer_external_id": "shop-77",
                    "amount": 8_490,
                    "currency": "EUR",
                    "shipping_amount": 490,
                    "items": [{"sku": "tea", "quantity": 2, "amount": 2_000}, {"sku": "cups", "amount": 6_000}],
                },
            ]
        }
    )


@router.post("/calculate", summary="Calculate what a purchase would bring")
async def calculate(account_id: AccountId, services: ServicesDep, body: CalculateTransaction) -> CalculationView:
    """Nothing is written, so a repeated call calculates again; an `Idempotency-Key` is not needed."""
    if body.customer_id is not None and body.customer_external_id is not None:
        raise InvalidInput(
            "Name the customer by one of customer_id and customer_external_id, or leave both out.",
            code="invalid_field",
            param="customer_id",
        )
    purchase = purchase_of(body)
    query = CalculatePurchase(
        account_id, purchase.customer_id, purchase.customer_external_id, purchase.order, purchase.occurred_at
    )
    return _shown(await services.runner.read(lambda unit: calculate_purchase(unit, query)))


def _shown(found: Calculation) -> CalculationView:
    tier = found.tier_after
    return {
        "points": found.points,
        "eligible_amount": found.eligible_amount,
        "rules": list(found.rules),
        "tier_after": None if tier is None else {"id": tier.id, "name": tier.name, "rank": tier.rank},
        "expires_at": None if found.expires_at is None else rfc3339(found.expires_at),
        "activates_at": None if found.activates_at is None else rfc3339(found.activates_at),
        "rewards_available": [
            {"id": each.id, "name": each.name, "type": each.type, "cost_points": each.cost_points}
            for each in found.rewards
        ],
    }
