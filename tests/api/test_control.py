"""What owners do with single deliveries: retry and cancel."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from loyalpro.kernel.clock import SystemClock
from support.databases import Databases
from support.receivers import Authority, Moody, RawServer
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
def mood() -> Moody:
    return Moody()


@pytest.fixture
def receiver(authority: Authority, mood: Moody) -> Iterator[RawServer]:
    with RawServer(mood, authority.context()) as listening:
        yield listening
        mood.let_go()


def subscribe(server: Server, receiver: RawServer, **more: object) -> str:
    body = {"url": receiver.url, "events": ["customer.created", "customer.updated"], **more}
    return str(server.post("/v1/webhook_endpoints", body)["id"])


def enrol(server: Server) -> str:
    return str(server.post("/v1/customers", {"name": "Ada"})["id"])


def rename(server: Server, customer_id: str, name: str) -> None:
    assert server.call("PATCH", f"/v1/customers/{customer_id}", {"name": name}).status == 200


def deliveries(server: Server) -> list[dict[str, Any]]:
    """Oldest first."""
    found: list[dict[str, Any]] = server.get("/v1/deliveries")["data"]
    return found[::-1]


def the_delivery(server: Server) -> dict[str, Any]:
    [only] = deliveries(server)
    return only


def after(server: Server, attempts: int, status: str) -> dict[str, Any]:
    """The one delivery, once it has had so many attempts and is this."""
    path = f"/v1/deliveries/{the_delivery(server)['id']}"
    found: dict[str, Any] = server.until(
        path, lambda each: (each["attempt_count"], each["status"]) == (attempts, status)
    )
    return found


def do(server: Server, delivery: dict[str, Any], what: str, **headers: str) -> tuple[int, str]:
    answer = server.call("POST", f"/v1/deliveries/{delivery['id']}/{what}", **headers)
    return answer.status, answer.json.get("code") or answer.json["status"]


def test_a_pending_delivery_is_sent_at_once_and_keeps_its_old_time_when_that_fails(
    start: Start, receiver: RawServer, mood: Moody
) -> None:
    server = start("3600,3600")
    mood.status = 500
    subscribe(server, receiver)
    enrol(server)
    before = after(server, 1, "pending")
    assert do(server, before, "retry") == (202, "pending")
    failed = after(server, 2, "pending")
    assert failed["next_attempt_at"] == before["next_attempt_at"]
    assert failed["first_attempt_at"] == before["first_attempt_at"]
    mood.status = 200
    assert do(server, before, "retry") == (202, "pending")
    done = after(server, 3, "succeeded")
    assert [each["outcome"] for each in done["attempts"]] == ["http_5xx", "http_5xx", "succeeded"]
    assert len({hit.body for hit in receiver.hits}) == 1


def test_attempts_by_hand_use_up_none_of_the_schedule(start: Start, receiver: RawServer, mood: Moody) -> None:
    server = start("1,3600")
    mood.status = 500
    subscribe(server, receiver)
    enrol(server)
    first = after(server, 1, "pending")
    assert do(server, first, "retry") == (202, "pending")
    later = after(server, 3, "pending")
    assert later["next_attempt_at"] > first["next_attempt_at"], "the second scheduled attempt still has one behind it"


def one_that_has(ended: str, server: Server, receiver: RawServer, mood: Moody) -> tuple[dict[str, Any], int]:
    """A delivery that has ended like this, and after how many attempts."""
    mood.status = 200 if ended == "succeeded" else 500
    subscribe(server, receiver)
    enrol(server)
    attempts = {"succeeded": 1, "exhausted": 2, "canceled": 1}[ended]
    delivery = after(server, attempts, "pending" if ended == "canceled" else ended)
    if ended == "canceled":
        assert do(server, delivery, "cancel") == (200, "canceled")
    return delivery, attempts


@pytest.mark.parametrize("ended", ["succeeded", "exhausted", "canceled"])
def test_a_finished_delivery_is_sent_again_and_is_what_it_was_when_that_fails(
    start: Start, receiver: RawServer, mood: Moody, ended: str
) -> None:
    server = start("3600" if ended == "canceled" else "0.01")
    before, attempts = one_that_has(ended, server, receiver, mood)
    mood.status = 500
    assert do(server, before, "retry") == (202, "pending")
    after(server, attempts + 1, ended)
    mood.status = 200
    assert do(server, before, "retry") == (202, "pending")
    after(server, attempts + 2, "succeeded")


def test_a_retry_passes_an_open_breaker_at_once(start: Start, receiver: RawServer, mood: Moody) -> None:
    server = start("3600,3600")
    mood.status, mood.headers = 503, {"Retry-After": "3000"}
    subscribe(server, receiver)
    enrol(server)
    held = after(server, 1, "pending")
    enrol(server)
    waiting = deliveries(server)[1]
    mood.status = 200
    assert do(server, held, "retry") == (202, "pending")
    server.until(f"/v1/deliveries/{held['id']}", lambda each: each["status"] == "succeeded")
    server.until(f"/v1/deliveries/{waiting['id']}", lambda each: each["status"] == "succeeded")


class SurveyedOnce(SystemClock):
    """Time to measure with stands still: the engine looks over the database when it starts, then lives on hints alone."""

    def monotonic_s(self) -> float:
        return 0.0


@pytest.mark.parametrize("what", ["retry", "resend"])
def test_what_is_sent_by_hand_needs_no_survey_to_pass_an_open_breaker(
    databases: Databases, authority: Authority, receiver: RawServer, mood: Moody, what: str
) -> None:
    url = databases.fresh("sqlite")
    with Server(url, authority.ca_file, clock=SurveyedOnce(), retry_schedule="3600,3600") as server:
        endpoint = subscribe(server, receiver)
        enrol(server)
        delivery = after(server, 1, "succeeded")
        mood.status, mood.headers = 503, {"Retry-After": "3000"}
        rename(server, server.get("/v1/customers")["data"][0]["id"], "Grace")
        server.until(f"/v1/webhook_endpoints/{endpoint}", lambda each: each["health"]["state"] == "open")
        mood.status = 200
        path = {
            "retry": f"/v1/deliveries/{delivery['id']}/retry",
            "resend": f"/v1/events/{delivery['event_id']}/resend",
        }
        server.post(path[what])
        receiver.wait_for(3)


def test_what_is_under_way_cannot_be_sent_a_second_time(start: Start, receiver: RawServer, mood: Moody) -> None:
    server = start("3600")
    mood.hold()
    subscribe(server, receiver)
    enrol(server)
    receiver.wait_for(1)
    delivery = the_delivery(server)
    assert do(server, delivery, "retry") == (409, "delivery_in_flight")
    mood.status = 500
    mood.let_go()
    after(server, 1, "pending")
    mood.hold()
    assert do(server, delivery, "retry") == (202, "pending")
    assert do(server, delivery, "retry") == (409, "delivery_in_flight")
    receiver.wait_for(2)
    assert do(server, delivery, "retry") == (409, "delivery_in_flight")
    mood.let_go()
    after(server, 2, "pending")


def test_the_same_idempotency_key_makes_one_attempt(start: Start, receiver: RawServer) -> None:
    server = start("3600")
    subscribe(server, receiver)
    enrol(server)
    delivery = after(server, 1, "succeeded")
    assert do(server, delivery, "retry", Idempotency_Key="once") == (202, "pending")
    after(server, 2, "succeeded")
    assert do(server, delivery, "retry", Idempotency_Key="once") == (202, "pending")
    assert do(server, delivery, "cancel", Idempotency_Key="once")[0] == 422
    assert after(server, 2, "succeeded")["attempt_count"] == len(receiver.hits)


def test_what_is_parked_or_orphaned_says_what_to_do(start: Start, receiver: RawServer) -> None:
    server = start("3600")
    endpoint = subscribe(server, receiver, status="paused")
    enrol(server)
    delivery = the_delivery(server)
    assert delivery["status"] == "parked"
    assert do(server, delivery, "retry") == (409, "endpoint_not_enabled")
    server.call("DELETE", f"/v1/webhook_endpoints/{endpoint}")
    assert do(server, delivery, "retry") == (409, "endpoint_deleted")
    assert do(server, delivery, "cancel") == (200, "canceled")
    for what in ("retry", "cancel"):
        assert do(server, {"id": "dlv_" + "0" * 36}, what) == (404, "not_found")
        assert do(server, {"id": "dlv_1"}, what) == (404, "not_found")


def test_a_canceled_delivery_is_not_sent_again(start: Start, receiver: RawServer, mood: Moody) -> None:
    server = start("3600")
    mood.status = 500
    subscribe(server, receiver)
    enrol(server)
    delivery = after(server, 1, "pending")
    assert do(server, delivery, "cancel") == (200, "canceled")
    assert do(server, delivery, "cancel") == (200, "canceled")
    assert the_delivery(server)["finished_at"] is not None


def test_one_that_is_parked_can_be_canceled_and_one_that_has_ended_cannot(start: Start, receiver: RawServer) -> None:
    server = start("3600")
    endpoint = subscribe(server, receiver)
    enrol(server)
    ended = after(server, 1, "succeeded")
    assert do(server, ended, "cancel") == (409, "delivery_finished")
    server.call("PATCH", f"/v1/webhook_endpoints/{endpoint}", {"status": "paused"})
    enrol(server)
    parked = deliveries(server)[1]
    assert do(server, parked, "cancel") == (200, "canceled")
    server.call("PATCH", f"/v1/webhook_endpoints/{endpoint}", {"status": "enabled"})
    enrol(server)
    receiver.wait_for(2)
    assert parked["event_id"] not in {hit.headers["X-LoyalPro-Event-Id"] for hit in receiver.hits}


@pytest.mark.parametrize("status", [200, 500])
def test_one_that_is_canceled_while_it_is_sent_stays_canceled_and_keeps_its_attempt(
    start: Start, receiver: RawServer, mood: Moody, status: int
) -> None:
    server = start("0.01,0.01")
    mood.hold()
    subscribe(server, receiver)
    enrol(server)
    receiver.wait_for(1)
    assert do(server, the_delivery(server), "cancel") == (200, "canceled")
    mood.status = status
    mood.let_go()
    done = after(server, 1, "canceled")
    assert len(done["attempts"]) == 1
    assert do(server, done, "retry") == (202, "pending")
    after(server, 2, "succeeded" if status == 200 else "canceled")


@pytest.mark.parametrize("ended", ["succeeded", "exhausted", "canceled"])
def test_canceling_an_attempt_by_hand_leaves_what_had_ended_as_it_was(
    start: Start, receiver: RawServer, mood: Moody, ended: str
) -> None:
    server = start("3600" if ended == "canceled" else "0.01")
    delivery, attempts = one_that_has(ended, server, receiver, mood)
    mood.hold()
    assert do(server, delivery, "retry") == (202, "pending")
    receiver.wait_for(attempts + 1)
    assert do(server, delivery, "cancel") == (200, ended)
    mood.status = 500
    mood.let_go()
    done = after(server, attempts + 1, ended)
    assert len(done["attempts"]) == attempts + 1, "the attempt that was under way is written down"
    assert done["finished_at"] is not None
    mood.status = 200
    assert do(server, delivery, "retry") == (202, "pending")
    after(server, attempts + 2, "succeeded")


def test_in_order_only_the_first_of_a_customer_can_be_retried_and_its_end_lets_the_next_go(
    start: Start, receiver: RawServer, mood: Moody
) -> None:
    server = start("3600,3600")
    mood.status = 500
    subscribe(server, receiver, ordering="customer")
    customer = enrol(server)
    after(server, 1, "pending")
    for name in ("Grace", "Edsger"):
        rename(server, customer, name)
    first, second, third = deliveries(server)
    assert second["next_attempt_at"] is None
    for waiting in (second, third):
        refusal = server.call("POST", f"/v1/deliveries/{waiting['id']}/retry")
        assert (refusal.status, refusal.json["code"]) == (409, "delivery_waits_its_turn")
        assert first["id"] in refusal.json["detail"]
    mood.status = 200
    assert do(server, second, "cancel") == (200, "canceled")
    assert do(server, first, "retry") == (202, "pending")
    server.until(f"/v1/deliveries/{third['id']}", lambda each: each["status"] == "succeeded")
    sent = [hit.headers["X-LoyalPro-Delivery-Id"] for hit in receiver.hits]
    assert sent == [first["id"], first["id"], third["id"]]


def test_canceling_the_first_of_a_customer_lets_the_next_go(start: Start, receiver: RawServer, mood: Moody) -> None:
    server = start("3600,3600")
    mood.status = 500
    subscribe(server, receiver, ordering="customer")
    customer = enrol(server)
    head = after(server, 1, "pending")
    rename(server, customer, "Grace")
    mood.status = 200
    assert do(server, head, "cancel") == (200, "canceled")
    assert receiver.wait_for(2)[1].headers["X-LoyalPro-Event-Type"] == "customer.updated"


def test_what_a_deleted_endpoint_was_owed_is_canceled_at_once_and_then_written_down(
    start: Start, receiver: RawServer, mood: Moody
) -> None:
    server = start("3600")
    mood.status = 500
    endpoint = subscribe(server, receiver)
    enrol(server)
    after(server, 1, "pending")
    assert server.call("DELETE", f"/v1/webhook_endpoints/{endpoint}").status == 204
    assert the_delivery(server)["status"] == "canceled"
    assert [each["id"] for each in server.get("/v1/deliveries?status=canceled")["data"]]
    path = f"/v1/deliveries/{the_delivery(server)['id']}"
    written = server.until(path, lambda each: each["finished_at"] is not None)
    assert written["status"] == "canceled"
    assert do(server, written, "retry") == (409, "endpoint_deleted")


def test_what_is_canceled_while_it_is_sent_to_a_deleted_endpoint_stays_canceled(
    start: Start, receiver: RawServer, mood: Moody
) -> None:
    server = start("3600")
    mood.hold()
    endpoint = subscribe(server, receiver)
    enrol(server)
    receiver.wait_for(1)
    assert server.call("DELETE", f"/v1/webhook_endpoints/{endpoint}").status == 204
    delivery = the_delivery(server)
    for _ in range(2):
        assert do(server, delivery, "cancel") == (200, "canceled")
    mood.let_go()
    done = server.until(f"/v1/deliveries/{delivery['id']}", lambda each: each["attempt_count"] == 1)
    assert (done["status"], done["attempts"][0]["outcome"]) == ("canceled", "succeeded")


@pytest.mark.parametrize("ended", ["succeeded", "exhausted", "canceled"])
def test_canceling_an_attempt_by_hand_to_a_deleted_endpoint_leaves_what_had_ended_as_it_was(
    start: Start, receiver: RawServer, mood: Moody, ended: str
) -> None:
    server = start("3600" if ended == "canceled" else "0.01")
    delivery, attempts = one_that_has(ended, server, receiver, mood)
    mood.hold()
    assert do(server, delivery, "retry") == (202, "pending")
    receiver.wait_for(attempts + 1)
    assert server.call("DELETE", f"/v1/webhook_endpoints/{delivery['endpoint_id']}").status == 204
    assert do(server, delivery, "retry") == (409, "endpoint_deleted")
    assert do(server, delivery, "cancel") == (200, ended)
    assert [each["id"] for each in server.get(f"/v1/deliveries?status={ended}")["data"]] == [delivery["id"]]
    mood.status = 500
    mood.let_go()
    done = server.until(f"/v1/deliveries/{delivery['id']}", lambda each: each["attempt_count"] == attempts + 1)
    assert (done["status"], the_delivery(server)["status"]) == (ended, ended)
