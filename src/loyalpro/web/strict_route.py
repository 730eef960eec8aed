"""Reads requests: after the check of the API key, with known query parameters only, and with the strict JSON parser."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, Self, get_type_hints

from fastapi import Request, Response
from fastapi.routing import APIRoute

from loyalpro.accounts.scopes import Scope
from loyalpro.kernel.errors import InvalidInput, MalformedRequest, TooLarge
from loyalpro.kernel.nearest import suggestion
from loyalpro.kernel.strict_batch import BatchLimits, parse_batch
from loyalpro.kernel.strict_json import parse
from loyalpro.web.answers import answers
from loyalpro.web.auth import account_id, authorize, caller
from loyalpro.web.bodies import received
from loyalpro.web.services import services_of

NO_STORE: Final = "no-store"
"""The `Cache-Control` of all data: no proxy and no browser keeps it."""
SCOPE: Final = "x-scope"
"""Where an operation of the OpenAPI document has its scope until `web.openapi` moves it into the security requirement."""
MAX_BODY_BYTES: Final = 256 * 1024
MAX_BATCH_BODY_BYTES: Final = 8 * 1024 * 1024
MAX_UNREAD_BODY_BYTES: Final = 16 * 1024
"""The limit for a `POST` without fields, whose body only decides whether the request is the same as an earlier one."""
MAX_VALUES: Final = 64 * 1024
MAX_BATCH_VALUES: Final = 1_000_000
"""Objects, arrays and their members in a body. The parsed body takes about 80 bytes for each, so this bounds its memory; no
purchase that is small enough to be accepted has as many as `MAX_VALUES`."""
MAX_BATCH: Final = 1_000


class StrictRequest(Request):
    """A request whose body is read already, and parsed by `kernel.strict_json`."""

    def __init__(self, request: Request, body: bytes, parsed: object) -> None:
        headers = [pair for pair in request.scope["headers"] if pair[0] != b"content-type"]
        scope = {**request.scope, "headers": [*headers, (b"content-type", b"application/json")]}
        super().__init__(scope, request.receive)
        self._strict_body = body
        self._parsed = parsed

    async def body(self) -> bytes:
        """The bytes as received."""
        return self._strict_body

    async def json(self) -> Any:
        """The parsed body."""
        return self._parsed


class StrictRoute(APIRoute):
    """A route that accepts JSON bodies of a limited size, and no query parameter that it does not use.

    `read_scope` and `write_scope`: what the API key needs for a `GET`, and for every other method.
    """

    max_body_bytes = MAX_BODY_BYTES
    read_scope: Scope | None = None
    write_scope: Scope | None = None

    def __init__(self, path: str, endpoint: Callable[..., Any], **kwargs: Any) -> None:
        super().__init__(path, endpoint, **_documented(endpoint, kwargs))
        if self.scope is not None:
            self.openapi_extra = {**(self.openapi_extra or {}), SCOPE: self.scope}

    @classmethod
    def needing(cls, *, write: Scope, read: Scope = "read") -> type[Self]:
        """The class of routes that need these scopes."""
        return type(cls.__name__, (cls,), {"read_scope": read, "write_scope": write})

    @property
    def scope(self) -> Scope | None:
        """What the API key needs for this route; None for a route without a key."""
        if not any(each.call in (account_id, caller) for each in self.dependant.dependencies):
            return None
        scope = self.read_scope if self.methods == {"GET"} else self.write_scope
        if scope is None:
            raise TypeError(f"The route {self.path} needs an API key, and names no scope.")
        return scope

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Check the API key and the names of query parameters, and then read and parse the body, before the framework does."""
        handle = super().get_route_handler()
        scope = self.scope
        known = sorted(each.alias for each in self.dependant.query_params)

        async def strict(request: Request) -> Response:
            if scope is not None:
                await authorize(request, scope)
            _require_known_query(request, known)
            response = await handle(await self._read(request))
            response.headers["Cache-Control"] = NO_STORE
            return response

        return strict

    async def _read(self, request: Request) -> Request:
        if self.body_field is not None:
            _require_json(request)
            body = await received(request, self.max_body_bytes)
            parsed = None
            if body.strip() or self.body_field.field_info.is_required():
                parsed = await services_of(request).heavy_work.run_for(len(body), lambda: self.parse(body))
            return StrictRequest(request, body if parsed is not None else b"", parsed)
        if request.method == "POST":
            body = await received(request, MAX_UNREAD_BODY_BYTES)
            return StrictRequest(request, body, None)
        return request

    def parse(self, body: bytes) -> Any:
        """The value of a body. Runs in calls that hold the lock of the interpreter for a few milliseconds each."""
        _require_few_values(body, MAX_VALUES)
        return parse(body)


class BatchRoute(StrictRoute):
    """A route whose body is an object with one field, an array of many members. The limits of a `StrictRoute` hold for each."""

    max_body_bytes = MAX_BATCH_BODY_BYTES
    field: str

    def parse(self, body: bytes) -> Any:
        """The value of a batch, parsed and converted member by member."""
        _require_few_values(body, MAX_BATCH_VALUES)
        return parse_batch(body, self.field, BatchLimits(MAX_BATCH, MAX_BODY_BYTES), self.convert)

    def convert(self, member: Any) -> Any:
        """What the route makes of a member. An error of one member is returned."""
        return member


def _documented(endpoint: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """The options of a route, with the view that its function returns as the model of its response.

    The model is for the document only: the type checker has compared it with what the function returns.
    """
    returned = get_type_hints(endpoint, include_extras=True)["return"]
    if isinstance(returned, type) and issubclass(returned, Response):
        return options
    responses = answers(returned, options.get("status_code") or 200) | (options.get("responses") or {})
    return options | {"response_model": dict[str, Any], "responses": responses}


def _require_few_values(body: bytes, most: int) -> None:
    """Refuse a body with too many values before they are made. Every value but the first follows one of these characters.

    Those within texts are counted as well. No text that is accepted is long enough to matter.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > most:
        raise TooLarge(f"The body may have at most {most} values; send fewer in each request.", code="too_many_values")


def _require_known_query(request: Request, known: Sequence[str]) -> None:
    """A misspelled filter that was ignored would list everything, and so would the first of two values."""
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        shown = name[:64]
        if name not in known:
            raise InvalidInput(suggestion(name, known, "query parameter"), code="unknown_field", param=shown)
        if names.count(name) > 1:
            raise InvalidInput(f"{shown} is sent more than once; send one value.", code="invalid_field", param=shown)


def _require_json(request: Request) -> None:
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise MalformedRequest(
            f"Send JSON with Content-Type: application/json, not {media_type[:60]}.", code="unsupported_media_type"
        )
    if request.headers.get("content-encoding", "identity") != "identity":
        raise MalformedRequest("Send the body uncompressed.", code="unsupported_content_encoding")
