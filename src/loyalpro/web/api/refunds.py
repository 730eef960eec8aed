"""`/v1/transactions/{id}/refunds` and `/v1/refunds/batch`: refunds of purchases, one by one or up to 1,000 in a request."""

from typing import Annotated, Any, NotRequired, cast

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from typing_extensions import TypedDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.errors import InvalidInput, Refused
from loyalpro.kernel.iteration import pull
from loyalpro.loyalty import refunds
from loyalpro.loyalty.entities import Refund, ReturnedItem
from loyalpro.loyalty.refunds import NewRefund, Refunded, RefundPurchase, RefundPurchases
from loyalpro.loyalty.returned_lines import Return
from loyalpro.web.answers import (
    CurrencyCode,
    CustomerId,
    ErrorView,
    ExternalId,
    Listed,
    MinorUnits,
    Page,
    PointCount,
    RefundId,
    Time,
    TransactionId,
    answers,
)
from loyalpro.web.auth import AccountId
from loyalpro.web.errors import status_of
from loyalpro.web.field_errors import refusal
from loyalpro.web.fields import Amount, Body, Cursor, Description, Limit, LongText, Whole, known_id, page, whole
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import MAX_BATCH, BatchRoute, StrictRoute
from loyalpro.web.unit import Unit


class _Refunds(BatchRoute):
    """Each member becomes a `NewRefund`, or the `Refused` that tells why not."""

    field = "refunds"

    def convert(self, member: Any) -> Any:
        """The refund of a member."""
        return _parsed(member)


router = APIRouter(prefix="/v1/transactions", tags=["refunds"], route_class=StrictRoute.needing(write="transactions"))
batch_router = APIRouter(prefix="/v1/refunds", tags=["refunds"], route_class=_Refunds.needing(write="transactions"))


class RefundView(TypedDict):
    """What was refunded, and the points that it moved."""

    id: RefundId
    external_id: ExternalId | None
    transaction_id: TransactionId
    customer_id: CustomerId
    amount: MinorUnits
    currency: CurrencyCode
    items: list[ReturnedItem]
    reason: str | None
    points_clawed_back: PointCount
    points_restored: PointCount
    points_shortfall: PointCount
    points_expired_before: PointCount
    created_at: Time


class RefundError(ErrorView):
    """Why a refund was refused."""

    remaining_amount: NotRequired[MinorUnits]


class RefundResult(TypedDict):
    """What the request for this refund alone would return: `refund` or `error`."""

    status: Annotated[int, Field(examples=[201])]
    refund: NotRequired[RefundView]
    error: NotRequired[RefundError]


class RefundMember(RefundResult):
    """The result of a member of a batch; `index` counts from 0."""

    index: Annotated[int, Field(examples=[0])]


Quantity = Annotated[
    float,
    Field(gt=0, le=10**9, description="How many pieces are returned, with at most three decimals."),
    AfterValidator(whole),
]


class ReturnBody(Body):
    """What is returned of one line of the order. The line is named by its place, or by what describes it in the order."""

    line: Annotated[Whole, Field(ge=0, le=999, description="The place of the line in `items`, from 0.")] | None = None
    sku: str | None = None
    name: str | None = None
    category: str | None = None
    quantity: Quantity | None = None
    amount: (
        Annotated[Amount, Field(description="What the returned pieces cost in the order, in the minor unit.")] | None
    ) = None
    tax_amount: Annotated[Whole, Field(description="Not used: tax goes along with the line.")] | None = None


class CreateRefund(Body):
    """A refund. Without amount and items, all that is left of the purchase is refunded."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"amount": 2_000, "external_id": "return-1", "reason": "damaged"},
                {"items": [{"sku": "BEANS-1KG", "quantity": 1}]},
                {},
            ]
        }
    )

    amount: Amount | None = None
    items: Annotated[list[ReturnBody], Field(max_length=1_000)] = Field(default_factory=list)
    external_id: LongText | None = None
    reason: Description | None = None
    restore_points: bool = True


class CreateNamedRefund(CreateRefund):
    """A refund of a purchase that is named by exactly one of `transaction_id` and `transaction_external_id`."""

    transaction_id: LongText | None = None
    transaction_external_id: LongText | None = None


class CreateRefunds(Body):
    """Up to 1,000 refunds. A refused one does not stop the others."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"refunds": [{"transaction_external_id": "order-1", "amount": 500, "external_id": "r-1"}]}]
        }
    )

    refunds: Annotated[list[Any], Field(min_length=1, max_length=MAX_BATCH)]


@router.post(
    "/{transaction_id}/refunds", status_code=201, summary="Refund a purchase", responses=answers(RefundView, 201, 200)
)
async def create(request: Request, account_id: AccountId, transaction_id: str, body: CreateRefund) -> Response:
    """Causes `transaction.refunded`, then `points.adjusted` for points that come back, and for points that are taken.

    Sending the same `external_id` again with the same content answers 200 with the refund that is there.
    """
    command = RefundPurchase(account_id, _new_refund(body, transaction_id=known_id("txn", transaction_id)))

    def work(unit: Unit) -> Reply:
        outcome = refunds.refund_purchase(unit, command)
        return Reply(200 if outcome.replayed else 201, _refund(outcome.refund, outcome.transaction.currency))

    return await commit(request, account_id, work)


@batch_router.post("/batch", summary="Refund up to 1,000 purchases", responses=answers(Listed[RefundMember]))
async def create_batch(request: Request, account_id: AccountId, body: CreateRefunds) -> Response:
    """The response has a result for each refund, in their order: what the request for this refund alone would return."""
    parsed = body.refunds
    valid = [each for each in parsed if isinstance(each, NewRefund)]

    def work(unit: Unit) -> Reply:
        recorded = iter(refunds.refund_purchases(unit, RefundPurchases(account_id, valid)))
        outcomes = [each if isinstance(each, Refused) else pull(recorded) for each in parsed]
        return Reply(200, {"data": [{"index": index, **_result(each)} for index, each in enumerate(outcomes)]})

    return await commit(request, account_id, work)


@router.get("/{transaction_id}/refunds", summary="List the refunds of a purchase, newest first")
async def list_refunds(
    account_id: AccountId, services: ServicesDep, transaction_id: str, limit: Limit = 20, cursor: Cursor = None
) -> Page[RefundView]:
    """One page of refunds."""
    before = known_id("ref", cursor, param="cursor") if cursor else None
    command = refunds.ListRefunds(account_id, known_id("txn", transaction_id), before, limit + 1)
    transaction, found = await services.runner.read(lambda unit: refunds.list_refunds(unit, command))
    return page([_refund(each, transaction.currency) for each in found], limit)


def _new_refund(
    body: CreateRefund, *, transaction_id: str | None = None, transaction_external_id: str | None = None
) -> NewRefund:
    return NewRefund(
        transaction_id=transaction_id,
        transaction_external_id=transaction_external_id,
        amount=body.amount,
        items=tuple(
            Return(each.line, each.sku, each.name, each.category, each.quantity, each.amount) for each in body.items
        ),
        external_id=body.external_id,
        reason=body.reason,
        restore_points=body.restore_points,
    )


def _named_refund(body: CreateNamedRefund) -> NewRefund:
    """The refund of a member of a batch. Raises `InvalidInput` that names the field."""
    if (body.transaction_id is None) == (body.transaction_external_id is None):
        raise InvalidInput(
            "Name the transaction by exactly one of transaction_id and transaction_external_id.",
            code="missing_field" if body.transaction_id is None else "invalid_field",
            param="transaction_id",
        )
    return _new_refund(body, transaction_id=body.transaction_id, transaction_external_id=body.transaction_external_id)


def _parsed(raw: Any) -> NewRefund | Refused:
    try:
        return _named_refund(CreateNamedRefund.model_validate(raw, from_attributes=True))
    except ValidationError as error:
        return refusal(error)
    except Refused as refused:
        return refused


def _result(outcome: Refunded | Refused) -> RefundResult:
    if isinstance(outcome, Refused):
        told = {"code": outcome.code, "detail": outcome.detail, "param": outcome.param, **outcome.facts}
        error = cast("RefundError", told)  # the fact of a refusal is what is left to refund
        return {"status": status_of(outcome), "error": error}
    return {
        "status": 200 if outcome.replayed else 201,
        "refund": _refund(outcome.refund, outcome.transaction.currency),
    }


def _refund(refund: Refund, currency: str) -> RefundView:
    return {
        "id": refund.id,
        "external_id": refund.external_id,
        "transaction_id": refund.transaction_id,
        "customer_id": refund.customer_id,
        "amount": refund.amount,
        "currency": currency,
        "items": refund.items,
        "reason": refund.reason,
        "points_clawed_back": refund.points_clawed_back,
        "points_restored": refund.points_restored,
        "points_shortfall": refund.points_shortfall,
        "points_expired_before": refund.points_expired_before,
        "created_at": rfc3339(refund.created_at),
    }
