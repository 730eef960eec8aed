"""What the API does with HTTP itself: bodies that do not end, trailers, caches, methods, spellings of JSON and of times."""

import dataclasses
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from support.databases import Databases
from support.server import API_KEY, Server

HEAD = f"Host: a\r\nAuthorization: Bearer {API_KEY}\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server(databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh("sqlite")) as running:
        running.post("/v1/customers", {"external_id": "regular"})
        yield running


def raw(server: Server, *pieces: str, until_closed: bool = True) -> str:
    """What the server sends when it gets these bytes, until it closes the connection or 10 seconds have passed."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for piece in pieces:
            connection.sendall(piece.encode())
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
            if not until_closed and received.endswith(b"}"):
                break
    return received.decode()


@pytest.mark.parametrize("path", ["/v1/customers", "/v1/transactions/batch", f"/v1/deliveries/dlv_{'0' * 36}/cancel"])
@pytest.mark.parametrize("framing", ["Content-Length: 100\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"])
def test_a_body_that_does_not_end_is_refused_and_the_connection_is_closed(
    databases: Databases, path: str, framing: str
) -> None:
    with Server(databases.fresh("sqlite")) as server:
        state = server.application.web.state
        state.services = dataclasses.replace(state.services, body_timeout_s=0.2)
        head, _, body = raw(server, f"POST {path} HTTP/1.1\r\n{HEAD}{framing}").partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 408 ")
    assert "connection: close" in head
    assert json.loads(body)["code"] == "body_timeout"


def test_a_key_in_the_trailers_does_not_authenticate(server: Server) -> None:
    start = "POST /v1/customers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    answer = raw(server, start + f"2\r\n{{}}\r\n0\r\nAuthorization: Bearer {API_KEY}\r\n\r\n")
    assert answer.startswith("HTTP/1.1 401 ")
    late = raw(server, start, "2\r\n{}\r\n0\r\n", f"Authorization: Bearer {API_KEY}\r\n\r\n")
    assert late.startswith("HTTP/1.1 401 ")


@pytest.mark.parametrize("hosts", ["", "Host: a\r\nHost: a\r\n"])
def test_a_request_without_one_host_is_refused(server: Server, hosts: str) -> None:
    assert raw(server, f"GET /v1/customers HTTP/1.1\r\n{hosts}\r\n").startswith("HTTP/1.1 400 ")


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        ("GET", "/v1/customers", API_KEY),
        ("GET", "/v1/customers/cus_1", API_KEY),
        ("GET", "/v1/customers", None),
        ("POST", "/v1/customers", API_KEY),
        ("PUT", "/v1/customers", API_KEY),
        ("GET", "/v1/event_types", None),
        ("GET", "/healthz", None),
        ("GET", "/readyz", None),
        ("GET", "/metrics", None),
        ("GET", "/v1/nothing", None),
    ],
)
def test_no_response_with_data_is_stored_by_caches(server: Server, method: str, path: str, key: str | None) -> None:
    answer = server.call(method, path, {"name": "x"} if method == "POST" else None, key=key)
    assert answer.headers["cache-control"] == "no-store", answer.status


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
def test_what_probes_read_answers_head(server: Server, path: str) -> None:
    got, head = server.call("GET", path, key=None), server.call("HEAD", path, key=None)
    assert (head.status, head.raw, head.headers["content-type"]) == (200, b"", got.headers["content-type"])


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/transactions", "GET, POST"),
        ("/v1/transactions/batch", "GET, POST"),
        ("/v1/events", "GET"),
        ("/metrics", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
@pytest.mark.parametrize("method", ["DELETE", "OPTIONS", "TRACE"])
def test_a_refused_method_gets_the_allowed_ones(server: Server, method: str, path: str, allowed: str) -> None:
    answer = server.call(method, path)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)


def test_a_byte_order_mark_is_ignored(server: Server) -> None:
    mark, one = b"\xef\xbb\xbf", {"customer_external_id": "regular", "amount": 1, "currency": "EUR"}
    assert server.call("POST", "/v1/customers", mark + b'{"name":"a"}').status == 201
    assert (
        server.call("POST", "/v1/transactions/batch", mark + json.dumps({"transactions": [one]}).encode()).status == 200
    )
    assert server.call("POST", "/v1/customers", mark + mark + b"{}").json["code"] == "invalid_json"


def purchase(**fields: Any) -> dict[str, Any]:
    return {"customer_external_id": "regular", "amount": 100, "currency": "EUR"} | fields


@pytest.mark.parametrize(
    ("time", "shown"),
    [
        ("2025-01-31t10:00:00z", "2025-01-31T10:00:00.000Z"),
        ("2025-01-31T10:00:00.5+02:00", "2025-01-31T08:00:00.500Z"),
        ("2025-01-31T10:00:00.123456789Z", "2025-01-31T10:00:00.123Z"),
        ("2025-01-31T10:00:00-00:00", "2025-01-31T10:00:00.000Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
    ],
)
def test_a_time_of_rfc_3339_is_accepted_in_every_spelling(server: Server, time: str, shown: str) -> None:
    assert server.post("/v1/transactions", purchase(occurred_at=time))["occurred_at"] == shown


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ("1969-12-31T23:59:59Z", "before the year 1970"),
        ("1970-01-01T00:00:00+00:01", "before the year 1970"),
        ("0001-01-01T00:00:00+14:00", "before the year 1970"),
        ("9999-12-31T23:59:59-01:00", "after the year 9999"),
        ("2025-02-29T10:00:00Z", "no such date"),
        ("2016-12-31T23:59:60Z", "no such date"),
        ("2025-01-31T24:00:00Z", "no such date"),
        ("2025-01-31T10:00:00+25:00", "no such date"),
        ("2025-01-31T10:00:00", "no offset"),
        ("2025-01-31", "RFC 3339"),
        ("20250131T100000Z", "RFC 3339"),
        ("2025-W05-5T10:00:00Z", "RFC 3339"),
        ("２０２５-01-31T10:00:00Z", "RFC 3339"),
        (1_738_317_600, "RFC 3339"),
        (None, None),
    ],
)
def test_a_time_is_refused_with_its_own_reason(server: Server, time: object, reason: str | None) -> None:
    answer = server.call("POST", "/v1/transactions", purchase(occurred_at=time))
    if reason is None:
        assert answer.status == 201
    else:
        assert (answer.status, answer.json["param"]) == (422, "occurred_at")
        assert reason in answer.json["detail"]


@pytest.mark.parametrize(
    "number", ["1e21", "1000000000000000000000", "9007199254740992", "9007199254740992.0", "-1e16"]
)
def test_a_number_beyond_the_limit_is_refused_however_it_is_written(server: Server, number: str) -> None:
    answer = server.call("POST", "/v1/customers", f'{{"metadata":{{"a":{number}}}}}'.encode())
    assert (answer.status, answer.json["code"], answer.json["param"]) == (422, "number_out_of_range", "metadata.a")
    assert "9007199254740991 (2^53-1)" in answer.json["detail"]


@pytest.mark.parametrize("number", ["9007199254740991", "9007199254740991.0", "-9.007199254740991e15"])
def test_the_largest_number_is_accepted_however_it_is_written(server: Server, number: str) -> None:
    assert server.call("POST", "/v1/customers", f'{{"metadata":{{"a":{number}}}}}'.encode()).status == 201


@pytest.mark.parametrize("amount", ["5600", "5600.0", "5.6e3"])
def test_an_integer_may_have_a_fraction_of_zero(server: Server, amount: str) -> None:
    body = json.dumps(purchase(amount="AMOUNT")).replace('"AMOUNT"', amount)
    assert server.post("/v1/transactions", body.encode())["amount"] == 5_600
