"""One endpoint: how it is set up, how it is, and what its owner can do with it."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response

from loyalpro.accounts.roles import ROLES
from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.kernel.errors import InvalidInput, NotFound, Refused
from loyalpro.kernel.ids import Prefix, is_id
from loyalpro.kernel.unit_of_work import WriterName
from loyalpro.web.dashboard.charts import chart, when
from loyalpro.web.dashboard.forms import SentForm, blank, commit, refused
from loyalpro.web.dashboard.highlight import highlight
from loyalpro.web.dashboard.render import fragment, page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.site import cookie, set_cookie
from loyalpro.web.dashboard.toasts import Toast
from loyalpro.web.dashboard.visits import Visit, Visitor, visit_of
from loyalpro.web.errors import status_of
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.unit import Unit
from loyalpro.webhooks.deliveries import DeliveryDetails, DeliveryRef, get_delivery
from loyalpro.webhooks.endpoints import (
    ChangeEndpoint,
    EndpointDetails,
    EndpointRef,
    change_endpoint,
    delete_endpoint,
    get_endpoint,
)
from loyalpro.webhooks.explanations import explanation, label_of, verdict
from loyalpro.webhooks.health import STEPS, GetStats, Period, Stats, get_stats
from loyalpro.webhooks.overview import EndpointOverview, EndpointState, get_overview, state_of, try_now
from loyalpro.webhooks.snippets import FRAMEWORKS, Framework, snippet
from loyalpro.webhooks.test_events import SendTestEvent, send_test_event

ONE: Final = "/developers/webhooks/{endpoint_id}"
SET_UP: Final = f"{ONE}/set-up"
_FRAMEWORK_COOKIE: Final = "loyalpro-framework"
_USUAL_TYPE: Final = "points.earned"
_COOKIE_S: Final = 365 * 24 * 3600
_MOST_REASONS: Final = 12
PERIODS: Final[Mapping[Period, str]] = {"1h": "1 hour", "24h": "24 hours", "7d": "7 days", "30d": "30 days"}
_WATCHED_MS: Final = 35_000
"""For how long the page watches a test event: an attempt takes 30 seconds at most."""

EndpointId = Annotated[str, Path(max_length=64)]
DeliveryId = Annotated[str, Path(max_length=64)]
Chosen = Annotated[str | None, Query(max_length=16)]
Shown = Annotated[str | None, Query(max_length=64)]

router = APIRouter(route_class=PageRoute)


# -- set up ------------------------------------------------------------------------------------------------------------


@router.get(SET_UP, name="endpoint.set_up")
async def set_up(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    endpoint_id: EndpointId,
    framework: Chosen = None,
    test: Shown = None,
) -> Response:
    """The three steps to a verified webhook. `test`: the test event that is watched."""
    details = await details_of(visitor, services, endpoint_id)
    watched = None if test is None else await _delivery(visitor, services, test, details.endpoint.id)
    return set_up_page(request, details, framework=framework, watched=watched)


@router.get(f"{SET_UP}/receiver", name="endpoint.receiver")
async def receiver(
    request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId, framework: Chosen = None
) -> Response:
    """The receiver for one framework, to take the place of another."""
    details = await details_of(visitor, services, endpoint_id)
    model = _receiver(request, visitor, details, framework)
    return _remembering(fragment(request, "endpoint/receiver.html", **model), visitor, framework)


@router.post(f"{ONE}/test", name="endpoint.test")
async def test(
    request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId, form: SentForm
) -> Response:
    """Send a test event, and watch it arrive."""
    forged = form.text("signature") == "wrong"
    command = SendTestEvent(visitor.account_id, known("we", endpoint_id), form.text("type"), forged=forged)
    details = await details_of(visitor, services, endpoint_id)
    try:
        sent = await services.runner.change(lambda unit: send_test_event(unit, command), actor=visitor.actor)
    except Refused as error:
        return set_up_page(request, details, error=error.detail, status=status_of(error))
    if request.headers.get("hx-request") == "true":
        return _watched(request, visitor, details, DeliveryDetails(sent, [], None, None))
    return redirect(request, f"{base_of(details)}/set-up?test={sent.id}#test")


@router.get(f"{ONE}/test/{{delivery_id}}", name="endpoint.test_result")
async def test_result(
    request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId, delivery_id: DeliveryId
) -> Response:
    """What has become of a test event."""
    details = await details_of(visitor, services, endpoint_id)
    return _watched(request, visitor, details, await _delivery(visitor, services, delivery_id, endpoint_id))


def set_up_page(
    request: Request,
    details: EndpointDetails,
    *,
    secret: str | None = None,
    framework: str | None = None,
    watched: DeliveryDetails | None = None,
    error: str | None = None,
    status: int = 200,
) -> Response:
    """The page of the three steps. `secret`: only in the answer to the form that has made it."""
    visitor = visit_of(request)
    assert visitor is not None
    model = _receiver(request, visitor, details, framework) | _test(request, visitor, details, watched)
    response = page(
        request,
        "endpoint/set_up.html",
        title=f"{name_of(details)}: set up",
        status=status,
        secret=secret,
        error=error,
        may_see_secret="secrets" in ROLES[visitor.member.membership.role],
        **model,
    )
    return _remembering(response, visitor, framework)


def _receiver(request: Request, visitor: Visit, details: EndpointDetails, framework: str | None) -> dict[str, Any]:
    """The receiver in the framework that is asked for, or else in the one that was looked at last."""
    wanted = framework or cookie(request, visitor.site, _FRAMEWORK_COOKIE)
    chosen: Framework = next((each for each in FRAMEWORKS if each == wanted), "fastapi")
    written = snippet(chosen, details.endpoint.url, details.endpoint.types)
    return {
        "endpoint": details.endpoint,
        "name": name_of(details),
        "base": base_of(details),
        "frameworks": FRAMEWORKS,
        "chosen": chosen,
        "receiver": written,
        "code": highlight(written.code, written.language),
    }


def _remembering(response: Response, visitor: Visit, framework: str | None) -> Response:
    if framework in FRAMEWORKS:
        set_cookie(response, visitor.site, _FRAMEWORK_COOKIE, str(framework), max_age_s=_COOKIE_S)
    return response


def _test(
    request: Request, visitor: Visit, details: EndpointDetails, watched: DeliveryDetails | None
) -> dict[str, Any]:
    endpoint = details.endpoint
    types = [each for each in EVENT_TYPES if endpoint.wants(each, is_import=False)]
    kind = _first_type(details) if watched is None else watched.delivery.event_type
    return {
        "endpoint": endpoint,
        "base": base_of(details),
        "types": types,
        "test_type": kind,
        "watched": watched,
        "is_watching": watched is not None and _is_open(watched, visitor),
        "last": watched.attempts[-1].deciding if watched is not None and watched.attempts else None,
        "verdict": verdict(watched) if watched is not None and watched.delivery.forged else None,
        "explanation": explanation(watched.attempts[-1].deciding) if watched is not None and watched.attempts else None,
        "delivery_path": "/developers/deliveries"
        if "/developers/deliveries/{delivery_id}" in request.app.state.page_paths
        else None,
    }


def _first_type(details: EndpointDetails) -> str:
    """The type of the first test event: the most usual one that the endpoint wants."""
    wanted = [each for each in EVENT_TYPES if details.endpoint.wants(each, is_import=False)]
    return _USUAL_TYPE if _USUAL_TYPE in wanted else wanted[0]


def _watched(request: Request, visitor: Visit, details: EndpointDetails, watched: DeliveryDetails) -> Response:
    return fragment(request, "endpoint/test.html", **_test(request, visitor, details, watched))


def _is_open(watched: DeliveryDetails, visitor: Visit) -> bool:
    """Whether the first attempt may still be under way."""
    waits = watched.delivery.status == "pending" and not watched.attempts
    return waits and visitor.now - watched.delivery.created_at < _WATCHED_MS


# -- how it is ---------------------------------------------------------------------------------------------------------


@router.get(ONE, name="endpoint")
async def show(
    request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId, period: Chosen = None
) -> Response:
    """How one endpoint is, since when, and why. `period`: what the chart, the figures and the reasons are about."""
    model = await _overview(request, visitor, services, endpoint_id, period)
    return page(request, "endpoint/overview.html", title=model["shown"].name, **model)


@router.get(f"{ONE}/now", name="endpoint.now")
async def now(
    request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId, period: Chosen = None
) -> Response:
    """The parts that change by themselves: the latest deliveries, and in their own places the notice and the figures."""
    model = await _overview(request, visitor, services, endpoint_id, period)
    return fragment(request, "endpoint/now.html", **model)


async def _overview(
    request: Request, visitor: Visit, services: Services, endpoint_id: str, wanted: str | None
) -> dict[str, Any]:
    query = EndpointRef(visitor.account_id, known("we", endpoint_id))
    period: Period = next((each for each in STEPS if each == wanted), "24h")

    def look(unit: Unit) -> tuple[EndpointOverview, Stats]:
        stats = get_stats(unit, GetStats(query.account_id, query.endpoint_id, period, visitor.zone))
        return get_overview(unit, query), stats

    overview, stats = await services.runner.read(look)
    details = overview.found.details
    rights = ROLES[visitor.member.membership.role]
    return {
        "overview": overview,
        "shown": overview.found,
        "endpoint": details.endpoint,
        "stats": stats,
        "chart": chart(stats.spans, stats.step, visitor.zone),
        "rows": [(when(each.start_at, stats.step, visitor.zone), each) for each in stats.spans],
        "failures": [(label_of(each.outcome, each.response_status), each) for each in stats.failures[:_MOST_REASONS]],
        "periods": PERIODS,
        "base": base_of(details),
        "deliveries": deliveries_path(request, details.endpoint.id),
        "one_delivery": "/developers/deliveries/{delivery_id}" in request.app.state.page_paths,
        "may_change": "endpoints.change" in rights,
        "may_see_secret": "secrets" in rights,
        "all_types": len(EVENT_TYPES),
        "test_type": _first_type(details),
        "form": blank(request),
    }


@router.post(f"{ONE}/try", name="endpoint.try")
async def attempt(request: Request, visitor: Visitor, endpoint_id: EndpointId, form: SentForm) -> Response:
    """Send one of the deliveries that wait, although the endpoint is held back because it fails."""
    command = EndpointRef(visitor.account_id, known("we", endpoint_id))
    path = f"/developers/webhooks/{command.endpoint_id}"
    try:
        await commit(request, form, lambda unit: {"id": try_now(unit, command).id})
    except Refused as error:
        return redirect(request, path, error.detail)
    return redirect(request, path, "One delivery is being tried now.")


@router.post(f"{ONE}/pause", name="endpoint.pause")
async def pause(request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId) -> Response:
    """Send nothing more until it is enabled again. What it is owed waits."""
    details = await _set_status(visitor, services, endpoint_id, "paused")
    base = base_of(details)
    return redirect(request, base, Toast(f"{name_of(details)} is paused. What it is owed waits.", f"{base}/enable"))


@router.post(f"{ONE}/enable", name="endpoint.enable")
async def enable(request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId) -> Response:
    """Send again, beginning with what has waited longest."""
    details = await _set_status(visitor, services, endpoint_id, "enabled")
    return redirect(request, base_of(details), f"{name_of(details)} is enabled. What waited goes out oldest first.")


@router.get(f"{ONE}/delete", name="endpoint.ask_delete")
async def ask_delete(request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId) -> Response:
    """Ask for the name of the endpoint before it is deleted."""
    shown = await _state(visitor, services, endpoint_id)
    return page(request, "endpoint/delete.html", title=f"Delete {shown.name}", form=blank(request), **_shown(shown))


@router.post(f"{ONE}/delete", name="endpoint.delete")
async def delete(
    request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId, form: SentForm
) -> Response:
    """Delete the endpoint whose name was typed."""
    shown = await _state(visitor, services, endpoint_id)
    if form.text("confirm") != shown.name:
        error = InvalidInput("This is not its name. Nothing was deleted.", code="invalid_field", param="confirm")
        again = refused(request, form, error, "confirm")
        title = f"Delete {shown.name}"
        return page(request, "endpoint/delete.html", title=title, status=422, form=again, **_shown(shown))
    command = EndpointRef(visitor.account_id, shown.details.endpoint.id)
    await services.runner.change(lambda unit: delete_endpoint(unit, command), "control", actor=visitor.actor)
    return redirect(request, "/developers/webhooks", f"{shown.name} is deleted.")


async def _set_status(visitor: Visit, services: Services, endpoint_id: str, status: str) -> EndpointDetails:
    command = ChangeEndpoint(visitor.account_id, known("we", endpoint_id), {"status": status})
    writer: WriterName = "control" if command.only_stops else "ingest"
    return await services.runner.change(lambda unit: change_endpoint(unit, command), writer, actor=visitor.actor)


async def _state(visitor: Visit, services: Services, endpoint_id: str) -> EndpointState:
    query = EndpointRef(visitor.account_id, known("we", endpoint_id))
    overview = await services.runner.read(lambda unit: get_overview(unit, query))
    return overview.found


def _shown(shown: EndpointState) -> dict[str, Any]:
    return {"shown": shown, "base": base_of(shown.details)}


# -- shared ------------------------------------------------------------------------------------------------------------


async def details_of(visitor: Visit, services: Services, endpoint_id: str) -> EndpointDetails:
    """The endpoint that an address names."""
    query = EndpointRef(visitor.account_id, known("we", endpoint_id))
    return await services.runner.read(lambda unit: get_endpoint(unit, query))


async def _delivery(visitor: Visit, services: Services, delivery_id: str, endpoint_id: str) -> DeliveryDetails:
    """A delivery to this endpoint, or `NotFound`."""
    query = DeliveryRef(visitor.account_id, known("dlv", delivery_id))
    found = await services.runner.read(lambda unit: get_delivery(unit, query))
    if found.delivery.endpoint_id != endpoint_id:
        raise NotFound(f"There is no delivery {delivery_id} to this endpoint.")
    return found


def deliveries_path(request: Request, endpoint_id: str) -> str | None:
    """The address of the deliveries of an endpoint, to be followed by more filters; None where no page lists them."""
    exists = "/developers/deliveries" in request.app.state.page_paths
    return f"/developers/deliveries?endpoint={endpoint_id}" if exists else None


def known(prefix: Prefix, text: str) -> str:
    """The id, or `NotFound` for what cannot be one."""
    if not is_id(prefix, text):
        raise NotFound("There is no such object.")
    return text


def name_of(details: EndpointDetails) -> str:
    """What people call an endpoint."""
    return EndpointState(details, state_of(details), 0).name


def base_of(details: EndpointDetails) -> str:
    """The address of the page of an endpoint."""
    return f"/developers/webhooks/{details.endpoint.id}"
