"""Events of fraud rules that fire."""

from typing import Annotated, ClassVar, Literal

from loyalpro.events.payload import OPEN, Payload, Points, Shape, Time, shape

FraudAction = Annotated[Literal["flag", "hold", "block"], OPEN]
FraudAggregate = Annotated[Literal["count", "sum", "distinct", "ratio"], OPEN]
FraudSeverity = Annotated[Literal["low", "medium", "high"], OPEN]


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

    aggregate: FraudAggregate
    value: int | float
    threshold: int | float
    severity_ratio: int | float
    window: str | None
    key_type: str


@shape
class FraudDetected(Payload):
    """Suspicious activity is detected; whether it is fraud, a person decides."""

    type: ClassVar = "fraud.detected"

    case_id: str
    status: Annotated[Literal["open"], OPEN]
    customer_id: str | None
    customer_external_id: str | None
    related_customer_ids: list[str]
    rule: FraudRule
    severity: FraudSeverity
    score: int
    trigger: FraudTrigger
    measurement: Measurement
    evidence: list[str]
    action: FraudAction
    points_held: Points
    shadow: bool
    detected_at: Time
