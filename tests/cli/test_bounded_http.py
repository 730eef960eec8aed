"""The limits on what an unauthenticated client can make a server keep, tested over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import repeat
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from loyalpro.cli.bounded_http import MAX_HEAD_BYTES, MAX_HEADERS, BoundedHttp

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
seen: list[list[tuple[bytes, bytes]]] = []
"""The headers of each request, as the application has them when it has read the body."""
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Responds with the size of the request body in bytes."""
    size, more = 0, True
    seen.append(scope["headers"])
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    text = str(size).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


class ShortTimeout(BoundedHttp):
    head_timeout_s = 0.05


@asynccontextmanager
async def connected(protocol: type[BoundedHttp]) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    config, state = Config(app, log_config=None, lifespan="off"), ServerState()
    server = await asyncio.get_running_loop().create_server(lambda: protocol(config, state, {}), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield reader, writer
        finally:
            writer.close()


def talk(with_server: Talk, protocol: type[BoundedHttp] = BoundedHttp) -> Any:
    async def run() -> Any:
        async with connected(protocol) as (reader, writer):
            return await with_server(reader, writer)

    return asyncio.run(run())


async def send_on(writer: asyncio.StreamWriter, pieces: Iterator[bytes]) -> None:
    """Send the pieces until none is left or the server has closed the connection."""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (GET, b"a: b\r\n" * 1_000),
        (GET + b"a: ", b"b" * 10_000),
        (GET, b"a" * 10_000),
        (b"GET /", b"a" * 10_000),
        (GET + b"a: b\r\n", b" folded\r\n" * 1_000),
    ],
)
def test_a_head_that_does_not_end_is_refused(start: bytes, piece: bytes) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(start)
        sending = asyncio.create_task(send_on(writer, repeat(piece)))
        first = await reader.readline()
        await sending
        return first

    assert talk(flood) in (TOO_LARGE, b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize("piece", [b"a: b\r\n" * 1_000, b"a" * 10_000])
@pytest.mark.parametrize("start", [CHUNKED + b"0\r\n", CHUNKED + b"2;"])
def test_endless_bytes_between_and_after_chunks_are_refused(start: bytes, piece: bytes) -> None:
    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(start)
        await send_on(writer, repeat(piece))
        return writer.transport.is_closing()

    assert talk(flood)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"a: b\r\n" * (MAX_HEADERS - 1), b"200"),
        (b"a: b\r\n" * MAX_HEADERS, b"431"),
        (b"a: " + b"b" * (MAX_HEAD_BYTES - 100) + b"\r\n", b"200"),
        (b"a: " + b"b" * MAX_HEAD_BYTES + b"\r\n", b"431"),
    ],
)
def test_the_limits_of_a_head_are_exact(head: bytes, status: bytes) -> None:
    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(GET + head + b"\r\n")
        return await reader.readline()

    assert talk(ask).split()[1] == status


def test_bodies_may_be_larger_and_each_request_of_a_connection_has_its_own_limits() -> None:
    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[bytes]:
        answers = []
        for _ in range(3):
            writer.write(POST + b"Content-Length: 900000\r\n" + b"a: b\r\n" * (MAX_HEADERS - 2) + b"\r\n")
            writer.write(b"x" * 900_000)
            await reader.readuntil(b"\r\n\r\n")
            answers.append(await reader.readexactly(6))
        return answers

    assert talk(ask) == [b"900000"] * 3


@pytest.mark.parametrize("start", [b"", b"\r\n", GET, GET + b"a: b\r\n"])
def test_a_connection_without_a_complete_head_is_closed_after_the_timeout(start: bytes) -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(start)
        return await reader.read()

    assert talk(stall, ShortTimeout) == b""


def test_an_incomplete_second_request_is_closed_after_the_timeout() -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(GET + b"\r\n")
        await reader.readuntil(b"\r\n\r\n0")
        writer.write(GET)
        return await reader.read()

    assert talk(stall, ShortTimeout) == b""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n", b"400"),
        (GET + b"hOST: a\r\n", b"400"),
        (GET + b"Host: b\r\n", b"400"),
        (GET, b"200"),
        (b"GET / HTTP/1.1\r\nHost:\r\n", b"200"),
        (b"GET / HTTP/1.0\r\n", b"200"),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n", b"400"),
        (POST + b"Content-Length: 0\r\nContent-Length: 0\r\n", b"400"),
        (POST + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", b"400"),
    ],
)
def test_a_request_names_one_host_and_one_length(head: bytes, status: bytes) -> None:
    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(head + b"\r\n")
        return await reader.readline()

    assert talk(ask).split()[1] == status


def test_trailers_are_dropped_and_the_headers_of_the_next_request_are_kept() -> None:
    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[bytes]:
        writer.write(CHUNKED + b"0\r\nAuthorization: Bearer lp_x\r\nHost: b\r\n\r\n" + GET + b"a: b\r\n\r\n")
        return [await reader.readuntil(b"\r\n\r\n" + size) for size in (b"2", b"0")]

    seen.clear()
    assert len(talk(ask)) == 2
    assert [dict(headers) for headers in seen] == [
        {b"host": b"a", b"transfer-encoding": b"chunked"},
        {b"host": b"a", b"a": b"b"},
    ]


def test_bytes_that_are_not_http_are_refused() -> None:
    async def send_text(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"hello?\r\n\r\n")
        return await reader.read()

    assert talk(send_text).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_an_upgrade_request_is_answered_without_the_upgrade() -> None:
    upgrade = (
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n"
    )

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(GET + upgrade)
        return await reader.readline()

    assert talk(ask) == b"HTTP/1.1 200 OK\r\n"
