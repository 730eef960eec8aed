"""Every error as the outside sees it: RFC 9457 `application/problem+json` with a stable code, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from loyalpro.kernel import errors
from loyalpro.kernel.json_path import path_text

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
    errors.LockTaken: 503,
}
"""The HTTP status of each class of error; a class that is not here answers like its parent, at the end 500."""

_MOST_ERRORS_LISTED = 20
_MOST_MISTAKES = 100
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
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


def refusal(error: ValidationError) -> errors.InvalidInput:
    """What one object is refused with, as if it had been the whole body."""
    if error.error_count() > _MOST_MISTAKES:
        return _too_many()  # each would be written out, and hundreds of thousands fit into a batch
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return _refused([_Mistake(each["type"], each["loc"], each["msg"]) for each in found])


@dataclass(frozen=True, slots=True)
class _Mistake:
    """One thing that pydantic found wrong."""

    kind: str
    location: Sequence[str | int]
    detail: str

    @property
    def param(self) -> str:
        return path_text([step for step in self.location if step != "[key]"])


def _refused(mistakes: Sequence[_Mistake]) -> errors.InvalidInput:
    if len(mistakes) > _MOST_MISTAKES:
        return _too_many()
    first = mistakes[0]
    code = {"missing": "missing_field", "extra_forbidden": "unknown_field"}.get(first.kind, "invalid_field")
    return errors.InvalidInput(f"{first.param or 'The body'}: {first.detail}.", code=code, param=first.param or None)


def _too_many() -> errors.InvalidInput:
    return errors.InvalidInput(
        f"More than {_MOST_MISTAKES} fields are wrong; GET /openapi.json has what is taken.", code="invalid_field"
    )


async def _loyalpro_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.LoyalProError)
    status = status_of(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return await unexpected(request, error)
    return problem(status, error.code, error.detail, request=request, param=error.param)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    mistakes = [_Mistake(each["type"], each["loc"][1:], each["msg"]) for each in error.errors()[: _MOST_MISTAKES + 1]]
    refused = _refused(mistakes)
    listed = [{"param": each.param, "detail": each.detail} for each in mistakes[:_MOST_ERRORS_LISTED]]
    return problem(422, refused.code, refused.detail, request=request, param=refused.param, errors=listed)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    details = {
        404: ("not_found", f"There is nothing at {request.url.path}; see /openapi.json for what there is."),
        405: ("method_not_allowed", f"{request.url.path} does not take {request.method}; see /openapi.json."),
    }
    code, detail = details.get(error.status_code, ("bad_request", str(error.detail)))
    answer = problem(error.status_code, code, detail, request=request)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        answer.headers["Allow"] = ", ".join(_allowed(request))
    return answer


def _allowed(request: Request) -> list[str]:
    """What the path takes: each method of it is a route of its own, and the framework names but one."""
    path = {key: request.scope[key] for key in ("type", "path", "root_path", "headers")}
    scopes = {method: {**path, "method": method} for method in _METHODS}
    return [
        method
        for method, scope in scopes.items()
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]


async def unexpected(request: Request, error: Exception) -> Response:
    """What is answered to a mistake of ours, which is logged with its trace."""
    request_id = getattr(request.state, "request_id", None)
    name = type(error).__name__
    structlog.get_logger("web").error(
        "request_crashed", request_id=request_id, path=request.scope["path"], error=name, exc_info=error
    )
    detail = "This is our mistake. Repeat the request with the same Idempotency-Key; if it goes on, report request_id."
    return problem(500, "internal_error", detail, request=request)


def install(app: FastAPI) -> None:
    """Answer every error with a problem document."""
    app.add_exception_handler(errors.LoyalProError, _loyalpro_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(Exception, unexpected)
