"""`/v1/events` and `/v1/event_types`: what happened, in an order that a poller can live on."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from loyalpro.delivery.by_hand import check_endpoint, check_retry
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.events.catalog import API_VERSION, EVENT_TYPES
from loyalpro.events.envelope import Event
from loyalpro.kernel.errors import Conflict, Expired, NotFound
from loyalpro.kernel.ids import delivery_id
from loyalpro.storage.tables.backfills import PastEvent
from loyalpro.storage.tables.endpoints import Endpoint
from loyalpro.storage.tables.events import EventFilter
from loyalpro.storage.unit_of_work import UnitOfWork
from loyalpro.web.api.deliveries import delivery_view
from loyalpro.web.api.fields import Body, Cursor, Limit, SearchText, ShortText, known_id, page
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import AccountId, ServicesDep
from loyalpro.web.strict_route import StrictRoute

router = APIRouter(tags=["events"], route_class=StrictRoute)

After = Annotated[str | None, Query(description="The id of the last event you have seen.", max_length=64)]


class ResendEvent(Body):
    """To whom; left out: to every enabled endpoint that wants events of this type."""

    endpoint_id: ShortText | None = None


@router.get("/v1/events", summary="List events, oldest first")
async def list_events(
    account_id: AccountId,
    services: ServicesDep,
    type: SearchText = None,  # noqa: A002 - the name in the contract
    customer_id: SearchText = None,
    after: After = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """The events after one that you have seen, in the order they were committed. Nothing ever appears before it later.

    To follow along, keep asking with `after` set to the id of the last event you got.
    """
    last_seen = known_id("evt", cursor or after or "", param="after") if cursor or after else None

    def work(unit: UnitOfWork) -> list[Event]:
        if last_seen is not None and not unit.events.is_kept(account_id, last_seen):
            raise _cursor_expired(last_seen)
        return unit.events.list_after(account_id, last_seen, EventFilter(type, customer_id), limit + 1)

    found = await services.transactions.read(work)
    return page([event_view(each) for each in found], limit)


@router.get("/v1/events/{event_id}", summary="Get an event")
async def get(account_id: AccountId, services: ServicesDep, event_id: str) -> dict[str, Any]:
    """The event exactly as every endpoint gets it."""
    known_id("evt", event_id)
    event = await services.transactions.read(lambda unit: unit.events.get(account_id, event_id))
    if event is None:
        raise NotFound(f"There is no event {event_id}.", param="id")
    return event_view(event)


@router.post("/v1/events/{event_id}/resend", status_code=202, summary="Send an event again")
async def resend(
    request: Request, account_id: AccountId, services: ServicesDep, event_id: str, body: ResendEvent | None = None
) -> Response:
    """The same bytes and, where there was one, the same delivery. One that is still pending is left as it is.

    An endpoint that was never owed the event, because it is new or did not want it then, is owed it from now on.
    """
    known_id("evt", event_id)
    endpoint_id = known_id("we", body.endpoint_id, param="endpoint_id") if body and body.endpoint_id else None
    moved: list[str] = []

    def work(unit: UnitOfWork) -> Reply:
        event = _sendable(unit, account_id, event_id)
        endpoints = [_chosen(unit, account_id, endpoint_id)] if endpoint_id else _wanting(unit, event)
        sent = [_send(unit, event, each, alone=endpoint_id is not None) for each in endpoints]
        moved.extend(each.id for each in endpoints)
        found = [unit.deliveries.get(account_id, each) for each in sent]
        return Reply(202, {"data": [delivery_view(each) for each in found if each is not None]})

    response = await commit(request, account_id, work)
    services.wake(moved, urgent=True)
    return response


@router.get("/v1/event_types", summary="List the event types and their schemas")
async def event_types() -> dict[str, Any]:
    """Every type of event, with the JSON Schema that each body of it validates against."""
    types = [
        {"type": each.name, "description": each.description, "api_version": API_VERSION, "schema": each.body_schema()}
        for each in EVENT_TYPES.values()
    ]
    return {"data": types, "next_cursor": None}


def event_view(event: Event) -> dict[str, Any]:
    """The frozen body, read back."""
    view: dict[str, Any] = json.loads(event.body)
    return view


def _cursor_expired(event_id: str) -> Expired:
    return Expired(
        f"The event {event_id} is no longer kept, so what came after it is not known: events may have been missed. "
        "Leave `after` out to start with the oldest event that is kept.",
        code="cursor_expired",
        param="after",
    )


def _sendable(unit: UnitOfWork, account_id: str, event_id: str) -> PastEvent:
    event = unit.backfills.event(account_id, event_id)
    if event is None:
        raise NotFound(f"There is no event {event_id}.", param="id")
    if event.erased:
        raise Conflict(
            "What this event said has been erased with its customer; there is nothing to send.", code="erased"
        )
    return event


def _chosen(unit: UnitOfWork, account_id: str, endpoint_id: str) -> Endpoint:
    endpoint = unit.endpoints.get(account_id, endpoint_id, lock=True)
    if endpoint is None:
        raise NotFound(f"There is no webhook endpoint {endpoint_id}.", param="endpoint_id")
    check_endpoint(endpoint.id, endpoint.status)
    return endpoint


def _wanting(unit: UnitOfWork, event: PastEvent) -> list[Endpoint]:
    """A sample goes only where it was sent before: the others would take it for something that happened."""
    wanting = unit.endpoints.enabled(event.account_id, event.type)
    if not event.test:
        return wanting
    return [each for each in wanting if unit.control.standing(event.account_id, delivery_id(event.id, each.id))]


def _send(unit: UnitOfWork, event: PastEvent, endpoint: Endpoint, *, alone: bool) -> str:
    """Make the one delivery of the two due; its id. What cannot be sent now is refused if it was asked for alone."""
    standing = unit.control.standing(event.account_id, delivery_id(event.id, endpoint.id))
    if standing is None:
        return unit.backfills.owe(event, endpoint, unit.now)
    left_alone = standing.status is DeliveryStatus.PENDING or standing.under_way
    if not left_alone and (alone or standing.waits_for is None):
        check_retry(standing)
        unit.control.send(standing, unit.now)
    return standing.delivery_id
