"""`/v1/redemptions`: points that are exchanged or reserved, and what becomes of a reservation."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from loyalpro.kernel.clock import MS_PER_S, rfc3339
from loyalpro.kernel.errors import InvalidInput, Refused
from loyalpro.loyalty import redemptions
from loyalpro.loyalty.entities import Redemption
from loyalpro.loyalty.ledger import MAX_POINTS
from loyalpro.loyalty.money import minor_units
from loyalpro.web.answers import (
    Actor,
    CustomerId,
    ExternalId,
    Page,
    PointCount,
    RedemptionId,
    RewardId,
    Time,
    TransactionId,
    answers,
)
from loyalpro.web.auth import AccountId
from loyalpro.web.fields import (
    Amount,
    Body,
    Cursor,
    Limit,
    LongText,
    SearchText,
    ShortText,
    Whole,
    known_id,
    page,
)
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.web.unit import Unit

router = APIRouter(prefix="/v1/redemptions", tags=["redemptions"], route_class=StrictRoute.needing(write="points"))


class RedemptionView(TypedDict):
    """Points that were exchanged or are reserved."""

    id: RedemptionId
    external_id: ExternalId | None
    customer_id: CustomerId
    status: str
    points: PointCount
    points_returned: Annotated[int, Field(examples=[0])]
    reward_id: RewardId | None
    reward: dict[str, Any] | None
    transaction_id: TransactionId | None
    code: str | None
    reserved_until: Time | None
    captured_at: Time | None
    ended_at: Time | None
    actor: Actor
    created_at: Time


_DEFAULT_TTL_S: Final = 900

Points = Annotated[Whole, Field(ge=1, le=MAX_POINTS)]
Ttl = Annotated[
    Whole, Field(ge=60, le=86_400, description="How long the points are reserved, in seconds; 900 if left out.")
]


class CreateRedemption(Body):
    """Points to exchange: exactly one of `points` and `reward_id`, of a customer named by exactly one of its two ids."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"customer_external_id": "shop-77", "points": 40, "reserve": True, "ttl_seconds": 600},
                {"customer_external_id": "shop-77", "reward_id": "rew_01m8793ctx2zrb94rghckj4mw4"},
            ]
        }
    )

    customer_id: ShortText | None = None
    customer_external_id: LongText | None = None
    points: Points | None = None
    reward_id: ShortText | None = None
    reserve: Annotated[bool, Field(description="Whether the points are only reserved, until a capture.")] = False
    ttl_seconds: Ttl | None = None
    transaction_id: Annotated[ShortText | None, Field(description="The purchase that the points pay for.")] = None
    external_id: LongText | None = None
    amount: Annotated[Amount | None, Field(description="The order, for a reward with a minimum spend.")] = None
    currency: Annotated[str | None, Field(description="The currency of `amount`: ISO 4217.", max_length=32)] = None


class CaptureRedemption(Body):
    """The purchase that the points pay for, if it is known."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"transaction_id": "txn_01m8793cyg6mnv7ygm0gbbejqx"}]})

    transaction_id: ShortText | None = None


class ReverseRedemption(Body):
    """How many points come back; all that are left if left out."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"points": 10}]})

    points: Points | None = None


@router.post("", status_code=201, summary="Redeem or reserve points", responses=answers(RedemptionView, 201, 200))
async def create(request: Request, account_id: AccountId, body: CreateRedemption) -> Response:
    """The points leave the balance at once, also when they are reserved. Causes `points.redeemed`.

    Sending the same `external_id` again with the same content answers 200 with the redemption that is there.
    """
    command = _command(account_id, body)

    def work(unit: Unit) -> Reply | Refused:
        made = redemptions.redeem_points(unit, command)
        if isinstance(made, Refused):
            return made
        return Reply(200 if made.replayed else 201, redemption_view(made.redemption))

    return await commit(request, account_id, work)


@router.get("", summary="List redemptions, newest first")
async def list_redemptions(
    account_id: AccountId,
    services: ServicesDep,
    customer_id: SearchText = None,
    transaction_id: SearchText = None,
    external_id: SearchText = None,
    code: SearchText = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[RedemptionView]:
    """One page of redemptions."""
    before = known_id("red", cursor, param="cursor") if cursor else None
    command = redemptions.ListRedemptions(account_id, customer_id, transaction_id, external_id, code, before, limit + 1)
    found = await services.runner.read(lambda unit: redemptions.list_redemptions(unit, command))
    return page([redemption_view(each) for each in found], limit)


@router.get("/{redemption_id}", summary="Get a redemption")
async def get(account_id: AccountId, services: ServicesDep, redemption_id: str) -> RedemptionView:
    """One redemption."""
    command = redemptions.RedemptionRef(account_id, known_id("red", redemption_id))
    return redemption_view(await services.runner.read(lambda unit: redemptions.get_redemption(unit, command)))


@router.post("/{redemption_id}/capture", summary="Redeem reserved points", responses=answers(RedemptionView))
async def capture(
    request: Request, account_id: AccountId, redemption_id: str, body: CaptureRedemption | None = None
) -> Response:
    """Causes no event: the points left the balance when they were reserved. Repeating it changes nothing."""
    named = body.transaction_id if body else None
    command = redemptions.CaptureRedemption(
        account_id,
        known_id("red", redemption_id),
        None if named is None else known_id("txn", named, param="transaction_id"),
    )

    def work(unit: Unit) -> Reply:
        return Reply(200, redemption_view(redemptions.capture_redemption(unit, command)))

    return await commit(request, account_id, work)


@router.post("/{redemption_id}/cancel", summary="Cancel a reservation", responses=answers(RedemptionView))
async def cancel(request: Request, account_id: AccountId, redemption_id: str) -> Response:
    """Its points come back. Causes `points.adjusted`. Repeating it changes nothing."""
    command = redemptions.RedemptionRef(account_id, known_id("red", redemption_id))

    def work(unit: Unit) -> Reply:
        return Reply(200, redemption_view(redemptions.cancel_redemption(unit, command)))

    return await commit(request, account_id, work)


@router.post("/{redemption_id}/reverse", summary="Return redeemed points", responses=answers(RedemptionView))
async def reverse(
    request: Request, account_id: AccountId, redemption_id: str, body: ReverseRedemption | None = None
) -> Response:
    """All points come back, or as many as `points` says. Causes `points.adjusted`.

    Repeating the return of all points changes nothing; each return of a part is one of its own.
    """
    command = redemptions.ReverseRedemption(account_id, known_id("red", redemption_id), body.points if body else None)

    def work(unit: Unit) -> Reply:
        return Reply(200, redemption_view(redemptions.reverse_redemption(unit, command)))

    return await commit(request, account_id, work)


def redemption_view(redemption: Redemption) -> RedemptionView:
    """A redemption in JSON."""
    return {
        "id": redemption.id,
        "external_id": redemption.external_id,
        "customer_id": redemption.customer_id,
        "status": redemption.status,
        "points": redemption.points,
        "points_returned": redemption.points_returned,
        "reward_id": redemption.reward_id,
        "reward": redemption.reward,
        "transaction_id": redemption.transaction_id,
        "code": redemption.code,
        "reserved_until": None if redemption.reserved_until is None else rfc3339(redemption.reserved_until),
        "captured_at": None if redemption.captured_at is None else rfc3339(redemption.captured_at),
        "ended_at": None if redemption.ended_at is None else rfc3339(redemption.ended_at),
        "actor": redemption.actor,
        "created_at": rfc3339(redemption.created_at),
    }


def _command(account_id: str, body: CreateRedemption) -> redemptions.RedeemPoints:
    """The command of a body. Raises `InvalidInput` that names the field."""
    _require_one_of(body, "customer_id", "customer_external_id")
    _require_one_of(body, "points", "reward_id")
    if body.ttl_seconds is not None and not body.reserve:
        raise _invalid("ttl_seconds", "ttl_seconds is for reservations; send reserve: true, or leave it out.")
    if body.currency is not None:
        minor_units(body.currency)
        if body.amount is None:
            raise _invalid("currency", "currency is that of amount; send amount as well, or leave it out.")
    return redemptions.RedeemPoints(
        account_id=account_id,
        customer_id=body.customer_id,
        customer_external_id=body.customer_external_id,
        points=body.points,
        reward_id=body.reward_id and known_id("rew", body.reward_id, param="reward_id"),
        reserve_ms=(body.ttl_seconds or _DEFAULT_TTL_S) * MS_PER_S if body.reserve else None,
        transaction_id=body.transaction_id and known_id("txn", body.transaction_id, param="transaction_id"),
        external_id=body.external_id,
        amount=body.amount,
        currency=body.currency,
    )


def _require_one_of(body: CreateRedemption, first: str, second: str) -> None:
    given = [name for name in (first, second) if getattr(body, name) is not None]
    if len(given) != 1:
        code = "invalid_field" if given else "missing_field"
        raise InvalidInput(f"Send exactly one of {first} and {second}.", code=code, param=first)


def _invalid(param: str, detail: str) -> InvalidInput:
    return InvalidInput(detail, code="invalid_field", param=param)
