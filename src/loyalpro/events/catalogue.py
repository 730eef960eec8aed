"""The twelve event types: what each says, as a model and as a JSON Schema.

Inside one API version these models only ever grow: a field is added, never renamed, retyped or removed.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

API_VERSION: Final = "2026-11-01"

Points = Field(description="Whole points.")
Money = Field(description="Integer in the currency's minor unit.")
Time = Field(description="RFC 3339, UTC, milliseconds.", pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


class Shape(BaseModel):
    """Base of every piece of event data: unknown fields are our own mistake, so they are refused."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Balance(Shape):
    """What a customer has."""

    available: int = Points
    pending: int = Points
    debt: int = Points


class BalanceChange(Shape):
    """A balance before and after one ledger entry."""

    before: int = Points
    after: int = Points
    pending: int = Points
    debt: int = Points


class TierName(Shape):
    """A tier, as customers know it."""

    id: str
    name: str


class RankedTier(TierName):
    """A tier and its place among the others; 1 is the lowest."""

    rank: int


class Customer(Shape):
    """A customer in full."""

    id: str
    external_id: str | None
    email: str | None
    phone: str | None
    name: str | None
    status: Literal["active", "deleted"]
    tier: TierName
    balance: Balance
    metadata: dict[str, JsonValue]
    enrolled_at: str = Time


class CustomerCreated(Shape):
    """A new customer is enrolled."""

    customer: Customer
    source: Literal["api", "dashboard", "import"]


class CustomerUpdated(Shape):
    """A customer's details are modified."""

    customer: Customer
    previous_attributes: dict[str, JsonValue]
    changed: list[str]


class CustomerDeleted(Shape):
    """A customer is removed."""

    customer_id: str
    external_id: str | None
    deleted_at: str = Time
    reason: str
    erased: bool
    points_forfeited: int = Points
    merged_into: str | None


class Qualification(Shape):
    """Why a customer is in a tier."""

    metric: Literal["points_earned", "spend", "transactions"]
    value: int
    threshold: int
    window_start: str | None
    window_end: str | None


class NextTier(Shape):
    """How far the next tier is."""

    id: str
    remaining: int


class CustomerTierChanged(Shape):
    """A customer's tier changes."""

    customer_id: str
    direction: Literal["upgrade", "downgrade"]
    previous_tier: RankedTier
    tier: RankedTier
    reason: Literal[
        "qualified", "period_review", "grace_ended", "refund", "manual", "program_changed", "enrolled", "merged"
    ]
    qualification: Qualification
    effective_at: str = Time
    tier_expires_at: str | None
    next_tier: NextTier | None


class AppliedRule(Shape):
    """One earning rule and the points it gave."""

    id: str
    name: str
    points: int = Points
    multiplier: int | None = None


class PointsEarned(Shape):
    """Points are awarded to a customer."""

    entry_id: str
    customer_id: str
    points: int = Points
    status: Literal["available", "pending"]
    activates_at: str | None
    expires_at: str | None
    lot_id: str
    transaction_id: str | None
    reason: Literal["purchase", "promotion", "referral", "other"]
    rules: list[AppliedRule]
    balance: BalanceChange
    occurred_at: str = Time


class Reward(Shape):
    """What points were exchanged for."""

    id: str
    name: str
    type: str
    amount: int | None
    currency: str | None


class PointsRedeemed(Shape):
    """Points are redeemed."""

    entry_id: str
    redemption_id: str
    customer_id: str
    points: int = Points
    reward: Reward | None
    transaction_id: str | None
    code: str | None
    status: Literal["redeemed"]
    balance: BalanceChange


class ExpiredLot(Shape):
    """What was left of a lot when its time came."""

    lot_id: str
    points: int = Points
    earned_at: str = Time
    expired_at: str = Time


class PointsExpired(Shape):
    """Points expire."""

    entry_id: str
    customer_id: str
    points: int = Points
    lots: list[ExpiredLot]
    policy: str
    balance: BalanceChange


class PointsAdjusted(Shape):
    """Points are adjusted by hand, or taken or given back."""

    entry_id: str
    customer_id: str
    points: int = Field(description="Whole points, signed.")
    kind: Literal["manual", "clawback", "redemption_reversal", "pending_canceled", "import", "merge"]
    reason_code: str
    note: str | None
    reverses_entry_id: str | None
    transaction_id: str | None
    shortfall: int = Points
    counts_toward_tier: bool
    balance: BalanceChange


class Item(Shape):
    """One line of a purchase."""

    sku: str | None = None
    name: str | None = None
    category: str | None = None
    quantity: int
    amount: int = Money


class Transaction(Shape):
    """A purchase."""

    id: str
    external_id: str | None
    customer_id: str
    status: Literal["completed"]
    currency: str
    amount: int = Money
    eligible_amount: int = Money
    tax_amount: int | None = None
    points_discount_amount: int = Money
    items: list[Item]
    channel: str | None
    location_id: str | None
    employee_id: str | None
    metadata: dict[str, JsonValue]
    completed_at: str = Time


class TransactionCompleted(Shape):
    """A purchase is recorded."""

    transaction: Transaction
    points_earned: int = Points


class TransactionRefunded(Shape):
    """A transaction is refunded, in part or in full."""

    refund_id: str
    external_id: str | None
    transaction_id: str
    customer_id: str
    amount: int = Money
    currency: str
    total_refunded: int = Money
    remaining_amount: int = Money
    full: bool
    items: list[Item]
    points_clawed_back: int = Points
    points_restored: int = Points
    points_shortfall: int = Points
    reason: str | None
    refunded_at: str = Time


class FraudRule(Shape):
    """The rule that fired."""

    code: str
    id: str
    version: int


class FraudTrigger(Shape):
    """What set the rule off."""

    event_id: str | None
    type: str
    object_id: str


class Measurement(Shape):
    """What was measured, against what."""

    aggregate: Literal["count", "sum", "distinct", "ratio"]
    value: int | float
    threshold: int | float
    severity_ratio: int | float
    window: str | None
    key_type: str


class FraudDetected(Shape):
    """Suspicious activity is detected. It accuses nobody: a person decides."""

    case_id: str
    status: Literal["open"]
    customer_id: str
    related_customer_ids: list[str]
    rule: FraudRule
    severity: Literal["low", "medium", "high"]
    score: int
    trigger: FraudTrigger
    measurement: Measurement
    evidence: list[str]
    action: Literal["flag", "hold", "review", "block"]
    points_held: int = Points
    shadow: bool
    detected_at: str = Time


class ChurnThreshold(Shape):
    """Where at-risk begins and where it ends."""

    enter: int | float
    exit: int | float


class ChurnFeatures(Shape):
    """What the model looked at."""

    repeat_purchases: int
    recency_days: int
    age_days: int
    days_since_last_purchase: int
    typical_gap_days: int | None


class ChurnValue(Shape):
    """What is at stake."""

    lifetime_spend: int = Money
    currency: str
    points_balance: int = Points


class ChurnModel(Shape):
    """Which model said so."""

    name: str
    version: str
    fitted_customers: int
    fallback: bool


class ChurnRisk(Shape):
    """A customer is flagged as at risk of leaving."""

    customer_id: str
    risk_level: Literal["medium", "high"]
    previous_level: Literal["low", "medium", "high"]
    score: int | float
    threshold: ChurnThreshold
    p_alive: int | float | None
    p_purchase_horizon: int | float | None
    horizon_days: int
    features: ChurnFeatures
    value: ChurnValue
    model: ChurnModel
    scored_at: str = Time


@dataclass(frozen=True, slots=True)
class EventType:
    """One type: its name, what it means, the model of its `data`."""

    name: str
    description: str
    model: type[Shape]

    def check(self, data: dict[str, Any]) -> None:
        """Raise when `data` is not what the published schema promises: a mistake of ours, so nothing is committed."""
        self.model.__pydantic_validator__.validate_python(data)

    def body_schema(self) -> dict[str, Any]:
        """JSON Schema 2020-12 of a whole delivered body of this type."""
        return _body_schema(self.name)


_MODELS: Final[dict[str, type[Shape]]] = {
    "customer.created": CustomerCreated,
    "customer.updated": CustomerUpdated,
    "customer.deleted": CustomerDeleted,
    "customer.tier_changed": CustomerTierChanged,
    "points.earned": PointsEarned,
    "points.redeemed": PointsRedeemed,
    "points.expired": PointsExpired,
    "points.adjusted": PointsAdjusted,
    "transaction.completed": TransactionCompleted,
    "transaction.refunded": TransactionRefunded,
    "fraud.detected": FraudDetected,
    "churn.risk": ChurnRisk,
}

EVENT_TYPES: Final[dict[str, EventType]] = {
    name: EventType(name, (model.__doc__ or "").strip().splitlines()[0], model) for name, model in _MODELS.items()
}


@cache
def _body_schema(name: str) -> dict[str, Any]:
    data = _open(EVENT_TYPES[name].model.model_json_schema(mode="serialization"))
    definitions = data.pop("$defs", {})
    envelope: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        "description": EVENT_TYPES[name].description,
        "type": "object",
        "required": ["id", "type", "created_at", "api_version", "account_id", "sequence", "data"],
        "properties": {
            "id": {"type": "string", "pattern": "^evt_[0-9a-z]{26}$"},
            "type": {"const": name},
            "created_at": {"type": "string", "format": "date-time"},
            "api_version": {"type": "string"},
            "account_id": {"type": "string", "pattern": "^acct_[0-9a-z]{26}$"},
            "sequence": {
                "type": ["integer", "null"],
                "minimum": 1,
                "description": "1, 2, 3 ... for each customer; null where the event has no customer.",
            },
            "data": data,
        },
    }
    if definitions:
        envelope["$defs"] = definitions
    return envelope


def _open(schema: Any) -> Any:
    """The same schema without `additionalProperties: false`: receivers must accept the fields we add later."""
    if isinstance(schema, dict):
        return {
            key: _open(value) for key, value in schema.items() if not (key == "additionalProperties" and value is False)
        }
    if isinstance(schema, list):
        return [_open(value) for value in schema]
    return schema
