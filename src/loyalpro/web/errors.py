"""Every error as the outside sees it: RFC 9457 `application/problem+json` with a stable code, and what to do about it."""

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from loyalpro.kernel import errors
from loyalpro.kernel.paths import path_text

STATUS: dict[type[errors.LoyalProError], int] = {
    errors.MalformedRequest: 400,
    errors.InvalidInput: 422,
    errors.Unauthenticated: 401,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Expired: 410,
    errors.TooLarge: 413,
    errors.Refused: 400,
    errors.StoreUnavailable: 503,
    errors.CommitUnknown: 503,
}
"""The HTTP status of each class of error; a class that is not here answers like its parent, at the end 500."""

_MOST_ERRORS_LISTED = 20
_RETRY_AFTER_S = {errors.DiskFull.code: "10"}
"""Most of what is unavailable is back in a second."""


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
    headers = {"Retry-After": retry_after} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
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
        return await _unexpected(request, error)
    return problem(status, error.code, error.detail, request=request, param=error.param)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [
        {"param": path_text([step for step in each["loc"][1:] if step != "[key]"]), "detail": each["msg"]}
        for each in error.errors()[:_MOST_ERRORS_LISTED]
    ]
    first = error.errors()[0]
    code = {"missing": "missing_field", "extra_forbidden": "unknown_field"}.get(first["type"], "invalid_field")
    param = found[0]["param"] or None
    detail = f"{param or 'The request'}: {found[0]['detail']}."
    return problem(422, code, detail, request=request, param=param, errors=found)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {
        404: ("not_found", f"There is nothing at {request.url.path}; see /openapi.json for what there is."),
        405: ("method_not_allowed", f"{request.url.path} does not take {request.method}; see /openapi.json."),
    }
    code, detail = details.get(error.status_code, ("bad_request", str(error.detail)))
    return problem(error.status_code, code, detail, request=request)


async def _unexpected(request: Request, error: Exception) -> Response:
    structlog.get_logger("web").error(
        "request_broke", path=request.url.path, error=type(error).__name__, exc_info=error
    )
    detail = "This is our mistake. Repeat the request with the same Idempotency-Key; if it goes on, report request_id."
    return problem(500, "internal_error", detail, request=request)


def install(app: FastAPI) -> None:
    """Answer every error with a problem document."""
    app.add_exception_handler(errors.LoyalProError, _loyalpro_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, _unexpected)
