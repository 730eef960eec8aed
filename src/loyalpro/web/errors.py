"""Error responses: RFC 9457 `application/problem+json` documents with a stable code, and a text that says what to do."""

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import Scope

from loyalpro.kernel import errors
from loyalpro.web.field_errors import MAX_ERRORS, field_error, refused

STATUS: dict[type[errors.LoyalProError], int] = {
    errors.MalformedRequest: 400,
    errors.InvalidInput: 422,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.RateLimited: 429,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.PreconditionFailed: 412,
    errors.Expired: 410,
    errors.TooLarge: 413,
    errors.TooSlow: 408,
    errors.Refused: 400,
    errors.StoreUnavailable: 503,
    errors.CommitUnknown: 503,
    errors.LockTaken: 503,
    errors.NameNotLookedUp: 503,
}
"""The HTTP status of each class of error. A class that is not listed has that of its nearest ancestor, or else 500."""

_MAX_ERRORS_LISTED = 20
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
_RETRY_AFTER_S = {errors.DiskFull.code: "10", errors.NameNotLookedUp.code: "5"}
"""Seconds after which a client may try again, by error code. Every other code has 1."""


def problem(
    status: int, code: str, detail: str, *, request: Request, param: str | None = None, **more: Any
) -> JSONResponse:
    """One problem document."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": getattr(request.state, "request_id", None),
    }
    if param is not None:
        content["param"] = param
    retry_after = _RETRY_AFTER_S.get(code, "1")
    headers = {"Cache-Control": "no-store"}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = retry_after
    if status == HTTPStatus.REQUEST_TIMEOUT:
        headers["Connection"] = "close"  # the rest of the body may never come
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(content | more, status, headers, "application/problem+json")


def status_of(error: errors.LoyalProError) -> int:
    """The HTTP status of an error: its class's, or the nearest ancestor's."""
    return next((STATUS[each] for each in type(error).__mro__ if each in STATUS), 500)


async def _loyalpro_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.LoyalProError)
    status = status_of(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return await unexpected(request, error)
    response = problem(status, error.code, error.detail, request=request, param=error.param, **error.facts)
    if isinstance(error, errors.RateLimited):
        response.headers["Retry-After"] = str(error.retry_after_s)
    return response


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [field_error(each, each["loc"][1:]) for each in error.errors()[: MAX_ERRORS + 1]]
    first = refused(found)
    listed = [{"param": each.param, "detail": each.detail} for each in found[:_MAX_ERRORS_LISTED]]
    return problem(422, first.code, first.detail, request=request, param=first.param, errors=listed)


async def http_exception(request: Request, error: Exception) -> Response:
    """Respond to a path that does not exist, and to a method that it does not accept."""
    assert isinstance(error, HTTPException)
    details = {
        404: ("not_found", f"The path {request.url.path} does not exist; GET /openapi.json lists the paths."),
        405: (
            "method_not_allowed",
            f"The path {request.url.path} does not accept {request.method}; see GET /openapi.json.",
        ),
    }
    code, detail = details.get(error.status_code, ("bad_request", str(error.detail)))
    response = problem(error.status_code, code, detail, request=request)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ", ".join(_allowed(request))
    return response


def _allowed(request: Request) -> list[str]:
    """The methods that the path accepts. Each method is a route of its own, and the framework names only one of them."""
    path = {key: request.scope[key] for key in ("type", "path", "root_path", "headers")}
    scopes = {method: {**path, "method": method} for method in _METHODS}
    return [
        method
        for method, scope in scopes.items()
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]


def route_of(scope: Scope) -> str:
    """The route of a request as it is logged and counted, such as `/invitations/{token}`: a path may have a secret in it."""
    path: str = getattr(scope.get("route"), "path", "(none)")
    return path


async def unexpected(request: Request, error: Exception) -> Response:
    """Respond to an internal error with 500, and log it with its trace."""
    request_id = getattr(request.state, "request_id", None)
    name = type(error).__name__
    structlog.get_logger("web").error(
        "request_crashed", request_id=request_id, route=route_of(request.scope), error=name, exc_info=error
    )
    detail = (
        "An internal error. Repeat the request with the same Idempotency-Key; if it fails again, report request_id."
    )
    return problem(500, "internal_error", detail, request=request)


def install(app: FastAPI) -> None:
    """Respond to every error with a problem document."""
    app.add_exception_handler(errors.LoyalProError, _loyalpro_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, http_exception)
    app.add_exception_handler(Exception, unexpected)
