"""`/v1/audit_log`: who changed what."""

from typing import Any

from fastapi import APIRouter
from typing_extensions import TypedDict

from loyalpro.accounts import audit
from loyalpro.accounts.entities import AuditEntry
from loyalpro.kernel.clock import rfc3339
from loyalpro.web.answers import Actor, AuditId, Page, RequestId, Time
from loyalpro.web.auth import AccountId
from loyalpro.web.fields import Cursor, Limit, SearchText, known_id, page
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute

router = APIRouter(
    prefix="/v1/audit_log", tags=["audit log"], route_class=StrictRoute.needing(read="admin", write="admin")
)


class AuditView(TypedDict):
    """A change and who made it."""

    id: AuditId
    actor: Actor
    action: str
    object_id: str
    request_id: RequestId | None
    address: str | None
    changes: dict[str, Any] | None
    created_at: Time


@router.get("", summary="List changes with their actors, newest first")
async def list_audit(
    account_id: AccountId,
    services: ServicesDep,
    actor: SearchText = None,
    object_id: SearchText = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[AuditView]:
    """One page. Each request that changes something has one entry, a batch as well."""
    before_id = known_id("aud", cursor, param="cursor") if cursor else None
    query = audit.ListAudit(account_id, before_id, limit + 1, actor, object_id)
    found = await services.runner.read(lambda unit: audit.list_audit(unit, query))
    return page([_view(each) for each in found], limit)


def _view(entry: AuditEntry) -> AuditView:
    return {
        "id": entry.id,
        "actor": entry.actor,
        "action": entry.action,
        "object_id": entry.object_id,
        "request_id": entry.request_id,
        "address": entry.address,
        "changes": entry.changes,
        "created_at": rfc3339(entry.created_at),
    }
