"""A reward as a document: what the calls of `/v1/rewards` and the forms of the dashboard state, checked in one place."""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from loyalpro.kernel.errors import InvalidInput
from loyalpro.loyalty.entities import RewardStatus, RewardType
from loyalpro.loyalty.ledger import MAX_POINTS
from loyalpro.web.fields import MAX_AMOUNT, Body, Instant, LongText, ShortText, Whole

Points = Annotated[Whole, Field(ge=1, le=MAX_POINTS, description="Points that the reward costs.")]
Money = Annotated[Whole, Field(ge=1, le=MAX_AMOUNT, description="Integer in the currency's minor unit: 500 is 5.00.")]
Currency = Annotated[str, Field(description="ISO 4217, such as EUR.", max_length=32)]
Percent = Annotated[Whole, Field(ge=1, le=100, description="A whole percentage.")]
Ids = Annotated[list[ShortText], Field(max_length=50, description="Only customers in one of these tiers; [] for all.")]
Tags = Annotated[
    list[ShortText], Field(max_length=50, description="Only customers with one of these tags; [] for all.")
]
Stock = Annotated[Whole, Field(ge=0, le=10**9, description="How many are left; null for no limit.")]
PerCustomer = Annotated[Whole, Field(ge=1, le=10**9, description="How many a customer can have; null for no limit.")]

_NEVER_NULL: Final = ("name", "type", "cost_points", "tier_ids", "tags", "status")


class CreateReward(Body):
    """A reward to create. `amount_off` needs `amount` and `currency`, `percent_off` `percent`, `free_item` `sku`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "5 EUR off", "type": "amount_off", "amount": 500, "currency": "EUR", "cost_points": 100},
                {"name": "A coffee", "type": "free_item", "sku": "COFFEE", "cost_points": 40, "stock": 200},
            ]
        }
    )

    name: LongText
    type: RewardType
    amount: Money | None = None
    currency: Currency | None = None
    percent: Percent | None = None
    sku: LongText | None = None
    cost_points: Points
    min_spend: Money | None = None
    tier_ids: Ids = Field(default_factory=list)
    tags: Tags = Field(default_factory=list)
    stock: Stock | None = None
    limit_per_customer: PerCustomer | None = None
    starts_at: Instant | None = None
    ends_at: Instant | None = None
    status: Literal["draft", "active"] = "active"


class UpdateReward(Body):
    """The fields to change; what is left out stays, null clears."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"stock": 500, "status": "active"}]})

    name: LongText | None = None
    type: RewardType | None = None
    amount: Money | None = None
    currency: Currency | None = None
    percent: Percent | None = None
    sku: LongText | None = None
    cost_points: Points | None = None
    min_spend: Money | None = None
    tier_ids: Ids | None = None
    tags: Tags | None = None
    stock: Stock | None = None
    limit_per_customer: PerCustomer | None = None
    starts_at: Instant | None = None
    ends_at: Instant | None = None
    status: RewardStatus | None = None


def with_tuples(given: dict[str, Any]) -> dict[str, Any]:
    """The fields as commands have them: lists are tuples."""
    return given | {name: tuple(given[name]) for name in ("tier_ids", "tags") if name in given}


def refuse_nulls(given: dict[str, Any]) -> None:
    """Raise `InvalidInput` for a field that cannot be null."""
    for name in _NEVER_NULL:
        if name in given and given[name] is None:
            raise InvalidInput(f"{name} cannot be null; leave it out to keep it.", code="invalid_field", param=name)
