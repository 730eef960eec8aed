"""What an operator sees: metrics for Prometheus, and one log line for each request."""

import structlog
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.kernel.clock import Clock
from loyalpro.kernel.ids import IdFactory
from loyalpro.web import errors

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Telemetry:
    """The process's metrics. Labels are bounded sets: never an id, a URL or anything that a tenant chooses."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._attempts = Counter(
            "loyalpro_delivery_attempts", "Delivery attempts by outcome.", ["outcome"], registry=self.registry
        )
        self._by_outcome = {each: self._attempts.labels(each.value) for each in OutcomeCode}
        self._attempt_s = Histogram(
            "loyalpro_delivery_attempt_seconds", "Duration of attempts.", buckets=_SECONDS, registry=self.registry
        )
        self._fenced = Counter(
            "loyalpro_settlements_fenced", "Settlements refused because the lease was lost.", registry=self.registry
        )
        self._in_flight = Gauge("loyalpro_deliveries_in_flight", "Deliveries under way here.", registry=self.registry)
        self._requests = Counter(
            "loyalpro_http_requests", "API requests.", ["method", "route", "status"], registry=self.registry
        )
        self._request_s = Histogram(
            "loyalpro_http_request_seconds", "Duration of API requests.", buckets=_SECONDS, registry=self.registry
        )

    def attempted(self, outcome: OutcomeCode, total_ms: float) -> None:
        """One delivery attempt ended."""
        self._by_outcome[outcome].inc()
        self._attempt_s.observe(total_ms / 1_000)

    def fenced(self) -> None:
        """One settlement came too late."""
        self._fenced.inc()

    def in_flight(self, count: int) -> None:
        """So many deliveries are on their way."""
        self._in_flight.set(count)

    def requested(self, method: str, route: str, status: int, elapsed_s: float) -> None:
        """One API request was answered."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_s.observe(elapsed_s)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)


def install(app: FastAPI, telemetry: Telemetry, clock: Clock, ids: IdFactory) -> None:
    """Give every request an id, measure it, and log it: method, route, status and time, nothing that came in."""
    app.add_middleware(_Observed, telemetry=telemetry, clock=clock, ids=ids)


class _Observed:
    """Wraps the application's `send`, so that no task and no queue stands between it and the server."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry, clock: Clock, ids: IdFactory) -> None:
        self._app = app
        self._telemetry = telemetry
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
        answered = False

        async def observed(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                self._note(scope, request_id, message["status"], self._clock.monotonic_s() - started_s)
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except ClientDisconnect:
            self._note(scope, request_id, _HUNG_UP, self._clock.monotonic_s() - started_s)
        except Exception as error:
            if answered:
                raise  # all that is left is to cut the answer short
            response = await errors.unexpected(Request(scope), error)
            await response(scope, receive, observed)

    def _note(self, scope: Scope, request_id: str, status: int, elapsed_s: float) -> None:
        route = getattr(scope.get("route"), "path", "(none)")
        method = scope["method"] if scope["method"] in _METHODS else "(other)"
        self._telemetry.requested(method, route, status, elapsed_s)
        ms = round(elapsed_s * 1_000, 2)
        self._log.info("request", request_id=request_id, method=method, route=route, status=status, ms=ms)


_HUNG_UP = 499
"""What nginx writes for a caller who did not wait for an answer; nobody is sent it."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
