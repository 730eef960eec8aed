"""Events of the ledger: points that are earned, redeemed, expired or adjusted."""

from typing import Annotated, ClassVar, Final, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from loyalpro.events.payload import OPEN, STRICT, Money, Payload, Points, Shape, SignedPoints, Source, Time, shape

AdjustmentKind = Annotated[
    Literal["manual", "clawback", "redemption_reversal", "pending_canceled", "import", "merge"], OPEN
]
EarnReason = Annotated[Literal["purchase", "promotion", "referral", "other"], OPEN]
EarnedStatus = Annotated[Literal["available", "pending"], OPEN]
RedeemedStatus = Annotated[Literal["redeemed", "reserved"], OPEN]
RewardType = Annotated[Literal["amount_off", "percent_off", "free_item", "custom"], OPEN]

MAX_EXPIRED_LOTS: Final = 100
"""The most lots of one `points.expired`: an event with 600 would not fit into a body."""


@shape
class BalanceChange(Shape):
    """What is available, pending and owed: each before and after one ledger entry."""

    before: Points
    after: Points
    pending_before: Points
    pending: Points
    debt_before: Points
    debt: Points


@with_config(STRICT)
class AppliedRule(TypedDict):
    """One earning rule and the points it gave. A rule that multiplies has a `multiplier`."""

    id: str
    name: str
    multiplier: NotRequired[int | float]
    points: Points


@shape
class PointsEarned(Payload):
    """Points are awarded to a customer."""

    type: ClassVar = "points.earned"

    entry_id: str
    customer_id: str
    customer_external_id: str | None
    points: Points
    status: EarnedStatus
    activates_at: Time | None
    expires_at: Time | None
    lot_id: str
    transaction_id: str | None
    transaction_external_id: str | None
    reason: EarnReason
    rules: list[AppliedRule]
    balance: BalanceChange
    occurred_at: Time
    source: Source


@shape
class Reward(Shape):
    """What points were exchanged for."""

    id: str
    name: str
    type: RewardType
    amount: Money | None
    currency: str | None
    percent: int | None
    sku: str | None


@shape
class PointsRedeemed(Payload):
    """Points are redeemed."""

    type: ClassVar = "points.redeemed"

    entry_id: str
    redemption_id: str
    customer_id: str
    customer_external_id: str | None
    points: Points
    reward: Reward | None
    transaction_id: str | None
    code: str | None
    status: RedeemedStatus
    reserved_until: Time | None
    balance: BalanceChange


@shape
class ExpiredLot(Shape):
    """What was left of a lot when its time came."""

    lot_id: str
    points: Points
    earned_at: Time
    expired_at: Time


@shape
class PointsExpired(Payload):
    """Points expire."""

    type: ClassVar = "points.expired"

    entry_id: str
    customer_id: str
    customer_external_id: str | None
    points: Points
    lots: Annotated[list[ExpiredLot], Field(max_length=MAX_EXPIRED_LOTS, description="At most 100.")]
    policy: str
    balance: BalanceChange


@shape
class PointsAdjusted(Payload):
    """Points are adjusted by hand, or taken or given back."""

    type: ClassVar = "points.adjusted"

    entry_id: str
    customer_id: str
    customer_external_id: str | None
    points: SignedPoints
    kind: AdjustmentKind
    reason_code: str
    note: str | None
    reverses_entry_id: str | None
    transaction_id: str | None
    refund_id: str | None
    redemption_id: str | None
    actor: str
    shortfall: Points
    counts_toward_tier: bool
    balance: BalanceChange
