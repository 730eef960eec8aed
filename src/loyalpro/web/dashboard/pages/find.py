"""One field for everything that has an id, a number or a name."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from loyalpro.kernel.iteration import pull
from loyalpro.web.dashboard.links import page_of
from loyalpro.web.dashboard.masks import eyes_of
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visitor
from loyalpro.web.find import Find, find
from loyalpro.web.services import ServicesDep

_PATH: Final = "/find"

Text = Annotated[str, Query(max_length=255)]

router = APIRouter(route_class=PageRoute)


@router.get(_PATH, name="find")
async def show(request: Request, visitor: Visitor, services: ServicesDep, q: Text = "") -> Response:
    """What a text names. One hit leads straight to its page."""
    text, eyes = q.strip(), eyes_of(visitor)
    query = Find(visitor.account_id, text, by_name=eyes.in_full)
    hits = await services.runner.read(lambda unit: find(unit, query)) if text else []
    pages = {each.id: page_of(request, each.id) for each in hits}
    only = pull(iter(pages.values())) if len(hits) == 1 else None if hits else page_of(request, text)
    if only is not None:
        return redirect(request, only)
    return page(request, "find/find.html", title="Find", text=text, hits=hits, pages=pages, eyes=eyes)
