"""The client of the commands, against servers that close connections it had kept."""

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
    """Starts a server with a script, and a client of it."""
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
    """Return when the other side has been told."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30))
    connection.close()


def in_turn(*answers: bytes) -> Script:
    """Gives one answer after the other; after one that is not whole the connection is closed."""
    left = iter(answers)

    def script(connection: socket.socket, _: Hit | None) -> None:
        given = next(left)
        connection.sendall(given)
        if given != OK:
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
def test_what_does_nothing_twice_is_sent_once_more_when_the_connection_ends_instead_of_an_answer(
    serve: Serve, method: str, headers: dict[str, str]
) -> None:
    server, client = serve(in_turn(OK, b"", OK))
    client.call("GET", "/")
    assert client.call(method, "/", None, **headers) == {"done": True}
    assert methods(server) == ["GET", method, method]
    assert [hit.headers.get("Idempotency-Key") for hit in server.hits[1:]] == [headers.get("idempotency_key")] * 2


@pytest.mark.parametrize(
    ("method", "headers"),
    [("POST", {}), ("PATCH", {}), ("DELETE", {}), ("PATCH", {"Idempotency_Key": "only a POST heeds it"})],
)
def test_what_may_have_been_done_is_not_sent_again(serve: Serve, method: str, headers: dict[str, str]) -> None:
    server, client = serve(in_turn(OK, b"", OK))
    client.call("GET", "/")
    with pytest.raises(ApiProblem, match="does not answer"):
        client.call(method, "/", None, **headers)
    assert methods(server) == ["GET", method]


@pytest.mark.parametrize(
    ("answers", "calls"),
    [((OK, b"", b"", OK), 3), ((OK, CUT_SHORT, OK), 2)],
    ids=["no answer again", "an answer that has begun"],
)
def test_a_call_is_sent_once_more_and_only_when_no_answer_has_begun(
    serve: Serve, answers: tuple[bytes, ...], calls: int
) -> None:
    server, client = serve(in_turn(*answers))
    client.call("GET", "/")
    with pytest.raises(ApiProblem, match="does not answer"):
        client.call("GET", "/")
    assert len(server.hits) == calls


def test_a_fresh_connection_that_is_closed_is_a_problem_at_once(serve: Serve) -> None:
    def refuse(connection: socket.socket, _: Hit | None) -> None:
        close(connection)

    server, client = serve(refuse)
    with pytest.raises(ApiProblem, match="does not answer"):
        client.call("GET", "/")
    assert len(server.hits) == 1
