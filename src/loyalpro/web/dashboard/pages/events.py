"""Developers > Events: what was said, to whom it went, and sending it again."""

from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response

from loyalpro.accounts.roles import ROLES
from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.kernel.errors import Refused
from loyalpro.kernel.ids import is_id, made_at
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.names import customers_by_id
from loyalpro.web.dashboard.forms import SentForm, blank, commit
from loyalpro.web.dashboard.links import page_of
from loyalpro.web.dashboard.masks import eyes_of
from loyalpro.web.dashboard.pages.deliveries import name_of
from loyalpro.web.dashboard.pages.delivery import MOST_SHOWN, readable
from loyalpro.web.dashboard.pages.endpoint import known
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.errors import status_of
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.unit import Unit
from loyalpro.webhooks.event_log import EventPage, EventStory, FindEvents, find_events, read_event
from loyalpro.webhooks.events import EventRef, ResendEvent, resend_event

LIST: Final = "/developers/events"
ONE: Final = f"{LIST}/{{event_id}}"
_ROWS: Final = 50
_CAUSES: Final[Mapping[str, str]] = {
    "transaction_id": "Purchase",
    "refund_id": "Refund",
    "redemption_id": "Redemption",
    "case_id": "Fraud case",
    "entry_id": "Ledger entry",
}
"""The fields of an event that name its cause, and what each names."""

Given = Annotated[str, Query(max_length=64)]
EventId = Annotated[str, Path(max_length=64)]

router = APIRouter(route_class=PageRoute)


@router.get(LIST, name="events")
async def show(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    type: Given = "",  # noqa: A002 - the name in the address
    customer: Given = "",
    before: Given = "",
) -> Response:
    """The events, newest first."""
    filters = {"type": type if type in EVENT_TYPES else "", "customer": customer if is_id("cus", customer) else ""}
    given = {name: value for name, value in filters.items() if value}
    query = FindEvents(
        account_id=visitor.account_id,
        before_id=before if is_id("evt", before) else None,
        limit=_ROWS,
        event_type=given.get("type"),
        customer_id=given.get("customer"),
    )

    def look(unit: Unit) -> tuple[EventPage, Mapping[str, Customer]]:
        found = find_events(unit, query)
        ids = {each.customer_id for each in found.events if each.customer_id is not None}
        return found, customers_by_id(
            unit, visitor.account_id, ids | ({query.customer_id} if query.customer_id else set())
        )

    found, customers = await services.runner.read(look)

    def path(**more: str) -> str:
        fields = {**given, **more}
        return f"{LIST}?{urlencode(fields)}" if fields else LIST

    return page(
        request,
        "events/list.html",
        title="Events",
        found=found,
        given=given,
        types=list(EVENT_TYPES),
        made_at=made_at,
        customers={id_: eyes_of(visitor).name(each) for id_, each in customers.items()},
        newer=path() if query.before_id else None,
        older=path(before=found.next_before_id) if found.next_before_id else None,
        rows=_ROWS,
    )


@router.get(ONE, name="event")
async def show_one(request: Request, visitor: Visitor, services: ServicesDep, event_id: EventId) -> Response:
    """One event."""
    return await _page(request, visitor, services, event_id)


@router.post(f"{ONE}/resend", name="event.resend")
async def resend(
    request: Request, visitor: Visitor, services: ServicesDep, event_id: EventId, form: SentForm
) -> Response:
    """Send it again, to one endpoint or to all that want it."""
    chosen = form.text("endpoint")
    command = ResendEvent(visitor.account_id, known("evt", event_id), known("we", chosen) if chosen else None)
    try:
        result, _ = await commit(request, form, lambda unit: {"sent": len(resend_event(unit, command))})
    except Refused as error:
        return await _page(request, visitor, services, event_id, error)
    number = int(result["sent"])
    words = f"It is sent to {number} endpoint{'s' if number != 1 else ''}." if number else "No endpoint wants it."
    return redirect(request, f"{LIST}/{command.event_id}", words)


async def _page(
    request: Request, visitor: Visit, services: Services, event_id: str, error: Refused | None = None
) -> Response:
    query = EventRef(visitor.account_id, known("evt", event_id))

    def look(unit: Unit) -> tuple[EventStory, Customer | None]:
        story = read_event(unit, query)
        customer_id = story.event.customer_id
        found = {} if customer_id is None else customers_by_id(unit, visitor.account_id, [customer_id])
        return story, found.get(customer_id or "")

    story, customer = await services.runner.read(look)
    rights = ROLES[visitor.member.membership.role]
    in_full = "customers.see_full" in rights
    return page(
        request,
        "events/event.html",
        title=story.event.type,
        status=200 if error is None else status_of(error),
        error=error,
        form=blank(request),
        story=story,
        event=story.event,
        customer=None if customer is None else eyes_of(visitor).name(customer),
        causes=_causes(request, story),
        body=readable(story.event.body) if in_full else None,
        most_shown=MOST_SHOWN,
        endpoints=[(each.id, name_of(each)) for each in story.wanted_by],
        deliveries=[
            (each.delivery, "deleted" if each.endpoint is None else name_of(each.endpoint)) for each in story.deliveries
        ],
        made_at=made_at,
        may_send="deliveries.resend" in rights,
        path=f"{LIST}/{story.event.id}",
    )


def _causes(request: Request, story: EventStory) -> list[tuple[str, str, str | None]]:
    """What caused the event: the word, the id, and the address of the page if there is one."""
    data = story.data or {}
    ids = [(word, data[field]) for field, word in _CAUSES.items() if isinstance(data.get(field), str)]
    return [(word, id_, page_of(request, id_)) for word, id_ in ids]
