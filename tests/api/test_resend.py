"""Sending an event again, to endpoints with and without a delivery of it."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.receivers import Authority, RawServer, Responder
from support.server import Server

UNKNOWN = "we_" + "0" * 26


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file, retry_schedule="3600") as running:
        yield running


@pytest.fixture
def responder() -> Responder:
    return Responder()


@pytest.fixture
def receiver(authority: Authority, responder: Responder) -> Iterator[RawServer]:
    with RawServer(responder, authority.context()) as listening:
        yield listening
        responder.release()


def subscribe(server: Server, receiver: RawServer, *types: str, **more: object) -> str:
    body = {"url": receiver.url, "events": list(types) or ["*"], **more}
    return str(server.post("/v1/webhook_endpoints", body)["id"])


def enroll(server: Server) -> str:
    """Create a customer; the id of the event that this causes."""
    customer = server.post("/v1/customers", {"name": "Ada"})["id"]
    events = server.listed(f"/v1/events?customer_id={customer}")["data"]
    return str(events[0]["id"])


def resend(server: Server, event: str, **body: object) -> list[dict[str, Any]]:
    answer = server.call("POST", f"/v1/events/{event}/resend", body or None)
    assert answer.status == 202, answer.raw
    found: list[dict[str, Any]] = answer.json["data"]
    return found


def settled(server: Server, delivery: dict[str, Any], attempts: int, status: str = "succeeded") -> None:
    wanted = (attempts, status)
    server.until(f"/v1/deliveries/{delivery['id']}", lambda each: (each["attempt_count"], each["status"]) == wanted)


def test_a_resend_uses_the_existing_delivery_of_each_subscribed_endpoint(server: Server, receiver: RawServer) -> None:
    had_it = {subscribe(server, receiver), subscribe(server, receiver, "customer.created")}
    event = enroll(server)
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


def test_a_named_endpoint_gets_the_event_whatever_its_subscription(server: Server, receiver: RawServer) -> None:
    event = enroll(server)
    endpoint = subscribe(server, receiver, "points.earned")
    assert resend(server, event) == []
    [sent] = resend(server, event, endpoint_id=endpoint)
    settled(server, sent, 1)
    [again] = resend(server, event, endpoint_id=endpoint)
    assert again["id"] == sent["id"]
    settled(server, sent, 2)


def test_a_pending_delivery_stays_as_it_is_and_is_listed(
    server: Server, receiver: RawServer, responder: Responder
) -> None:
    responder.status = 500
    subscribe(server, receiver)
    event = enroll(server)
    [delivery] = server.get("/v1/deliveries")["data"]
    settled(server, delivery, 1, "pending")
    before = server.get("/v1/deliveries")["data"]
    assert resend(server, event) == before
    assert server.get("/v1/deliveries")["data"] == before


def test_a_delivery_that_was_canceled_while_it_is_sent_stays_as_it_is(
    server: Server, receiver: RawServer, responder: Responder
) -> None:
    responder.hold()
    subscribe(server, receiver)
    event = enroll(server)
    receiver.wait_for(1)
    [delivery] = server.get("/v1/deliveries")["data"]
    server.post(f"/v1/deliveries/{delivery['id']}/cancel")
    [left] = resend(server, event)
    assert left["status"] == "canceled"
    responder.release()
    settled(server, delivery, 1, "canceled")


def test_a_resend_that_is_not_possible_is_refused(server: Server, receiver: RawServer) -> None:
    event = enroll(server)
    paused = subscribe(server, receiver, status="paused")
    for target, body, expected in (
        (event, {"endpoint_id": paused}, (409, "endpoint_not_enabled")),
        (event, {"endpoint_id": UNKNOWN}, (404, "not_found")),
        (event, {"endpoint_id": "x"}, (404, "not_found")),
        (event, {"endpoint_id": ""}, (422, "invalid_field")),
        (event, {"endpoint": paused}, (422, "unknown_field")),
        ("evt_" + "0" * 26, None, (404, "not_found")),
        ("evt_1", None, (404, "not_found")),
    ):
        answer = server.call("POST", f"/v1/events/{target}/resend", body)
        assert (answer.status, answer.json["code"]) == expected, answer.json


def test_a_sample_goes_only_to_endpoints_that_had_it_before(server: Server, receiver: RawServer) -> None:
    tested = subscribe(server, receiver)
    subscribe(server, receiver)
    sample = server.post(f"/v1/webhook_endpoints/{tested}/test")
    settled(server, sample, 1)
    [again] = resend(server, sample["event_id"])
    assert again["id"] == sample["id"]
    settled(server, sample, 2)


def test_with_ordering_an_earlier_event_that_is_resent_goes_before_later_ones(
    server: Server, receiver: RawServer, responder: Responder
) -> None:
    customer = server.post("/v1/customers", {"name": "Ada"})["id"]
    [event] = server.listed(f"/v1/events?customer_id={customer}")["data"]
    endpoint = subscribe(server, receiver, ordering="customer")
    responder.status = 500
    server.call("PATCH", f"/v1/customers/{customer}", {"name": "Grace"})
    [pending] = server.get("/v1/deliveries")["data"]
    settled(server, pending, 1, "pending")
    [late] = resend(server, event["id"], endpoint_id=endpoint)
    settled(server, late, 1, "pending")
    refusal = server.call("POST", f"/v1/deliveries/{pending['id']}/retry")
    assert refusal.json["code"] == "delivery_waits_its_turn"
    responder.status = 200
    server.post(f"/v1/deliveries/{late['id']}/retry")
    settled(server, late, 2)
    server.post(f"/v1/deliveries/{pending['id']}/retry")
    settled(server, pending, 2)
