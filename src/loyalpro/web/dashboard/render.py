"""Renders templates. Every value is escaped, and a name that a page does not give is an error."""

from typing import Any, Final

import jinja2
import msgspec
from fastapi import Request, Response

from loyalpro import __version__
from loyalpro.web.dashboard import assets, charts, formats, toasts
from loyalpro.web.dashboard.foreign import finalize
from loyalpro.web.dashboard.navigation import is_current, sections
from loyalpro.web.dashboard.toasts import Toast
from loyalpro.web.dashboard.visits import visit_of

_SEE_OTHER: Final = 303
_NO_CONTENT: Final = 204
_HTML: Final = "text/html; charset=utf-8"
_HTMX: Final = msgspec.json.encode(
    {
        "allowEval": False,
        "allowScriptTags": False,
        "includeIndicatorStyles": False,
        "selfRequestsOnly": True,
        "historyCacheSize": 0,
        "responseHandling": [
            {"code": "204", "swap": False},
            {"code": "(2..|3..|409|422)", "swap": True},
            {"code": "(4..|5..)", "swap": False, "error": True},
        ],
    }
).decode()
"""What htmx may do: nothing that needs `eval`, no script of a response, no other site, and no page in the browser's storage.

A form that is refused (409, 422) comes back with its input.
"""


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "number": formats.number,
        "signed": formats.signed,
        "money": formats.money,
        "count_of": formats.count,
        "duration": formats.duration,
        "size": formats.size,
        "masked": formats.masked,
        "tail": formats.tail,
        "event_name": formats.event_name,
    }
    environment.globals |= {
        "asset": assets.path_of,
        "share": formats.share,
        "sparkline": charts.sparkline,
        "money": formats.money,
        "htmx_config": _HTMX,
        "version": __version__,
    }
    return environment


TEMPLATES: Final = _environment()


def page(request: Request, template: str, *, title: str, status: int = 200, **model: Any) -> Response:
    """A whole page. `title`: what it is about, for the tab of the browser. `model`: what the template shows."""
    visit = visit_of(request)
    toast = None if visit is None else toasts.waiting(request, visit)
    html = _render(request, template, title=title, toast=toast, **model)
    response = Response(html, status, media_type=_HTML)
    if visit is not None and toast is not None:
        toasts.shown(response, visit)
    return response


def fragment(request: Request, template: str, *, status: int = 200, **model: Any) -> Response:
    """A part of a page, which has an address of its own, so that no cache takes it for the page."""
    return Response(_render(request, template, **model), status, media_type=_HTML)


def redirect(request: Request, path: str, toast: str | Toast | None = None) -> Response:
    """Lead to a page behind a change. `toast`: what has been done, shown there."""
    if request.headers.get("hx-request") == "true":
        response = Response(status_code=_NO_CONTENT, headers={"HX-Redirect": path})
    else:
        response = Response(status_code=_SEE_OTHER, headers={"Location": path})
    visit = visit_of(request)
    if toast is not None and visit is not None:
        toasts.leave(response, visit, Toast(toast) if isinstance(toast, str) else toast)
    return response


def _render(request: Request, template: str, **model: Any) -> str:
    visit = visit_of(request)
    context = {
        "visit": visit,
        "path": request.url.path,
        "sections": [] if visit is None else sections(request, visit),
        "is_current": is_current,
        "times": None if visit is None else formats.Times(visit.zone, visit.now),
        "page_paths": request.app.state.page_paths,
        "find_exists": "/find" in request.app.state.page_paths,
    }
    return TEMPLATES.get_template(template).render(context | model)
