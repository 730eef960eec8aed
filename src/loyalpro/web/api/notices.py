"""`/v1/notices`: messages to the owners of endpoints, such as that an endpoint was disabled."""

from fastapi import APIRouter
from typing_extensions import TypedDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.web.answers import EndpointId, NoticeId, Page, Time
from loyalpro.web.auth import AccountId
from loyalpro.web.fields import Cursor, Limit, SearchText, known_id, page
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.webhooks import notices
from loyalpro.webhooks.entities import PastNotice

router = APIRouter(prefix="/v1/notices", tags=["notices"], route_class=StrictRoute.needing(write="webhooks"))


class NoticeView(TypedDict):
    """A change that the owner of an endpoint did not make."""

    id: NoticeId
    endpoint_id: EndpointId
    kind: str
    detail: str
    created_at: Time


@router.get("", summary="List notices, newest first")
async def list_notices(
    account_id: AccountId,
    services: ServicesDep,
    endpoint_id: SearchText = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[NoticeView]:
    """One page. Kinds: `endpoint_failing` (one and three days of failures), `endpoint_disabled`, `deliveries_given_up`."""
    before_id = known_id("ntc", cursor, param="cursor") if cursor else None
    query = notices.ListNotices(account_id, before_id, limit + 1, endpoint_id)
    found = await services.runner.read(lambda unit: notices.list_notices(unit, query))
    return page([_view(each) for each in found], limit)


def _view(notice: PastNotice) -> NoticeView:
    return {
        "id": notice.id,
        "endpoint_id": notice.endpoint_id,
        "kind": notice.kind,
        "detail": notice.detail,
        "created_at": rfc3339(notice.created_at),
    }
