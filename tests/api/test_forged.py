"""A test event with a wrong signature through a server, to receivers that check and that do not."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from loyalpro.transport.signing import plain
from support.databases import Databases
from support.receivers import Authority, Hit, RawServer, answer
from support.server import Server

METRICS = ("loyalpro_delivery_attempts_total{", "loyalpro_deliveries_exhausted_total")


@pytest.fixture
def server(database_url: str, authority: Authority, databases: Databases) -> Iterator[Server]:
    with Server(database_url, authority.ca_file) as running:
        yield running


def verdict_of(server: Server, authority: Authority, *, checks: bool = True, otherwise: int = 200) -> Any:
    """The verdict of a forged delivery to a receiver, and its delivery."""
    secrets: list[str] = []

    def script(connection: socket.socket, hit: Hit | None) -> None:
        assert hit is not None
        wrong = hit.headers["X-LoyalPro-Signature"] != plain(secrets[0], hit.body)
        connection.sendall(answer(401 if checks and wrong else otherwise))

    with RawServer(script, authority.context()) as receiver:
        endpoint = server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})
        secrets.append(endpoint["secret"])
        path = f"/v1/webhook_endpoints/{endpoint['id']}"
        for body, expected in [({}, otherwise), ({"signature": "wrong"}, 0)]:
            sent = server.post(f"{path}/test", body)
            found = server.until(f"/v1/deliveries/{sent['id']}", lambda each: each["last_outcome"] is not None)
            assert found["forged"] is (body != {})
            if expected == 200:
                assert (found["status"], found["verdict"]) == ("succeeded", None)
        health = server.get(path)["health"]
    return found, health


def test_a_receiver_that_checks_is_praised(server: Server, authority: Authority) -> None:
    before = metrics(server)
    found, health = verdict_of(server, authority)
    assert found["verdict"] == {"result": "refused", "detail": "Good: it refuses what is not from us."}
    assert (found["status"], found["attempt_count"], found["next_attempt_at"]) == ("canceled", 1, None)
    assert health == {"state": "healthy", "consecutive_failures": 0, "failing_since": None, "next_probe_at": None}
    changed = {name: value for name, value in metrics(server).items() if value != before[name]}
    assert list(changed.values()) == [1.0], "the genuine sample"
    [action, *_] = server.get("/v1/audit_log")["data"]
    assert action["action"] == "webhook_endpoint.tested"


def metrics(server: Server) -> dict[str, float]:
    text = server.call("GET", "/metrics").raw.decode()
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(METRICS)]
    assert lines
    return {name: float(value) for name, value in lines}


def test_a_receiver_that_does_not_check_is_told_so(server: Server, authority: Authority) -> None:
    found, _ = verdict_of(server, authority, checks=False)
    expected = {"result": "accepted", "detail": "It accepted a forged event. Its check does not work."}
    assert (found["status"], found["verdict"]) == ("succeeded", expected)


def test_another_answer_does_not_tell(server: Server, authority: Authority) -> None:
    found, health = verdict_of(server, authority, checks=False, otherwise=404)
    assert found["verdict"]["result"] == "undecided"
    assert found["verdict"]["detail"].startswith("The endpoint answered 404. ")
    assert health["consecutive_failures"] == 1, "of the genuine sample"
