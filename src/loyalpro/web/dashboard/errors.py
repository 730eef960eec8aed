"""Errors as pages, in words that say what to do. Calls of the API get problem documents instead."""

from http import HTTPStatus
from typing import Final

import structlog
from fastapi import Request, Response
from starlette.exceptions import HTTPException

from loyalpro.kernel.errors import LoyalProError, RateLimited, Unauthenticated
from loyalpro.web import errors as problems
from loyalpro.web.dashboard.headers import secured
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.rights import Access
from loyalpro.web.services import services_of

_FOR_PROGRAMS: Final = ("/v1", "/static", "/openapi.json", "/healthz", "/readyz", "/metrics")
_RETRY_S: Final = 5
_UNREACHABLE: Final = "The database does not answer. Nothing that was accepted is lost."
_AGAIN: Final = "Trying again every 5 seconds."
_BACK: Final = "Go back, and send the form again in a few seconds."
_TITLES: Final = {
    400: "This request cannot be read",
    403: "You cannot do this",
    404: "Not found",
    405: "Not found",
    408: "This took too long",
    409: "This contradicts what is there now",
    410: "No longer kept",
    413: "This is too large",
    422: "Something is not right",
    429: "Too many tries",
    500: "This went wrong on our side",
    503: "The database does not answer",
}


def page_of(request: Request, error: LoyalProError) -> Response:
    """The page of an error, or the way to the sign-in page."""
    if isinstance(error, Unauthenticated):
        return redirect(request, "/sign-in")
    status = problems.status_of(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return unexpected(request, error)
    response = _answer(request, status, _detail(request, status, error))
    if isinstance(error, RateLimited):
        response.headers["Retry-After"] = str(error.retry_after_s)
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(_RETRY_S)
    return response


def unexpected(request: Request, error: Exception) -> Response:
    """The page of an error of our own, with the id to report; the log has the trace."""
    structlog.get_logger("web").error(
        "request_crashed",
        request_id=_request_id(request),
        route=problems.route_of(request.scope),
        error=type(error).__name__,
        exc_info=error,
    )
    return _answer(request, 500, "Nothing was changed by this request. If it happens again, report this number:")


async def no_such_address(request: Request, error: Exception) -> Response:
    """A page for a browser, and a problem document for everything else."""
    assert isinstance(error, HTTPException)
    wants_page = "text/html" in request.headers.get("accept", "")
    if request.url.path.startswith(_FOR_PROGRAMS) or not wants_page:
        return await problems.http_exception(request, error)
    return secured(request, _answer(request, error.status_code, "There is no such page here."))


def _detail(request: Request, status: int, error: LoyalProError) -> str:
    if status == HTTPStatus.NOT_FOUND:
        access: Access | None = getattr(request.state, "access", None)
        noun = "page" if access is None else access.noun
        if noun == "page":
            return "There is no such page here."
        return (
            f"There is no such {noun} here. It may belong to another account, or be older than the "
            f"{services_of(request).retention_days} days that are kept."
        )
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return f"{_UNREACHABLE} {_AGAIN if request.method == 'GET' else _BACK}"
    return error.detail


def _answer(request: Request, status: int, detail: str) -> Response:
    """The page; for htmx, which keeps the page that it is on, the text alone."""
    if request.headers.get("hx-request") == "true":
        return Response(detail, status, media_type="text/plain; charset=utf-8")
    return page(
        request,
        "errors/error.html",
        title=_TITLES.get(status, "Something is not right"),
        status=status,
        detail=detail,
        request_id=_request_id(request) if status == HTTPStatus.INTERNAL_SERVER_ERROR else None,
        retry_s=_RETRY_S if status == HTTPStatus.SERVICE_UNAVAILABLE and request.method == "GET" else None,
    )


def _request_id(request: Request) -> str | None:
    request_id: str | None = getattr(request.state, "request_id", None)
    return request_id
