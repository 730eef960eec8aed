"""Retrying and canceling a single delivery."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from loyalpro.kernel.clock import SystemClock
from support.databases import Databases
from support.receivers import Authority, RawServer, Responder
from support.server import Server

Start = Callable[[str], Server]


@pytest.fixture
def start(database_url: str, authority: Authority) -> Iterator[Start]:
    """Starts a server with a retry schedule."""
    with ExitStack() as stack:
        yield lambda schedule: stack.enter_context(
            Server(database_url, authority.ca_file, retry_schedule=schedule, sweep_interval=0.2)
        )


@pytest.fixture
def responder() -> Responder:
    return Responder()


@pytest.fixture
def receiver(authority: Authority, responder: Responder) -> Iterator[RawServer]:
    with RawServer(responder, authority.context()) as listening:
        yield listening
        responder.release()


def subscribe(server: Server, receiver: RawServer, **more: object) -> str:
    body = {"url": receiver.url, "events": ["customer.created", "customer.updated"], **more}
    return str(server.post("/v1/webhook_endpoints", body)["id"])


def enroll(server: Server) -> str:
    return str(server.post("/v1/customers", {"name": "Ada"})["id"])


def rename(server: Server, customer_id: str, name: str) -> None:
    assert server.call("PATCH", f"/v1/customers/{customer_id}", {"name": name}).status == 200


def deliveries(server: Server) -> list[dict[str, Any]]:
    """The deliveries, oldest first."""
    found: list[dict[str, Any]] = server.get("/v1/deliveries")["data"]
    return found[::-1]


def the_delivery(server: Server) -> dict[str, Any]:
    [only] = deliveries(server)
    return only


def after(server: Server, attempts: int, status: str) -> dict[str, Any]:
    """The only delivery, once it has this number of attempts and this status."""
    path = f"/v1/deliveries/{the_delivery(server)['id']}"
    found: dict[str, Any] = server.until(
        path, lambda each: (each["attempt_count"], each["status"]) == (attempts, status)
    )
    return found


def do(server: Server, delivery: dict[str, Any], what: str, **headers: str) -> tuple[int, str]:
    answer = server.call("POST", f"/v1/deliveries/{delivery['id']}/{what}", **headers)
    return answer.status, answer.json.get("code") or answer.json["status"]


def test_a_retry_of_a_pending_delivery_is_sent_at_once_and_keeps_the_due_time_if_it_fails(
    start: Start, receiver: RawServer, responder: Responder
) -> None:
    server = start("3600,3600")
    responder.status = 500
    subscribe(server, receiver)
    enroll(server)
    before = after(server, 1, "pending")
    assert do(server, before, "retry") == (202, "pending")
    failed = after(server, 2, "pending")
    assert failed["next_attempt_at"] == before["next_attempt_at"]
    assert failed["first_attempt_at"] == before["first_attempt_at"]
    responder.status = 200
    assert do(server, before, "retry") == (202, "pending")
    done = after(server, 3, "succeeded")
    assert [each["outcome"] for each in done["attempts"]] == ["http_5xx", "http_5xx", "succeeded"]
    assert len({hit.body for hit in receiver.hits}) == 1


def test_manual_attempts_do_not_count_against_the_retry_schedule(
    start: Start, receiver: RawServer, responder: Responder
) -> None:
    server = start("1,3600")
    responder.status = 500
    subscribe(server, receiver)
    enroll(server)
    first = after(server, 1, "pending")
    assert do(server, first, "retry") == (202, "pending")
    later = after(server, 3, "pending")
    assert later["next_attempt_at"] > first["next_attempt_at"], (
        "after the second scheduled attempt, another one is scheduled"
    )


def ended_delivery(ended: str, server: Server, receiver: RawServer, responder: Responder) -> tuple[dict[str, Any], int]:
    """A delivery that has ended with this status, and the number of its attempts."""
    responder.status = 200 if ended == "succeeded" else 500
    subscribe(server, receiver)
    enroll(server)
    attempts = {"succeeded": 1, "exhausted": 2, "canceled": 1}[ended]
    delivery = after(server, attempts, "pending" if ended == "canceled" else ended)
    if ended == "canceled":
        assert do(server, delivery, "cancel") == (200, "canceled")
    return delivery, attempts


@pytest.mark.parametrize("ended", ["succeeded", "exhausted", "canceled"])
def test_a_retry_of_a_finished_delivery_restores_its_status_if_it_fails(
    start: Start, receiver: RawServer, responder: Responder, ended: str
) -> None:
    server = start("3600" if ended == "canceled" else "0.01")
    before, attempts = ended_delivery(ended, server, receiver, responder)
    responder.status = 500
    assert do(server, before, "retry") == (202, "pending")
    after(server, attempts + 1, ended)
    responder.status = 200
    assert do(server, before, "retry") == (202, "pending")
    after(server, attempts + 2, "succeeded")


def test_a_retry_is_sent_at_once_while_the_breaker_is_open(
    start: Start, receiver: RawServer, responder: Responder
) -> None:
    server = start("3600,3600")
    responder.status, responder.headers = 503, {"Retry-After": "3000"}
    subscribe(server, receiver)
    enroll(server)
    held = after(server, 1, "pending")
    enroll(server)
    waiting = deliveries(server)[1]
    responder.status = 200
    assert do(server, held, "retry") == (202, "pending")
    server.until(f"/v1/deliveries/{held['id']}", lambda each: each["status"] == "succeeded")
    server.until(f"/v1/deliveries/{waiting['id']}", lambda each: each["status"] == "succeeded")


class NoBacklogScans(SystemClock):
    """Monotonic time stands still: the engine scans the backlog when it starts, and later only follows hints."""

    def monotonic_s(self) -> float:
        return 0.0


@pytest.mark.parametrize("what", ["retry", "resend"])
def test_a_retry_or_resend_is_sent_without_a_backlog_scan_while_the_breaker_is_open(
    databases: Databases, authority: Authority, receiver: RawServer, responder: Responder, what: str
) -> None:
    url = databases.fresh("sqlite")
    with Server(url, authority.ca_file, clock=NoBacklogScans(), retry_schedule="3600,3600") as server:
        endpoint = subscribe(server, receiver)
        enroll(server)
        delivery = after(server, 1, "succeeded")
        responder.status, responder.headers = 503, {"Retry-After": "3000"}
        rename(server, server.get("/v1/customers")["data"][0]["id"], "Grace")
        server.until(f"/v1/webhook_endpoints/{endpoint}", lambda each: each["health"]["state"] == "open")
        responder.status = 200
        path = {
            "retry": f"/v1/deliveries/{delivery['id']}/retry",
            "resend": f"/v1/events/{delivery['event_id']}/resend",
        }
        server.post(path[what])
        receiver.wait_for(3)


def test_a_delivery_that_is_being_sent_cannot_be_retried(
    start: Start, receiver: RawServer, responder: Responder
) -> None:
    server = start("3600")
    responder.hold()
    subscribe(server, receiver)
    enroll(server)
    receiver.wait_for(1)
    delivery = the_delivery(server)
    assert do(server, delivery, "retry") == (409, "delivery_in_flight")
    responder.status = 500
    responder.release()
    after(server, 1, "pending")
    responder.hold()
    assert do(server, delivery, "retry") == (202, "pending")
    assert do(server, delivery, "retry") == (409, "delivery_in_flight")
    receiver.wait_for(2)
    assert do(server, delivery, "retry") == (409, "delivery_in_flight")
    responder.release()
    after(server, 2, "pending")


def test_the_same_idempotency_key_makes_one_attempt(start: Start, receiver: RawServer) -> None:
    server = start("3600")
    subscribe(server, receiver)
    enroll(server)
    delivery = after(server, 1, "succeeded")
    assert do(server, delivery, "retry", Idempotency_Key="once") == (202, "pending")
    after(server, 2, "succeeded")
    assert do(server, delivery, "retry", Idempotency_Key="once") == (202, "pending")
    assert do(server, delivery, "cancel", Idempotency_Key="once")[0] == 422
    assert after(server, 2, "succeeded")["attempt_count"] == len(receiver.hits)


def test_a_retry_of_a_parked_delivery_or_of_a_deleted_endpoint_is_refused(start: Start, receiver: RawServer) -> None:
    server = start("3600")
    endpoint = subscribe(server, receiver, status="paused")
    enroll(server)
    delivery = the_delivery(server)
    assert delivery["status"] == "parked"
    assert do(server, delivery, "retry") == (409, "endpoint_not_enabled")
    server.call("DELETE", f"/v1/webhook_endpoints/{endpoint}")
    assert do(server, delivery, "retry") == (409, "endpoint_deleted")
    assert do(server, delivery, "cancel") == (200, "canceled")
    for what in ("retry", "cancel"):
        assert do(server, {"id": "dlv_" + "0" * 36}, what) == (404, "not_found")
        assert do(server, {"id": "dlv_1"}, what) == (404, "not_found")


def test_a_canceled_delivery_is_not_sent_again(start: Start, receiver: RawServer, responder: Responder) -> None:
    server = start("3600")
    responder.status = 500
    subscribe(server, receiver)
    enroll(server)
    delivery = after(server, 1, "pending")
    assert do(server, delivery, "cancel") == (200, "canceled")
    assert do(server, delivery, "cancel") == (200, "canceled")
    assert the_delivery(server)["finished_at"] is not None


def test_a_parked_delivery_can_be_canceled_and_one_that_has_ended_cannot(start: Start, receiver: RawServer) -> None:
    server = start("3600")
    endpoint = subscribe(server, receiver)
    enroll(server)
    ended = after(server, 1, "succeeded")
    assert do(server, ended, "cancel") == (409, "delivery_finished")
    server.call("PATCH", f"/v1/webhook_endpoints/{endpoint}", {"status": "paused"})
    enroll(server)
    parked = deliveries(server)[1]
    assert do(server, parked, "cancel") == (200, "canceled")
    server.call("PATCH", f"/v1/webhook_endpoints/{endpoint}", {"status": "enabled"})
    enroll(server)
    receiver.wait_for(2)
    assert parked["event_id"] not in {hit.headers["X-LoyalPro-Event-Id"] for hit in receiver.hits}


@pytest.mark.parametrize("status", [200, 500])
def test_a_delivery_that_is_canceled_while_it_is_sent_stays_canceled_and_keeps_its_attempt(
    start: Start, receiver: RawServer, responder: Responder, status: int
) -> None:
    server = start("0.01,0.01")
    responder.hold()
    subscribe(server, receiver)
    enroll(server)
    receiver.wait_for(1)
    assert do(server, the_delivery(server), "cancel") == (200, "canceled")
    responder.status = status
    responder.release()
    done = after(server, 1, "canceled")
    assert len(done["attempts"]) == 1
    assert do(server, done, "retry") == (202, "pending")
    after(server, 2, "succeeded" if status == 200 else "canceled")


@pytest.mark.parametrize("ended", ["succeeded", "exhausted", "canceled"])
def test_canceling_a_manual_attempt_restores_the_status_of_a_finished_delivery(
    start: Start, receiver: RawServer, responder: Responder, ended: str
) -> None:
    server = start("3600" if ended == "canceled" else "0.01")
    delivery, attempts = ended_delivery(ended, server, receiver, responder)
    responder.hold()
    assert do(server, delivery, "retry") == (202, "pending")
    receiver.wait_for(attempts + 1)
    assert do(server, delivery, "cancel") == (200, ended)
    responder.status = 500
    responder.release()
    done = after(server, attempts + 1, ended)
    assert len(done["attempts"]) == attempts + 1, "the attempt that was under way is recorded"
    assert done["finished_at"] is not None
    responder.status = 200
    assert do(server, delivery, "retry") == (202, "pending")
    after(server, attempts + 2, "succeeded")


def test_with_ordering_only_the_first_delivery_of_a_customer_can_be_retried_and_the_next_follows_it(
    start: Start, receiver: RawServer, responder: Responder
) -> None:
    server = start("3600,3600")
    responder.status = 500
    subscribe(server, receiver, ordering="customer")
    customer = enroll(server)
    after(server, 1, "pending")
    for name in ("Grace", "Edsger"):
        rename(server, customer, name)
    first, second, third = deliveries(server)
    assert second["next_attempt_at"] is None
    for waiting in (second, third):
        refusal = server.call("POST", f"/v1/deliveries/{waiting['id']}/retry")
        assert (refusal.status, refusal.json["code"]) == (409, "delivery_waits_its_turn")
        assert first["id"] in refusal.json["detail"]
    responder.status = 200
    assert do(server, second, "cancel") == (200, "canceled")
    assert do(server, first, "retry") == (202, "pending")
    server.until(f"/v1/deliveries/{third['id']}", lambda each: each["status"] == "succeeded")
    sent = [hit.headers["X-LoyalPro-Delivery-Id"] for hit in receiver.hits]
    assert sent == [first["id"], first["id"], third["id"]]


def test_canceling_the_first_delivery_of_a_customer_makes_the_next_one_due(
    start: Start, receiver: RawServer, responder: Responder
) -> None:
    server = start("3600,3600")
    responder.status = 500
    subscribe(server, receiver, ordering="customer")
    customer = enroll(server)
    head = after(server, 1, "pending")
    rename(server, customer, "Grace")
    responder.status = 200
    assert do(server, head, "cancel") == (200, "canceled")
    assert receiver.wait_for(2)[1].headers["X-LoyalPro-Event-Type"] == "customer.updated"


def test_pending_deliveries_of_a_deleted_endpoint_are_shown_as_canceled_at_once_and_stored_so_later(
    start: Start, receiver: RawServer, responder: Responder
) -> None:
    server = start("3600")
    responder.status = 500
    endpoint = subscribe(server, receiver)
    enroll(server)
    after(server, 1, "pending")
    assert server.call("DELETE", f"/v1/webhook_endpoints/{endpoint}").status == 204
    assert the_delivery(server)["status"] == "canceled"
    path = f"/v1/deliveries/{the_delivery(server)['id']}"
    stored = server.until(path, lambda each: each["finished_at"] is not None)
    assert stored["status"] == "canceled"
    assert [each["id"] for each in server.get("/v1/deliveries?status=canceled")["data"]] == [stored["id"]]
    assert do(server, stored, "retry") == (409, "endpoint_deleted")


def test_a_delivery_that_is_canceled_while_it_is_sent_to_a_deleted_endpoint_stays_canceled(
    start: Start, receiver: RawServer, responder: Responder
) -> None:
    server = start("3600")
    responder.hold()
    endpoint = subscribe(server, receiver)
    enroll(server)
    receiver.wait_for(1)
    assert server.call("DELETE", f"/v1/webhook_endpoints/{endpoint}").status == 204
    delivery = the_delivery(server)
    for _ in range(2):
        assert do(server, delivery, "cancel") == (200, "canceled")
    responder.release()
    done = server.until(f"/v1/deliveries/{delivery['id']}", lambda each: each["attempt_count"] == 1)
    assert (done["status"], done["attempts"][0]["outcome"]) == ("canceled", "succeeded")


@pytest.mark.parametrize("ended", ["succeeded", "exhausted", "canceled"])
def test_canceling_a_manual_attempt_to_a_deleted_endpoint_restores_the_status_of_a_finished_delivery(
    start: Start, receiver: RawServer, responder: Responder, ended: str
) -> None:
    server = start("3600" if ended == "canceled" else "0.01")
    delivery, attempts = ended_delivery(ended, server, receiver, responder)
    responder.hold()
    assert do(server, delivery, "retry") == (202, "pending")
    receiver.wait_for(attempts + 1)
    assert server.call("DELETE", f"/v1/webhook_endpoints/{delivery['endpoint_id']}").status == 204
    assert do(server, delivery, "retry") == (409, "endpoint_deleted")
    assert do(server, delivery, "cancel") == (200, ended)
    assert [each["id"] for each in server.get(f"/v1/deliveries?status={ended}")["data"]] == [delivery["id"]]
    responder.status = 500
    responder.release()
    done = server.until(f"/v1/deliveries/{delivery['id']}", lambda each: each["attempt_count"] == attempts + 1)
    assert (done["status"], the_delivery(server)["status"]) == (ended, ended)
