"""`/v1/events` and `/v1/event_types`: what happened, in an order that a poller can live on."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query

from loyalpro.events.catalogue import API_VERSION, EVENT_TYPES
from loyalpro.events.envelope import Event
from loyalpro.kernel.errors import NotFound
from loyalpro.storage.tables.events import EventFilter
from loyalpro.web.api.fields import Cursor, Limit, SearchText, known_id, page
from loyalpro.web.services import AccountId, ServicesDep

router = APIRouter(tags=["events"])

After = Annotated[str | None, Query(description="The id of the last event you have seen.", max_length=64)]


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
    found = await services.transactions.read(
        lambda unit: unit.events.list_after(account_id, last_seen, EventFilter(type, customer_id), limit + 1)
    )
    return page([event_view(each) for each in found], limit)


@router.get("/v1/events/{event_id}", summary="Get an event")
async def get(account_id: AccountId, services: ServicesDep, event_id: str) -> dict[str, Any]:
    """The event exactly as every endpoint gets it."""
    known_id("evt", event_id)
    event = await services.transactions.read(lambda unit: unit.events.get(account_id, event_id))
    if event is None:
        raise NotFound(f"There is no event {event_id}.", param="id")
    return event_view(event)


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
