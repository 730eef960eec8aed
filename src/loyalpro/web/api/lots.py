"""`/v1/lots`: pending lots that are activated or canceled by hand."""

from fastapi import APIRouter, Request, Response
from typing_extensions import TypedDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.loyalty import pending_lots
from loyalpro.loyalty.expiry import NEVER
from loyalpro.loyalty.ledger import Lot
from loyalpro.web.answers import EntryId, LotId, PointCount, Time, TransactionId, answers
from loyalpro.web.auth import AccountId
from loyalpro.web.fields import known_id
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.strict_route import StrictRoute
from loyalpro.web.unit import Unit

router = APIRouter(prefix="/v1/lots", tags=["lots"], route_class=StrictRoute.needing(write="points"))


class LotView(TypedDict):
    """What is left of one credit."""

    id: LotId
    entry_id: EntryId
    original: PointCount
    remaining: PointCount
    status: str
    earned_at: Time
    activates_at: Time | None
    expires_at: Time | None
    transaction_id: TransactionId | None


@router.post("/{lot_id}/activate", summary="Make the points of a pending lot available", responses=answers(LotView))
async def activate(request: Request, account_id: AccountId, lot_id: str) -> Response:
    """They repay a debt first. No event shows it; a lot that is active already is returned as it is."""
    command = pending_lots.ChangeLot(account_id, known_id("lot", lot_id))

    def work(unit: Unit) -> Reply:
        return Reply(200, lot_view(pending_lots.activate_lot(unit, command)))

    return await commit(request, account_id, work)


@router.post("/{lot_id}/cancel", summary="Cancel the points of a pending lot", responses=answers(LotView))
async def cancel(request: Request, account_id: AccountId, lot_id: str) -> Response:
    """Causes `points.adjusted`. A lot that is canceled already is returned as it is."""
    command = pending_lots.ChangeLot(account_id, known_id("lot", lot_id))

    def work(unit: Unit) -> Reply:
        return Reply(200, lot_view(pending_lots.cancel_lot(unit, command)))

    return await commit(request, account_id, work)


def lot_view(lot: Lot) -> LotView:
    """A lot as responses show it."""
    return {
        "id": lot.id,
        "entry_id": lot.entry_id,
        "original": lot.original,
        "remaining": lot.remaining,
        "status": lot.status,
        "earned_at": rfc3339(lot.earned_at),
        "activates_at": None if lot.activates_at is None else rfc3339(lot.activates_at),
        "expires_at": None if lot.expires_at >= NEVER else rfc3339(lot.expires_at),
        "transaction_id": lot.transaction_id,
    }
