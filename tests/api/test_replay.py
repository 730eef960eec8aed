"""Replays over the API: to new endpoints, of failed deliveries, and across the kill of a server."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from loyalpro.kernel.clock import SystemClock, rfc3339
from support.databases import Databases
from support.receivers import Authority, RawServer, Responder
from support.server import API_KEY, Server

LONG_AGO = "2020-01-01T00:00:00Z"


@pytest.fixture
def responder() -> Responder:
    return Responder()


@pytest.fixture
def receiver(authority: Authority, responder: Responder) -> Iterator[RawServer]:
    with RawServer(responder, authority.context()) as listening:
        yield listening
        responder.release()


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file, retry_schedule="0.01") as running:
        yield running


def subscribe(server: Server, receiver: RawServer, **more: object) -> str:
    return str(server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"], **more})["id"])


def sell(server: Server, count: int) -> list[str]:
    """Record purchases of a new customer; the ids of all events of the account."""
    server.report_purchases_only()
    customer = server.post("/v1/customers", {})["id"]
    purchase = {"customer_id": customer, "amount": 100, "currency": "EUR"}
    if count:
        server.post("/v1/transactions/batch", {"transactions": [purchase] * count})
    of_customer = f"/v1/events?customer_id={customer}&limit=100"
    server.until(of_customer, lambda page: len(page["data"]) == min(100, 1 + 2 * count))
    return all_events(server)


def all_events(server: Server) -> list[str]:
    found: list[str] = []
    while page := server.get(f"/v1/events?limit=100{f'&after={found[-1]}' if found else ''}")["data"]:
        found += [each["id"] for each in page]
    return found


def estimated(server: Server, endpoint: str, **body: object) -> int:
    found = server.post(f"/v1/webhook_endpoints/{endpoint}/replay/estimate", {"since": LONG_AGO, **body})
    return int(found["estimated_total"])


def replay(server: Server, endpoint: str, **body: object) -> dict[str, Any]:
    made: dict[str, Any] = server.post(f"/v1/webhook_endpoints/{endpoint}/replay", {"since": LONG_AGO, **body})
    return made


def done(server: Server, job: dict[str, Any]) -> dict[str, Any]:
    path = f"/v1/webhook_endpoints/{job['endpoint_id']}/replays/{job['id']}"
    ended: dict[str, Any] = server.until(path, lambda each: each["status"] == "done")
    return ended


def all_in(server: Server, status: str) -> None:
    """Return once every delivery has this status."""
    server.until("/v1/deliveries?limit=100", lambda page: {each["status"] for each in page["data"]} == {status})


@pytest.mark.parametrize(
    ("status", "param"), [("pending", "status[0]"), (["exhausted", "lost"], "status[1]"), (7, "status"), ([], "status")]
)
def test_an_invalid_status_is_refused_and_named(
    server: Server, receiver: RawServer, status: object, param: str
) -> None:
    path = f"/v1/webhook_endpoints/{subscribe(server, receiver)}/replay"
    answer = server.call("POST", path, {"since": LONG_AGO, "status": status})
    assert (answer.status, answer.json["code"], answer.json["param"]) == (422, "invalid_field", param)
    assert answer.json["detail"].startswith(f"{param}: ")
    assert len(answer.json["errors"]) == 1


def test_a_new_endpoint_gets_every_past_event_once(server: Server, receiver: RawServer) -> None:
    events = sell(server, 150)
    endpoint = subscribe(server, receiver)
    job = replay(server, endpoint)
    assert job["status"] == "running"
    assert job["estimated_total"] == len(events) == 301
    ended = done(server, job)
    assert (ended["examined"], ended["replayed"], ended["estimated_total"]) == (301, 301, 301)
    assert estimated(server, endpoint) == 301
    assert estimated(server, endpoint, until="2020-01-02T00:00:00Z") == 0
    hits = receiver.wait_for(301)
    assert Counter(hit.headers["X-LoyalPro-Event-Id"] for hit in hits) == Counter(events)
    assert server.get(f"/v1/webhook_endpoints/{endpoint}/replays")["data"] == [ended]


def test_a_replay_uses_existing_deliveries(server: Server, receiver: RawServer) -> None:
    endpoint = subscribe(server, receiver)
    events = sell(server, 10)
    receiver.wait_for(len(events))
    all_in(server, "succeeded")
    before = {each["id"] for each in server.get("/v1/deliveries?limit=100")["data"]}
    assert done(server, replay(server, endpoint))["replayed"] == len(events)
    receiver.wait_for(2 * len(events))
    assert {each["id"] for each in server.get("/v1/deliveries?limit=100")["data"]} == before
    assert done(server, replay(server, endpoint, status="missing"))["replayed"] == 0


def test_exhausted_deliveries_get_a_complete_retry_schedule(
    server: Server, receiver: RawServer, responder: Responder
) -> None:
    endpoint = subscribe(server, receiver, events=["customer.created"])
    sell(server, 0)
    all_in(server, "succeeded")
    responder.status = 500
    sell(server, 0)
    [failed] = server.until("/v1/deliveries?status=exhausted", lambda page: page["data"])["data"]
    assert done(server, replay(server, endpoint, status=["exhausted", "canceled"]))["replayed"] == 1
    path = f"/v1/deliveries/{failed['id']}"
    again = server.until(path, lambda each: (each["status"], each["attempt_count"]) == ("exhausted", 4))
    assert again["first_attempt_at"] > failed["finished_at"]
    assert [each["number"] for each in again["attempts"]] == [1, 2, 3, 4]
    responder.status = 200
    replay(server, endpoint, status="exhausted")
    server.until(path, lambda each: (each["status"], each["attempt_count"]) == ("succeeded", 5))


def test_the_types_of_the_endpoint_are_replayed_unless_others_are_named(server: Server, receiver: RawServer) -> None:
    sell(server, 3)
    endpoint = subscribe(server, receiver, events=["points.earned"])
    job = done(server, replay(server, endpoint))
    assert (job["types"], job["examined"], job["replayed"]) == (["points.earned"], 7, 3)
    job = done(server, replay(server, endpoint, types=["customer.created", "transaction.completed"]))
    assert (job["types"], job["replayed"]) == (["customer.created", "transaction.completed"], 4)
    assert done(server, replay(server, endpoint, types=["*"], status="missing"))["replayed"] == 0
    hits = receiver.wait_for(7)
    assert Counter(hit.headers["X-LoyalPro-Event-Type"] for hit in hits) == {
        "points.earned": 3,
        "transaction.completed": 3,
        "customer.created": 1,
    }


def test_a_range_includes_both_ends(server: Server, receiver: RawServer) -> None:
    first = sell(server, 0)
    middle = sell(server, 0)[-1]
    sell(server, 0)
    times = {each: server.get(f"/v1/events/{each}")["created_at"] for each in (first[0], middle)}
    endpoint = subscribe(server, receiver)
    assert estimated(server, endpoint, since=times[first[0]], until=times[middle]) == 2
    job = done(server, replay(server, endpoint, since=times[first[0]], until=times[middle]))
    assert (job["since"], job["until"], job["replayed"]) == (times[first[0]], times[middle], 2)


def test_with_ordering_past_events_of_a_customer_are_sent_in_order_and_before_new_ones(
    server: Server, receiver: RawServer, responder: Responder
) -> None:
    events = sell(server, 40)
    endpoint = subscribe(server, receiver, ordering="customer", status="paused")
    customer = server.get("/v1/customers")["data"][0]["id"]
    server.post("/v1/transactions", {"customer_id": customer, "amount": 100, "currency": "EUR"})
    assert done(server, replay(server, endpoint))["replayed"] == len(events)
    assert server.call("PATCH", f"/v1/webhook_endpoints/{endpoint}", {"status": "enabled"}).status == 200
    hits = receiver.wait_for(len(events) + 2)
    assert [json.loads(hit.body)["sequence"] for hit in hits] == list(range(1, len(events) + 3))


def test_a_wrong_field_is_refused(server: Server, receiver: RawServer) -> None:
    endpoint = subscribe(server, receiver)
    now = rfc3339(SystemClock().now_ms())
    path = f"/v1/webhook_endpoints/{endpoint}/replay"
    for body, expected in (
        ({}, (422, "since")),
        ({"since": "yesterday"}, (422, "since")),
        ({"since": now, "until": now}, (422, "since")),
        ({"since": "2999-01-01T00:00:00Z"}, (422, "since")),
        ({"since": LONG_AGO, "until": 5}, (422, "until")),
        ({"since": LONG_AGO, "types": ["points.burned"]}, (422, "types")),
        ({"since": LONG_AGO, "types": []}, (422, "types")),
        ({"since": LONG_AGO, "everything": True}, (422, "everything")),
    ):
        answer = server.call("POST", path, body)
        assert (answer.status, answer.json["param"]) == expected, answer.json
    wrong_statuses: list[object] = ["pending", [], ["succeeded", "lost"], {}]
    for status in wrong_statuses:
        answer = server.call("POST", path, {"since": LONG_AGO, "status": status})
        assert (answer.status, answer.json["param"].partition(".")[0].partition("[")[0]) == (422, "status")
    unknown = "we_" + "0" * 26
    assert server.call("POST", f"/v1/webhook_endpoints/{unknown}/replay", {"since": LONG_AGO}).status == 404
    for wrong in (f"{endpoint}/replays/rpl_1", f"{endpoint}/replays/rpl_{'0' * 26}", f"{unknown}/replays"):
        assert server.call("GET", f"/v1/webhook_endpoints/{wrong}").status == 404
    assert server.get(f"/v1/webhook_endpoints/{endpoint}/replays")["data"] == []


def test_a_replay_can_be_canceled_while_it_runs_and_not_when_it_is_done(
    databases: Databases, authority: Authority, receiver: RawServer
) -> None:
    url = databases.fresh("postgres")
    with Server(url, authority.ca_file) as server:
        sell(server, 1)
        endpoint = subscribe(server, receiver)
        finished = done(server, replay(server, endpoint))
        refusal = server.call("POST", f"/v1/webhook_endpoints/{endpoint}/replays/{finished['id']}/cancel")
        assert (refusal.status, refusal.json["code"]) == (409, "replay_finished")
        with psycopg.connect(url) as late:
            late.execute(
                "SELECT pg_current_xact_id()"
            )  # a replay waits for transactions that were open when it was created
            job = replay(server, endpoint, status="missing")
            path = f"/v1/webhook_endpoints/{endpoint}/replays/{job['id']}/cancel"
            for _ in range(2):
                canceled = server.post(path)
                assert canceled["status"] == "canceled"
                assert canceled["finished_at"] is not None


def port(running: subprocess.Popen[bytes], log: Path) -> int:
    """The port, once the log has it."""
    pause = threading.Event()
    while '"listening"' not in (text := log.read_text()):
        assert running.poll() is None, text
        pause.wait(0.02)
    return int(text.partition("http://127.0.0.1:")[2].partition('"')[0])


def wait_until_ready(client: Server) -> None:
    pause = threading.Event()
    while True:
        with suppress(ConnectionRefusedError):
            if client.call("GET", "/readyz").status == 200:
                return
        pause.wait(0.02)


def parked_events(server: Server) -> list[str]:
    """The events of all parked deliveries."""
    found: list[str] = []
    page = server.get("/v1/deliveries?status=parked&limit=100")
    while page["next_cursor"]:
        found += [each["event_id"] for each in page["data"]]
        page = server.get(f"/v1/deliveries?status=parked&limit=100&cursor={page['next_cursor']}")
    return found + [each["event_id"] for each in page["data"]]


@contextmanager
def process(url: str, ca_file: Path, log: Path) -> Iterator[Server]:
    """A server in its own process, which is killed at the end."""
    environment = os.environ | {
        "LOYALPRO_DATABASE_URL": url,
        "LOYALPRO_SECRET_KEY": "a key for tests of enough characters",
        "LOYALPRO_BOOTSTRAP_API_KEY": API_KEY,
        "LOYALPRO_PORT": "0",
        "LOYALPRO_LOG_FORMAT": "json",
        "LOYALPRO_EGRESS_ALLOW": "127.0.0.0/8,::1/128",
        "LOYALPRO_EGRESS_CA_FILE": str(ca_file),
    }
    with log.open("w") as stderr:
        running = subprocess.Popen([sys.executable, "-m", "loyalpro", "serve"], env=environment, stderr=stderr)
    try:
        client = object.__new__(Server)
        client.port = port(running, log)
        wait_until_ready(client)
        yield client
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait(30)


def test_a_replay_continues_after_its_server_is_killed(
    database_url: str, authority: Authority, receiver: RawServer, tmp_path: Path
) -> None:
    seen = 0
    with process(database_url, authority.ca_file, tmp_path / "log") as server:
        events = sell(server, 999)
        endpoint = subscribe(server, receiver, status="paused")
        job = replay(server, endpoint)
    path = f"/v1/webhook_endpoints/{endpoint}/replays/{job['id']}"
    for step in (200, 1_000):
        with process(database_url, authority.ca_file, tmp_path / "log") as server:
            now = server.until(path, lambda each: each["examined"] >= step)  # noqa: B023 - called at once
        assert now["examined"] >= seen
        seen = now["examined"]
    with process(database_url, authority.ca_file, tmp_path / "log") as server:
        ended = done(server, job)
        assert (ended["examined"], ended["replayed"]) == (len(events), len(events))
        assert Counter(parked_events(server)) == Counter(events)
