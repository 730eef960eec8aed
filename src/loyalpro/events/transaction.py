"""Events of purchases: recorded and refunded."""

from typing import Annotated, ClassVar, Literal, NotRequired

from pydantic import Field, JsonValue, with_config
from typing_extensions import TypedDict

from loyalpro.events.payload import OPEN, STRICT, Money, Payload, Points, Shape, Source, Time, shape

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
    tax_amount: NotRequired[Money]


@shape
class Transaction(Shape):
    """A purchase."""

    id: str
    external_id: str | None
    customer_id: str
    status: Annotated[Literal["completed"], OPEN]
    currency: str
    amount: Money
    eligible_amount: Money
    tax_amount: Money
    shipping_amount: Money
    tip_amount: Money
    gift_card_amount: Money
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

    customer_id: str
    customer_external_id: str | None
    transaction: Transaction
    points_earned: Points
    redemption_ids: list[str]
    source: Source


@shape
class TransactionRefunded(Payload):
    """A transaction is refunded, in part or in full."""

    type: ClassVar = "transaction.refunded"

    refund_id: str
    external_id: str | None
    transaction_id: str
    transaction_external_id: str | None
    customer_id: str
    customer_external_id: str | None
    amount: Money
    currency: str
    total_refunded: Money
    remaining_amount: Money
    full: bool
    items: list[Item]
    points_clawed_back: Points
    points_restored: Points
    points_shortfall: Points
    points_expired_before: Points
    reason: str | None
    refunded_at: Time
