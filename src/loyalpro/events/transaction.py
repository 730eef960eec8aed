"""Events of purchases: recorded and refunded."""

from typing import Annotated, ClassVar, Literal, NotRequired

from pydantic import Field, JsonValue, with_config
from typing_extensions import TypedDict

from loyalpro.events.payload import STRICT, Money, Payload, Points, Shape, Time, shape

Quantity = Annotated[float, Field(description="Any number; an integer is written without a fraction.")]
_Text = Annotated[str | None, Field(json_schema_extra={"default": None})]


@with_config(STRICT)
class Item(TypedDict):
    """One line of a purchase."""

    sku: NotRequired[_Text]
    name: NotRequired[_Text]
    category: NotRequired[_Text]
    quantity: Quantity
    amount: Money


@shape
class Transaction(Shape):
    """A purchase."""

    id: str
    external_id: str | None
    customer_id: str
    status: Literal["completed"]
    currency: str
    amount: Money
    eligible_amount: Money
    tax_amount: int | None = None
    points_discount_amount: Money
    items: list[Item]
    channel: str | None
    location_id: str | None
    employee_id: str | None
    metadata: dict[str, JsonValue]
    completed_at: Time


@shape
class TransactionCompleted(Payload):
    """A purchase is recorded."""

    type: ClassVar = "transaction.completed"

    transaction: Transaction
    points_earned: Points


@shape
class TransactionRefunded(Payload):
    """A transaction is refunded, in part or in full."""

    type: ClassVar = "transaction.refunded"

    refund_id: str
    external_id: str | None
    transaction_id: str
    customer_id: str
    amount: Money
    currency: str
    total_refunded: Money
    remaining_amount: Money
    full: bool
    items: list[Item]
    points_clawed_back: Points
    points_restored: Points
    points_shortfall: Points
    reason: str | None
    refunded_at: Time
