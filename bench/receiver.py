"""A lean HTTPS receiver in a process of its own: it answers 200, and remembers when each event arrived."""

import asyncio
import multiprocessing
import multiprocessing.connection
import ssl
import time
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{"received":true}'
_ID_AT = len(b'{"id":"')
_ID_LENGTH = len("evt_") + 26


@dataclass
class Log:
    """Arrivals: event id -> wall clock in milliseconds, first arrival only; and how many requests there were."""

    arrived_ms: dict[str, float] = field(default_factory=dict)
    requests: int = 0


class _Connection(asyncio.Protocol):
    def __init__(self, log: Log) -> None:
        self._log = log
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            lower = head.lower()
            at = lower.index(b"content-length:") + 15
            length = int(lower[at : lower.find(b"\r\n", at) if b"\r\n" in lower[at:] else None])
            if len(rest) < length:
                return
            self._log.requests += 1
            event_id = rest[_ID_AT : _ID_AT + _ID_LENGTH].decode("ascii", "replace")
            self._log.arrived_ms.setdefault(event_id, time.time() * 1_000)
            self._buffer = rest[length:]
            self._transport.write(_ANSWER)


async def _serve(chain: str, key: str, pipe: multiprocessing.connection.Connection) -> None:
    log = Log()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(log), "127.0.0.1", 0, ssl=context, backlog=1_024)
    pipe.send(server.sockets[0].getsockname()[1])
    stopped = asyncio.Event()

    def answer() -> None:
        match pipe.recv():
            case "count":
                pipe.send(log.requests)
            case "log":
                pipe.send(log)
            case "reset":
                log.arrived_ms.clear()
                log.requests = 0
                pipe.send(None)
            case _:
                stopped.set()

    loop.add_reader(pipe.fileno(), answer)
    await stopped.wait()


def _main(chain: str, key: str, pipe: multiprocessing.connection.Connection) -> None:
    uvloop.run(_serve(chain, key, pipe))


class Receiver:
    """The handle that a benchmark holds."""

    def __init__(self, chain: str, key: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(chain, key, theirs), daemon=True)
        self._process.start()
        self.url = f"https://localhost:{self._pipe.recv()}/hook"

    def count(self) -> int:
        """How many requests have arrived."""
        return int(self._ask("count"))

    def log(self) -> Log:
        """Everything that has arrived."""
        log = self._ask("log")
        assert isinstance(log, Log)
        return log

    def reset(self) -> None:
        """Forget everything."""
        self._ask("reset")

    def stop(self) -> None:
        """End the process."""
        self._pipe.send("stop")
        self._process.join(10)

    def _ask(self, question: str) -> Any:
        self._pipe.send(question)
        return self._pipe.recv()
