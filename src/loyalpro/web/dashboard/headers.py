"""The headers of every page: what the browser may load, and who may see it."""

from typing import Final

from fastapi import Request, Response

from loyalpro.web.dashboard.site import set_cookie
from loyalpro.web.dashboard.visits import FORM_COOKIE, visit_of
from loyalpro.web.strict_route import NO_STORE

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": NO_STORE,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "Vary": "Cookie, HX-Request",
    "X-Content-Type-Options": "nosniff",
}
HSTS: Final = "max-age=31536000"


def secured(request: Request, response: Response) -> Response:
    """The response with the headers that every page has."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    visit = visit_of(request)
    if visit is not None and visit.site.is_https:
        response.headers["Strict-Transport-Security"] = HSTS
    if visit is not None and visit.new_form_cookie is not None:
        set_cookie(response, visit.site, FORM_COOKIE, visit.new_form_cookie)
    return response
