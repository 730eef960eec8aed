"""What owners see of an endpoint that fails, and what makes it well again."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.receivers import Authority, Moody, RawServer
from support.server import Server

WELL = {"state": "healthy", "consecutive_failures": 0, "failing_since": None, "next_probe_at": None}


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file, retry_schedule="3600,3600") as running:
        yield running


@pytest.fixture
def mood() -> Moody:
    return Moody()


@pytest.fixture
def receiver(authority: Authority, mood: Moody) -> Iterator[RawServer]:
    with RawServer(mood, authority.context()) as listening:
        yield listening
        mood.let_go()


@pytest.fixture
def endpoint(server: Server, receiver: RawServer) -> str:
    return f"/v1/webhook_endpoints/{server.post('/v1/webhook_endpoints', {'url': receiver.url, 'events': ['*']})['id']}"


def enrol(server: Server) -> None:
    server.post("/v1/customers", {})


def health(server: Server, endpoint: str, state: str) -> dict[str, Any]:
    """The endpoint's health, once it is this."""
    view = server.until(endpoint, lambda each: each["health"]["state"] == state)
    found: dict[str, Any] = view["health"]
    return found


def change(server: Server, endpoint: str, **changes: object) -> dict[str, Any]:
    answer = server.call("PATCH", endpoint, changes)
    assert answer.status == 200, answer.raw
    found: dict[str, Any] = answer.json["health"]
    return found


def test_failures_are_counted_until_a_success_ends_them(server: Server, endpoint: str, mood: Moody) -> None:
    assert server.get(endpoint)["health"] == WELL
    mood.status = 500
    enrol(server)
    failing = health(server, endpoint, "failing")
    assert (failing["consecutive_failures"], failing["next_probe_at"]) == (1, None)
    assert failing["failing_since"] is not None
    mood.status = 200
    enrol(server)
    assert health(server, endpoint, "healthy") == WELL
    [listed] = server.get("/v1/webhook_endpoints")["data"]
    assert listed == server.get(endpoint)


def test_an_endpoint_that_is_held_back_says_when_it_is_tried_again_and_recovers(
    server: Server, endpoint: str, mood: Moody
) -> None:
    mood.status = 500
    for _ in range(6):
        enrol(server)
    held = health(server, endpoint, "open")
    assert held["consecutive_failures"] >= 5
    assert held["next_probe_at"] is not None
    mood.status = 200
    enrol(server)
    health(server, endpoint, "recovering")


def held_back(server: Server, endpoint: str, mood: Moody) -> None:
    """Its breaker is open for most of an hour."""
    mood.status, mood.headers = 503, {"Retry-After": "3000"}
    enrol(server)
    health(server, endpoint, "open")
    mood.status = 200


def test_a_new_address_starts_afresh(server: Server, endpoint: str, receiver: RawServer, mood: Moody) -> None:
    held_back(server, endpoint, mood)
    enrol(server)
    assert change(server, endpoint, description="the same address")["state"] == "open"
    assert change(server, endpoint, url=receiver.url + "/new") == WELL
    assert receiver.wait_for(2)[1].head == "POST /hook/new HTTP/1.1"


@pytest.mark.parametrize("status", ["paused", "disabled"])
def test_one_that_is_enabled_again_gets_its_backlog_at_once(
    server: Server, endpoint: str, receiver: RawServer, mood: Moody, status: str
) -> None:
    held_back(server, endpoint, mood)
    enrol(server)
    assert change(server, endpoint, status=status)["state"] == "open"
    assert change(server, endpoint, status="enabled")["state"] == "recovering"
    receiver.wait_for(2)


def test_who_answers_gone_is_disabled_and_its_owner_is_told_once(
    server: Server, endpoint: str, receiver: RawServer, mood: Moody
) -> None:
    assert server.get("/v1/notices") == {"data": [], "next_cursor": None}
    mood.status = 410
    for _ in range(3):
        enrol(server)
    view = server.until(endpoint, lambda each: each["status"] == "disabled")
    assert (view["status_reason"], view["health"]) == ("gone", WELL)
    server.until("/v1/notices", lambda page: page["data"])
    change(server, endpoint, status="enabled")
    enrol(server)
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
