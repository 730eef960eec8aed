"""The signing secret of an endpoint: how many are valid, which one signs; show it, rotate it, promote the new one."""

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from loyalpro.kernel.errors import InvalidInput, Refused
from loyalpro.web.dashboard.forms import Form, SentForm, blank, commit, refused
from loyalpro.web.dashboard.pages.endpoint import ONE, EndpointId, base_of, known, name_of
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visitor
from loyalpro.web.errors import status_of
from loyalpro.web.services import ServicesDep
from loyalpro.web.unit import Unit
from loyalpro.webhooks.endpoints import EndpointRef, get_endpoint
from loyalpro.webhooks.rotation import RotatedSecret, RotateSecret, list_secrets, reveal_secret, rotate_secret
from loyalpro.webhooks.secrets import DEFAULT_OVERLAP_S, is_waiting, previous_expires_at

_HOUR_S: Final = 3_600
OVERLAPS: Final = (
    ("0", "none: the old secret stops now"),
    (str(_HOUR_S), "1 hour"),
    (str(DEFAULT_OVERLAP_S), "24 hours"),
    (str(3 * DEFAULT_OVERLAP_S), "3 days"),
    (str(7 * DEFAULT_OVERLAP_S), "7 days"),
)
"""For how long an old secret may stay valid, in seconds."""

router = APIRouter(route_class=PageRoute)


@router.get(f"{ONE}/secret", name="endpoint.secret")
async def show(request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId) -> Response:
    """Which secrets are valid, without their texts."""
    return await _page(request, visitor, services, endpoint_id, blank(request, overlap=str(DEFAULT_OVERLAP_S)))


@router.post(f"{ONE}/secret/show", name="endpoint.show_secret")
async def reveal(request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId) -> Response:
    """Show the newest secret, in this response alone. The audit log notes it."""
    command = EndpointRef(visitor.account_id, known("we", endpoint_id))
    secret = await services.runner.change(lambda unit: reveal_secret(unit, command), "control", actor=visitor.actor)
    form = blank(request, overlap=str(DEFAULT_OVERLAP_S))
    return await _page(request, visitor, services, endpoint_id, form, secret=secret)


@router.post(f"{ONE}/secret/rotate", name="endpoint.rotate_secret")
async def rotate(
    request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId, form: SentForm
) -> Response:
    """Make a new secret, and show it in this response alone."""
    made: list[RotatedSecret] = []
    try:
        if form.text("overlap") not in dict(OVERLAPS):
            raise InvalidInput("Choose one of these times.", code="invalid_field", param="overlap")
        command = RotateSecret(visitor.account_id, known("we", endpoint_id), overlap_s=int(form.text("overlap")))

        def work(unit: Unit) -> dict[str, Any]:
            made.append(rotate_secret(unit, command))
            return {}

        await commit(request, form, work)
    except Refused as error:
        again = refused(request, form, error, "overlap")
        return await _page(request, visitor, services, endpoint_id, again, status=status_of(error))
    if not made:
        path = f"/developers/webhooks/{endpoint_id}/secret"
        return redirect(request, path, "This secret was rotated already. It is not shown again.")
    new = blank(request, overlap=str(DEFAULT_OVERLAP_S))
    return await _page(request, visitor, services, endpoint_id, new, secret=made[-1].secret, is_new=True)


@router.post(f"{ONE}/secret/promote", name="endpoint.promote_secret")
async def promote(request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId) -> Response:
    """Finish a rotation: the receiver has the new secret."""
    command = RotateSecret(visitor.account_id, known("we", endpoint_id), promote=True)
    await services.runner.change(lambda unit: rotate_secret(unit, command), "control", actor=visitor.actor)
    path = f"/developers/webhooks/{endpoint_id}/secret"
    return redirect(request, path, "The new secret signs x-loyalpro-signature from now on.")


async def _page(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    endpoint_id: str,
    form: Form,
    *,
    secret: str | None = None,
    is_new: bool = False,
    status: int = 200,
) -> Response:
    query = EndpointRef(visitor.account_id, known("we", endpoint_id))
    details, secrets = await services.runner.read(lambda unit: (get_endpoint(unit, query), list_secrets(unit, query)))
    return page(
        request,
        "endpoint/secret.html",
        title=f"{name_of(details)}: signing secret",
        status=status,
        form=form,
        name=name_of(details),
        base=base_of(details),
        secrets=secrets,
        waits=is_waiting(secrets),
        previous_ends_at=previous_expires_at(secrets),
        overlaps=OVERLAPS,
        secret=secret,
        is_new=is_new,
    )
