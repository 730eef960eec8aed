"""The log lines and metrics of requests that fail."""

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from support.databases import Databases
from support.server import API_KEY, Server


@pytest.fixture
def server(databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh("sqlite")) as running:
        yield running


def metrics(server: Server) -> str:
    return server.call("GET", "/metrics").raw.decode()


def broken() -> bool:
    raise ZeroDivisionError


def test_an_internal_error_has_a_request_id_a_log_line_and_a_metric(server: Server) -> None:
    state = server.application.web.state
    state.services = replace(state.services, health={"accepts": broken})
    with capture_logs() as logs:
        answer = server.call("GET", "/readyz")
    assert (answer.status, answer.json["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"] == answer.json["request_id"]
    [line] = [each for each in logs if each["event"] == "request"]
    assert (line["status"], line["route"], line["request_id"]) == (500, "/readyz", answer.json["request_id"])
    [line] = [each for each in logs if each["event"] == "request_crashed"]
    assert (line["error"], line["request_id"]) == ("ZeroDivisionError", answer.json["request_id"])
    assert 'loyalpro_http_requests_total{method="GET",route="/readyz",status="500"} 1.0' in metrics(server)


def test_a_client_that_disconnects_is_no_internal_error(server: Server) -> None:
    head = f"POST /v1/customers HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\nContent-Length: 200\r\n\r\n{{"
    with capture_logs() as logs:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head.encode())
        while 'route="/v1/customers"' not in metrics(server):
            pass
    [line] = [each for each in logs if each.get("route") == "/v1/customers"]
    assert (line["event"], line["status"], line["log_level"]) == ("request", 499, "info")
    assert not [each for each in logs if each["log_level"] == "error"]
