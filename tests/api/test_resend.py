"""Events sent again: to those that had them, and to those that never did."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.receivers import Authority, Moody, RawServer
from support.server import Server

NOBODY = "we_" + "0" * 26


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file, retry_schedule="3600") as running:
        yield running


@pytest.fixture
def mood() -> Moody:
    return Moody()


@pytest.fixture
def receiver(authority: Authority, mood: Moody) -> Iterator[RawServer]:
    with RawServer(mood, authority.context()) as listening:
        yield listening
        mood.let_go()


def subscribe(server: Server, receiver: RawServer, *types: str, **more: object) -> str:
    body = {"url": receiver.url, "events": list(types) or ["*"], **more}
    return str(server.post("/v1/webhook_endpoints", body)["id"])


def enrol(server: Server) -> str:
    """The id of the event that this causes."""
    customer = server.post("/v1/customers", {"name": "Ada"})["id"]
    events = server.get(f"/v1/events?customer_id={customer}")["data"]
    return str(events[0]["id"])


def resend(server: Server, event: str, **body: object) -> list[dict[str, Any]]:
    answer = server.call("POST", f"/v1/events/{event}/resend", body or None)
    assert answer.status == 202, answer.raw
    found: list[dict[str, Any]] = answer.json["data"]
    return found


def settled(server: Server, delivery: dict[str, Any], attempts: int, status: str = "succeeded") -> None:
    wanted = (attempts, status)
    server.until(f"/v1/deliveries/{delivery['id']}", lambda each: (each["attempt_count"], each["status"]) == wanted)


def test_it_uses_the_one_delivery_of_each_endpoint_that_wants_the_event(server: Server, receiver: RawServer) -> None:
    had_it = {subscribe(server, receiver), subscribe(server, receiver, "customer.created")}
    event = enrol(server)
    for each in server.get("/v1/deliveries")["data"]:
        settled(server, each, 1)
    new = subscribe(server, receiver, "customer.created")
    subscribe(server, receiver, "points.earned")
    subscribe(server, receiver, status="paused")
    sent = resend(server, event)
    assert {each["endpoint_id"] for each in sent} == had_it | {new}
    for each in sent:
        settled(server, each, 2 if each["endpoint_id"] in had_it else 1)
    assert len(server.get("/v1/deliveries")["data"]) == 3
    assert len({hit.body for hit in receiver.hits}) == 1


def test_one_endpoint_gets_it_whatever_it_is_subscribed_to(server: Server, receiver: RawServer) -> None:
    event = enrol(server)
    endpoint = subscribe(server, receiver, "points.earned")
    assert resend(server, event) == []
    [sent] = resend(server, event, endpoint_id=endpoint)
    settled(server, sent, 1)
    [again] = resend(server, event, endpoint_id=endpoint)
    assert again["id"] == sent["id"]
    settled(server, sent, 2)


def test_one_that_is_pending_is_left_alone_and_reported(server: Server, receiver: RawServer, mood: Moody) -> None:
    mood.status = 500
    subscribe(server, receiver)
    event = enrol(server)
    [delivery] = server.get("/v1/deliveries")["data"]
    settled(server, delivery, 1, "pending")
    before = server.get("/v1/deliveries")["data"]
    assert resend(server, event) == before
    assert server.get("/v1/deliveries")["data"] == before


def test_one_that_was_canceled_while_it_is_sent_is_left_alone(server: Server, receiver: RawServer, mood: Moody) -> None:
    mood.hold()
    subscribe(server, receiver)
    event = enrol(server)
    receiver.wait_for(1)
    [delivery] = server.get("/v1/deliveries")["data"]
    server.post(f"/v1/deliveries/{delivery['id']}/cancel")
    [left] = resend(server, event)
    assert left["status"] == "canceled"
    mood.let_go()
    settled(server, delivery, 1, "canceled")


def test_what_cannot_be_sent_is_refused(server: Server, receiver: RawServer) -> None:
    event = enrol(server)
    paused = subscribe(server, receiver, status="paused")
    for target, body, expected in (
        (event, {"endpoint_id": paused}, (409, "endpoint_not_enabled")),
        (event, {"endpoint_id": NOBODY}, (404, "not_found")),
        (event, {"endpoint_id": "x"}, (404, "not_found")),
        (event, {"endpoint_id": ""}, (422, "invalid_field")),
        (event, {"endpoint": paused}, (422, "unknown_field")),
        ("evt_" + "0" * 26, None, (404, "not_found")),
        ("evt_1", None, (404, "not_found")),
    ):
        answer = server.call("POST", f"/v1/events/{target}/resend", body)
        assert (answer.status, answer.json["code"]) == expected, answer.json


def test_a_sample_goes_only_where_it_was_sent_before(server: Server, receiver: RawServer) -> None:
    tested = subscribe(server, receiver)
    subscribe(server, receiver)
    sample = server.post(f"/v1/webhook_endpoints/{tested}/test")
    settled(server, sample, 1)
    [again] = resend(server, sample["event_id"])
    assert again["id"] == sample["id"]
    settled(server, sample, 2)


def test_in_order_a_late_event_goes_before_what_waits_behind_it(
    server: Server, receiver: RawServer, mood: Moody
) -> None:
    customer = server.post("/v1/customers", {"name": "Ada"})["id"]
    [event] = server.get(f"/v1/events?customer_id={customer}")["data"]
    endpoint = subscribe(server, receiver, ordering="customer")
    mood.status = 500
    server.call("PATCH", f"/v1/customers/{customer}", {"name": "Grace"})
    [pending] = server.get("/v1/deliveries")["data"]
    settled(server, pending, 1, "pending")
    [late] = resend(server, event["id"], endpoint_id=endpoint)
    settled(server, late, 1, "pending")
    refusal = server.call("POST", f"/v1/deliveries/{pending['id']}/retry")
    assert refusal.json["code"] == "delivery_waits_its_turn"
    mood.status = 200
    server.post(f"/v1/deliveries/{late['id']}/retry")
    settled(server, late, 2)
    server.post(f"/v1/deliveries/{pending['id']}/retry")
    settled(server, pending, 2)
