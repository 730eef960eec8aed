"""The settings of an endpoint, as its owner edits them."""

from typing import Any, cast

from fastapi import APIRouter, Request, Response

from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.kernel.errors import Refused
from loyalpro.web.dashboard.forms import Form, SentForm, blank, refused
from loyalpro.web.dashboard.pages.endpoint import ONE, EndpointId, base_of, details_of, name_of
from loyalpro.web.dashboard.pages.endpoint_form import FIELDS, groups, settings_of
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.errors import status_of
from loyalpro.web.services import Services, ServicesDep
from loyalpro.webhooks.endpoint_url import public_url
from loyalpro.webhooks.endpoints import ChangeEndpoint, EndpointChanges, EndpointDetails, change_endpoint
from loyalpro.webhooks.entities import ALL_TYPES

router = APIRouter(route_class=PageRoute)


@router.get(f"{ONE}/settings", name="endpoint.settings")
async def show(request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId) -> Response:
    """The settings as they are."""
    details = await details_of(visitor, services, endpoint_id)
    endpoint = details.endpoint
    is_all = ALL_TYPES in endpoint.types
    form = blank(
        request,
        url=endpoint.url,
        description=endpoint.description or "",
        which=ALL_TYPES if is_all else "some",
        events=[] if is_all else endpoint.types,
        ordering=endpoint.ordering,
        rate_limit=str(endpoint.rate_limit or ""),
        headers="\n".join(f"{name}: {value}" for name, value in endpoint.headers.items()),
    )
    return _page(request, details, form)


@router.post(f"{ONE}/settings", name="endpoint.change")
async def change(
    request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId, form: SentForm
) -> Response:
    """Store the settings. A new URL is tried at once."""
    details = await details_of(visitor, services, endpoint_id)
    try:
        changes = await _changes(visitor, services, details, form)
        command = ChangeEndpoint(visitor.account_id, details.endpoint.id, changes)
        changed = await services.runner.change(lambda unit: change_endpoint(unit, command), actor=visitor.actor)
    except Refused as error:
        return _page(request, details, refused(request, form, error, *FIELDS), status_of(error))
    return redirect(request, base_of(changed), f"The settings of {name_of(changed)} are saved.")


async def _changes(visitor: Visit, services: Services, details: EndpointDetails, form: Form) -> EndpointChanges:
    """What the form says; the URL only when it is another, because its name may not resolve today."""
    changes: dict[str, Any] = settings_of(form)
    if form.text("url") != details.endpoint.url:
        changes["url"] = await public_url(form.text("url"), services.policy, services.resolve, visitor.account_id)
    return cast("EndpointChanges", changes)


def _page(request: Request, details: EndpointDetails, form: Form, status: int = 200) -> Response:
    return page(
        request,
        "endpoint/settings.html",
        title=f"{name_of(details)}: settings",
        status=status,
        form=form,
        checked=None,
        name=name_of(details),
        base=base_of(details),
        groups=groups(),
        types=len(EVENT_TYPES),
        may_see_secret=True,
    )
