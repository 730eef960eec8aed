"""The health of an endpoint as the API shows it, and what resets it."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.receivers import Authority, RawServer, Responder
from support.server import Server

HEALTHY = {"state": "healthy", "consecutive_failures": 0, "failing_since": None, "next_probe_at": None}


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file, retry_schedule="3600,3600") as running:
        yield running


@pytest.fixture
def responder() -> Responder:
    return Responder()


@pytest.fixture
def receiver(authority: Authority, responder: Responder) -> Iterator[RawServer]:
    with RawServer(responder, authority.context()) as listening:
        yield listening
        responder.release()


@pytest.fixture
def endpoint(server: Server, receiver: RawServer) -> str:
    return f"/v1/webhook_endpoints/{server.post('/v1/webhook_endpoints', {'url': receiver.url, 'events': ['*']})['id']}"


def enroll(server: Server) -> None:
    server.post("/v1/customers", {})


def health(server: Server, endpoint: str, state: str) -> dict[str, Any]:
    """The health of the endpoint, once it has this state."""
    view = server.until(endpoint, lambda each: each["health"]["state"] == state)
    found: dict[str, Any] = view["health"]
    return found


def change(server: Server, endpoint: str, **changes: object) -> dict[str, Any]:
    answer = server.call("PATCH", endpoint, changes)
    assert answer.status == 200, answer.raw
    found: dict[str, Any] = answer.json["health"]
    return found


def test_failures_are_counted_until_a_success_ends_them(server: Server, endpoint: str, responder: Responder) -> None:
    assert server.get(endpoint)["health"] == HEALTHY
    responder.status = 500
    enroll(server)
    failing = health(server, endpoint, "failing")
    assert (failing["consecutive_failures"], failing["next_probe_at"]) == (1, None)
    assert failing["failing_since"] is not None
    responder.status = 200
    enroll(server)
    assert health(server, endpoint, "healthy") == HEALTHY
    [listed] = server.get("/v1/webhook_endpoints")["data"]
    assert listed == server.get(endpoint)


def test_an_endpoint_with_an_open_breaker_shows_its_next_probe_and_recovers(
    server: Server, endpoint: str, responder: Responder
) -> None:
    responder.status = 500
    for _ in range(6):
        enroll(server)
    held = health(server, endpoint, "open")
    assert held["consecutive_failures"] >= 5
    assert held["next_probe_at"] is not None
    responder.status = 200
    enroll(server)
    health(server, endpoint, "recovering")


def open_breaker(server: Server, endpoint: str, responder: Responder) -> None:
    """Open the breaker of the endpoint for most of an hour."""
    responder.status, responder.headers = 503, {"Retry-After": "3000"}
    enroll(server)
    health(server, endpoint, "open")
    responder.status = 200


def test_a_new_url_resets_the_health(server: Server, endpoint: str, receiver: RawServer, responder: Responder) -> None:
    open_breaker(server, endpoint, responder)
    enroll(server)
    assert change(server, endpoint, description="the same URL")["state"] == "open"
    assert change(server, endpoint, url=receiver.url + "/new") == HEALTHY
    assert receiver.wait_for(2)[1].head == "POST /hook/new HTTP/1.1"


@pytest.mark.parametrize("status", ["paused", "disabled"])
def test_an_endpoint_that_is_enabled_again_gets_its_backlog_at_once(
    server: Server, endpoint: str, receiver: RawServer, responder: Responder, status: str
) -> None:
    open_breaker(server, endpoint, responder)
    enroll(server)
    assert change(server, endpoint, status=status)["state"] == "open"
    assert change(server, endpoint, status="enabled")["state"] == "recovering"
    receiver.wait_for(2)


def test_an_endpoint_that_responds_410_is_disabled_and_causes_one_notice(
    server: Server, endpoint: str, receiver: RawServer, responder: Responder
) -> None:
    assert server.get("/v1/notices") == {"data": [], "next_cursor": None}
    responder.status = 410
    for _ in range(3):
        enroll(server)
    view = server.until(endpoint, lambda each: each["status"] == "disabled")
    assert (view["status_reason"], view["health"]) == ("gone", HEALTHY)
    server.until("/v1/notices", lambda page: page["data"])
    change(server, endpoint, status="enabled")
    enroll(server)
    server.until(endpoint, lambda each: each["status"] == "disabled")
    newest, oldest = server.until("/v1/notices", lambda page: len(page["data"]) == 2)["data"]
    assert newest["created_at"] >= oldest["created_at"]
    assert newest["kind"] == oldest["kind"] == "endpoint_disabled"
    assert "410" in newest["detail"]
    page = server.get("/v1/notices?limit=1")
    assert page["data"] == [newest]
    assert server.get(f"/v1/notices?limit=1&cursor={page['next_cursor']}")["data"] == [oldest]
    assert len(server.get(f"/v1/notices?endpoint_id={newest['endpoint_id']}")["data"]) == 2
    assert server.get("/v1/notices?endpoint_id=we_other")["data"] == []
    assert server.call("GET", "/v1/notices?cursor=ntc_1").status == 404
