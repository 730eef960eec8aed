"""One delivery: what happened, why, and what happens now."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response
from markupsafe import Markup

from loyalpro.accounts.roles import ROLES
from loyalpro.events.envelope import Event
from loyalpro.kernel.clock import MS_PER_S, UnixMs
from loyalpro.kernel.errors import Conflict, NotFound, Refused
from loyalpro.kernel.record import record
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.names import customers_by_id
from loyalpro.web.dashboard.foreign import shown
from loyalpro.web.dashboard.forms import SentForm, blank, commit
from loyalpro.web.dashboard.highlight import highlight
from loyalpro.web.dashboard.masks import eyes_of
from loyalpro.web.dashboard.pages.deliveries import LIST, name_of
from loyalpro.web.dashboard.pages.endpoint import known
from loyalpro.web.dashboard.render import fragment, page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.timeline import NAMES, lane, place
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.errors import status_of
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.unit import Unit
from loyalpro.webhooks.answer_hints import hint_of
from loyalpro.webhooks.deliveries import DeliveryDetails, DeliveryRef, cancel_delivery, retry_delivery
from loyalpro.webhooks.delivery_story import DeliveryStory, read_delivery
from loyalpro.webhooks.entities import PastAttempt, PastRequest
from loyalpro.webhooks.explanations import explanation, label_of, verdict

ONE: Final = f"{LIST}/{{delivery_id}}"
MOST_SHOWN: Final = 8_000
"""How many characters of a body a page shows."""
_SOON_MS: Final = 15 * MS_PER_S
"""The page is refreshed every second when an attempt is due within this time."""
_LISTED: Final = 4
"""How many of the attempts to come are listed."""
_MOST_LANES: Final = 50
_TICKS: Final = (10, 100, 1_000, 10_000)

DeliveryId = Annotated[str, Path(max_length=64)]
Number = Annotated[int | None, Query(ge=1, le=1_000_000)]

router = APIRouter(route_class=PageRoute)


@record
class Headline:
    """What became of a delivery. `tone` and `icon`: those of a notice. `text`: what to do, as sentences."""

    tone: str
    icon: str
    title: str
    text: str


@router.get(ONE, name="delivery")
async def show(
    request: Request, visitor: Visitor, services: ServicesDep, delivery_id: DeliveryId, attempt: Number = None
) -> Response:
    """The delivery with one of its attempts, the last one unless another is asked for."""
    return await _page(request, visitor, services, delivery_id, attempt)


@router.get(f"{ONE}/now", name="delivery.now")
async def now(
    request: Request, visitor: Visitor, services: ServicesDep, delivery_id: DeliveryId, attempt: Number = None
) -> Response:
    """What changes by itself."""
    model = await _model(request, visitor, services, delivery_id, attempt)
    return fragment(request, "delivery/story.html", **model)


@router.get(f"{ONE}/body", name="delivery.body")
async def body(visitor: Visitor, services: ServicesDep, delivery_id: DeliveryId) -> Response:
    """The bytes that are sent, as a file."""
    story, _ = await _story(visitor, services, delivery_id)
    if story.event is None:
        raise NotFound("The event of this delivery is no longer kept.")
    name = f'attachment; filename="{story.event.id}.json"'
    return Response(story.event.body, media_type="application/octet-stream", headers={"Content-Disposition": name})


@router.post(f"{ONE}/send", name="delivery.send")
async def send(
    request: Request, visitor: Visitor, services: ServicesDep, delivery_id: DeliveryId, form: SentForm
) -> Response:
    """Make one attempt now."""
    command = DeliveryRef(visitor.account_id, known("dlv", delivery_id))
    try:
        await commit(request, form, lambda unit: {"id": retry_delivery(unit, command).id})
    except Conflict as error:
        return await _page(request, visitor, services, delivery_id, None, error)
    return redirect(request, f"{LIST}/{command.delivery_id}", "It is sent now.")


@router.post(f"{ONE}/cancel", name="delivery.cancel")
async def cancel(
    request: Request, visitor: Visitor, services: ServicesDep, delivery_id: DeliveryId, form: SentForm
) -> Response:
    """Send it no more."""
    command = DeliveryRef(visitor.account_id, known("dlv", delivery_id))
    try:
        await commit(request, form, lambda unit: {"id": cancel_delivery(unit, command).id}, "control")
    except Conflict as error:
        return await _page(request, visitor, services, delivery_id, None, error)
    return redirect(request, f"{LIST}/{command.delivery_id}", "It is canceled. Send now sends it nevertheless.")


async def _page(
    request: Request,
    visitor: Visit,
    services: Services,
    delivery_id: str,
    attempt: int | None,
    error: Refused | None = None,
) -> Response:
    model = await _model(request, visitor, services, delivery_id, attempt)
    title = f"{model['delivery'].event_type} to {model['endpoint_name']}"
    status = 200 if error is None else status_of(error)
    return page(request, "delivery/delivery.html", title=title, status=status, error=error, **model)


async def _story(visitor: Visit, services: Services, delivery_id: str) -> tuple[DeliveryStory, Customer | None]:
    query = DeliveryRef(visitor.account_id, known("dlv", delivery_id))

    def look(unit: Unit) -> tuple[DeliveryStory, Customer | None]:
        story = read_delivery(unit, query, services.schedule)
        customer_id = None if story.event is None else story.event.customer_id
        found = {} if customer_id is None else customers_by_id(unit, visitor.account_id, [customer_id])
        return story, found.get(customer_id or "")

    return await services.runner.read(look)


async def _model(
    request: Request, visitor: Visit, services: Services, delivery_id: str, number: int | None
) -> dict[str, Any]:
    """What the page shows."""
    story, customer = await _story(visitor, services, delivery_id)
    delivery, event = story.delivery, story.event
    rights = ROLES[visitor.member.membership.role]
    chosen = next((each for each in story.attempts if each.number == number), None)
    chosen = chosen or (story.attempts[-1] if story.attempts else None)
    due_at = delivery.next_attempt_at
    erased_at = None if event is None else msgspec.json.decode(event.body).get("erased_at")
    in_full = "customers.see_full" in rights
    return {
        "form": blank(request),
        "story": story,
        "delivery": delivery,
        "event": event,
        "customer": None if customer is None else eyes_of(visitor).name(customer),
        "erased_on": None if event is None or erased_at is None else erased_at[:10],
        "endpoint_name": "a deleted endpoint" if story.endpoint is None else name_of(story.endpoint),
        "siblings": [
            (each.delivery, "deleted" if each.endpoint is None else name_of(each.endpoint)) for each in story.siblings
        ],
        "headline": _headline(story, visitor.now),
        "due_at": due_at,
        "interval": None if due_at is None else "1s" if due_at - visitor.now < _SOON_MS else "15s",
        "coming": story.coming[:_LISTED],
        "last_coming": story.coming[-1] if len(story.coming) > _LISTED else None,
        "chosen": chosen,
        "attempts": story.attempts[-_MOST_LANES:],
        "lanes": {each.number: lane(each.deciding) for each in story.attempts},
        "requests": [] if chosen is None else [(each, lane(each)) for each in chosen.requests],
        "phases": NAMES,
        "ticks": [place(ms) for ms in _TICKS],
        "label_of": label_of,
        "explanation": explanation,
        "path": f"{LIST}/{delivery.id}",
        "may_send": "deliveries.resend" in rights,
        "may_cancel": "endpoints.change" in rights and delivery.status in ("pending", "parked"),
        "in_full": in_full,
        "event_path": "/developers/events" if "/developers/events/{event_id}" in request.app.state.page_paths else None,
        **_bodies(story, chosen, in_full=in_full),
    }


def _bodies(story: DeliveryStory, chosen: PastAttempt | None, *, in_full: bool) -> Mapping[str, Any]:
    """The bodies of the chosen attempt, spaced for reading, and the request as a command."""
    event, request = story.event, None if chosen is None else chosen.deciding
    answered = None if request is None or request.response_excerpt is None else request.response_excerpt
    curl = None
    if in_full and event is not None and request is not None and story.endpoint is not None:
        curl = curl_of(story.endpoint.url, request, event)
    return {
        "request_body": None if event is None or not in_full else readable(event.body),
        "response_body": None if answered is None else readable(answered),
        "curl": curl,
        "most_shown": MOST_SHOWN,
    }


def readable(content: bytes) -> Markup | str:
    """A body for reading: JSON with spaces and colors, anything else as text; of a long one its beginning."""
    try:
        text, is_json = msgspec.json.format(content, indent=2).decode(), True
    except (msgspec.DecodeError, UnicodeDecodeError):
        text, is_json = content.decode("utf-8", "replace"), False
    text = text[:MOST_SHOWN]
    return highlight(text, "json") if is_json else shown(text)


def curl_of(url: str, request: PastRequest, event: Event) -> str:
    """The command that repeats a request. Every text is quoted; the body is read from the lines below, without a line feed."""
    lines = [f"curl -X POST {_quoted(url)}"]
    lines += [f"-H {_quoted(f'{name}: {value}')}" for name, value in request.request_headers]
    lines += ["--data @- <<'LOYALPRO_BODY'"]
    return " \\\n  ".join(lines) + f"\n{event.body.decode()}\nLOYALPRO_BODY\n"


def _quoted(text: str) -> str:
    """The text as one word of a shell."""
    escaped = text.replace("'", "'\\''")
    return f"'{escaped}'"


def _headline(story: DeliveryStory, now: UnixMs) -> Headline:
    """What happened, and what to do."""
    last = story.attempts[-1].deciding if story.attempts else None
    if story.delivery.forged and last is not None:
        found = verdict(DeliveryDetails(story.delivery, list(story.attempts), None, None))
        tone, icon = {"refused": ("ok", "ok"), "accepted": ("bad", "bad")}.get(found.result, ("wait", "clock"))
        return Headline(
            tone, icon, found.detail.rstrip("."), "It was signed wrongly on purpose, and counts for nothing."
        )
    if story.delivery.status.value == "pending":
        return _on_its_way(story, last, now)
    return _stopped(story, last)


def _on_its_way(story: DeliveryStory, last: PastRequest | None, now: UnixMs) -> Headline:
    """What is said of a delivery that is sent, or sent again."""
    due_at = story.delivery.next_attempt_at
    if last is not None and last.outcome != "succeeded":
        return Headline("bad", "bad", explanation(last).sentence.rstrip("."), _advice(last))
    if due_at is None:
        return Headline(
            "wait", "clock", "It waits for an earlier event of its customer", "Its endpoint gets them in order."
        )
    title = "It is being sent" if due_at <= now else "It waits for its turn"
    return Headline("wait", "clock", title, "An answer may take up to 30 seconds.")


def _stopped(story: DeliveryStory, last: PastRequest | None) -> Headline:
    """What is said of a delivery that has ended, or waits for its owner."""
    number = story.delivery.attempts
    why = "" if last is None or last.outcome == "succeeded" else f"{explanation(last).sentence} {_advice(last)}"
    match story.delivery.status.value:
        case "succeeded":
            title = "It arrived" if last is None else explanation(last).sentence.rstrip(".")
            return Headline("ok", "ok", title, f"It arrived at attempt {number}.")
        case "exhausted":
            title = f"It was given up after {number} attempt{'s' if number != 1 else ''}, as 72 hours had passed"
            return Headline("bad", "bad", title, f"{why} It is kept, and can be sent again.".strip())
        case "parked":
            return Headline("", "pause", "It waits until its endpoint is enabled", f"It is not lost. {why}".strip())
        case _:
            return Headline("", "off", "It was canceled", f"It is not sent any more. {why}".strip())


def _advice(last: PastRequest) -> str:
    """What to look at: what the answer hints at, or else what is usual."""
    hint = None
    if last.response_status is not None:
        hint = hint_of(last.response_status, last.response_headers or (), last.response_excerpt or b"")
    usual = explanation(last).advice
    return " ".join(each for each in (usual, hint) if each)
