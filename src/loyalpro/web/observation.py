"""Observes requests: each gets an id, a log line, and is counted in the metrics."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

import structlog
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loyalpro.kernel.clock import MS_PER_S, Clock
from loyalpro.kernel.ids import IdFactory
from loyalpro.kernel.origin import Origin, caused_by
from loyalpro.web import errors
from loyalpro.web.client_address import Network, client_address

_CLIENT_CLOSED_REQUEST: Final = 499
"""The status that nginx logs for a client that disconnected before the response; it is never sent."""
_INTERNAL_ERROR: Final = 500
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PROBES: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Paths that monitoring reads every few seconds: they are counted, and logged only when they fail with an internal error."""
_MAX_EVENTS_LOGGED: Final = 10

# No `@` and no space, so that no e-mail address and no name is taken over, and no beginning of an API key or a secret.
_REQUEST_ID: Final = re.compile(r"(?!lp_|whsec_)[A-Za-z0-9._~:/+=-]{1,128}")
_TRACEPARENT: Final = re.compile(r"((?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(-.*)?")


class RequestMetrics(Protocol):
    """Counts responses."""

    def requested(self, method: str, route: str, status: int, elapsed_s: float) -> None:
        """Count one response. `method`, `route` and `status` have few possible values."""
        ...


def install(
    app: FastAPI, metrics: RequestMetrics, clock: Clock, ids: IdFactory, trusted_proxies: Sequence[Network] = ()
) -> None:
    """Give every request an id, count it, and log its method, route, status and duration; nothing of its content."""
    app.add_middleware(_Observed, metrics=metrics, clock=clock, ids=ids, trusted_proxies=trusted_proxies)


class _Observed:
    """ASGI middleware that wraps `send`: it adds no task and no queue between the application and the server."""

    def __init__(
        self, app: ASGIApp, metrics: RequestMetrics, clock: Clock, ids: IdFactory, trusted_proxies: Sequence[Network]
    ) -> None:
        self._app = app
        self._trusted_proxies = trusted_proxies
        self._metrics = metrics
        self._clock = clock
        self._ids = ids
        self._log = structlog.get_logger("web")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = self._origin(scope)
        scope.setdefault("state", {})["request_id"] = origin.request_id
        with caused_by(origin):
            await self._answer(scope, receive, send, origin)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, origin: Origin) -> None:
        started_s = self._clock.monotonic_s()
        responded = False

        async def observed(message: Message) -> None:
            nonlocal responded
            if message["type"] == "http.response.start":
                responded = True
                self._report(scope, origin, message["status"], self._clock.monotonic_s() - started_s)
                MutableHeaders(scope=message)["X-Request-Id"] = origin.request_id
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except ClientDisconnect:
            self._report(scope, origin, _CLIENT_CLOSED_REQUEST, self._clock.monotonic_s() - started_s)
        except Exception as error:
            if responded:
                raise  # a part of the response is sent; the server can only close the connection
            response = await errors.unexpected(Request(scope), error)
            await response(scope, receive, observed)

    def _origin(self, scope: Scope) -> Origin:
        """The origin that the headers state, with a new request id if they state none that can be taken over."""
        request_id, traceparent = _stated(scope["headers"])
        peer = (scope.get("client") or [None])[0]
        forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        address = client_address(peer, forwarded, self._trusted_proxies)
        return Origin(request_id or self._ids.new("req"), traceparent, address)

    def _report(self, scope: Scope, origin: Origin, status: int, elapsed_s: float) -> None:
        route = errors.route_of(scope)
        method = scope["method"] if scope["method"] in _METHODS else "(other)"
        self._metrics.requested(method, route, status, elapsed_s)
        if route in _PROBES and status != _INTERNAL_ERROR:
            return
        facts: dict[str, Any] = {"method": method, "route": route, "status": status}
        facts["ms"] = round(elapsed_s * MS_PER_S, 2)
        self._log.info("request", request_id=origin.request_id, **facts, **_causes(origin))


def _stated(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str | None, str | None]:
    """The request id and the trace context of the headers; None for each that is missing, doubled or not well formed."""
    ids, traces = [], []
    for name, value in headers:
        if name == b"x-request-id":
            ids.append(value.decode("latin-1"))
        elif name == b"traceparent":
            traces.append(value.decode("latin-1"))
    taken = len(ids) == 1 and _REQUEST_ID.fullmatch(ids[0])
    return (ids[0] if taken else None), (_trace(traces[0]) if len(traces) == 1 else None)


def _trace(stated: str) -> str | None:
    """The four fields of a trace context. A later version than 00 may have more fields, which are left out."""
    found = _TRACEPARENT.fullmatch(stated)
    return None if found is None or (found[2] and stated.startswith("00")) else found[1]


def _causes(origin: Origin) -> dict[str, Any]:
    """What the log line of a request says of its trace and of the events that it has caused: the first ids, and how many."""
    facts: dict[str, Any] = {} if origin.traceparent is None else {"traceparent": origin.traceparent}
    if origin.events:
        facts |= {"events": len(origin.events), "event_ids": origin.events[:_MAX_EVENTS_LOGGED]}
    return facts
