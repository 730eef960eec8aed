"""`/v1/notices`: what an owner has to know although nobody asked."""

from typing import Any

from fastapi import APIRouter

from loyalpro.kernel.clock import rfc3339
from loyalpro.storage.tables.notices import PastNotice
from loyalpro.web.api.fields import Cursor, Limit, SearchText, known_id, page
from loyalpro.web.services import AccountId, ServicesDep
from loyalpro.web.strict_route import StrictRoute

router = APIRouter(prefix="/v1/notices", tags=["notices"], route_class=StrictRoute)


@router.get("", summary="List notices, newest first")
async def list_notices(
    account_id: AccountId,
    services: ServicesDep,
    endpoint_id: SearchText = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """`endpoint_failing` after one and after three days of nothing but failures, `endpoint_disabled`, `deliveries_given_up`."""
    before = known_id("ntc", cursor, param="cursor") if cursor else None
    found = await services.transactions.read(
        lambda unit: unit.notices.list_before(account_id, before, endpoint_id, limit + 1)
    )
    return page([_view(each) for each in found], limit)


def _view(notice: PastNotice) -> dict[str, Any]:
    return {
        "id": notice.id,
        "endpoint_id": notice.endpoint_id,
        "kind": notice.kind,
        "detail": notice.detail,
        "created_at": rfc3339(notice.created_at),
    }
