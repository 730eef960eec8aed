"""Developers > Documentation: how webhooks work, every event type, and the calls of the API."""

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response

from loyalpro.events.catalog import EVENT_TYPES, EventType
from loyalpro.kernel.errors import NotFound
from loyalpro.kernel.iteration import pull
from loyalpro.web.dashboard.guides import GUIDES, PATH, Guide, api_guides, by_slug, event_text, markup, text_of
from loyalpro.web.dashboard.highlight import highlight
from loyalpro.web.dashboard.render import page
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.services import Services, ServicesDep
from loyalpro.webhooks.endpoints import ListEndpoints, list_endpoints
from loyalpro.webhooks.entities import ALL_TYPES
from loyalpro.webhooks.snippets import FRAMEWORKS, Framework, snippet

_NO_ENDPOINT: Final = "https://example.com/webhooks"
_EVENTS: Final = "reference/events.md"
_VERIFICATION: Final = "verification"

Name = Annotated[str, Path(max_length=64)]
Chosen = Annotated[str | None, Query(max_length=16)]

router = APIRouter(route_class=PageRoute)


@router.get(PATH, name="documentation")
async def show(request: Request) -> Response:
    """What there is to read."""
    groups = [("Webhooks", [each for each in GUIDES if each.group == "Webhooks"])]
    groups.append(("HTTP API", [*api_guides(), *(each for each in GUIDES if each.group == "API")]))
    return page(
        request,
        "documentation/contents.html",
        title="Documentation",
        groups=groups,
        types=list(EVENT_TYPES.values()),
    )


@router.get(f"{PATH}/{{name}}", name="documentation.page")
async def show_page(
    request: Request, visitor: Visitor, services: ServicesDep, name: Name, framework: Chosen = None
) -> Response:
    """One page, or one event type."""
    server = services.public_url or visitor.site.origin
    if name in EVENT_TYPES:
        return _event(request, EVENT_TYPES[name], server)
    guide = by_slug().get(name)
    if guide is None:
        raise NotFound(f"There is no page {name}.")
    shown: dict[str, Any] = {"guide": guide, "text": markup(text_of(guide), guide.source, server)}
    receiver = await _receiver(visitor, services, framework) if name == _VERIFICATION else {"receiver": None}
    return page(request, "documentation/page.html", title=guide.title, **shown, **_neighbors(guide), **receiver)


def _event(request: Request, event_type: EventType, server: str) -> Response:
    schema = msgspec.json.format(msgspec.json.encode(event_type.body_schema()), indent=2).decode()
    return page(
        request,
        "documentation/event.html",
        title=event_type.name,
        text=markup(event_text(event_type.name), _EVENTS, server),
        schema=highlight(schema, "json"),
    )


def _neighbors(guide: Guide) -> dict[str, Any]:
    """The pages before and after one."""
    order = list(by_slug().values())
    place = order.index(guide)
    after = order[place + 1] if place + 1 < len(order) else None
    return {"before": order[place - 1] if place else None, "after": after}


async def _receiver(visitor: Visit, services: Services, framework: str | None) -> dict[str, Any]:
    """A receiver in one framework, for the reader's newest endpoint."""
    query = ListEndpoints(visitor.account_id, None, 1)
    found = await services.runner.read(lambda unit: list_endpoints(unit, query))
    endpoint = found[0].endpoint if found else None
    chosen: Framework = next((each for each in FRAMEWORKS if each == framework), pull(iter(FRAMEWORKS)))
    receiver = snippet(chosen, endpoint.url if endpoint else _NO_ENDPOINT, endpoint.types if endpoint else [ALL_TYPES])
    return {
        "frameworks": FRAMEWORKS,
        "chosen": chosen,
        "receiver": receiver,
        "code": highlight(receiver.code, receiver.language),
        "endpoint": endpoint,
    }
