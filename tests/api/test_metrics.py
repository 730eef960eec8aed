"""What a scrape of a running server shows, and that a database outage leaves few log lines."""

import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from loyalpro import __version__
from loyalpro.kernel.clock import SystemClock
from loyalpro.storage.open import migrate_database
from support.postgres import OwnCluster, embedded_binaries, system_binaries
from support.promtool import promtool
from support.receivers import Authority, RawServer, Responder
from support.server import API_KEY, Server

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file, sweep_interval=0.1, retry_schedule="0.05") as running:
        yield running


@pytest.fixture
def responder() -> Responder:
    return Responder()


@pytest.fixture
def receiver(authority: Authority, responder: Responder) -> Iterator[RawServer]:
    with RawServer(responder, authority.context()) as listening:
        yield listening
        responder.release()


def scrape(server: Server) -> Samples:
    text = server.call("GET", "/metrics", key=None).raw.decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def until(server: Server, name: str, expected: float, **labels: str) -> Samples:
    """A scrape in which the sample has this value; the test times out if there never is one."""
    while value(samples := scrape(server), name, **labels) != expected:
        pass
    return samples


def test_a_scrape_shows_the_process_the_sender_and_the_build(server: Server, store: str) -> None:
    samples = scrape(server)
    [build] = [dict(labels) for name, labels in samples if name == "loyalpro_build_info"]
    assert (build["version"], build["store"]) == (__version__, store)
    for name in ("loyalpro_database_up", "loyalpro_sender_up", "loyalpro_engine_up"):
        until(server, name, 1)
    assert value(samples, "loyalpro_ingestion_stopped") == 0
    for name in ("resident_memory_bytes", "cpu_seconds_total", "open_fds"):
        assert value(samples, f"process_{name}")
        assert value(samples, f"loyalpro_sender_process_{name}") is not None
    sender = server.application.sender.process_id
    assert sender not in (None, os.getpid())
    on_this_disk = value(samples, "loyalpro_data_folder_free_bytes")
    assert (on_this_disk or 0) > 0 if store == "sqlite" else on_this_disk is None


def test_deliveries_and_endpoints_are_followed_through_their_states(
    server: Server, receiver: RawServer, responder: Responder
) -> None:
    responder.status = 500
    made = server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})
    server.post("/v1/customers", {})
    samples = until(server, "loyalpro_deliveries_exhausted_total", 1)
    assert value(samples, "loyalpro_delivery_attempts_total", outcome="http_5xx") == 2
    assert value(samples, "loyalpro_delivery_first_attempt_delay_seconds_count") == 1
    until(server, "loyalpro_endpoints", 1, state="failing")
    server.call("PATCH", f"/v1/webhook_endpoints/{made['id']}", {"status": "paused"})
    server.post("/v1/customers", {})
    until(server, "loyalpro_deliveries_pending", 1, status="parked")
    samples = until(server, "loyalpro_endpoints", 1, state="paused")
    assert value(samples, "loyalpro_deliveries_pending", status="pending") == 0
    assert (value(samples, "loyalpro_database_write_seconds_count", writer="delivery") or 0) > 2


def test_the_age_of_due_deliveries_says_what_they_wait_for(
    server: Server, receiver: RawServer, responder: Responder
) -> None:
    responder.hold()
    server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})
    customers = [server.post("/v1/customers", {})["id"] for _ in range(12)]
    assert len(customers) == 12
    while not value(scrape(server), "loyalpro_delivery_oldest_due_age_seconds", waits_for="endpoint"):
        pass
    assert value(scrape(server), "loyalpro_delivery_oldest_due_age_seconds", waits_for="worker") == 0
    responder.release()
    until(server, "loyalpro_delivery_oldest_due_age_seconds", 0, waits_for="endpoint")


def test_labels_are_bounded_and_say_nothing_of_accounts_or_callers(server: Server, receiver: RawServer) -> None:
    server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})
    customer = server.post("/v1/customers", {"external_id": "shop-77"})["id"]
    for path in (
        f"/v1/customers/{customer}",
        "/v1/customers/cus_1",
        f"/{customer}/x",
        "/a",
        "/b",
        "/v1/customers?x=shop-77",
    ):
        server.call("GET", path)
    server.call("BREW", "/pot")
    labels = {label for _, labels in scrape(server) for label in labels}
    routes = {value for name, value in labels if name == "route"}
    assert routes <= {*server.get("/openapi.json")["paths"], "(none)"}
    assert {"(none)", "/v1/customers/{customer_id}"} <= routes
    unsafe = re.compile(
        rf"{customer}|shop-77|{API_KEY}|(acct|cus|evt|we|dlv|key|req)_[0-9a-z]{{26}}|127\.0\.0\.1|https?:"
    )
    assert [label for label in labels if unsafe.search("=".join(label))] == []


def test_promtool_finds_nothing_to_complain_of(server: Server, receiver: RawServer) -> None:
    server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})
    server.post("/v1/customers", {})
    text = server.call("GET", "/metrics").raw
    done = subprocess.run([promtool(), "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.fixture
def cluster() -> Iterator[OwnCluster]:
    binaries = system_binaries() or embedded_binaries()
    assert binaries is not None
    started = OwnCluster(binaries)
    try:
        yield started
    finally:
        started.stop()


def test_an_outage_of_the_database_has_a_line_when_it_begins_and_one_when_it_is_over(cluster: OwnCluster) -> None:
    url = cluster.create_database("outage")
    migrate_database(url, SystemClock())
    with Server(url, sweep_interval=0.1) as server:
        until(server, "loyalpro_database_up", 1)
        with capture_logs() as logs:
            cluster.halt()
            until(server, "loyalpro_database_up", 0)
            refused = [server.call("POST", "/v1/customers", {}).status for _ in range(5)]
            while (value(scrape(server), "loyalpro_database_errors_total", code="store_unavailable") or 0) < 20:
                pass
            cluster.launch()
            until(server, "loyalpro_database_up", 1)
            while not [line for line in logs if line["event"] == "database_available"]:
                scrape(server)
    assert set(refused) == {503}
    assert_few_lines(logs)


def assert_few_lines(logs: list[Any]) -> None:
    """A line for each 10 seconds of the outage, no trace, and no other warning."""
    [over] = [line for line in logs if line["event"] == "database_available"]
    lines = [line for line in logs if line["event"] == "database_unavailable"]
    assert 1 <= len(lines) <= 1 + over["outage_s"] / 10
    assert [line for line in logs if line["log_level"] in ("warning", "error") and line not in lines] == []
