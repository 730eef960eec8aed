"""The web session of a browser: where it comes from, its cookie, and where it goes on."""

from collections.abc import Mapping
from typing import Any

from fastapi import Request, Response

from loyalpro.accounts.web_sessions import LONGEST_MS, Browser, StartedSession
from loyalpro.kernel.clock import MS_PER_S
from loyalpro.kernel.errors import LoyalProError, RateLimited
from loyalpro.kernel.origin import current_origin
from loyalpro.kernel.record import with_fields
from loyalpro.web.dashboard.forms import Form, refused
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.site import set_cookie
from loyalpro.web.dashboard.toasts import Toast
from loyalpro.web.dashboard.visits import SESSION_COOKIE, Visit
from loyalpro.web.errors import status_of


def browser_of(request: Request) -> Browser:
    """The browser of a request: its address, as far as proxies are trusted, and its name."""
    origin = current_origin()
    return Browser(None if origin is None else origin.address, request.headers.get("user-agent"))


def renew(request: Request, visit: Visit, started: StartedSession) -> Visit:
    """The visit with the new token, which seals the forms and toasts of the response from now on."""
    renewed = with_fields(visit, key=started.token.encode(), halfway=None, new_form_cookie=None)
    request.state.visit = renewed
    return renewed


def keep(response: Response, visit: Visit, started: StartedSession) -> Response:
    """The response with the cookie of the web session."""
    set_cookie(response, visit.site, SESSION_COOKIE, started.token, max_age_s=LONGEST_MS // MS_PER_S)
    return response


def go_on(
    request: Request, visit: Visit, started: StartedSession, path: str, toast: str | Toast | None = None
) -> Response:
    """Lead to a page with a new token."""
    renewed = renew(request, visit, started)
    return keep(redirect(request, path, toast), renewed, started)


def forget(response: Response, visit: Visit) -> Response:
    """The response that takes the cookie of the web session away."""
    set_cookie(response, visit.site, SESSION_COOKIE, "", max_age_s=0)
    return response


def again(
    request: Request, template: str, form: Form, error: LoyalProError, model: Mapping[str, Any], *known: str
) -> Response:
    """The page of a form that was refused, with its input and the reason. `known`: the names of its fields."""
    shown = refused(request, form, error, *known)
    response = page(request, template, status=status_of(error), **{**model, "form": shown})
    if isinstance(error, RateLimited):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response
