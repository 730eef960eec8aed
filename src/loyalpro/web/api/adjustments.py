"""`/v1/customers/{id}/adjustments`: points that are given or taken by hand."""

from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.errors import Refused
from loyalpro.loyalty.adjustments import AdjustPoints, MadeAdjustment, adjust_points
from loyalpro.loyalty.expiry import NEVER
from loyalpro.loyalty.ledger import MAX_POINTS
from loyalpro.web.answers import (
    Actor,
    AdjustmentId,
    CustomerId,
    EntryId,
    ExternalId,
    LotId,
    PointCount,
    PointsView,
    Time,
    answers,
)
from loyalpro.web.auth import AccountId
from loyalpro.web.fields import Body, Description, Instant, LongText, ShortText, Whole, known_id
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.strict_route import StrictRoute
from loyalpro.web.unit import Unit

router = APIRouter(prefix="/v1/customers", tags=["adjustments"], route_class=StrictRoute.needing(write="points"))


class AdjustmentView(TypedDict):
    """Points that were given or taken by hand."""

    id: AdjustmentId
    external_id: ExternalId | None
    customer_id: CustomerId
    points: PointCount
    reason_code: str
    note: str | None
    expires_at: Time | None
    counts_toward_tier: bool
    entry_id: EntryId
    lot_id: LotId | None
    actor: Actor
    balance: PointsView
    created_at: Time


class CreateAdjustment(Body):
    """Points to give, or, below 0, to take."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"points": 50, "reason_code": "goodwill", "note": "Late delivery", "external_id": "ticket-812"},
                {"points": -20, "reason_code": "correction", "allow_negative": True},
            ]
        }
    )

    points: Annotated[
        Whole, Field(ge=-MAX_POINTS, le=MAX_POINTS, description="Above 0 to give, below 0 to take; not 0.")
    ]
    reason_code: Annotated[ShortText, Field(description="Your own word for the reason, such as `goodwill`.")]
    note: Description | None = None
    expires_at: Annotated[
        Instant | None,
        Field(description="Until when points that are given are valid; the program's policy if left out."),
    ] = None
    counts_toward_tier: Annotated[bool, Field(description="Whether the points count today for the tier.")] = False
    allow_negative: Annotated[
        bool, Field(description="Whether what is taken beyond the available points becomes debt.")
    ] = False
    external_id: LongText | None = None


@router.post(
    "/{customer_id}/adjustments",
    status_code=201,
    summary="Give or take points by hand",
    responses=answers(AdjustmentView, 201, 200),
)
async def create(request: Request, account_id: AccountId, customer_id: str, body: CreateAdjustment) -> Response:
    """Causes `points.adjusted`.

    Sending the same `external_id` again with the same content answers 200 with the adjustment that is there.
    """
    command = AdjustPoints(
        account_id=account_id,
        customer_id=known_id("cus", customer_id),
        points=body.points,
        reason_code=body.reason_code,
        note=body.note,
        expires_at=body.expires_at,
        counts_toward_tier=body.counts_toward_tier,
        allow_negative=body.allow_negative,
        external_id=body.external_id,
    )

    def work(unit: Unit) -> Reply | Refused:
        made = adjust_points(unit, command)
        if isinstance(made, Refused):
            return made
        return Reply(200 if made.replayed else 201, _view(made))

    return await commit(request, account_id, work)


def _view(made: MadeAdjustment) -> AdjustmentView:
    adjustment, balance = made.adjustment, made.balance
    expires_at = made.expires_at
    return {
        "id": adjustment.id,
        "external_id": adjustment.external_id,
        "customer_id": adjustment.customer_id,
        "points": adjustment.points,
        "reason_code": adjustment.reason_code,
        "note": made.note,
        "expires_at": None if expires_at is None or expires_at >= NEVER else rfc3339(expires_at),
        "counts_toward_tier": adjustment.counts_toward_tier,
        "entry_id": adjustment.entry_id,
        "lot_id": adjustment.lot_id,
        "actor": adjustment.actor,
        "balance": {"available": balance.available, "pending": balance.pending, "debt": balance.debt},
        "created_at": rfc3339(adjustment.created_at),
    }
