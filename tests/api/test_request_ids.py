"""The id and the trace context of a request: taken over when they are well formed, and kept with the events that it causes."""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from structlog.testing import capture_logs

from support.databases import Databases
from support.history import query
from support.receivers import Authority, RawServer, Responder, good
from support.server import Server
from support.writes import Held

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ORIGINS = "SELECT id, request_id, traceparent FROM events"


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file) as running:
        yield running


@pytest.fixture
def local(databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh("sqlite")) as running:
        yield running


@pytest.fixture
def receiver(authority: Authority) -> Iterator[RawServer]:
    with RawServer(good, authority.context()) as listening:
        yield listening


def request_lines(logs: list[Any]) -> list[Any]:
    return [line for line in logs if line["event"] == "request"]


@pytest.mark.parametrize("stated", ["a", "3f0a-77", "till:4/2026.11.28~x=1+2_3", "x" * 128])
def test_a_well_formed_request_id_is_in_the_response_and_in_the_log(local: Server, stated: str) -> None:
    with capture_logs() as logs:
        answer = local.call("GET", "/v1/customers", X_Request_Id=stated)
    assert answer.headers["x-request-id"] == stated
    assert [line["request_id"] for line in request_lines(logs)] == [stated]


@pytest.mark.parametrize(
    "stated",
    ["", "x" * 129, "a b", "ann@example.com", "a\tb", "\u00e9", '"', "lp_0123456789abcdef", "whsec_abc", "a,b"],
)
def test_any_other_request_id_is_replaced_by_a_new_one(local: Server, stated: str) -> None:
    with capture_logs() as logs:
        answer = local.call("GET", "/v1/customers", X_Request_Id=stated)
    assert answer.headers["x-request-id"].startswith("req_")
    assert [line["request_id"] for line in request_lines(logs)] == [answer.headers["x-request-id"]]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nowhere", None, 404),
        ("PUT", "/v1/customers", None, 405),
        ("POST", "/v1/customers", b"{", 400),
        ("POST", "/v1/customers", {"nam": 1}, 422),
        ("GET", "/v1/customers?x=1", None, 422),
    ],
)
def test_errors_name_the_stated_request_id(local: Server, method: str, path: str, body: Any, status: int) -> None:
    answer = local.call(method, path, body, X_Request_Id="till-4")
    assert (answer.status, answer.headers["x-request-id"], answer.json["request_id"]) == (status, "till-4", "till-4")
    assert local.call(method, path, body, key=None, X_Request_Id="till-4").headers["x-request-id"] == "till-4"


def test_a_request_is_found_from_the_purchase_to_the_delivery_and_receivers_get_nothing_of_it(
    server: Server, receiver: RawServer
) -> None:
    server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["points.earned"]})
    customer = server.post("/v1/customers", {}, X_Request_Id="enroll-1")["id"]
    with capture_logs() as logs:
        server.post(
            "/v1/transactions",
            {"customer_id": customer, "amount": 500, "currency": "EUR"},
            X_Request_Id="till-4",
            traceparent=TRACE,
        )
    [hit] = receiver.wait_for(1)
    [line] = request_lines(logs)
    assert (line["request_id"], line["traceparent"], line["events"]) == ("till-4", TRACE, 2)
    event_id = json.loads(hit.body)["id"]
    assert line["event_ids"][1] == event_id
    found = server.until(f"/v1/deliveries?event_id={event_id}", lambda page: page["data"])["data"]
    shown = server.get(f"/v1/deliveries/{found[0]['id']}")
    assert (shown["request_id"], shown["traceparent"]) == ("till-4", TRACE)
    assert b"till-4" not in hit.body
    assert not {"till-4", TRACE} & set(hit.headers.values())
    assert server.get(f"/v1/events/{event_id}") == json.loads(hit.body)


def test_the_log_line_of_a_failed_attempt_names_the_request_that_caused_the_event(
    database_url: str, authority: Authority
) -> None:
    with (
        RawServer(Responder(status=503), authority.context()) as receiver,
        Server(database_url, authority.ca_file, retry_schedule="0.05") as server,
        capture_logs() as logs,
    ):
        made = server.post("/v1/webhook_endpoints", {"url": f"{receiver.url}?token=abc", "events": ["*"]})
        server.post("/v1/customers", {"name": "canary"}, X_Request_Id="enroll-1", traceparent=TRACE)
        [shown] = server.until("/v1/deliveries?status=exhausted", lambda page: page["data"])["data"]
        while len(lines := [line for line in logs if line["event"] == "attempt_failed"]) < 2:
            server.call("GET", "/healthz")
    for number, line in enumerate(lines, 1):
        assert (line["request_id"], line["traceparent"], line["attempt"]) == ("enroll-1", TRACE, number)
        assert (line["delivery_id"], line["endpoint_id"], line["outcome"]) == (shown["id"], made["id"], "http_5xx")
    assert [(line["status"], "next_at" in line) for line in lines] == [("pending", True), ("exhausted", False)]
    assert not [word for word in ("canary", "token=abc", "whsec_") if word in repr(logs)]


def test_purchases_of_one_database_transaction_keep_the_ids_of_their_own_requests(server: Server) -> None:
    server.report_purchases_only()
    customer = server.post("/v1/customers", {}, X_Request_Id="enroll-1")["id"]
    held = Held(None)
    busy = threading.Thread(target=lambda: asyncio.run(server.application.database.write(held)))
    busy.start()
    asyncio.run(held.under_way())

    def buy(name: str) -> Any:
        body = {"customer_id": customer, "amount": 500, "currency": "EUR", "external_id": name}
        return server.post("/v1/transactions", body, X_Request_Id=name, Idempotency_Key=name)

    names = [f"till-{n}" for n in range(8)]
    keys = server.application.web.state.services.keys_in_flight
    with capture_logs() as logs, ThreadPoolExecutor(len(names)) as pool:
        answers = [pool.submit(buy, name) for name in names]
        server.until("/healthz", lambda _: len(keys) == len(names))
        held.go.set()
        busy.join()
        bought = {answer.result()["external_id"]: answer.result()["id"] for answer in answers}
    stored = {
        (json.loads(body)["data"].get("transaction") or {}).get("id")
        or json.loads(body)["data"]["transaction_id"]: origin
        for body, origin in query(
            server.application.settings.url, "SELECT body, request_id FROM events WHERE type <> 'customer.created'"
        )
    }
    assert stored == {bought[name]: name for name in names}
    assert {line["request_id"]: line["events"] for line in request_lines(logs)} == dict.fromkeys(names, 2)


def test_a_repeated_request_changes_neither_the_event_nor_its_origin(server: Server) -> None:
    for name in ("first", "second"):
        with capture_logs() as logs:
            server.post("/v1/customers", {"name": "A"}, Idempotency_Key="k", X_Request_Id=name)
        assert [line.get("events", 0) for line in request_lines(logs)] == [1 if name == "first" else 0]
    assert [origin for _, origin, _ in query(server.application.settings.url, ORIGINS)] == ["first"]


def test_the_log_line_of_a_large_batch_names_ten_events_and_counts_all(local: Server) -> None:
    local.report_purchases_only()
    customer = local.post("/v1/customers", {})["id"]
    purchase = {"customer_id": customer, "amount": 500, "currency": "EUR"}
    with capture_logs() as logs:
        local.post("/v1/transactions/batch", {"transactions": [purchase] * 300}, X_Request_Id="import-1")
    [line] = request_lines(logs)
    assert (line["events"], len(line["event_ids"])) == (600, 10)
    stored = query(local.application.settings.url, f"{ORIGINS} WHERE request_id = 'import-1'")
    assert len(stored) == 600


@pytest.mark.parametrize(
    ("stated", "kept"),
    [
        (TRACE, TRACE),
        ("cc" + TRACE[2:] + "-more", "cc" + TRACE[2:]),
        (TRACE + "-more", None),
        ("ff" + TRACE[2:], None),
        (TRACE.upper(), None),
        (TRACE[:-1], None),
        ("00-" + "0" * 32 + TRACE[35:], None),
        (TRACE[:36] + "0" * 16 + "-01", None),
    ],
)
def test_only_a_well_formed_trace_context_is_kept(local: Server, stated: str, kept: str | None) -> None:
    local.post("/v1/customers", {}, traceparent=stated)
    [(_, request_id, traceparent)] = query(local.application.settings.url, ORIGINS)
    assert traceparent == kept
    assert request_id.startswith("req_")


def test_a_test_event_and_what_no_request_caused(server: Server, receiver: RawServer) -> None:
    endpoint = server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})["id"]
    sent = server.post(f"/v1/webhook_endpoints/{endpoint}/test", X_Request_Id="test-1")
    assert server.get(f"/v1/deliveries/{sent['id']}")["request_id"] == "test-1"


def test_probes_are_counted_and_not_logged(local: Server) -> None:
    with capture_logs() as logs:
        for path in ("/healthz", "/readyz", "/metrics", "/v1/event_types"):
            local.call("GET", path)
    assert [line["route"] for line in request_lines(logs)] == ["/v1/event_types"]
    assert 'loyalpro_http_requests_total{method="GET",route="/healthz",status="200"} 1.0' in (
        local.call("GET", "/metrics").raw.decode()
    )
