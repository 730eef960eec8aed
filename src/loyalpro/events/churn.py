"""Events of customers who may leave."""

from typing import ClassVar, Literal

from loyalpro.events.payload import Money, Payload, Points, Shape, Time, shape


@shape
class ChurnThreshold(Shape):
    """Where at-risk begins and where it ends."""

    enter: int | float
    exit: int | float


@shape
class ChurnFeatures(Shape):
    """What the model looked at."""

    repeat_purchases: int
    recency_days: int
    age_days: int
    days_since_last_purchase: int
    typical_gap_days: int | None


@shape
class ChurnValue(Shape):
    """What is at stake."""

    lifetime_spend: Money
    currency: str
    points_balance: Points


@shape
class ChurnModel(Shape):
    """Which model said so."""

    name: str
    version: str
    fitted_customers: int
    fallback: bool


@shape
class ChurnRisk(Payload):
    """A customer is flagged as at risk of leaving."""

    type: ClassVar = "churn.risk"

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
    scored_at: Time
