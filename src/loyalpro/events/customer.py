"""Events of customers: who they are, and which tier they are in."""

from typing import Annotated, ClassVar, Literal

from pydantic import JsonValue

from loyalpro.events.payload import OPEN, Payload, Points, Shape, Source, Time, shape

CustomerStatus = Annotated[Literal["active", "merged", "deleted"], OPEN]
DeletionReason = Annotated[Literal["merchant_request", "merged"], OPEN]
TierDirection = Annotated[Literal["upgrade", "downgrade"], OPEN]
TierMetric = Annotated[Literal["points_earned", "spend", "transactions"], OPEN]
TierReason = Annotated[
    Literal["qualified", "period_review", "grace_ended", "refund", "manual", "program_changed", "enrolled", "merged"],
    OPEN,
]


@shape
class Balance(Shape):
    """What a customer has."""

    available: Points
    pending: Points
    debt: Points


@shape
class Tier(Shape):
    """A tier and its place among the others; rank 1 is the lowest."""

    id: str
    name: str
    rank: int


@shape
class Customer(Shape):
    """A customer in full."""

    id: str
    external_id: str | None
    email: str | None
    phone: str | None
    name: str | None
    status: CustomerStatus
    tags: list[str]
    tier: Tier
    balance: Balance
    metadata: dict[str, JsonValue]
    enrolled_at: Time
    earning_blocked: bool
    redeeming_blocked: bool


@shape
class CustomerCreated(Payload):
    """A new customer is enrolled."""

    type: ClassVar = "customer.created"

    customer: Customer
    source: Source


@shape
class CustomerUpdated(Payload):
    """A customer's details are modified."""

    type: ClassVar = "customer.updated"

    customer: Customer
    previous_attributes: dict[str, JsonValue]
    changed: list[str]
    source: Source


@shape
class CustomerDeleted(Payload):
    """A customer is removed."""

    type: ClassVar = "customer.deleted"

    customer_id: str
    customer_external_id: str | None
    external_id: str | None
    deleted_at: Time
    reason: DeletionReason
    erased: bool
    points_forfeited: Points
    merged_into: str | None


@shape
class Qualification(Shape):
    """Why a customer is in a tier."""

    metric: TierMetric
    value: int
    threshold: int
    window_start: Time | None
    window_end: Time | None


@shape
class NextTier(Shape):
    """The next tier, and how much of the metric is missing to its threshold."""

    id: str
    name: str
    remaining: int


@shape
class CustomerTierChanged(Payload):
    """A customer's tier changes."""

    type: ClassVar = "customer.tier_changed"

    customer_id: str
    customer_external_id: str | None
    direction: TierDirection
    previous_tier: Tier
    tier: Tier
    reason: TierReason
    qualification: Qualification
    effective_at: Time
    tier_expires_at: Time | None
    next_tier: NextTier | None
