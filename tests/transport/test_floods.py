"""Receivers that send bytes without end which are neither headers nor a body: each ends early, and disturbs no other."""

import asyncio
import resource
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from loyalpro.delivery.attempt import OutcomeCode, SendResult, classify
from loyalpro.transport.limits import MAX_EXCERPT_BYTES, MAX_RECEIVED_BYTES
from loyalpro.transport.sender import CurlSender
from support.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    SETTINGS,
    STATUS_200,
    WINDOW_UPDATE,
    frame,
    http2,
    text_header,
)
from support.receivers import Authority, Hit, RawServer, good
from support.sending import request, run

TIMEOUT_S = 25.0
PADDED = 0x8
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
INVALID, OK, TOO_LARGE = (
    OutcomeCode.INVALID_RESPONSE,
    OutcomeCode.SUCCEEDED,
    OutcomeCode.RESPONSE_HEADERS_TOO_LARGE,
)


@dataclass
class Flood:
    """Sends `first` and then `more` without end, and counts the bytes. Small buffers: what is counted has nearly arrived."""

    first: Callable[[int], bytes]
    more: Callable[[int], bytes]
    outcome: OutcomeCode
    moved_bytes: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def http2(self, connection: socket.socket, stream: int) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        more = self.more(stream)
        more *= max(1, 16_384 // len(more))
        try:
            connection.sendall(self.first(stream))
            while True:
                connection.sendall(more)
                self.moved_bytes += len(more)
        finally:
            self.ended.set()

    def http1(self, connection: socket.socket, _: Hit | None) -> None:
        self.http2(connection, 0)


def of(data: bytes) -> Callable[[int], bytes]:
    return lambda _: data


def head(stream: int) -> bytes:
    return frame(HEADERS, END_HEADERS, stream, STATUS_200)


def http2_floods() -> dict[str, Flood]:
    nothing = of(b"")
    return {
        "PING": Flood(nothing, of(frame(PING, 0, 0, bytes(8))), INVALID),
        "PING ACK": Flood(nothing, of(frame(PING, ACK, 0, bytes(8))), INVALID),
        "SETTINGS": Flood(nothing, of(frame(SETTINGS, 0, 0, b"\0\3\0\0\0\1" * 30)), INVALID),
        "WINDOW_UPDATE": Flood(nothing, of(frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1")), INVALID),
        "WINDOW_UPDATE of the stream": Flood(nothing, lambda s: frame(WINDOW_UPDATE, 0, s, b"\0\0\0\1"), INVALID),
        "an unknown frame": Flood(nothing, of(frame(0x77, 0, 0, bytes(1_000))), INVALID),
        "GOAWAY": Flood(nothing, of(frame(GOAWAY, 0, 0, b"\x7f\xff\xff\xff" + bytes(4))), INVALID),
        "interim responses": Flood(
            nothing, lambda s: frame(HEADERS, END_HEADERS, s, text_header(b":status", b"103")), TOO_LARGE
        ),
        "empty DATA": Flood(head, lambda s: frame(DATA, 0, s), OK),
        "padding": Flood(head, lambda s: frame(DATA, PADDED, s, b"\xff" + bytes(255)), OK),
        "PING ACK after the headers": Flood(head, of(frame(PING, ACK, 0, bytes(8))), OK),
    }  # fmt: skip


def http1_floods() -> dict[str, Flood]:
    return {
        "one chunk extension": Flood(of(CHUNKED + b"5;"), of(b"x" * 1_000), OK),
        "chunk extensions": Flood(of(CHUNKED), of(b"1;" + b"a" * 16_000 + b"\r\nx\r\n"), OK),
        "trailers": Flood(of(CHUNKED + b"0\r\n"), of(b"a: b\r\n"), OK),
        "folded lines of nothing": Flood(of(b"HTTP/1.1 200 OK\r\nX: a\r\n"), of(b" \r\n"), TOO_LARGE),
        "interim responses in HTTP/1": Flood(of(b""), of(b"HTTP/1.1 100 Continue\r\n\r\n"), TOO_LARGE),
        "a body": Flood(of(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), of(b"x" * 1_000), OK),
    }


def test_each_flood_ends_early_and_does_not_delay_another_endpoint(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    context = authority.context()
    context.set_alpn_protocols(["h2"])
    second, first = http2_floods(), http1_floods()
    servers = {name: serve(http2(each.http2), context=context, reads=False) for name, each in second.items()}
    servers |= {name: serve(each.http1) for name, each in first.items()}
    healthy = serve(good)

    async def send(sender: CurlSender) -> tuple[list[SendResult], list[SendResult]]:
        floods = [asyncio.create_task(sender.send(request(each.url, TIMEOUT_S))) for each in servers.values()]
        beside = [await sender.send(request(healthy.url, TIMEOUT_S)) for _ in range(20)]
        return await asyncio.gather(*floods), beside

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    results, beside = run(authority, send)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    floods = second | first
    assert dict(zip(servers, map(classify, results), strict=True)) == {
        name: each.outcome for name, each in floods.items()
    }
    assert {name: each.timings.total_ms for name, each in zip(servers, results, strict=True) if is_late(each)} == {}
    assert {classify(each) for each in beside} == {OK}
    for name, each in floods.items():
        assert each.ended.wait(30), name
        most_bytes = MAX_RECEIVED_BYTES * (400 if name == "GOAWAY" else 64)  # without a limit: gigabytes
        assert each.moved_bytes < most_bytes, name
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < TIMEOUT_S / 2


def is_late(result: SendResult) -> bool:
    return result.timings.total_ms >= TIMEOUT_S * 1_000


HELLO_REQUESTS = {
    "one in a record": struct.pack("!BHHI", 22, 0x0303, 4, 0),
    "many in a record": struct.pack("!BHH", 22, 0x0303, 16_384) + bytes(16_384),
}


def test_a_handshake_without_end_does_not_stop_the_sender(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    """OpenSSL skips HelloRequest messages in a loop, and no time limit of libcurl applies meanwhile."""
    floods = {name: Flood(of(b""), of(data), OutcomeCode.TLS_FAILED) for name, data in HELLO_REQUESTS.items()}

    def after_the_hello(flood: Flood) -> RawServer:
        def script(connection: socket.socket, _: Hit | None) -> None:
            connection.recv(65_536)
            flood.http1(connection, None)

        return serve(script, plain=True, reads=False)

    servers = [after_the_hello(flood) for flood in floods.values()]
    healthy = serve(good)

    async def send(sender: CurlSender) -> list[SendResult]:
        tasks = [asyncio.create_task(sender.send(request(each.url, TIMEOUT_S))) for each in servers]
        beside = [await sender.send(request(healthy.url, TIMEOUT_S)) for _ in range(5)]
        assert {classify(each) for each in beside} == {OK}
        return await asyncio.gather(*tasks)

    results = run(authority, send)
    assert [classify(each) for each in results] == [OutcomeCode.TLS_FAILED] * 2
    assert not any(map(is_late, results))


def test_large_answers_of_many_streams_over_one_connection_are_not_cut(
    authority: Authority, serve: Callable[..., RawServer]
) -> None:
    """One stream stays open while others get as much as an honest receiver sends: 20 KiB of headers, a body up to the window."""
    context = authority.context()
    context.set_alpn_protocols(["h2"])
    headers = b"".join(text_header(f"x-{number}".encode(), b"v" * 100) for number in range(150))
    body = bytes(16_384)
    streams: list[int] = []

    def respond(connection: socket.socket, stream: int) -> None:
        streams.append(stream)
        if stream == 1:
            return
        connection.sendall(frame(HEADERS, END_HEADERS, stream, STATUS_200 + headers))
        connection.sendall(frame(DATA, 0, stream, body) * 3 + frame(DATA, END_STREAM, stream, b"end"))
        if len(streams) == 301:
            connection.sendall(frame(HEADERS, END_HEADERS | END_STREAM, 1, STATUS_200))

    server = serve(http2(respond), context=context, reads=False)

    async def send(sender: CurlSender) -> list[SendResult]:
        slow = asyncio.create_task(sender.send(request(server.url, TIMEOUT_S)))
        while not streams:  # the others join its connection
            await asyncio.to_thread(server.wait_for_connections, 1)
        results = [
            each
            for _ in range(10)
            for each in await asyncio.gather(*(sender.send(request(server.url, TIMEOUT_S)) for _ in range(30)))
        ]
        return [*results, await slow]

    results = run(authority, send)
    assert {classify(each) for each in results} == {OK}
    assert server.connections == 1
    excerpts = {len(each.response.body_excerpt) for each in results[:-1] if each.response is not None}
    assert excerpts == {MAX_EXCERPT_BYTES}
