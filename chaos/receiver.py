"""The receivers of a run: one HTTPS process, which writes every request to its journal before it answers."""

import asyncio
import multiprocessing
import multiprocessing.connection
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never, cast

import uvloop

from chaos.front import Front
from chaos.journal import Journal
from receivers.behavior import ACKNOWLEDGED, ASKS_TO_WAIT, STATUSES, Behavior, BehaviorMix, seeded_points
from receivers.receiver import Receiver

_BODY = b'{"received":true}'
_CUT_BYTES = 40
"""A response is cut between its status line and the end of its headers: complete headers would be an answer."""
_RETRY_AFTER_S = 1
_SLOW_S = 1.0
_NO_CLOCK_S = 0.0
"""A receiver here has no planned outages: `down` and `up` close and open its port."""


@dataclass(slots=True)
class _Endpoint:
    receiver: Receiver
    id: str = ""
    port: int = 0
    listener: asyncio.Server | None = None
    connections: set[asyncio.Transport] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)


class _Connection(asyncio.Protocol):
    def __init__(self, endpoint: _Endpoint, journal: Journal) -> None:
        self._endpoint = endpoint
        self._journal = journal
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._endpoint.connections.add(self._transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._endpoint.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, found, rest = self._buffer.partition(b"\r\n\r\n")
            if not found:
                return
            headers = _headers(head)
            length = int(headers.get("content-length", "0"))
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            self._receive(headers, rest[:length])

    def _receive(self, headers: dict[str, str], body: bytes) -> None:
        endpoint = self._endpoint
        request = endpoint.receiver.read(headers, body)
        behavior = endpoint.receiver.behavior(request, _NO_CLOCK_S)
        self._journal.write(
            "hit",
            endpoint=endpoint.id,
            delivery=request.delivery_id,
            event=request.event_id,
            webhook=request.webhook_id,
            attempt=request.attempt,
            sha256=request.sha256,
            signed=request.signed,
            behavior=behavior.value,
        )
        if behavior in ACKNOWLEDGED:
            endpoint.acknowledged.add(request.delivery_id)
        self._answer(behavior)

    def _answer(self, behavior: Behavior) -> None:
        match behavior:
            case Behavior.SLOW_ACCEPT:
                asyncio.get_running_loop().call_later(_SLOW_S, self._transport.write, _response(behavior))
            case Behavior.SILENCE | Behavior.SILENT_ACCEPT:
                pass
            case Behavior.REFUSE | Behavior.LOST_ACCEPT:
                self._transport.abort()
            case Behavior.CUT_ACCEPT:
                self._transport.write(_response(Behavior.ACCEPT)[:_CUT_BYTES])
                self._transport.close()
            case Behavior.GARBAGE:
                self._transport.write(b"garbage\r\n\r\n")
                self._transport.close()
            case (
                Behavior.ACCEPT
                | Behavior.SERVER_ERROR
                | Behavior.CLIENT_ERROR
                | Behavior.BUSY
                | Behavior.UNAVAILABLE
                | Behavior.GONE
                | Behavior.MOVED
            ):
                self._transport.write(_response(behavior))
            case _:
                assert_never(behavior)


def _response(behavior: Behavior) -> bytes:
    status = STATUSES[behavior]
    retry_after = f"Retry-After: {_RETRY_AFTER_S}\r\n" if behavior in ASKS_TO_WAIT else ""
    head = f"HTTP/1.1 {status} {behavior}\r\nContent-Type: application/json\r\nContent-Length: {len(_BODY)}\r\n"
    return f"{head}{retry_after}\r\n".encode() + _BODY


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines)
    return {name.lower(): value.strip() for name, _, value in pairs}


class _Server:
    """Inside the process: one listener for each endpoint, and a method for each question of the run."""

    def __init__(self, folder: Path, seed: str, *, tls: bool) -> None:
        from support.receivers import Authority

        self._context = Authority(folder).context() if tls else None
        self._seed = seed
        self._journal = Journal(folder / "hits.jsonl")
        self._endpoints: dict[str, _Endpoint] = {}

    async def open(self, name: str, mix: BehaviorMix) -> int:
        receiver = Receiver(secret="", points=seeded_points(f"{self._seed}/{name}"), mix=mix)
        endpoint = self._endpoints[name] = _Endpoint(receiver)
        await self.up(name)
        return endpoint.port

    async def up(self, name: str) -> None:
        endpoint = self._endpoints[name]
        endpoint.listener = await asyncio.get_running_loop().create_server(
            lambda: _Connection(endpoint, self._journal), "127.0.0.1", endpoint.port, ssl=self._context, backlog=1_024
        )
        endpoint.port = endpoint.listener.sockets[0].getsockname()[1]

    async def down(self, name: str) -> None:
        endpoint = self._endpoints[name]
        if endpoint.listener is not None:
            endpoint.listener.close()
        for transport in list(endpoint.connections):
            transport.abort()

    async def trust(self, name: str, endpoint_id: str, secret: str) -> None:
        endpoint = self._endpoints[name]
        endpoint.id, endpoint.receiver.secret = endpoint_id, secret

    async def heal(self) -> None:
        for endpoint in self._endpoints.values():
            endpoint.receiver.healed = True

    async def acknowledged(self) -> dict[str, int]:
        return {name: len(endpoint.acknowledged) for name, endpoint in self._endpoints.items()}


async def _serve(folder: Path, seed: str, pipe: multiprocessing.connection.Connection, *, tls: bool) -> None:
    server = _Server(folder, seed, tls=tls)
    pipe.send(None)
    asked: asyncio.Queue[tuple[str, tuple[Any, ...]] | None] = asyncio.Queue()

    def take() -> None:
        try:
            asked.put_nowait(pipe.recv())
        except (EOFError, OSError):
            asked.put_nowait(None)  # the run has ended

    asyncio.get_running_loop().add_reader(pipe.fileno(), take)
    while (question := await asked.get()) is not None:
        name, arguments = question
        pipe.send(await getattr(server, name)(*arguments))


def _main(folder: Path, seed: str, pipe: multiprocessing.connection.Connection, tls: bool) -> None:  # noqa: FBT001 - by position
    with suppress(KeyboardInterrupt):
        uvloop.run(_serve(folder, seed, pipe, tls=tls))


class ReceiverProcess:
    """The handle that the run has on the process. `ca_file`: the authority that the product has to trust.

    Behind a `front`, the receivers speak plain HTTP.
    """

    def __init__(self, folder: Path, seed: str, front: Front | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(folder, seed, theirs, front is None), daemon=True)
        self._process.start()
        theirs.close()
        self._turn = threading.Lock()
        self._pipe.recv()
        self._front = front
        self.ca_file = front.ca_file if front else folder / "ca.pem"

    def open(self, name: str, mix: BehaviorMix) -> str:
        """Listen for an endpoint; returns its URL."""
        port = self._ask("open", name, mix)
        return self._front.url(port, name) if self._front else f"https://localhost:{port}/{name}"

    def trust(self, name: str, endpoint_id: str, secret: str) -> None:
        """Set the id and the secret of an endpoint."""
        self._ask("trust", name, endpoint_id, secret)

    def down(self, name: str) -> None:
        """Refuse new connections to an endpoint and break the open ones."""
        self._ask("down", name)

    def up(self, name: str) -> None:
        """Listen again for an endpoint, on the same port."""
        self._ask("up", name)

    def heal(self) -> None:
        """From now on every endpoint accepts every request."""
        self._ask("heal")

    def acknowledged(self) -> dict[str, int]:
        """For each endpoint's name, how many different deliveries it has answered with 200."""
        return cast("dict[str, int]", self._ask("acknowledged"))

    def stop(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(10)

    def _ask(self, question: str, *arguments: object) -> Any:
        with self._turn:
            self._pipe.send((question, arguments))
            return self._pipe.recv()
