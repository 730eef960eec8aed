"""Replays of an endpoint: start one, watch it, cancel it, and see past ones."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response

from loyalpro.accounts.roles import ROLES
from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs
from loyalpro.kernel.errors import InvalidInput, Refused
from loyalpro.web.dashboard.forms import Form, SentForm, blank, commit, refused
from loyalpro.web.dashboard.pages.endpoint import ONE, EndpointId, base_of, known, name_of
from loyalpro.web.dashboard.render import fragment, page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.errors import status_of
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.unit import Unit
from loyalpro.webhooks.endpoints import EndpointDetails, EndpointRef, get_endpoint
from loyalpro.webhooks.replays import (
    ListReplays,
    ReplayProgress,
    ReplayRef,
    StartReplay,
    cancel_replay,
    estimate_replay,
    get_replay,
    list_replays,
    start_replay,
)

_REPLAYS: Final = f"{ONE}/replays"
_ONE_REPLAY: Final = f"{_REPLAYS}/{{replay_id}}"
_FIELDS: Final = ("since", "until", "types", "status")
_WHICH: Final[Mapping[str, tuple[str, str]]] = {
    "exhausted": ("Given up", "All attempts of 72 hours failed."),
    "missing": ("Never sent", "The endpoint was not there yet, or did not want the type."),
    "canceled": ("Canceled", "Somebody canceled them, or the endpoint was deleted."),
    "succeeded": ("Delivered", "They arrive once more, with the same event ids."),
}
_PRESET: Final = ("exhausted", "missing")
_PAGE: Final = 20

ReplayId = Annotated[str, Path(max_length=64)]
Before = Annotated[str | None, Query(max_length=64)]
Since = Annotated[int | None, Query(ge=0)]

router = APIRouter(route_class=PageRoute)


@router.get(_REPLAYS, name="endpoint.replays")
async def show(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    endpoint_id: EndpointId,
    since: Since = None,
    before: Before = None,
) -> Response:
    """The form of a new replay, and past ones. `since`: where its range begins, in Unix milliseconds; else a day ago."""
    form = blank(
        request,
        since=_written(visitor.now - MS_PER_DAY if since is None else min(since, visitor.now - MS_PER_S), visitor),
        until="",
        status=list(_PRESET),
    )
    return await _page(request, visitor, services, endpoint_id, form, before=before)


@router.post(f"{ONE}/count-replay", name="endpoint.count_replay")
async def count(
    request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId, form: SentForm
) -> Response:
    """How many events are in the range of the form; without a script the whole form with it."""
    if request.headers.get("hx-request") != "true":
        return await _page(request, visitor, services, endpoint_id, form)
    events, error = await _counted(visitor, services, endpoint_id, form)
    return fragment(request, "replays/count.html", events=events, error=error)


@router.post(_REPLAYS, name="endpoint.start_replay")
async def start(
    request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId, form: SentForm
) -> Response:
    """Start a replay, and watch it."""
    try:
        command = _command(visitor, endpoint_id, form)
        made, _ = await commit(request, form, lambda unit: {"id": start_replay(unit, command).replay.id})
    except Refused as error:
        again = refused(request, form, error, *_FIELDS)
        return await _page(request, visitor, services, endpoint_id, again, status=status_of(error))
    return redirect(request, f"/developers/webhooks/{endpoint_id}/replays/{made['id']}")


@router.get(_ONE_REPLAY, name="endpoint.replay")
async def one(
    request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId, replay_id: ReplayId
) -> Response:
    """One replay with its progress."""
    model = await _one(visitor, services, endpoint_id, replay_id)
    return page(request, "replays/replay.html", title=f"{model['name']}: replay", **model)


@router.get(f"{_ONE_REPLAY}/now", name="endpoint.replay_now")
async def now(
    request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId, replay_id: ReplayId
) -> Response:
    """The part of the page that changes while the replay runs."""
    return fragment(request, "replays/progress.html", **await _one(visitor, services, endpoint_id, replay_id))


@router.post(f"{_ONE_REPLAY}/cancel", name="endpoint.cancel_replay")
async def cancel(
    request: Request, visitor: Visitor, services: ServicesDep, endpoint_id: EndpointId, replay_id: ReplayId
) -> Response:
    """Stop a replay."""
    command = _ref(visitor, endpoint_id, replay_id)
    path = f"/developers/webhooks/{command.endpoint_id}/replays/{command.replay_id}"
    try:
        await services.runner.change(lambda unit: cancel_replay(unit, command), "control", actor=visitor.actor)
    except Refused as error:
        return redirect(request, path, error.detail)
    return redirect(request, path, "The replay is canceled. What it has made due is sent.")


async def _page(
    request: Request,
    visitor: Visit,
    services: Services,
    endpoint_id: str,
    form: Form,
    *,
    before: str | None = None,
    status: int = 200,
) -> Response:
    query = EndpointRef(visitor.account_id, known("we", endpoint_id))
    before_id = None if before is None else known("rpl", before)
    may_change = "endpoints.change" in ROLES[visitor.member.membership.role]
    events, error = await _counted(visitor, services, endpoint_id, form) if may_change else (None, None)

    def look(unit: Unit) -> tuple[EndpointDetails, list[ReplayProgress]]:
        past = list_replays(unit, ListReplays(query.account_id, query.endpoint_id, before_id, _PAGE + 1))
        return get_endpoint(unit, query), past

    details, past = await services.runner.read(look)
    base = base_of(details)
    return page(
        request,
        "replays/replays.html",
        title=f"{name_of(details)}: replays",
        status=status,
        form=form,
        events=events,
        error=error,
        past=past[:_PAGE],
        older=f"{base}/replays?before={past[_PAGE - 1].replay.id}" if len(past) > _PAGE else None,
        newer=f"{base}/replays" if before else None,
        failing_since=details.health.failing_since,
        day_ago=visitor.now - MS_PER_DAY,
        types=[each for each in EVENT_TYPES if details.endpoint.wants(each, is_import=False)],
        which=_WHICH,
        name=name_of(details),
        base=base,
        may_change=may_change,
        may_see_secret="secrets" in ROLES[visitor.member.membership.role],
    )


async def _counted(visitor: Visit, services: Services, endpoint_id: str, form: Form) -> tuple[int | None, str | None]:
    """About how many events are in the range of a form, or why that cannot be said."""
    try:
        command = _command(visitor, endpoint_id, form)
        return await services.runner.read(lambda unit: estimate_replay(unit, command)), None
    except Refused as error:
        return None, error.detail


def _command(visitor: Visit, endpoint_id: str, form: Form) -> StartReplay:
    """The replay that a form describes. Raises `InvalidInput` that names the field."""
    since = _instant(form, "since", visitor)
    if since is None:
        raise InvalidInput("Say where the range begins.", code="invalid_field", param="since")
    statuses = [each for each in form.texts("status") if each in _WHICH]
    if not statuses:
        raise InvalidInput("Select at least one kind of deliveries.", code="invalid_field", param="status")
    until = _instant(form, "until", visitor)
    types: Sequence[str] | None = form.texts("types") or None
    return StartReplay(visitor.account_id, known("we", endpoint_id), since, until, types, statuses)


def _instant(form: Form, name: str, visitor: Visit) -> UnixMs | None:
    """The time in a field, in the zone of the reader; None when the field is empty."""
    text = form.text(name)
    if not text:
        return None
    try:
        local = datetime.fromisoformat(text)
        if local.tzinfo is None:
            local = local.replace(tzinfo=visitor.zone)
        return max(0, int(local.timestamp())) * MS_PER_S
    except (ValueError, OverflowError):
        detail = "Write a date and a time of day, such as 2026-11-28T09:12."
        raise InvalidInput(detail, code="invalid_field", param=name) from None


def _written(at: UnixMs, visitor: Visit) -> str:
    """An instant as a field for a date and a time of day has it."""
    return f"{datetime.fromtimestamp(at // MS_PER_S, visitor.zone):%Y-%m-%dT%H:%M:%S}"


async def _one(visitor: Visit, services: Services, endpoint_id: str, replay_id: str) -> dict[str, Any]:
    query = _ref(visitor, endpoint_id, replay_id)

    def look(unit: Unit) -> tuple[EndpointDetails, ReplayProgress]:
        return get_endpoint(unit, EndpointRef(query.account_id, query.endpoint_id)), get_replay(unit, query)

    details, progress = await services.runner.read(look)
    return {
        "name": name_of(details),
        "base": base_of(details),
        "progress": progress,
        "replay": progress.replay,
        "left_ms": _left_ms(progress, visitor.now),
        "which": _WHICH,
        "may_change": "endpoints.change" in ROLES[visitor.member.membership.role],
        "may_see_secret": "secrets" in ROLES[visitor.member.membership.role],
    }


def _left_ms(progress: ReplayProgress, now: UnixMs) -> int | None:
    """How long a running replay will take at the rate that it had so far; None while that is unknown."""
    replay = progress.replay
    if replay.status != "running" or not replay.examined:
        return None
    left = max(0, progress.estimated_total - replay.examined)
    return left * max(0, now - replay.created_at) // replay.examined


def _ref(visitor: Visit, endpoint_id: str, replay_id: str) -> ReplayRef:
    return ReplayRef(visitor.account_id, known("we", endpoint_id), known("rpl", replay_id))
