"""API keys of the account."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response

from loyalpro.accounts.api_keys import CreatedKey, CreateKey, ListKeys, RevokeKey, create_key, list_keys, revoke_key
from loyalpro.accounts.scopes import SCOPES
from loyalpro.kernel.errors import InvalidInput, Refused
from loyalpro.kernel.ids import is_id
from loyalpro.web.dashboard.forms import Form, SentForm, blank, commit
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.sessions import again
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.unit import Unit

_PATH: Final = "/developers/keys"
_TEMPLATE: Final = "keys/keys.html"
_PAGE: Final = 50
_MEANINGS: Final = {
    "read": "Read everything but members, keys, the audit log and secrets",
    "customers": "Enroll, change, merge and delete customers",
    "transactions": "Record purchases and refunds",
    "points": "Adjust points, redeem them, reverse redemptions",
    "program": "Change the program, rewards, campaigns and fraud rules",
    "webhooks": "Change endpoints, read their secrets, resend",
    "admin": "API keys, members, the audit log",
}

KeyId = Annotated[str, Path(max_length=64)]

router = APIRouter(route_class=PageRoute)


@router.get(_PATH, name="keys")
async def show(request: Request, visitor: Visitor, services: ServicesDep, before: str | None = None) -> Response:
    """The keys, newest first, and the form for another."""
    form = blank(request, scopes=[])
    return page(request, _TEMPLATE, form=form, **await _model(visitor, services, before))


@router.post(_PATH, name="keys.create")
async def create(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """The text of a new key, which is shown once, in this response."""
    made: list[CreatedKey] = []

    def work(unit: Unit) -> dict[str, Any]:
        made.append(create_key(unit, _command(visitor, form)))
        return {"id": made[-1].key.id}

    try:
        await commit(request, form, work, "control")
    except Refused as error:
        model = await _model(visitor, services, None)
        return again(request, _TEMPLATE, form, error, model, "name", "scopes", "requests_per_minute")
    if not made:
        return redirect(request, _PATH, "This key was created already. It is not shown again.")
    return page(request, "keys/created.html", title="Copy your API key", made=made[-1])


@router.post("/developers/keys/{key_id}/revoke", name="keys.revoke")
async def revoke(request: Request, visitor: Visitor, services: ServicesDep, key_id: KeyId) -> Response:
    """Revoke a key at once."""
    command = RevokeKey(visitor.account_id, key_id, keep_admin=False)
    revoked = await services.runner.change(lambda unit: revoke_key(unit, command), "control", actor=visitor.actor)
    return redirect(request, _PATH, f"{revoked.name} is revoked. Every request with it is refused from now on.")


def _command(visitor: Visit, form: Form) -> CreateKey:
    limit = form.text("requests_per_minute")
    if limit and not (limit.isascii() and limit.isdigit()):
        raise InvalidInput("A limit is a whole number.", code="invalid_field", param="requests_per_minute")
    return CreateKey(
        visitor.account_id,
        form.text("name"),
        form.texts("scopes"),
        requests_per_minute=int(limit[:12]) if limit else None,
        creator_role=visitor.member.membership.role,
    )


async def _model(visitor: Visit, services: Services, before: str | None) -> dict[str, Any]:
    known = before if before is not None and is_id("key", before) else None
    query = ListKeys(visitor.account_id, known, _PAGE + 1)
    keys = await services.runner.read(lambda unit: list_keys(unit, query))
    is_owner = visitor.member.membership.role == "owner"
    return {
        "title": "API keys",
        "keys": [(key, key.status(visitor.now)) for key in keys[:_PAGE]],
        "older": f"{_PATH}?before={keys[_PAGE - 1].id}" if len(keys) > _PAGE else None,
        "scopes": [(each, _MEANINGS[each]) for each in SCOPES if is_owner or each != "admin"],
    }
