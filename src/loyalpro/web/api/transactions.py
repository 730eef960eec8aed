"""`/v1/transactions`: purchases, one by one and by the thousand."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field, ValidationError

from loyalpro.events.stable_json import require_stable
from loyalpro.kernel.errors import InvalidInput, NotFound, Refused
from loyalpro.loyalty.transactions import Purchase, RecordPurchase, record_purchases, transaction_view
from loyalpro.web.api.fields import (
    Amount,
    Body,
    Cursor,
    Instant,
    Limit,
    LongText,
    Metadata,
    SearchText,
    ShortText,
    check_metadata,
    known_id,
    page,
)
from loyalpro.web.auth import AccountId
from loyalpro.web.errors import refusal, status_of
from loyalpro.web.idempotency import Reply, commit, commit_batched
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import BatchRoute, StrictRoute
from loyalpro.web.unit import Unit

router = APIRouter(prefix="/v1/transactions", tags=["transactions"], route_class=StrictRoute)
batch_router = APIRouter(prefix="/v1/transactions", tags=["transactions"], route_class=BatchRoute)

_MAX_BATCH = 1_000
_MAX_ITEMS_BYTES = 24 * 1024


class ItemBody(Body):
    """One line of a purchase."""

    sku: ShortText | None = None
    name: LongText | None = None
    category: ShortText | None = None
    quantity: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    amount: Amount

    def stated(self) -> dict[str, Any]:
        """The fields that were not left out."""
        return {name: value for name, value in vars(self).items() if value is not None}


class CreateTransaction(Body):
    """A purchase to record, of a customer named by exactly one of `customer_id` and `customer_external_id`."""

    customer_id: ShortText | None = None
    customer_external_id: LongText | None = None
    external_id: LongText | None = None
    amount: Amount
    currency: Annotated[str, Field(description="ISO 4217, such as EUR.", max_length=32)]
    occurred_at: Instant | None = None
    items: Annotated[list[ItemBody], Field(max_length=200)] = Field(default_factory=list)
    channel: ShortText | None = None
    location_id: ShortText | None = None
    employee_id: ShortText | None = None
    metadata: Metadata = Field(default_factory=dict)


class CreateTransactions(Body):
    """Up to 1,000 purchases. Each is judged by itself: one that is refused does not stop the others."""

    transactions: Annotated[list[Any], Field(min_length=1, max_length=_MAX_BATCH)]


@router.post("", status_code=201, summary="Record a purchase")
async def create(request: Request, account_id: AccountId, body: CreateTransaction) -> Response:
    """Causes `transaction.completed` and, when it earns points, `points.earned`.

    Sending the same `external_id` again with the same content answers 200 with the purchase that is there.
    """
    return await commit_batched(request, account_id, _command(account_id, body), _record)


def _record(unit: Unit, account_id: str, commands: Sequence[RecordPurchase]) -> list[Reply | Refused]:
    purchases = record_purchases(unit.loyalty, unit.outbox.emit, account_id, commands, now=unit.now, ids=unit.ids)
    return [each if isinstance(each, Refused) else _reply(each) for each in purchases]


def _reply(purchase: Purchase) -> Reply:
    return Reply(200 if purchase.replayed else 201, transaction_view(purchase.transaction))


@batch_router.post("/batch", summary="Record up to 1,000 purchases")
async def create_batch(request: Request, account_id: AccountId, body: CreateTransactions) -> Response:
    """Answers with a result for each, in the order they came: what it would have been answered alone."""
    commands = [_parsed(account_id, each) for each in body.transactions]

    def work(unit: Unit) -> Reply:
        good = [each for each in commands if isinstance(each, RecordPurchase)]
        recorded = iter(record_purchases(unit.loyalty, unit.outbox.emit, account_id, good, now=unit.now, ids=unit.ids))
        outcomes = [next(recorded) if isinstance(each, RecordPurchase) else each for each in commands]
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
) -> dict[str, Any]:
    """One page of purchases."""
    before = known_id("txn", cursor, param="cursor") if cursor else None
    found = await services.runner.read(
        lambda unit: unit.loyalty.list_transactions(account_id, customer_id, external_id, before, limit + 1)
    )
    return page([transaction_view(each) for each in found], limit)


@router.get("/{transaction_id}", summary="Get a purchase")
async def get(account_id: AccountId, services: ServicesDep, transaction_id: str) -> dict[str, Any]:
    """One purchase."""
    known_id("txn", transaction_id)
    found = await services.runner.read(lambda unit: unit.loyalty.get_transaction(account_id, transaction_id))
    if found is None:
        raise NotFound(f"There is no transaction {transaction_id}.", param="id")
    return transaction_view(found)


def _command(account_id: str, body: CreateTransaction) -> RecordPurchase:
    """The body as a command, or a refusal that names the field."""
    if (body.customer_id is None) == (body.customer_external_id is None):
        raise InvalidInput(
            "Name the customer by exactly one of customer_id and customer_external_id.",
            code="missing_field" if body.customer_id is None else "invalid_field",
            param="customer_id",
        )
    check_metadata(body.metadata)
    items = [each.stated() for each in body.items]
    require_stable(items, param="items", max_depth=4, max_bytes=_MAX_ITEMS_BYTES)
    return RecordPurchase(
        account_id=account_id,
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
        metadata=body.metadata,
    )


def _parsed(account_id: str, raw: Any) -> RecordPurchase | Refused:
    try:
        return _command(account_id, CreateTransaction.model_validate(raw, from_attributes=True))
    except ValidationError as error:
        return refusal(error)
    except Refused as refused:
        return refused


def _result(outcome: Purchase | Refused) -> dict[str, Any]:
    if isinstance(outcome, Refused):
        status = status_of(outcome)
        error = {"code": outcome.code, "detail": outcome.detail, "param": outcome.param}
        return {"status": status, "error": error}
    return {"status": 200 if outcome.replayed else 201, "transaction": transaction_view(outcome.transaction)}
