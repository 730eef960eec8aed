"""Events of customers: who they are, and which tier they are in."""

from typing import ClassVar, Literal

from pydantic import JsonValue

from loyalpro.events.payload import Payload, Points, Shape, Time, shape

CustomerSource = Literal["api", "dashboard", "import"]
CustomerStatus = Literal["active", "deleted"]


@shape
class Balance(Shape):
    """What a customer has."""

    available: Points
    pending: Points
    debt: Points


@shape
class TierName(Shape):
    """A tier, as customers know it."""

    id: str
    name: str


@shape
class RankedTier(TierName):
    """A tier and its place among the others; 1 is the lowest."""

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
    tier: TierName
    balance: Balance
    metadata: dict[str, JsonValue]
    enrolled_at: Time


@shape
class CustomerCreated(Payload):
    """A new customer is enrolled."""

    type: ClassVar = "customer.created"

    customer: Customer
    source: CustomerSource


@shape
class CustomerUpdated(Payload):
    """A customer's details are modified."""

    type: ClassVar = "customer.updated"

    customer: Customer
    previous_attributes: dict[str, JsonValue]
    changed: list[str]


@shape
class CustomerDeleted(Payload):
    """A customer is removed."""

    type: ClassVar = "customer.deleted"

    customer_id: str
    external_id: str | None
    deleted_at: Time
    reason: str
    erased: bool
    points_forfeited: Points
    merged_into: str | None


@shape
class Qualification(Shape):
    """Why a customer is in a tier."""

    metric: Literal["points_earned", "spend", "transactions"]
    value: int
    threshold: int
    window_start: str | None
    window_end: str | None


@shape
class NextTier(Shape):
    """How far the next tier is."""

    id: str
    remaining: int


@shape
class CustomerTierChanged(Payload):
    """A customer's tier changes."""

    type: ClassVar = "customer.tier_changed"

    customer_id: str
    direction: Literal["upgrade", "downgrade"]
    previous_tier: RankedTier
    tier: RankedTier
    reason: Literal[
        "qualified", "period_review", "grace_ended", "refund", "manual", "program_changed", "enrolled", "merged"
    ]
    qualification: Qualification
    effective_at: Time
    tier_expires_at: str | None
    next_tier: NextTier | None
