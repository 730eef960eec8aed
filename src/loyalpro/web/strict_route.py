"""Reads requests: after the check of the API key, with known query parameters only, and with the strict JSON parser."""

from collections.abc import Callable, Coroutine, Sequence
from difflib import get_close_matches
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

from loyalpro.kernel.errors import InvalidInput, MalformedRequest, TooLarge
from loyalpro.kernel.strict_json import parse
from loyalpro.web.auth import account_id, authenticate

MAX_BODY_BYTES: Final = 256 * 1024
MAX_BATCH_BODY_BYTES: Final = 8 * 1024 * 1024
MAX_UNREAD_BODY_BYTES: Final = 16 * 1024
"""The limit for a `POST` without fields, whose body only decides whether the request is the same as an earlier one."""


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
    """A route that accepts JSON bodies of a limited size, and no query parameter that it does not use."""

    max_body_bytes = MAX_BODY_BYTES

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Check the API key and the names of query parameters, and then read and parse the body, before the framework does."""
        handle = super().get_route_handler()
        needs_key = any(each.call is account_id for each in self.dependant.dependencies)
        known = sorted(each.alias for each in self.dependant.query_params)

        async def strict(request: Request) -> Response:
            if needs_key:
                await authenticate(request)
            _require_known_query(request, known)
            return await handle(await self._read(request))

        return strict

    async def _read(self, request: Request) -> Request:
        if self.body_field is not None:
            _require_json(request)
            body = await _capped(request, self.max_body_bytes)
            parsed = parse(body) if body.strip() or self.body_field.field_info.is_required() else None
            return StrictRequest(request, body if parsed is not None else b"", parsed)
        if request.method == "POST":
            return StrictRequest(request, await _capped(request, MAX_UNREAD_BODY_BYTES), None)
        return request


class BatchRoute(StrictRoute):
    """A route whose body contains many objects."""

    max_body_bytes = MAX_BATCH_BODY_BYTES


def _require_known_query(request: Request, known: Sequence[str]) -> None:
    """A misspelled filter that was ignored would list everything."""
    for name in request.query_params:
        if name not in known:
            raise InvalidInput(_unknown_query(name[:64], known), code="unknown_field", param=name[:64])


def _unknown_query(name: str, known: Sequence[str]) -> str:
    if not known:
        return f"This call has no query parameters; leave {name!r} out."
    near = get_close_matches(name.lower(), known, n=1)
    return f"There is no query parameter {name!r}. " + (
        f"Did you mean {near[0]}?" if near else f"This call has: {', '.join(known)}."
    )


def _require_json(request: Request) -> None:
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise MalformedRequest(
            f"Send JSON with Content-Type: application/json, not {media_type[:60]}.", code="unsupported_media_type"
        )
    if request.headers.get("content-encoding", "identity") != "identity":
        raise MalformedRequest("Send the body uncompressed.", code="unsupported_content_encoding")


async def _capped(request: Request, most_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most_bytes:
            raise TooLarge(f"The body may have at most {most_bytes} bytes; send fewer objects in each request.")
        chunks.append(chunk)
    return b"".join(chunks)
