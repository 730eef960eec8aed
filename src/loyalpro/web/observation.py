"""Observes requests: each gets an id, a log line, and is counted in the metrics."""

from typing import Protocol

import structlog
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loyalpro.kernel.clock import Clock
from loyalpro.kernel.ids import IdFactory
from loyalpro.web import errors

_CLIENT_CLOSED_REQUEST = 499
"""The status that nginx logs for a client that disconnected before the response; it is never sent."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMetrics(Protocol):
    """Counts responses."""

    def requested(self, method: str, route: str, status: int, elapsed_s: float) -> None:
        """Count one response. `method`, `route` and `status` have few possible values."""
        ...


def install(app: FastAPI, metrics: RequestMetrics, clock: Clock, ids: IdFactory) -> None:
    """Give every request an id, count it, and log its method, route, status and duration; nothing of its content."""
    app.add_middleware(_Observed, metrics=metrics, clock=clock, ids=ids)


class _Observed:
    """ASGI middleware that wraps `send`: it adds no task and no queue between the application and the server."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics, clock: Clock, ids: IdFactory) -> None:
        self._app = app
        self._metrics = metrics
        self._clock = clock
        self._ids = ids
        self._log = structlog.get_logger("web")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = self._ids.new("req")
        scope.setdefault("state", {})["request_id"] = request_id
        started_s = self._clock.monotonic_s()
        responded = False

        async def observed(message: Message) -> None:
            nonlocal responded
            if message["type"] == "http.response.start":
                responded = True
                self._report(scope, request_id, message["status"], self._clock.monotonic_s() - started_s)
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except ClientDisconnect:
            self._report(scope, request_id, _CLIENT_CLOSED_REQUEST, self._clock.monotonic_s() - started_s)
        except Exception as error:
            if responded:
                raise  # a part of the response is sent; the server can only close the connection
            response = await errors.unexpected(Request(scope), error)
            await response(scope, receive, observed)

    def _report(self, scope: Scope, request_id: str, status: int, elapsed_s: float) -> None:
        route = getattr(scope.get("route"), "path", "(none)")
        method = scope["method"] if scope["method"] in _METHODS else "(other)"
        self._metrics.requested(method, route, status, elapsed_s)
        ms = round(elapsed_s * 1_000, 2)
        self._log.info("request", request_id=request_id, method=method, route=route, status=status, ms=ms)
