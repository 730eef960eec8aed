"""Connections that end in an orderly way: which requests may be sent again at once, and over which connection."""

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from loyalpro.delivery.attempt import OutcomeCode, OutgoingRequest, SendResult, classify
from loyalpro.transport.sender import CurlSender
from support.http2 import END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, STATUS_200, frame, http2
from support.nginx import Nginx
from support.receivers import Authority, Hit, RawServer, Script, answer, good
from support.sending import reset, run

Serve = Callable[..., RawServer]
_REFUSED_STREAM, _CANCEL, _INTERNAL_ERROR, _ENHANCE_YOUR_CALM = 7, 8, 2, 11
_MOST_REPEATS = 4


def request(url: str, repeats: int = 0) -> OutgoingRequest:
    return OutgoingRequest(url, (("Content-Type", "application/json"),), b'{"a":1}', 10, repeats)


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


# -- which requests are repeatable -----------------------------------------------------------------------------------


def close(connection: socket.socket, _: object) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def close_tls(connection: socket.socket, _: object) -> None:
    connection.unwrap()  # type: ignore[attr-defined]


def close_with_reset(connection: socket.socket, _: object) -> None:
    reset(connection)


def begin_to_answer(connection: socket.socket, _: object) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    connection.shutdown(socket.SHUT_RDWR)


def answer_500(connection: socket.socket, _: object) -> None:
    connection.sendall(answer(500))
    connection.shutdown(socket.SHUT_RDWR)


def second_request(first: Script, second: Script) -> Script:
    """A script that treats the first request in one way, and all later ones in another."""
    lock, count = threading.Lock(), 0

    def script(connection: socket.socket, hit: Hit | None) -> None:
        nonlocal count
        with lock:
            count += 1
            mine = first if count == 1 else second
        mine(connection, hit)

    return script


def last_of_two(authority: Authority, server: RawServer) -> SendResult:
    """The result of the second of two requests."""

    async def two(sender: CurlSender) -> SendResult:
        assert classify(await sender.send(request(server.url))) is OutcomeCode.SUCCEEDED
        return await sender.send(request(server.url))

    result: SendResult = run(authority, two)
    return result


@pytest.mark.parametrize("ends", [close, close_tls, close_with_reset], ids=["FIN", "close_notify", "RST"])
def test_a_used_connection_that_closes_without_an_answer_makes_its_request_repeatable(
    authority: Authority, serve: Serve, ends: Script
) -> None:
    server = serve(second_request(good, ends))
    result = last_of_two(authority, server)
    assert (classify(result), result.repeatable) == (OutcomeCode.CONNECTION_LOST, True)
    assert server.connections == 1
    assert len(server.hits) == 2, "libcurl itself sends nothing twice"


@pytest.mark.parametrize("ends", [close, close_tls, close_with_reset], ids=["FIN", "close_notify", "RST"])
def test_a_new_connection_that_closes_without_an_answer_is_a_failure(
    authority: Authority, serve: Serve, ends: Script
) -> None:
    result: SendResult = run(authority, lambda sender: sender.send(request(serve(ends).url)))
    assert (classify(result), result.repeatable) == (OutcomeCode.CONNECTION_LOST, False)


@pytest.mark.parametrize(
    ("ends", "outcome"),
    [(begin_to_answer, OutcomeCode.CONNECTION_LOST), (answer_500, OutcomeCode.HTTP_5XX)],
    ids=["began to answer", "answered"],
)
def test_a_request_to_which_an_answer_began_is_not_repeatable(
    authority: Authority, serve: Serve, ends: Script, outcome: OutcomeCode
) -> None:
    result = last_of_two(authority, serve(second_request(good, ends)))
    assert (classify(result), result.repeatable) == (outcome, False)


def accept_stream(connection: socket.socket, stream: int) -> None:
    connection.sendall(frame(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200))


def reset_stream(code: int) -> Callable[[socket.socket, int], None]:
    return lambda connection, stream: connection.sendall(frame(RST_STREAM, 0, stream, number(code)))


def go_away(code: int, *, includes: bool = False, closes: bool = False) -> Callable[[socket.socket, int], None]:
    """A GOAWAY whose last stream is the one of the request, or the one before."""

    def speak(connection: socket.socket, stream: int) -> None:
        last = stream if includes else max(0, stream - 2)
        connection.sendall(frame(GOAWAY, 0, 0, number(last) + number(code)))
        if closes:
            connection.shutdown(socket.SHUT_RDWR)

    return speak


def speaks_http2(
    serve: Serve, authority: Authority, speak: Callable[[socket.socket, int], None], *, answers: int = 1
) -> RawServer:
    """A receiver that answers so many streams 200, and then treats each one as `speak` does."""
    context, lock, count = authority.context(), threading.Lock(), 0
    context.set_alpn_protocols(["h2"])

    def either(connection: socket.socket, stream: int) -> None:
        nonlocal count
        with lock:
            count += 1
            mine = accept_stream if count <= answers else speak
        mine(connection, stream)

    return serve(http2(either), context=context, reads=False)


@pytest.mark.parametrize(
    ("speak", "repeatable"),
    [
        (reset_stream(_REFUSED_STREAM), True),
        (go_away(0), True),
        (go_away(0, includes=True, closes=True), True),
        (close, True),
        (close_with_reset, True),
        (reset_stream(_CANCEL), False),
        (reset_stream(_INTERNAL_ERROR), False),
        (go_away(_ENHANCE_YOUR_CALM), False),
    ],
    ids=["refused", "GOAWAY", "GOAWAY, then FIN", "FIN", "RST", "canceled", "internal error", "GOAWAY: calm down"],
)
def test_http_2_requests_are_repeatable_if_refused_or_on_a_used_connection_that_closes(
    authority: Authority, serve: Serve, speak: Callable[[socket.socket, int], None], *, repeatable: bool
) -> None:
    result = last_of_two(authority, speaks_http2(serve, authority, speak))
    assert result.response is None
    assert result.repeatable is repeatable


@pytest.mark.parametrize(
    ("speak", "repeatable"),
    [(reset_stream(_REFUSED_STREAM), True), (go_away(0), True), (close, False), (close_with_reset, False)],
    ids=["refused", "GOAWAY", "FIN", "RST"],
)
def test_on_a_new_http_2_connection_only_a_refused_request_is_repeatable(
    authority: Authority, serve: Serve, speak: Callable[[socket.socket, int], None], *, repeatable: bool
) -> None:
    server = speaks_http2(serve, authority, speak, answers=0)
    result: SendResult = run(authority, lambda sender: sender.send(request(server.url)))
    assert result.repeatable is repeatable


# -- over which connection -------------------------------------------------------------------------------------------


async def settle(sender: CurlSender, url: str) -> list[SendResult]:
    """The results of one request, repeated as the engine does it."""
    results: list[SendResult] = []
    while not results or (results[-1].repeatable and len(results) <= _MOST_REPEATS):
        results.append(await sender.send(request(url, len(results))))
    return results


def test_the_second_repeat_uses_a_new_connection_although_others_are_open(authority: Authority, serve: Serve) -> None:
    """A server that has ended all its connections, of which this side does not know yet."""
    first, all_open = threading.local(), threading.Barrier(4)

    def once_on_each_connection(connection: socket.socket, hit: Hit | None) -> None:
        if getattr(first, "answered", False):
            close(connection, hit)
            return
        first.answered = True
        if server.connections <= 4:
            all_open.wait(30)
        good(connection, hit)

    server = serve(once_on_each_connection)

    async def main(sender: CurlSender) -> list[SendResult]:
        await asyncio.gather(*(sender.send(request(server.url)) for _ in range(4)))
        assert server.connections == 4
        return await settle(sender, server.url)

    results: list[SendResult] = run(authority, main)
    assert [classify(each) for each in results] == [OutcomeCode.CONNECTION_LOST] * 2 + [OutcomeCode.SUCCEEDED]
    assert server.connections == 5


def test_a_kept_connection_that_the_receiver_closes_while_it_is_idle_costs_no_attempt(
    authority: Authority, serve: Serve
) -> None:
    """As uvicorn and others do after some seconds: the close may have arrived, or cross the request."""

    def answer_and_close(connection: socket.socket, hit: Hit | None) -> None:
        good(connection, hit)
        connection.shutdown(socket.SHUT_WR)

    server = serve(answer_and_close)

    async def main(sender: CurlSender) -> list[SendResult]:
        return [(await settle(sender, server.url))[-1] for _ in range(50)]

    assert {classify(each) for each in run(authority, main)} == {OutcomeCode.SUCCEEDED}


@pytest.mark.parametrize("in_flight", [1, 64, 250])
def test_nginx_may_end_each_connection_after_1000_requests(
    authority: Authority, tmp_path: Path, in_flight: int
) -> None:
    count = 3_000

    async def main(sender: CurlSender) -> list[list[SendResult]]:
        slots = asyncio.Semaphore(in_flight)

        async def one() -> list[SendResult]:
            async with slots:
                return await settle(sender, nginx.url)

        return await asyncio.gather(*(one() for _ in range(count)))

    with Nginx(tmp_path, authority) as nginx:
        results: list[list[SendResult]] = run(authority, main)
    assert {classify(each[-1]) for each in results} == {OutcomeCode.SUCCEEDED}


def test_streams_that_nginx_refuses_share_a_connection(authority: Authority, tmp_path: Path) -> None:
    """A new connection for each would be a flood of handshakes: 64 for each of the 20 connections that end here."""

    async def main(sender: CurlSender) -> tuple[int, int]:
        slots, handshakes, refused = asyncio.Semaphore(64), 0, 0

        async def one() -> None:
            nonlocal handshakes, refused
            async with slots:
                results = await settle(sender, nginx.url)
            handshakes += sum(each.timings.tls_ms is not None for each in results)
            refused += len(results) - 1

        await asyncio.gather(*(one() for _ in range(2_000)))
        return handshakes, refused

    with Nginx(tmp_path, authority, http="keepalive_requests 100;") as nginx:
        handshakes, refused = run(authority, main)
    assert refused > 100, "nginx refuses streams in this test"
    assert handshakes < 64 + refused / 2


def test_nginx_may_reload_under_load(authority: Authority, tmp_path: Path) -> None:
    done = 0

    async def main(sender: CurlSender) -> list[SendResult]:
        nonlocal done
        slots, last = asyncio.Semaphore(64), []

        async def one() -> None:
            nonlocal done
            async with slots:
                last.append((await settle(sender, nginx.url))[-1])
            done += 1
            if done % 500 == 0:
                await asyncio.to_thread(nginx.reload)

        await asyncio.gather(*(one() for _ in range(3_000)))
        return last

    with Nginx(tmp_path, authority) as nginx:
        results: list[SendResult] = run(authority, main)
    assert {classify(each) for each in results} == {OutcomeCode.SUCCEEDED}
