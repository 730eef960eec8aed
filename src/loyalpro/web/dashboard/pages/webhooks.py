"""Developers > Webhooks: the list of endpoints, and how one is added."""

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Request, Response

from loyalpro.accounts.roles import ROLES
from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.events.samples import sample_body
from loyalpro.kernel.errors import Refused
from loyalpro.web.dashboard.forms import Form, SentForm, blank, commit, refused
from loyalpro.web.dashboard.highlight import highlight
from loyalpro.web.dashboard.pages.endpoint import set_up_page
from loyalpro.web.dashboard.pages.endpoint_form import FIELDS, groups, settings_of
from loyalpro.web.dashboard.render import fragment, page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.errors import status_of
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.unit import Unit
from loyalpro.web.url_check import checked_url
from loyalpro.webhooks import endpoints
from loyalpro.webhooks.endpoint_url import public_url
from loyalpro.webhooks.entities import ALL_TYPES
from loyalpro.webhooks.health import DayOfAll, get_day
from loyalpro.webhooks.overview import MOST_COUNTED_IN_LIST, EndpointState, list_by_need
from loyalpro.webhooks.url_check import UrlCheck

LIST: Final = "/developers/webhooks"
NEW: Final = "/developers/webhooks/new"
_ROWS: Final = 100
_FIRST_EXAMPLE: Final = "points.earned"

EventType = Annotated[str | None, Query(max_length=64)]

router = APIRouter(route_class=PageRoute)


@router.get(LIST, name="webhooks")
async def show(
    request: Request, visitor: Visitor, services: ServicesDep, start: Annotated[int, Query(ge=0, le=1_000)] = 0
) -> Response:
    """Every endpoint with its state, those that need a person first."""
    model = await _listed(request, visitor, services, start)
    return page(request, "webhooks/list.html", title="Webhooks", **model)


@router.get(f"{LIST}/rows", name="webhooks.rows")
async def rows(
    request: Request, visitor: Visitor, services: ServicesDep, start: Annotated[int, Query(ge=0, le=1_000)] = 0
) -> Response:
    """The part of the list that changes by itself."""
    return fragment(request, "webhooks/rows.html", **await _listed(request, visitor, services, start))


@router.get(NEW, name="webhooks.new")
async def new(request: Request, example: EventType = None) -> Response:
    """The form for another endpoint, with an example of an event beside it."""
    form = blank(request, which=ALL_TYPES, ordering="none")
    return page(request, "webhooks/new.html", title="Add Endpoint", **_new(form, None, example))


@router.get(f"{NEW}/example", name="webhooks.example")
async def example_of(request: Request, example: EventType = None) -> Response:
    """An example of an event, to stand beside the form."""
    return fragment(request, "webhooks/example.html", **_example(example))


@router.post(f"{NEW}/check", name="webhooks.check")
async def check(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """What is known of the URL that is being typed; without a script the whole form with it."""
    text = form.text("url")
    found = await checked_url(services, visitor.account_id, visitor.actor, text) if text else None
    if request.headers.get("hx-request") == "true":
        return fragment(request, "webhooks/checks.html", checked=found)
    return page(request, "webhooks/new.html", title="Add Endpoint", **_new(form, found, None))


@router.post(NEW, name="webhooks.create")
async def create(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """Add the endpoint. The answer shows its secret, once; the form that is sent again leads to the same page without it."""
    added: list[endpoints.AddedEndpoint] = []

    try:
        command = await _command(visitor, services, form)

        def work(unit: Unit) -> dict[str, Any]:
            added.append(endpoints.add_endpoint(unit, command))
            return {"id": added[-1].details.endpoint.id}

        result, _ = await commit(request, form, work)
    except Refused as error:
        shown = refused(request, form, error, *FIELDS)
        model = _new(shown, None, None)
        return page(request, "webhooks/new.html", title="Add Endpoint", status=status_of(error), **model)
    if not added:
        return redirect(request, f"{LIST}/{result['id']}/set-up", "This endpoint was added already.")
    return set_up_page(request, added[-1].details, secret=added[-1].secret)


async def _command(visitor: Visit, services: Services, form: Form) -> endpoints.AddEndpoint:
    """The endpoint that a form describes."""
    given = settings_of(form)
    return endpoints.AddEndpoint(
        account_id=visitor.account_id,
        url=await public_url(form.text("url"), services.policy, services.resolve, visitor.account_id),
        max_endpoints=services.max_endpoints,
        **given,
    )


def _new(form: Form, checked: UrlCheck | None, example: str | None) -> dict[str, Any]:
    return {"form": form, "checked": checked, "groups": groups(), "types": len(EVENT_TYPES)} | _example(example)


def _example(name: str | None) -> dict[str, Any]:
    """An example of an event as it would arrive, spaced for reading, and the size of the real one."""
    event_type = EVENT_TYPES.get(name or "", EVENT_TYPES[_FIRST_EXAMPLE])
    body = msgspec.json.encode(sample_body(event_type.name))
    text = msgspec.json.format(body, indent=2).decode()
    return {"example": event_type, "example_bytes": len(body), "example_code": highlight(text, "json")}


async def _listed(request: Request, visitor: Visit, services: Services, start: int) -> dict[str, Any]:
    def look(unit: Unit) -> tuple[list[EndpointState], DayOfAll]:
        listed = list_by_need(unit, visitor.account_id)
        return listed, get_day(unit, [each.details.endpoint.id for each in listed])

    found, day = await services.runner.read(look)
    failing = [each for each in found if each.state in ("probing", "failing")]
    stopped = [each for each in found if each.state in ("paused", "disabled")]
    return {
        "found": found[start : start + _ROWS],
        "day": day,
        "total": len(found),
        "start": start,
        "newer": None if not start else f"{LIST}?start={max(0, start - _ROWS)}",
        "older": f"{LIST}?start={start + _ROWS}" if start + _ROWS < len(found) else None,
        "worst": failing[0] if failing else None,
        "waiting": sum(each.waiting for each in found),
        "parked": sum(each.waiting for each in stopped),
        "is_more": any(each.waiting > MOST_COUNTED_IN_LIST for each in found),
        "may_change": "endpoints.change" in ROLES[visitor.member.membership.role],
        "form": blank(request),
        "deliveries": "/developers/deliveries" if "/developers/deliveries" in request.app.state.page_paths else None,
    }
