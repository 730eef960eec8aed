"""The receiver: an HTTPS process of its own that writes every request down before it answers, and answers by its manners.

It knows each endpoint's secret and verifies both signatures with its own few lines.
"""

import asyncio
import base64
import hashlib
import hmac
import multiprocessing
import multiprocessing.connection
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import uvloop

from chaos.journal import Journal
from chaos.manners import ACCEPTED, STEADY, Act, Manners

_OK = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{"received":true}'
_ERROR = b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n"
_UNAVAILABLE = b"HTTP/1.1 503 Later\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
_SLOW_S = 1.0


@dataclass(slots=True)
class _Endpoint:
    name: str
    manners: Manners
    seed: str
    id: str = ""
    secret: str = ""
    port: int = 0
    listener: asyncio.Server | None = None
    connections: set[asyncio.Transport] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)


def plain_signature(secret: str, body: bytes) -> str:
    """What `X-LoyalPro-Signature` must say."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def standard_signature(secret: str, event_id: str, timestamp: str, body: bytes) -> str:
    """What `webhook-signature` must contain."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    message = b".".join((event_id.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()


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
            self._answer(self._write_down(headers, rest[:length]))

    def _write_down(self, headers: dict[str, str], body: bytes) -> tuple[Act, str]:
        endpoint = self._endpoint
        event_id, delivery_id = headers.get("x-loyalpro-event-id", ""), headers.get("x-loyalpro-delivery-id", "")
        attempt = headers.get("x-loyalpro-attempt", "")
        act = endpoint.manners.act(endpoint.seed, event_id, delivery_id, attempt)
        self._journal.write(
            "hit",
            endpoint=endpoint.id,
            delivery=delivery_id,
            event=event_id,
            webhook=headers.get("webhook-id", ""),
            attempt=attempt,
            sha256=hashlib.sha256(body).hexdigest(),
            signed=self._is_signed(headers, body),
            act=act.value,
        )
        return act, delivery_id

    def _is_signed(self, headers: dict[str, str], body: bytes) -> bool:
        secret = self._endpoint.secret
        standard = standard_signature(secret, headers.get("webhook-id", ""), headers.get("webhook-timestamp", ""), body)
        plain = headers.get("x-loyalpro-signature") == plain_signature(secret, body)
        return plain and standard in headers.get("webhook-signature", "").split()

    def _answer(self, decided: tuple[Act, str]) -> None:
        act, delivery_id = decided
        if act in ACCEPTED:
            self._endpoint.accepted.add(delivery_id)
        match act:
            case Act.OK:
                self._transport.write(_OK)
            case Act.SLOW:
                asyncio.get_running_loop().call_later(_SLOW_S, self._transport.write, _OK)
            case Act.ERROR:
                self._transport.write(_ERROR)
            case Act.UNAVAILABLE:
                self._transport.write(_UNAVAILABLE)
            case Act.RESET:
                self._transport.abort()
            case Act.CUT:
                self._transport.write(_OK[:-5])
                self._transport.close()
            case Act.HANG:
                pass


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines)
    return {name.lower(): value.strip() for name, _, value in pairs}


class _Server:
    """Inside the process: one listener for each endpoint, and the answers to what the run asks."""

    def __init__(self, folder: Path, seed: str) -> None:
        from support.receivers import Authority

        authority = Authority(folder)
        self._context = authority.context()
        self._seed = seed
        self._journal = Journal(folder / "hits.jsonl")
        self._endpoints: dict[str, _Endpoint] = {}

    async def open(self, name: str, manners: Manners) -> int:
        endpoint = self._endpoints[name] = _Endpoint(name, manners, f"{self._seed}/{name}")
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
        endpoint.id, endpoint.secret = endpoint_id, secret

    async def heal(self) -> None:
        for endpoint in self._endpoints.values():
            endpoint.manners = STEADY

    async def accepted(self) -> dict[str, int]:
        return {name: len(endpoint.accepted) for name, endpoint in self._endpoints.items()}


async def _serve(folder: Path, seed: str, pipe: multiprocessing.connection.Connection) -> None:
    server = _Server(folder, seed)
    pipe.send(None)
    asked: asyncio.Queue[tuple[str, tuple[Any, ...]] | None] = asyncio.Queue()

    def take() -> None:
        try:
            asked.put_nowait(pipe.recv())
        except (EOFError, OSError):
            asked.put_nowait(None)  # the run is gone

    asyncio.get_running_loop().add_reader(pipe.fileno(), take)
    while (question := await asked.get()) is not None:
        name, arguments = question
        pipe.send(await getattr(server, name)(*arguments))


def _main(folder: Path, seed: str, pipe: multiprocessing.connection.Connection) -> None:
    with suppress(KeyboardInterrupt):
        uvloop.run(_serve(folder, seed, pipe))


class Receiver:
    """The handle of the run. `ca_file` is what the product has to trust."""

    def __init__(self, folder: Path, seed: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(folder, seed, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self._turn = threading.Lock()
        self._pipe.recv()
        self.ca_file = folder / "ca.pem"

    def open(self, name: str, manners: Manners) -> str:
        """Listen for an endpoint; its URL."""
        return f"https://localhost:{self._ask('open', name, manners)}/{name}"

    def trust(self, name: str, endpoint_id: str, secret: str) -> None:
        """Tell an endpoint who it is and what its secret is."""
        self._ask("trust", name, endpoint_id, secret)

    def down(self, name: str) -> None:
        """Refuse connections, and drop those there are."""
        self._ask("down", name)

    def up(self, name: str) -> None:
        """Listen again."""
        self._ask("up", name)

    def heal(self) -> None:
        """From now on every endpoint is well and answers 200."""
        self._ask("heal")

    def accepted(self) -> dict[str, int]:
        """How many different deliveries each endpoint has accepted."""
        return cast("dict[str, int]", self._ask("accepted"))

    def stop(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(10)

    def _ask(self, question: str, *arguments: object) -> Any:
        with self._turn:
            self._pipe.send((question, arguments))
            return self._pipe.recv()
