"""The client of the commands, with servers that close kept connections."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from loyalpro.cli.api_client import ApiClient, ApiProblem
from support.receivers import Hit, RawServer, Script, answer

OK = answer(200, b'{"done":true}')
CUT_SHORT = OK[:-1]
Serve = Callable[[Script], tuple[RawServer, ApiClient]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server with a script, and a client of that server."""
    made: list[tuple[RawServer, ApiClient]] = []

    def start(script: Script) -> tuple[RawServer, ApiClient]:
        server = RawServer(script)
        made.append((server, ApiClient(f"http://127.0.0.1:{server.port}", "lp_test")))
        return made[-1]

    yield start
    for server, client in made:
        client.close()
        server.stop()


def close(connection: socket.socket) -> None:
    """Close, and return when the client has received the end of the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30))
    connection.close()


def in_turn(*responses: bytes) -> Script:
    """Sends one response after the other. After an incomplete one it closes the connection."""
    left = iter(responses)

    def script(connection: socket.socket, _: Hit | None) -> None:
        response = next(left)
        connection.sendall(response)
        if response != OK:
            close(connection)

    return script


def methods(server: RawServer) -> list[str]:
    return [hit.head.split()[0] for hit in server.hits]


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_a_connection_that_was_closed_between_two_calls_is_replaced(serve: Serve, method: str) -> None:
    closed = threading.Event()

    def close_after_the_first(connection: socket.socket, _: Hit | None) -> None:
        connection.sendall(OK)
        if not closed.is_set():
            close(connection)
            closed.set()

    server, client = serve(close_after_the_first)
    client.call(method, "/first")
    assert closed.wait(30)
    assert client.call(method, "/second") == {"done": True}
    assert client.call(method, "/third") == {"done": True}
    assert [hit.head.split()[1] for hit in server.hits] == ["/first", "/second", "/third"]
    assert server.connections == 2


@pytest.mark.parametrize(("method", "headers"), [("GET", {}), ("POST", {"idempotency_key": "once"})])
def test_an_idempotent_call_is_sent_once_more_when_the_connection_ends_without_a_response(
    serve: Serve, method: str, headers: dict[str, str]
) -> None:
    server, client = serve(in_turn(OK, b"", OK))
    client.call("GET", "/")
    assert client.call(method, "/", None, **headers) == {"done": True}
    assert methods(server) == ["GET", method, method]
    assert [hit.headers.get("Idempotency-Key") for hit in server.hits[1:]] == [headers.get("idempotency_key")] * 2


@pytest.mark.parametrize(
    ("method", "headers"),
    [("POST", {}), ("PATCH", {}), ("DELETE", {}), ("PATCH", {"Idempotency_Key": "ignored by PATCH"})],
)
def test_a_call_that_may_have_taken_effect_is_not_sent_again(
    serve: Serve, method: str, headers: dict[str, str]
) -> None:
    server, client = serve(in_turn(OK, b"", OK))
    client.call("GET", "/")
    with pytest.raises(ApiProblem, match="does not answer"):
        client.call(method, "/", None, **headers)
    assert methods(server) == ["GET", method]


@pytest.mark.parametrize(
    ("answers", "calls"),
    [((OK, b"", b"", OK), 3), ((OK, CUT_SHORT, OK), 2)],
    ids=["no response twice", "an incomplete response"],
)
def test_a_call_is_sent_at_most_twice_and_only_if_no_response_has_begun(
    serve: Serve, answers: tuple[bytes, ...], calls: int
) -> None:
    server, client = serve(in_turn(*answers))
    client.call("GET", "/")
    with pytest.raises(ApiProblem, match="does not answer"):
        client.call("GET", "/")
    assert len(server.hits) == calls


def test_a_new_connection_that_is_closed_is_not_retried(serve: Serve) -> None:
    def refuse(connection: socket.socket, _: Hit | None) -> None:
        close(connection)

    server, client = serve(refuse)
    with pytest.raises(ApiProblem, match="does not answer"):
        client.call("GET", "/")
    assert len(server.hits) == 1
