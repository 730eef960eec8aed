"""Each outcome code of docs/reference/webhooks.md from the receivers that cause it."""

import asyncio
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable

import pycurl
import pytest

from loyalpro.delivery.attempt import OutcomeCode, OutgoingRequest, SendResult, classify
from loyalpro.transport.failures import failure
from loyalpro.transport.sender import CurlSender
from support.http2 import (
    CONTINUATION,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    STATUS_200,
    Speak,
    frame,
    http2,
    text_header,
)
from support.receivers import Authority, Hit, RawServer, Script, good, hold
from support.sending import forever, request, run, sending, sent

TIMEOUT_S = 20.0
"""No receiver here may take this long: each is answered by its code at once."""
OK = b"HTTP/1.1 200 OK\r\n"
LONG = b"z" * 1_000


def outcomes(authority: Authority, servers: dict[str, RawServer]) -> dict[str, OutcomeCode]:
    """The outcome of a request to each server, all sent at once; none of them lasted until its deadline."""

    async def send(sender: CurlSender) -> list[SendResult]:
        return await asyncio.gather(*(sender.send(request(server.url, TIMEOUT_S)) for server in servers.values()))

    results = run(authority, send)
    late = {
        name: result
        for name, result in zip(servers, results, strict=True)
        if result.timings.total_ms >= TIMEOUT_S * 1_000
    }
    assert not late
    return {name: classify(result) for name, result in zip(servers, results, strict=True)}


TOO_LARGE: dict[str, Script] = {
    "one line without end": forever(OK + b"X: ", LONG),
    "a status line without end": forever(b"HTTP/1.1 200 ", LONG),
    "a folded line without end": forever(OK + b"X: a\r\n", b" " + LONG + b"\r\n"),
    "short folded lines without end": forever(OK + b"X: a\r\n", b" z\r\n" * 100),
    "a line of 40 KiB": sending(OK + b"X: " + b"a" * 40_960 + b"\r\n\r\n"),
    "lines without end": forever(OK, b"X: " + LONG + b"\r\n"),
    "interim responses without end": forever(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
}


def continued(payload: bytes) -> Speak:
    """Begin a response whose headers go on in frames without end."""

    def speak(connection: socket.socket, stream: int) -> None:
        connection.sendall(frame(HEADERS, 0, stream, STATUS_200))
        while True:
            connection.sendall(frame(CONTINUATION, 0, stream, payload))

    return speak


def sends(make: Callable[[int], bytes], *, close: bool = False) -> Speak:
    def speak(connection: socket.socket, stream: int) -> None:
        connection.sendall(make(stream))
        if close:
            connection.shutdown(socket.SHUT_RDWR)

    return speak


HTTP_2: dict[str, tuple[Speak, OutcomeCode]] = {
    "headers without end": (continued(text_header(b"a", b"b" * 100) * 50), OutcomeCode.RESPONSE_HEADERS_TOO_LARGE),
    "empty CONTINUATION frames": (continued(b""), OutcomeCode.RESPONSE_HEADERS_TOO_LARGE),
    "RST_STREAM": (sends(lambda stream: frame(RST_STREAM, 0, stream, b"\0\0\0\2")), OutcomeCode.CONNECTION_LOST),
    "GOAWAY with an error": (
        sends(lambda _: frame(GOAWAY, 0, 0, bytes(4) + b"\0\0\0\2"), close=True),
        OutcomeCode.CONNECTION_LOST,
    ),
    "closes": (sends(lambda _: b"", close=True), OutcomeCode.CONNECTION_LOST),
    "no status": (
        sends(lambda stream: frame(HEADERS, END_HEADERS, stream, text_header(b"a", b"b"))),
        OutcomeCode.INVALID_RESPONSE,
    ),
    "status 101": (
        sends(lambda stream: frame(HEADERS, END_HEADERS, stream, text_header(b":status", b"101"))),
        OutcomeCode.INVALID_RESPONSE,
    ),
    "status 999": (
        sends(lambda stream: frame(HEADERS, END_HEADERS | 1, stream, text_header(b":status", b"999"))),
        OutcomeCode.HTTP_OTHER,
    ),
}


def test_headers_without_end_are_too_large_in_whatever_form(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    servers = {name: serve(script) for name, script in TOO_LARGE.items()}
    assert outcomes(authority, servers) == dict.fromkeys(TOO_LARGE, OutcomeCode.RESPONSE_HEADERS_TOO_LARGE)


def test_http_2_answers_have_the_codes_of_their_kind(authority: Authority, serve: Callable[..., RawServer]) -> None:
    context = authority.context()
    context.set_alpn_protocols(["h2"])
    servers = {name: serve(http2(speak), context=context, reads=False) for name, (speak, _) in HTTP_2.items()}
    assert outcomes(authority, servers) == {name: outcome for name, (_, outcome) in HTTP_2.items()}


def test_a_change_of_protocols_ends_the_attempt_at_once(authority: Authority, serve: Callable[..., RawServer]) -> None:
    def switch(connection: socket.socket, _: Hit | None) -> None:
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
        hold(connection, None)

    result = sent(authority, serve(switch).url, TIMEOUT_S)
    assert classify(result) is OutcomeCode.HTTP_OTHER
    assert result.response is not None
    assert (result.response.status, result.response.headers[0]) == (101, ("Upgrade", "x"))
    assert result.timings.total_ms < TIMEOUT_S * 1_000


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["TLS 1.2", "TLS 1.3"])
def test_a_receiver_that_wants_a_client_certificate_fails_the_handshake(
    authority: Authority, serve: Callable[..., RawServer], protocol: str, newest: ssl.TLSVersion
) -> None:
    """In TLS 1.3 its alert arrives when the client has finished the handshake and sends the request."""
    context = authority.context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.ca_file)
    context.maximum_version = newest
    context.set_alpn_protocols([protocol])

    def refuse(plain: socket.socket, _: Hit | None) -> None:
        """Read on after the alert: a receiver that closes instead resets the connection, and the alert may be lost."""
        with context.wrap_socket(plain.dup(), server_side=True, do_handshake_on_connect=False) as connection:
            with pytest.raises(ssl.SSLError, match="did not return a certificate"):
                connection.do_handshake()
            hold(plain, None)

    result = sent(authority, serve(refuse, plain=True, reads=False).url, TIMEOUT_S)
    assert classify(result) is OutcomeCode.TLS_FAILED, result


@pytest.mark.parametrize(
    "text",
    [
        "OpenSSL SSL_read: OpenSSL/3.6.5: error:0A00045C:SSL routines::tlsv13 alert certificate required, errno 0",
        "OpenSSL SSL_read: OpenSSL/3.6.5: error:0A000412:SSL routines::ssl/tls alert bad certificate, errno 0",
        "OpenSSL SSL_write: OpenSSL/3.6.5: error:0A000418:SSL routines::tlsv1 alert unknown ca, errno 0",
    ],
)
@pytest.mark.parametrize("code", [pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR])
def test_each_alert_after_the_handshake_is_a_failure_of_tls(code: int, text: str) -> None:
    assert failure(code, text, 0)[0] is OutcomeCode.TLS_FAILED


def test_an_end_of_tls_without_an_alert_is_a_lost_connection() -> None:
    text = "OpenSSL SSL_read: OpenSSL/3.6.5: error:0A000126:SSL routines::unexpected eof while reading, errno 0"
    assert failure(pycurl.E_RECV_ERROR, text, 0)[0] is OutcomeCode.CONNECTION_LOST


def test_a_lack_of_open_files_is_not_blamed_on_the_receiver(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    """The sender process of a server whose limit leaves no descriptor for a connection."""
    server = serve(hold, plain=True, reads=False)
    program = f"""
import asyncio, resource
from loyalpro.delivery.attempt import OutgoingRequest, classify
from loyalpro.transport.address_policy import AddressPolicy, networks
from loyalpro.transport.sender import CurlSender
async def main():
    sender = CurlSender(AddressPolicy(networks(["127.0.0.0/8"])))
    await sender.start()
    [process] = open("/proc/self/task/%s/children" % __import__("os").getpid()).read().split()
    send = lambda timeout_s: sender.send(OutgoingRequest({server.url!r}, (), b"", timeout_s))
    waiting = [asyncio.create_task(send(60)) for _ in range(30)]
    await asyncio.to_thread(input)
    resource.prlimit(int(process), resource.RLIMIT_NOFILE, (5, 5))
    print(classify(await send(60)).value, flush=True)
    await sender.stop()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        server.wait_for_connections(30)
        printed, _ = process.communicate(b"\n", timeout=60)
    assert printed.decode().split()[0] == "internal_error"


@pytest.mark.parametrize(
    "wrong",
    [
        OutgoingRequest("https://[::", (), b"", TIMEOUT_S),
        OutgoingRequest("https://localhost/\0", (), b"", TIMEOUT_S),
        OutgoingRequest("https://localhost/", (("X-Name", "\u20ac"),), b"", TIMEOUT_S),
    ],
    ids=["no URL", "a NUL in the URL", "a header that is not Latin-1"],
)
def test_a_request_that_cannot_be_made_is_an_internal_error_and_affects_no_other(
    authority: Authority, serve: Callable[..., RawServer], wrong: OutgoingRequest
) -> None:
    server = serve(good)

    async def send(sender: CurlSender) -> list[SendResult]:
        return await asyncio.gather(*(sender.send(each) for each in (request(server.url), wrong, request(server.url))))

    expected = [OutcomeCode.SUCCEEDED, OutcomeCode.INTERNAL_ERROR, OutcomeCode.SUCCEEDED]
    assert [classify(result) for result in run(authority, send)] == expected
