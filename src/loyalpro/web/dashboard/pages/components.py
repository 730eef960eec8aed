"""The page of all parts of the dashboard, in development only. Change a part here first, and look at both themes."""

from typing import Final

from fastapi import APIRouter, Request, Response

from loyalpro.web.dashboard import forms
from loyalpro.web.dashboard.render import page
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visitor

_EXAMPLE: Final = '{\n  "type": "points.earned",\n  "note": "<script>alert(1)</script>"\n}'

router = APIRouter(route_class=PageRoute)


@router.get("/components", name="components")
async def components(request: Request, visitor: Visitor, text: str | None = None) -> Response:
    """Every part once, in every state. `text` replaces every text that somebody else could have written."""
    wrong = forms.Form(
        {"url": [text or "http://shop.example/hook"], "note": [text or "Broken cup in parcel"], "events": ["some"]},
        "",
        error=text or "An endpoint with this URL exists: CRM.",
        errors={"url": text or "Webhooks are only sent over HTTPS. Put https:// in front."},
    )
    return page(
        request,
        "components/components.html",
        title=text or "Components",
        text=text,
        form=wrong,
        example=text or _EXAMPLE,
        now=visitor.now,
    )
