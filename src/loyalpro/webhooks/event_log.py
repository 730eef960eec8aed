"""The events of an account, newest first, and one event with what it led to."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from loyalpro.delivery.states import EndpointStatus
from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.events.envelope import Event
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import made_at
from loyalpro.kernel.record import record
from loyalpro.webhooks.delivery_log import MOST_LINES
from loyalpro.webhooks.delivery_story import Sibling
from loyalpro.webhooks.entities import DeliveryFilter, Endpoint, PastEvent, Reached
from loyalpro.webhooks.events import EventRef, get_event
from loyalpro.webhooks.overview import MOST_LISTED
from loyalpro.webhooks.ports import WebhooksUnit
from loyalpro.webhooks.reached import reached

MOST_EXAMINED: Final = 5_000
"""How many events a search looks at before it says how far it looked."""
_AROUND: Final = 3


@record
class FindEvents:
    """A page of the events of an account that match every filter: those before `before_id`."""

    account_id: str
    before_id: str | None
    limit: int
    event_type: str | None = None
    customer_id: str | None = None


@record
class EventPage:
    """Events, newest first, with what each has reached. `next_before_id`: where the next page begins; None at the end.

    `looked_back_to`: set when the search ended because it had looked at enough; older events may match, too.
    """

    events: Sequence[PastEvent]
    reached: Mapping[str, Reached]
    next_before_id: str | None
    looked_back_to: UnixMs | None


@record
class EventStory:
    """An event. `data`: what its body says; None when it is erased. `is_valid`: whether its body matches its schema.

    `around`: what preceded it and what followed it for its customer, newest first. `deliveries`: each with its endpoint, which
    is None when it is deleted. `wanted_by`: the enabled endpoints to which it can be sent.
    """

    event: Event
    data: Mapping[str, Any] | None
    erased_at: str | None
    is_valid: bool
    around: Sequence[PastEvent]
    deliveries: Sequence[Sibling]
    wanted_by: Sequence[Endpoint]


def find_events(unit: WebhooksUnit, query: FindEvents) -> EventPage:
    """Events without samples, newest first, as far as a search goes."""
    account_id, before_id = query.account_id, query.before_id
    found = unit.events.newest(
        account_id,
        before_id,
        query.limit + 1,
        MOST_EXAMINED,
        event_type=query.event_type,
        customer_id=query.customer_id,
    )
    events, bound = found[: query.limit], None
    if len(found) <= query.limit and query.event_type is not None:
        bound = unit.events.newest_bound(account_id, before_id, MOST_EXAMINED, customer_id=query.customer_id)
    next_before_id = events[-1].id if len(found) > query.limit else bound
    went = reached(unit, account_id, [each.id for each in events])
    return EventPage(events, went, next_before_id, None if bound is None else made_at(bound))


def read_event(unit: WebhooksUnit, query: EventRef) -> EventStory:
    """One event, samples included. Raises `NotFound`."""
    event = get_event(unit, query)
    body = msgspec.json.decode(event.body)
    endpoints = unit.endpoints.list_before(query.account_id, None, MOST_LISTED)
    by_id = {each.id: each for each in endpoints}
    sent = unit.deliveries.list_before(query.account_id, None, MOST_LINES, DeliveryFilter(event_id=event.id))
    customer_id = event.customer_id
    return EventStory(
        event=event,
        data=body["data"],
        erased_at=body.get("erased_at"),
        is_valid=_is_valid(event.type, body["data"]),
        around=[] if customer_id is None else unit.events.around(query.account_id, event.id, customer_id, _AROUND),
        deliveries=[Sibling(each, by_id.get(each.endpoint_id)) for each in sent],
        wanted_by=[each for each in endpoints if each.status is EndpointStatus.ENABLED],
    )


def _is_valid(event_type: str, data: object) -> bool:
    """Whether the data match the published schema of the type."""
    try:
        EVENT_TYPES[event_type].read(data)
    except ValueError:
        return False
    return True
