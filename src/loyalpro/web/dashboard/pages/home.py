"""The first page: where somebody who is signed in lands."""

from fastapi import APIRouter, Request, Response

from loyalpro.web.dashboard.navigation import sections
from loyalpro.web.dashboard.render import redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visitor

router = APIRouter(route_class=PageRoute)


@router.get("/", name="home")
async def home(request: Request, visitor: Visitor) -> Response:
    """Lead to the first page of the sidebar."""
    places = [place for _, found in sections(request, visitor) for place in found]
    return redirect(request, places[0].path if places else "/me")
