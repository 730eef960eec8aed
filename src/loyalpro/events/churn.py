"""Events of customers who may leave."""

from typing import Annotated, ClassVar, Literal

from loyalpro.events.payload import OPEN, Money, Payload, Points, Shape, Time, shape


@shape
class ChurnThreshold(Shape):
    """The scores at which the levels medium (`enter`) and high begin, and at which the level is low again (`exit`)."""

    enter: int | float
    high: int | float
    exit: int | float


@shape
class ChurnFeatures(Shape):
    """What the model looked at."""

    repeat_purchases: int
    recency_days: int
    age_days: int
    days_since_last_purchase: int
    typical_gap_days: int | float | None


@shape
class ChurnValue(Shape):
    """What is at stake."""

    lifetime_spend: Money
    currency: str
    points_balance: Points


@shape
class ChurnModel(Shape):
    """Which model said so."""

    name: Annotated[Literal["mbg_nbd", "recency_gap"], OPEN]
    version: str
    fitted_customers: int
    fallback: bool


@shape
class ChurnRisk(Payload):
    """A customer is flagged as at risk of leaving."""

    type: ClassVar = "churn.risk"

    customer_id: str
    customer_external_id: str | None
    risk_level: Annotated[Literal["medium", "high"], OPEN]
    previous_level: Annotated[Literal["low", "medium", "high"], OPEN]
    score: int | float
    threshold: ChurnThreshold
    p_alive: int | float | None
    p_purchase_horizon: int | float | None
    horizon_days: int
    features: ChurnFeatures
    value: ChurnValue
    model: ChurnModel
    scored_at: Time
