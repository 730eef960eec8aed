"""Custom headers may hold credentials of a receiver: nothing that LoyalPro stores, shows or logs has their values."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from loyalpro.delivery.attempt import Response
from loyalpro.delivery.concealment import MASK, conceal_response
from support.history import query
from support.receivers import Authority, Hit, RawServer, answer, good
from support.server import Server

CANARY = "Bearer canary-4f9d2c71e8b3"
OTHER = "canary-of-the-second-value"


def echo(connection: socket.socket, hit: Hit | None) -> None:
    """Answer with the headers of the request, in the body and in a header, and with 500."""
    assert hit is not None
    repeated = json.dumps(dict(hit.headers.items())).encode()
    connection.sendall(answer(500, repeated, X_Repeated=hit.headers["Authorization"]))


@pytest.fixture
def receiver(authority: Authority) -> Iterator[RawServer]:
    with RawServer(echo, authority.context()) as listening:
        yield listening


def stored(url: str) -> bytes:
    """Everything that the database has stored, as bytes: the files of SQLite, every table of PostgreSQL."""
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))
    tables = query(
        url, "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    with closing(psycopg.connect(url)) as session:
        return b"".join(_copied(session, table) for (table,) in tables)


def _copied(session: psycopg.Connection[Any], table: str) -> bytes:
    with session.cursor().copy(f'COPY "{table}" TO STDOUT (FORMAT binary)'.encode()) as copy:
        return b"".join(bytes(block) for block in copy)


def add(server: Server, url: str, **headers: str) -> dict[str, Any]:
    made: dict[str, Any] = server.post(
        "/v1/webhook_endpoints", {"url": url, "events": ["*"], "headers": headers}, Idempotency_Key="add"
    )
    return made


def test_a_credential_is_neither_stored_nor_shown_nor_logged(
    database_url: str, authority: Authority, receiver: RawServer
) -> None:
    with capture_logs() as logs, Server(database_url, authority.ca_file, retry_schedule="0.1,0.1") as server:
        made = add(server, receiver.url, Authorization=CANARY, **{"X-Key": OTHER})
        path = f"/v1/webhook_endpoints/{made['id']}"
        server.post("/v1/customers", {"name": "Ada"})
        for hit in receiver.wait_for(2):
            assert (hit.headers["Authorization"], hit.headers["X-Key"]) == (CANARY, OTHER)
        [delivery] = server.until("/v1/deliveries", lambda found: found["data"][0]["attempt_count"] >= 2)["data"]
        shown = server.get(f"/v1/deliveries/{delivery['id']}")
        answers = [made, server.get(path), server.get("/v1/webhook_endpoints"), shown]
        assert [each["headers"] for each in answers[:2]] == [{"Authorization": MASK, "X-Key": MASK}] * 2
        attempt = shown["attempts"][0]
        assert ["Authorization", MASK] in attempt["request"]["headers"]
        assert ["X-Repeated", MASK] in attempt["response"]["headers"]
        assert f'"Authorization": "{MASK}"' in attempt["response"]["body_excerpt"]
        everything = json.dumps(answers) + repr(logs)
    for text in ("canary-4f9d2c71e8b3", OTHER):
        assert text not in everything
        assert text.encode() not in stored(database_url)


def test_a_change_keeps_the_values_that_are_masked(database_url: str, authority: Authority) -> None:
    with (
        RawServer(good, authority.context()) as receiver,
        Server(database_url, authority.ca_file) as server,
    ):
        made = add(server, receiver.url, Authorization=CANARY, **{"X-Key": OTHER})
        path = f"/v1/webhook_endpoints/{made['id']}"
        changed = server.call("PATCH", path, {"headers": {"authorization": MASK, "X-New": "a new value"}}).json
        assert changed["headers"] == {"authorization": MASK, "X-New": MASK}
        server.call("PATCH", path, {"description": "leaves the headers as they are"})
        server.post("/v1/customers", {"name": "Ada"})
        [hit] = receiver.wait_for(1)
        assert (hit.headers["authorization"], hit.headers["X-New"]) == (CANARY, "a new value")
        assert "X-Key" not in hit.headers
        for method, target, body in (
            ("PATCH", path, {"headers": {"X-Unknown": MASK}}),
            ("POST", "/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"], "headers": {"X-Unknown": MASK}}),
        ):
            refused = server.call(method, target, body)
            assert (refused.status, refused.json["code"], refused.json["param"]) == (
                422,
                "invalid_header",
                "headers.X-Unknown",
            )


def test_the_values_end_with_their_endpoint(database_url: str) -> None:
    with Server(database_url) as server:
        made = add(server, "https://127.0.0.1/hook", Authorization=CANARY)
        assert query(database_url, "SELECT 1 FROM endpoints WHERE sealed_headers IS NOT NULL")
        server.call("DELETE", f"/v1/webhook_endpoints/{made['id']}")
        assert query(database_url, "SELECT headers, sealed_headers FROM endpoints") == [("{}", None)]


def test_headers_that_an_older_version_stored_are_sealed_at_the_start(database_url: str, authority: Authority) -> None:
    with RawServer(good, authority.context()) as receiver:
        with Server(database_url, authority.ca_file) as server:
            made = add(server, receiver.url)
        clear = json.dumps({"Authorization": CANARY})
        query(database_url, "UPDATE endpoints SET headers = ?, sealed_headers = NULL RETURNING 1", clear)
        with Server(database_url, authority.ca_file) as server:
            assert server.get(f"/v1/webhook_endpoints/{made['id']}")["headers"] == {"Authorization": MASK}
            server.post("/v1/customers", {"name": "Ada"})
            [hit] = receiver.wait_for(1)
            assert hit.headers["Authorization"] == CANARY
    assert b"canary-4f9d2c71e8b3" not in stored(database_url)


def test_headers_that_cannot_be_decrypted_stop_only_their_endpoint(database_url: str, authority: Authority) -> None:
    with RawServer(good, authority.context()) as receiver:
        with Server(database_url, authority.ca_file) as server:
            damaged = add(server, receiver.url, Authorization=CANARY)["id"]
        cut = "UPDATE endpoints SET sealed_headers = substr(sealed_headers, 1, 20) WHERE id = ? RETURNING 1"
        query(database_url, cut, damaged)
        with capture_logs() as logs, Server(database_url, authority.ca_file) as server:
            server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"]})
            server.post("/v1/customers", {"name": "Ada"})
            [hit] = receiver.wait_for(1)
            assert "Authorization" not in hit.headers
            shown = server.get(f"/v1/webhook_endpoints/{damaged}")
            assert shown["headers"] == {"Authorization": MASK}
            replaced = server.call("PATCH", f"/v1/webhook_endpoints/{damaged}", {"headers": {"Authorization": OTHER}})
            assert replaced.status == 200
            again = {hit.headers.get("Authorization") for hit in receiver.wait_for(2)}
            assert OTHER in again
    assert {line["endpoint_id"] for line in logs if line["event"] == "secret_unreadable"} == {damaged}


def test_short_values_are_left_in_responses() -> None:
    response = Response(200, (("Content-Type", "application/json"),), b'{"team":"a"}', truncated=False)
    assert conceal_response(response, (("X-Team", "a"),)) == response
