"""`/v1/transactions`: purchases, recorded one by one or up to 1,000 in a request."""

from collections.abc import Sequence
from typing import Annotated, Any, NotRequired

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from typing_extensions import TypedDict

from loyalpro.events.stable_json import require_stable
from loyalpro.events.transaction import Item
from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.errors import InvalidInput, Refused
from loyalpro.kernel.iteration import pull
from loyalpro.kernel.origin import current_origin
from loyalpro.loyalty import transactions
from loyalpro.loyalty.entities import Transaction
from loyalpro.loyalty.recording import NewPurchase, Purchase, RecordPurchases, record_purchases
from loyalpro.web.answers import (
    Count,
    CurrencyCode,
    CustomerId,
    ErrorView,
    ExternalId,
    Listed,
    MetadataView,
    MinorUnits,
    Page,
    PointCount,
    Time,
    TransactionId,
    answers,
)
from loyalpro.web.auth import AccountId
from loyalpro.web.errors import status_of
from loyalpro.web.field_errors import refusal
from loyalpro.web.fields import (
    MAX_AMOUNT,
    Amount,
    Body,
    Cursor,
    Description,
    Instant,
    Limit,
    LongText,
    Metadata,
    SearchText,
    ShortText,
    Whole,
    check_metadata,
    known_id,
    page,
    whole,
)
from loyalpro.web.idempotency import Reply, commit, commit_batched
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import MAX_BATCH, BatchRoute, StrictRoute
from loyalpro.web.unit import Unit


class _Purchases(BatchRoute):
    """Each member becomes a `NewPurchase`, or the `Refused` that tells why not."""

    field = "transactions"

    def convert(self, member: Any) -> Any:
        """The purchase of a member."""
        return _parsed(member)


router = APIRouter(
    prefix="/v1/transactions", tags=["transactions"], route_class=StrictRoute.needing(write="transactions")
)
batch_router = APIRouter(
    prefix="/v1/transactions", tags=["transactions"], route_class=_Purchases.needing(write="transactions")
)


class TransactionView(TypedDict):
    """A purchase, and the points that it brought and that its refunds moved."""

    id: TransactionId
    external_id: ExternalId | None
    customer_id: CustomerId
    status: str
    currency: CurrencyCode
    amount: MinorUnits
    tax_amount: MinorUnits
    shipping_amount: MinorUnits
    tip_amount: MinorUnits
    gift_card_amount: MinorUnits
    points_discount_amount: MinorUnits
    eligible_amount: MinorUnits
    base_amount: MinorUnits
    refunded_amount: MinorUnits
    items: list[Item]
    channel: str | None
    location_id: str | None
    employee_id: str | None
    metadata: MetadataView
    points_earned: PointCount
    points_clawed_back: PointCount
    points_restored: PointCount
    points_shortfall: PointCount
    program_version: Count
    source: str
    occurred_at: Time
    created_at: Time


class TransactionResult(TypedDict):
    """What the request for this purchase alone would return: `transaction` or `error`."""

    status: Annotated[int, Field(examples=[201])]
    transaction: NotRequired[TransactionView]
    error: NotRequired[ErrorView]


class TransactionMember(TransactionResult):
    """The result of a member of a batch; `index` counts from 0."""

    index: Annotated[int, Field(examples=[0])]


_MAX_DETAILS_BYTES = 56 * 1024
"""The limit for the items and the metadata of a purchase together: with the rest they fit into an event of 64 KiB."""

Quantity = Annotated[
    float,
    AfterValidator(whole),
    Field(description="At most three decimals: 0.75 of a kilogram, -1 for what is returned.", examples=[1]),
]
Part = Annotated[Amount, Field(description="A part of `amount`, in the currency's minor unit.")]


class ItemBody(Body):
    """One line of a purchase, as the till has it. Rules of the program may depend on its SKU, category and amount."""

    sku: str | None = None
    name: str | None = None
    category: str | None = None
    quantity: Quantity = 1
    amount: Annotated[
        Whole,
        Field(ge=-MAX_AMOUNT, le=MAX_AMOUNT, description="In the minor unit; a coupon or a return is below 0."),
    ]
    tax_amount: Annotated[Whole, Field(ge=-MAX_AMOUNT, le=MAX_AMOUNT)] | None = None

    def item(self) -> Item:
        """The item without the fields that were left out."""
        stated: Any = {name: value for name, value in vars(self).items() if value is not None}
        item: Item = stated
        return item


class CreateTransaction(Body):
    """A purchase to record, of a customer named by exactly one of `customer_id` and `customer_external_id`.

    `amount` is what the customer pays in money: all discounts are taken off, tax, shipping and tip are included.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"customer_external_id": "shop-77", "external_id": "order-1001", "amount": 5600, "currency": "EUR"}
            ]
        }
    )

    customer_id: ShortText | None = None
    customer_external_id: LongText | None = None
    external_id: LongText | None = None
    amount: Amount
    currency: Annotated[str, Field(description="ISO 4217, such as EUR.", max_length=32)]
    occurred_at: Instant | None = None
    tax_amount: Part = 0
    shipping_amount: Part = 0
    tip_amount: Part = 0
    gift_card_amount: Annotated[Amount, Field(description="The part of `amount` that a gift card pays.")] = 0
    points_discount_amount: Annotated[
        Amount, Field(description="The discount that points paid for; it is taken off `amount` already.")
    ] = 0
    items: Annotated[list[ItemBody], Field(max_length=1_000)] = Field(default_factory=list)
    redemption_ids: Annotated[
        list[ShortText],
        Field(max_length=20, description="Redemptions that paid for it; reserved ones are captured.", examples=[[]]),
    ] = Field(default_factory=list)
    channel: Description | None = None
    location_id: Description | None = None
    employee_id: Description | None = None
    device_id: Annotated[LongText | None, Field(description="Stored as a keyed hash only.")] = None
    payment_fingerprint: Annotated[LongText | None, Field(description="Stored as a keyed hash only.")] = None
    metadata: Metadata = Field(default_factory=dict)


class CreateTransactions(Body):
    """Up to 1,000 purchases. A refused one does not stop the others."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"transactions": [{"customer_external_id": "shop-77", "amount": 5600, "currency": "EUR"}]}]
        }
    )

    transactions: Annotated[list[Any], Field(min_length=1, max_length=MAX_BATCH)]


@router.post("", status_code=201, summary="Record a purchase", responses=answers(TransactionView, 201, 200))
async def create(request: Request, account_id: AccountId, body: CreateTransaction) -> Response:
    """Causes `transaction.completed` and, when it earns points, `points.earned`.

    Sending the same `external_id` again with the same content answers 200 with the purchase that is there.
    """
    return await commit_batched(request, account_id, purchase(body), _record)


def _record(unit: Unit, account_id: str, purchases: Sequence[NewPurchase]) -> list[Reply | Refused]:
    outcomes = record_purchases(unit, RecordPurchases(account_id, purchases))
    for purchase, outcome in zip(purchases, outcomes, strict=True):
        if isinstance(outcome, Purchase) and not outcome.replayed:
            unit.origin = purchase.origin
            unit.audit(account_id, "transaction.recorded", outcome.transaction.id)
    return [each if isinstance(each, Refused) else _reply(each) for each in outcomes]


def _reply(purchase: Purchase) -> Reply:
    return Reply(200 if purchase.replayed else 201, _transaction(purchase.transaction))


@batch_router.post("/batch", summary="Record up to 1,000 purchases", responses=answers(Listed[TransactionMember]))
async def create_batch(request: Request, account_id: AccountId, body: CreateTransactions) -> Response:
    """The response has a result for each purchase, in their order: what the request for this purchase alone would return."""
    parsed = body.transactions
    valid = [each for each in parsed if isinstance(each, NewPurchase)]

    def work(unit: Unit) -> Reply:
        purchases = record_purchases(unit, RecordPurchases(account_id, valid))
        new = [each.transaction.id for each in purchases if isinstance(each, Purchase) and not each.replayed]
        if new:
            unit.audit(account_id, "transactions.recorded", new[0], {"recorded": len(new)})
        recorded = iter(purchases)
        outcomes = [each if isinstance(each, Refused) else pull(recorded) for each in parsed]
        return Reply(200, {"data": [{"index": index, **_result(each)} for index, each in enumerate(outcomes)]})

    return await commit(request, account_id, work)


@router.get("", summary="List purchases, newest first")
async def list_transactions(
    account_id: AccountId,
    services: ServicesDep,
    customer_id: SearchText = None,
    external_id: SearchText = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[TransactionView]:
    """One page of purchases."""
    before = known_id("txn", cursor, param="cursor") if cursor else None
    command = transactions.ListTransactions(account_id, customer_id, external_id, before, limit + 1)
    found = await services.runner.read(lambda unit: transactions.list_transactions(unit, command))
    return page([_transaction(each) for each in found], limit)


@router.get("/{transaction_id}", summary="Get a purchase")
async def get(account_id: AccountId, services: ServicesDep, transaction_id: str) -> TransactionView:
    """One purchase."""
    command = transactions.GetTransaction(account_id, known_id("txn", transaction_id))
    return _transaction(await services.runner.read(lambda unit: transactions.get_transaction(unit, command)))


def require_one_customer(customer_id: str | None, customer_external_id: str | None) -> None:
    """Raise `InvalidInput` unless a customer is named by exactly one of its ids."""
    if (customer_id is None) == (customer_external_id is None):
        raise InvalidInput(
            "Name the customer by exactly one of customer_id and customer_external_id.",
            code="missing_field" if customer_id is None else "invalid_field",
            param="customer_id",
        )


def purchase(body: CreateTransaction) -> NewPurchase:
    """The purchase of a body, which names one customer. Raises `InvalidInput` that names the field."""
    require_one_customer(body.customer_id, body.customer_external_id)
    return purchase_of(body)


def purchase_of(body: CreateTransaction) -> NewPurchase:
    """The purchase of a body, whatever customer it names. Raises `InvalidInput` that names the field."""
    metadata_bytes = check_metadata(body.metadata)
    items = [each.item() for each in body.items]
    require_stable(items, param="items", max_depth=4, max_bytes=_MAX_DETAILS_BYTES - metadata_bytes)
    return NewPurchase(
        customer_id=body.customer_id,
        customer_external_id=body.customer_external_id,
        external_id=body.external_id,
        amount=body.amount,
        currency=body.currency,
        occurred_at=body.occurred_at,
        items=items,
        channel=body.channel,
        location_id=body.location_id,
        employee_id=body.employee_id,
        device_id=body.device_id,
        payment_fingerprint=body.payment_fingerprint,
        metadata=body.metadata,
        origin=current_origin(),
        tax_amount=body.tax_amount,
        shipping_amount=body.shipping_amount,
        tip_amount=body.tip_amount,
        gift_card_amount=body.gift_card_amount,
        points_discount_amount=body.points_discount_amount,
        redemption_ids=tuple(dict.fromkeys(body.redemption_ids)),
    )


def _parsed(raw: Any) -> NewPurchase | Refused:
    try:
        return purchase(CreateTransaction.model_validate(raw, from_attributes=True))
    except ValidationError as error:
        return refusal(error)
    except Refused as refused:
        return refused


def _result(outcome: Purchase | Refused) -> TransactionResult:
    if isinstance(outcome, Refused):
        status = status_of(outcome)
        error: ErrorView = {"code": outcome.code, "detail": outcome.detail, "param": outcome.param}
        return {"status": status, "error": error}
    return {"status": 200 if outcome.replayed else 201, "transaction": _transaction(outcome.transaction)}


def _transaction(transaction: Transaction) -> TransactionView:
    return {
        "id": transaction.id,
        "external_id": transaction.external_id,
        "customer_id": transaction.customer_id,
        "status": transaction.status,
        "currency": transaction.currency,
        "amount": transaction.amount,
        "tax_amount": transaction.tax_amount,
        "shipping_amount": transaction.shipping_amount,
        "tip_amount": transaction.tip_amount,
        "gift_card_amount": transaction.gift_card_amount,
        "points_discount_amount": transaction.points_discount_amount,
        "eligible_amount": transaction.eligible_amount,
        "base_amount": transaction.base_amount,
        "refunded_amount": transaction.refunded_amount,
        "items": transaction.items,
        "channel": transaction.channel,
        "location_id": transaction.location_id,
        "employee_id": transaction.employee_id,
        "metadata": transaction.metadata,
        "points_earned": transaction.points_earned,
        "points_clawed_back": transaction.points_clawed_back,
        "points_restored": transaction.points_restored,
        "points_shortfall": transaction.points_shortfall,
        "program_version": transaction.program_version,
        "source": transaction.source,
        "occurred_at": rfc3339(transaction.occurred_at),
        "created_at": rfc3339(transaction.created_at),
    }
