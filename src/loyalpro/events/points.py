"""Events of the ledger: points that are earned, redeemed, expired or adjusted."""

from typing import Annotated, ClassVar, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from loyalpro.events.payload import STRICT, Payload, Points, Shape, SignedPoints, Time, shape

AdjustmentKind = Literal["manual", "clawback", "redemption_reversal", "pending_canceled", "import", "merge"]


@shape
class BalanceChange(Shape):
    """A balance before and after one ledger entry."""

    before: Points
    after: Points
    pending: Points
    debt: Points


@with_config(STRICT)
class AppliedRule(TypedDict):
    """One earning rule and the points it gave."""

    id: str
    name: str
    points: Points
    multiplier: NotRequired[Annotated[int | None, Field(json_schema_extra={"default": None})]]


@shape
class PointsEarned(Payload):
    """Points are awarded to a customer."""

    type: ClassVar = "points.earned"

    entry_id: str
    customer_id: str
    points: Points
    status: Literal["available", "pending"]
    activates_at: str | None
    expires_at: str | None
    lot_id: str
    transaction_id: str | None
    reason: Literal["purchase", "promotion", "referral", "other"]
    rules: list[AppliedRule]
    balance: BalanceChange
    occurred_at: Time


@shape
class Reward(Shape):
    """What points were exchanged for."""

    id: str
    name: str
    type: str
    amount: int | None
    currency: str | None


@shape
class PointsRedeemed(Payload):
    """Points are redeemed."""

    type: ClassVar = "points.redeemed"

    entry_id: str
    redemption_id: str
    customer_id: str
    points: Points
    reward: Reward | None
    transaction_id: str | None
    code: str | None
    status: Literal["redeemed"]
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
    points: Points
    lots: list[ExpiredLot]
    policy: str
    balance: BalanceChange


@shape
class PointsAdjusted(Payload):
    """Points are adjusted by hand, or taken or given back."""

    type: ClassVar = "points.adjusted"

    entry_id: str
    customer_id: str
    points: SignedPoints
    kind: AdjustmentKind
    reason_code: str
    note: str | None
    reverses_entry_id: str | None
    transaction_id: str | None
    shortfall: Points
    counts_toward_tier: bool
    balance: BalanceChange
