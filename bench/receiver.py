"""A small HTTPS receiver in a process of its own: it answers, and records when each event arrived."""

import asyncio
import multiprocessing
import multiprocessing.connection
import os
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import uvloop

_BODY = b'Content-Type: application/json\r\nContent-Length: 17\r\n\r\n{"received":true}'
_ACCEPT = b"HTTP/1.1 200 OK\r\n" + _BODY
_REFUSE = b"HTTP/1.1 500 Internal Server Error\r\n" + _BODY
_ID_AT = len(b'{"id":"')
_ID_LENGTH = len("evt_") + 26


class Hit(NamedTuple):
    """One request that was answered with 200. `at_ms`: when it had arrived completely, in Unix milliseconds."""

    event_id: str
    attempt: int
    at_ms: float


@dataclass
class _State:
    answer_after_s: float | None
    remembers: bool
    refuses: bool = False
    count: int = 0
    hits: list[Hit] = field(default_factory=list)


class _Connection(asyncio.Protocol):
    def __init__(self, state: _State, loop: asyncio.AbstractEventLoop) -> None:
        self._state = state
        self._loop = loop
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's class does not inherit from it

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            lower = head.lower()
            length = _number(lower, b"content-length:")
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            self._answer(lower, rest)

    def _answer(self, head: bytes, body: bytes) -> None:
        state = self._state
        if state.refuses:
            self._transport.write(_REFUSE)
            return
        state.count += 1
        if state.remembers:
            event_id = body[_ID_AT : _ID_AT + _ID_LENGTH].decode("ascii", "replace")
            state.hits.append(Hit(event_id, _number(head, b"x-loyalpro-attempt:"), time.time() * 1_000))
        if state.answer_after_s:
            self._loop.call_later(state.answer_after_s, self._transport.write, _ACCEPT)
        elif state.answer_after_s is not None:
            self._transport.write(_ACCEPT)


def _number(head: bytes, name: bytes) -> int:
    """The number in a header; 0 without the header, as in the requests of the bare loop."""
    at = head.find(name)
    if at < 0:
        return 0
    end = head.find(b"\r\n", at)
    return int(head[at + len(name) : end if end >= 0 else None])


def _handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report an error, except that a killed sender closed its connection in the middle of a request."""
    if not isinstance(context.get("exception"), ConnectionError | ssl.SSLError):
        loop.default_exception_handler(context)


async def _serve(chain: str, key: str, ports: int, state: _State, pipe: multiprocessing.connection.Connection) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_handle_loop_error)
    servers = [
        await loop.create_server(lambda: _Connection(state, loop), "127.0.0.1", 0, ssl=context, backlog=1_024)
        for _ in range(ports)
    ]
    pipe.send([each.sockets[0].getsockname()[1] for each in servers])
    stopped = asyncio.Event()

    def answer() -> None:
        match pipe.recv():
            case "count":
                pipe.send(state.count)
            case "hits":
                pipe.send(state.hits)
            case "reset":
                state.hits.clear()
                state.count = 0
                pipe.send(None)
            case "refuse" | "accept" as command:
                state.refuses = command == "refuse"
                pipe.send(None)
            case _:
                stopped.set()

    loop.add_reader(pipe.fileno(), answer)
    os.set_blocking(pipe.fileno(), True)  # add_reader made it non-blocking, and a long answer needs several writes
    await stopped.wait()


def _main(chain: str, key: str, ports: int, state: _State, pipe: multiprocessing.connection.Connection) -> None:
    uvloop.run(_serve(chain, key, ports, state, pipe))


class Receiver:
    """Starts and controls the process. `answer_after_s`: None is never. For LoyalPro, each port is a host of its own."""

    def __init__(
        self, chain: str, key: str, *, answer_after_s: float | None = 0, remembers: bool = True, ports: int = 1
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._lock = threading.Lock()
        state = _State(answer_after_s, remembers)
        self._process = context.Process(target=_main, args=(chain, key, ports, state, theirs), daemon=True)
        self._process.start()
        self.urls = [f"https://localhost:{port}/hook" for port in self._pipe.recv()]

    @property
    def url(self) -> str:
        """The URL at its first port."""
        return self.urls[0]

    @property
    def pid(self) -> int:
        """The id of its process."""
        assert self._process.pid is not None
        return self._process.pid

    def count(self) -> int:
        """The number of requests that were answered with 200."""
        return int(self._ask("count"))

    def hits(self) -> list[Hit]:
        """The requests that were answered with 200, in the order of their arrival."""
        return list(self._ask("hits"))

    def reset(self) -> None:
        """Delete all hits, and count from zero."""
        self._ask("reset")

    def refuse(self) -> None:
        """Answer 500 from now on."""
        self._ask("refuse")

    def accept(self) -> None:
        """Answer 200 from now on."""
        self._ask("accept")

    def stop(self) -> None:
        """End the process."""
        self._pipe.send("stop")
        self._process.join(10)

    def _ask(self, question: str) -> Any:
        with self._lock:
            self._pipe.send(question)
            return self._pipe.recv()
