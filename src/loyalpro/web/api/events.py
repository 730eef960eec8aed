"""`/v1/events` and `/v1/event_types`: past events in the order of their commits, and the types of events."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict
from typing_extensions import TypedDict

from loyalpro.events.catalog import API_VERSION, EVENT_TYPES
from loyalpro.events.envelope import Event
from loyalpro.web.answers import Count, EventId, EventType, Listed, Page, Time, answers
from loyalpro.web.api.deliveries import DeliveryView, delivery_view
from loyalpro.web.auth import AccountId
from loyalpro.web.fields import Body, Cursor, Limit, SearchText, ShortText, known_id, page
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.web.unit import Unit
from loyalpro.webhooks import events

router = APIRouter(tags=["events"], route_class=StrictRoute.needing(write="webhooks"))


class EventView(TypedDict):
    """An event as it is sent. The schema of `data` is that of its type: `GET /v1/event_types`."""

    id: EventId
    type: EventType
    created_at: Time
    api_version: str
    account_id: str
    sequence: Count | None
    data: dict[str, Any]


class EventTypeView(TypedDict):
    """A type of event, and the JSON Schema that each body of it validates against."""

    type: EventType
    description: str
    api_version: str
    schema: dict[str, Any]


After = Annotated[str | None, Query(description="The id of the last event that you have received.", max_length=64)]


class ResendEvent(Body):
    """The endpoint; without it, every enabled endpoint that is subscribed to the type of the event."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"endpoint_id": "we_01m8hv8b2n4w6tq7s9e3r5x1zc"}]})

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
) -> Page[EventView]:
    """The events after the given one, in the order of their commits. No event appears before one that was listed earlier.

    An event may appear a moment after the response to the call that caused it.

    To follow new events, repeat the call with `after` set to the id of the last event of the previous response.
    """
    query = events.ListEvents(
        account_id=account_id,
        after_id=known_id("evt", cursor or after or "", param="after") if cursor or after else None,
        limit=limit + 1,
        event_type=type,
        customer_id=customer_id,
    )
    found = await services.runner.read(lambda unit: events.list_events(unit, query))
    return page([event_view(each) for each in found], limit)


@router.get("/v1/events/{event_id}", summary="Get an event")
async def get(account_id: AccountId, services: ServicesDep, event_id: str) -> EventView:
    """The event exactly as it is sent to endpoints."""
    query = events.EventRef(account_id, known_id("evt", event_id))
    return event_view(await services.runner.read(lambda unit: events.get_event(unit, query)))


@router.post(
    "/v1/events/{event_id}/resend",
    status_code=202,
    summary="Send an event again",
    responses=answers(Listed[DeliveryView], 202),
)
async def resend(request: Request, account_id: AccountId, event_id: str, body: ResendEvent | None = None) -> Response:
    """Sends the same bytes, in the same delivery if there is one. A delivery that is pending stays as it is.

    An endpoint without a delivery of the event, because it is new or was not subscribed then, gets one now.
    """
    known_id("evt", event_id)
    endpoint_id = known_id("we", body.endpoint_id, param="endpoint_id") if body and body.endpoint_id else None
    command = events.ResendEvent(account_id, event_id, endpoint_id)

    def reply_to(unit: Unit) -> Reply:
        return Reply(202, {"data": [delivery_view(each) for each in events.resend_event(unit, command)]})

    return await commit(request, account_id, reply_to)


@router.get("/v1/event_types", summary="List the event types and their schemas")
async def event_types() -> Page[EventTypeView]:
    """Every type of event, with the JSON Schema that each body of it validates against."""
    types: list[EventTypeView] = [
        {"type": each.name, "description": each.description, "api_version": API_VERSION, "schema": each.body_schema()}
        for each in EVENT_TYPES.values()
    ]
    return {"data": types, "next_cursor": None}


def event_view(event: Event) -> EventView:
    """The stored body of the event, parsed."""
    view: EventView = json.loads(event.body)
    return view
