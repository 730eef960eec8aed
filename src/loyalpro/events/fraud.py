"""Events of fraud rules that fire."""

from typing import ClassVar, Literal

from loyalpro.events.payload import Payload, Points, Shape, Time, shape


@shape
class FraudRule(Shape):
    """The rule that fired."""

    code: str
    id: str
    version: int


@shape
class FraudTrigger(Shape):
    """What set the rule off."""

    event_id: str | None
    type: str
    object_id: str


@shape
class Measurement(Shape):
    """What was measured, against what."""

    aggregate: Literal["count", "sum", "distinct", "ratio"]
    value: int | float
    threshold: int | float
    severity_ratio: int | float
    window: str | None
    key_type: str


@shape
class FraudDetected(Payload):
    """Suspicious activity is detected. It accuses nobody: a person decides."""

    type: ClassVar = "fraud.detected"

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
    points_held: Points
    shadow: bool
    detected_at: Time
