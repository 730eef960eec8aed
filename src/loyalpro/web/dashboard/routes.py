"""The route of a page: who asks, whether they may, whether the form is ours, and errors as pages."""

import hmac
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote, urlsplit

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.background import BackgroundTask

from loyalpro.accounts.roles import require_right
from loyalpro.accounts.web_sessions import find_web_session, has_fresh_proof, needs_note, note_use
from loyalpro.kernel.errors import Forbidden, LoyalProError, MalformedRequest, NotFound, StoreError
from loyalpro.loyalty.bulk.uploads import MAX_UPLOAD_BYTES
from loyalpro.web.bodies import received
from loyalpro.web.dashboard import errors
from loyalpro.web.dashboard.forms import parse_form
from loyalpro.web.dashboard.headers import secured
from loyalpro.web.dashboard.multipart import MULTIPART, parse_multipart
from loyalpro.web.dashboard.render import redirect
from loyalpro.web.dashboard.rights import AWAITING_CODE, PUBLIC, Access
from loyalpro.web.dashboard.site import Site, cookie, require_private, site_of
from loyalpro.web.dashboard.visits import (
    FORM_COOKIE,
    SESSION_COOKIE,
    ZONE_COOKIE,
    Visit,
    visit_of,
    zone_of,
)
from loyalpro.web.idempotency import fingerprint
from loyalpro.web.services import services_of
from loyalpro.web.strict_route import StrictRequest

MAX_FORM_BYTES: Final = 256 * 1024
SIGN_IN: Final = "/sign-in"
CODE: Final = "/sign-in/code"
PROOF: Final = "/me/proof"
SECOND_FACTOR: Final = "/me/second-factor"
_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_FORM_COOKIE_BYTES: Final = 16


class PageRoute(APIRoute):
    """A route of the dashboard. Its row in `web.dashboard.rights` says what it needs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"include_in_schema": False})

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Check everything before the page runs, and answer with a page whatever happens."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                response = await self._admitted(request, handle)
            except RequestValidationError:
                response = errors.page_of(request, NotFound("There is no such page."))
            except LoyalProError as error:
                response = errors.page_of(request, error)
            except Exception as error:  # noqa: BLE001 - whatever it is, the browser gets a page, and the log the trace
                response = errors.unexpected(request, error)
            response.background = _note_of_use(request)
            return secured(request, response)

        return guarded

    async def _admitted(self, request: Request, handle: Callable[[Request], Coroutine[Any, Any, Response]]) -> Response:
        access: Access = request.app.state.access[self.name]
        request.state.access = access
        site = site_of(request)
        if access.need == PUBLIC and request.method == "POST":
            require_private(site)
        visit = request.state.visit = await _visit(request, site)
        elsewhere = _elsewhere(request, visit, access)
        if elsewhere is not None:
            return redirect(request, elsewhere)
        if access.right is not None:
            require_right(visit.member.membership, access.right)
        if request.method == "POST":
            request = await _with_form(request, visit)
        return await handle(request)


async def _visit(request: Request, site: Site) -> Visit:
    """Who asks: one look at the web session, by its key."""
    services = services_of(request)
    token = cookie(request, site, SESSION_COOKIE)
    found = None if token is None else await services.runner.lookup(lambda unit: find_web_session(unit, token))
    own_zone = None if found is None else found.person.time_zone
    zone, zone_name = zone_of(own_zone or request.cookies.get(ZONE_COOKIE))
    now = services.clock.now_ms()
    if found is not None and found.session.awaits_code:
        return Visit(site, str(token).encode(), zone, zone_name, now, halfway=found)
    if found is not None:
        return Visit(site, str(token).encode(), zone, zone_name, now, found)
    form_cookie = cookie(request, site, FORM_COOKIE)
    new = services.random_bytes(_FORM_COOKIE_BYTES).hex() if form_cookie is None else None
    return Visit(site, (form_cookie or str(new)).encode(), zone, zone_name, now, new_form_cookie=new)


def _note_of_use(request: Request) -> BackgroundTask | None:
    """What stores that the web session is used: behind the response, at most once a minute.

    A page that refreshes itself does not use it.
    A database that takes no writes still has pages to show: the note is left out then, and the database counts the error.
    """
    visit = visit_of(request)
    signed_in = None if visit is None else visit.signed_in
    if visit is None or signed_in is None or request.headers.get("x-poll") == "1":
        return None
    if not needs_note(signed_in.session, visit.now):
        return None
    runner = services_of(request).runner

    async def note() -> None:
        with suppress(StoreError):
            await runner.change(lambda unit: note_use(unit, signed_in), "control", actor=signed_in.actor)

    return BackgroundTask(note)


def _elsewhere(request: Request, visit: Visit, access: Access) -> str | None:
    """Where the browser has to go first: to sign in, to give the code, or to prove that it is still the same person."""
    if access.need == PUBLIC:
        return None
    if visit.signed_in is None:
        if visit.halfway is None:
            return _returning(SIGN_IN, request)
        return None if access.need == AWAITING_CODE else _returning(CODE, request)
    if visit.signed_in.owes_second_factor and not access.before_second_factor:
        return SECOND_FACTOR
    if access.fresh and not has_fresh_proof(visit.signed_in.session, visit.now):
        return _returning(PROOF, request)
    return None


def _returning(path: str, request: Request) -> str:
    """The path, with where to return to: the page, or the one whose form was sent."""
    query = f"?{request.url.query}" if request.url.query else ""
    wanted = f"{request.url.path}{query}" if request.method == "GET" else _page_of_form(request)
    return path if wanted == "/" else f"{path}?next={quote(wanted)}"


def _page_of_form(request: Request) -> str:
    """The page of ours that a form was sent from; the first page when the browser does not say."""
    stated = urlsplit(request.headers.get("referer", ""))
    query = f"?{stated.query}" if stated.query else ""
    return f"{stated.path}{query}" if f"{stated.scheme}://{stated.netloc}" == site_of(request).origin else "/"


async def _with_form(request: Request, visit: Visit) -> Request:
    """The request with its form, which has to be one of this page that this visitor was shown."""
    _require_own_page(request, visit.site)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    may_upload = request.state.access.uploads
    if media_type != _FORM_TYPE and not (may_upload and media_type == MULTIPART):
        raise MalformedRequest(f"Send a form: {_FORM_TYPE}.", code="unsupported_media_type")
    body = await received(request, MAX_UPLOAD_BYTES + MAX_FORM_BYTES if may_upload else MAX_FORM_BYTES)
    request.state.files = {}
    if media_type == MULTIPART:
        form, request.state.files = parse_multipart(request.headers["content-type"], body)
    else:
        form = parse_form(body)
    if not hmac.compare_digest(form.csrf.encode(), visit.csrf.encode()):
        raise Forbidden(
            "This form is too old, or you have signed in anew. Go back, reload the page, and send it again."
        )
    whole = StrictRequest(request, body, None)
    request.state.form = form
    request.state.form_fingerprint = await fingerprint(whole)
    return whole


def _require_own_page(request: Request, site: Site) -> None:
    """`Forbidden` unless the browser says that the form was sent by a page of ours."""
    stated = request.headers.get("sec-fetch-site")
    ours = stated == "same-origin" if stated is not None else request.headers.get("origin") == site.origin
    if not ours:
        raise Forbidden("This form was sent by another site. Nothing was changed.")
