"""Answers whose headers are complete and whose body is not: the status decides, and nothing is sent again."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from loyalpro.delivery.attempt import OutcomeCode, SendResult, classify
from loyalpro.transport.sender import CurlSender
from support.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    STATUS_200,
    STATUS_500,
    Speak,
    frame,
    http2,
    text_header,
)
from support.receivers import Authority, Hit, RawServer, Script
from support.sending import forever, request, run, sending, sent

TIMEOUT_S = 2.0
INTERNAL_ERROR = b"\x00\x00\x00\x02"


BODIES: dict[str, tuple[Script, bytes]] = {
    "has no length and ends without an end of TLS": (sending(b"\r\nhel"), b"hel"),
    "is shorter than its length": (sending(b"Content-Length: 99\r\n\r\nhel"), b"hel"),
    "is cut within a chunk": (sending(b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel"), b"hel"),
    "has a bad chunk": (sending(b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\nzz\r\nlo\r\n"), b"hel"),
    "has a bad trailer": (sending(b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\nbad\r\n\r\n"), b"hel"),
    "has trailers without end": (
        forever(b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n", b"a: b\r\n" * 100),
        b"hel",
    ),
    "never comes": (forever(b"Content-Length: 99\r\n\r\n", b"", 60), b""),
}
OUTCOMES = [
    (200, OutcomeCode.SUCCEEDED),
    (404, OutcomeCode.HTTP_4XX),
    (410, OutcomeCode.GONE),
    (500, OutcomeCode.HTTP_5XX),
]


def after_status(status: int, send_rest: Script) -> Script:
    def script(connection: socket.socket, hit: Hit | None) -> None:
        connection.sendall(f"HTTP/1.1 {status} X\r\n".encode())
        send_rest(connection, hit)

    return script


def sent_to_all(authority: Authority, servers: Mapping[str, RawServer]) -> dict[str, SendResult]:
    """The result of a request to each of the servers, which are sent at once."""

    async def send(sender: CurlSender) -> list[SendResult]:
        return await asyncio.gather(*(sender.send(request(server.url, TIMEOUT_S)) for server in servers.values()))

    return dict(zip(servers, run(authority, send), strict=True))


@pytest.mark.parametrize(("status", "outcome"), OUTCOMES)
def test_the_status_decides_whatever_the_body_is(
    authority: Authority, serve: Callable[..., RawServer], status: int, outcome: OutcomeCode
) -> None:
    servers = {kind: serve(after_status(status, send_rest)) for kind, (send_rest, _) in BODIES.items()}
    results = sent_to_all(authority, servers)
    assert {kind: classify(result) for kind, result in results.items()} == dict.fromkeys(BODIES, outcome)
    for kind, result in results.items():
        assert result.response is not None
        assert (result.response.status, result.response.body_excerpt) == (status, BODIES[kind][1]), kind
        assert result.response.truncated, kind
        assert "part of its body" in result.detail, kind
        assert len(servers[kind].hits) == 1


def test_a_body_that_drips_is_read_until_the_deadline(authority: Authority, serve: Callable[..., RawServer]) -> None:
    server = serve(forever(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"x", 0.02))
    result = sent(authority, server.url, TIMEOUT_S)
    assert classify(result) is OutcomeCode.SUCCEEDED
    assert result.response is not None
    assert result.response.truncated
    assert set(result.response.body_excerpt) == {ord("x")}
    assert result.timings.total_ms >= TIMEOUT_S * 1_000


def test_a_whole_body_is_not_called_truncated(authority: Authority, serve: Callable[..., RawServer]) -> None:
    result = sent(authority, serve(sending(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes")).url)
    assert result.response is not None
    assert (result.response.body_excerpt, result.response.truncated) == (b"yes", False)
    assert result.detail == "The endpoint answered 200."


def head(status: bytes, *headers: bytes) -> Callable[[int], bytes]:
    return lambda stream: frame(HEADERS, END_HEADERS, stream, status + b"".join(headers))


def then(status: bytes, rest: Callable[[int], bytes], *headers: bytes, close: bool = False) -> Speak:
    """Send the headers of a response and then `rest`."""

    def speak(connection: socket.socket, stream: int) -> None:
        connection.sendall(head(status, *headers)(stream) + rest(stream))
        if close:
            connection.shutdown(socket.SHUT_RDWR)

    return speak


HTTP_2_BODIES: dict[str, Callable[[bytes], Speak]] = {
    "is reset": lambda status: then(status, lambda stream: frame(RST_STREAM, 0, stream, INTERNAL_ERROR)),
    "never comes": lambda status: then(status, lambda _: b""),
    "ends with the connection": lambda status: then(status, lambda _: b"", close=True),
    "is shorter than its length": lambda status: then(
        status, lambda stream: frame(DATA, END_STREAM, stream, b"x"), text_header(b"content-length", b"99")
    ),
    "ends with a GOAWAY": lambda status: then(status, lambda _: frame(GOAWAY, 0, 0, bytes(4) + INTERNAL_ERROR), close=True),
    "breaks the connection": lambda status: then(status, lambda _: frame(DATA, 0, 0, b"x")),
    "has bad trailers": lambda status: then(
        status, lambda stream: frame(HEADERS, END_HEADERS, stream, text_header(b"a", b"b"))
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "outcome"), [(STATUS_200, OutcomeCode.SUCCEEDED), (STATUS_500, OutcomeCode.HTTP_5XX)], ids=["200", "500"]
)
def test_the_status_decides_whatever_an_http_2_body_is(
    authority: Authority, serve: Callable[..., RawServer], status: bytes, outcome: OutcomeCode
) -> None:
    context = authority.context()
    context.set_alpn_protocols(["h2"])
    servers = {kind: serve(http2(speak(status)), context=context, reads=False) for kind, speak in HTTP_2_BODIES.items()}
    results = sent_to_all(authority, servers)
    assert {kind: classify(result) for kind, result in results.items()} == dict.fromkeys(HTTP_2_BODIES, outcome)
    assert all(result.response is not None and result.response.truncated for result in results.values())


class Plain(BaseHTTPRequestHandler):
    """The receiver of many tutorials: no Content-Length, and the end of the connection ends the body."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_a_receiver_of_pythons_http_server_has_succeeded(authority: Authority) -> None:
    with HTTPServer(("127.0.0.1", 0), Plain) as server:
        server.socket = authority.context().wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            result = sent(authority, f"https://localhost:{server.server_port}/")
        finally:
            server.shutdown()
            thread.join()
    assert classify(result) is OutcomeCode.SUCCEEDED
    assert result.response is not None
    assert result.response.body_excerpt == b"ok"


def test_headers_that_were_not_complete_in_time_are_no_success(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    server = serve(forever(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", b"", 60))
    assert isinstance(server.context, ssl.SSLContext)
    assert classify(sent(authority, server.url, TIMEOUT_S)) is OutcomeCode.TIMEOUT
