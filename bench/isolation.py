"""What those who answer feel of those who do not: half of all endpoints accept a connection and then say nothing."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bench.load import buy, customers, steadily, subscribe, wait_for
from bench.measurement import Finding, Goal, Scale
from bench.receiver import Receiver
from bench.server import Server
from bench.stage import Stage
from bench.waits import Waits

_PER_S = 100
_OWED_TO_EACH = 10
"""More than a lane lets out before the first attempt has ended."""


def isolation(stage: Stage, scale: Scale) -> Finding:
    """With and without the hanging ones, in one run of one server, on every store."""
    goals, lines = [], []
    for store in stage.stores:
        with hanging(scale.endpoints // 2) as urls:
            before, during, busy = _measure(stage, store, urls, scale)
        ratio = during.percentile(99) / before.percentile(99)
        measured = f"p99 {before.percentile(99):.1f} ms without, {during.percentile(99):.1f} ms with: {ratio:.2f}x"
        what = f"isolation, {len(urls)} of {scale.endpoints} endpoints hanging, {store}"
        goals.append(Goal(what, "p99 of the others within 1.5x", measured, ratio <= 1.5))
        lines += [f"| {store} | without | 0 | {before} |", f"| {store} | with | {busy:,} | {during} |"]
    return Finding(goals, _intro(scale) + "\n".join(lines) + "\n")


@contextmanager
def hanging(count: int) -> Iterator[list[str]]:
    """So many hosts that let anybody connect, and nothing more: the kernel accepts, nobody reads."""
    sockets = [socket.create_server(("127.0.0.1", 0), backlog=64) for _ in range(count)]
    try:
        yield [f"https://127.0.0.1:{each.getsockname()[1]}/hook" for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _measure(stage: Stage, store: str, urls: list[str], scale: Scale) -> tuple[Waits, Waits, int]:
    server, receiver = stage.serve(stage.database(store)), stage.receiver()
    client = server.client()
    stage.say(f"{store}: {scale.endpoints} endpoints")
    for url in urls:
        subscribe(client, url, ["transaction.completed"])
    healthy = [subscribe(client, receiver.url, ["customer.deleted"]) for _ in range(scale.endpoints - len(urls))]
    _waits(server, receiver, healthy, 1)
    stage.say(f"{store}: all answer")
    before = _waits(server, receiver, healthy, scale.before_s)
    stage.say(f"{store}: half of them hang")
    buy(client, customers(client, 1), _OWED_TO_EACH)
    busy = _Highest(server)
    with busy:
        during = _waits(server, receiver, healthy, scale.hanging_s)
    server.kill()
    return before, during, busy.value


def _waits(server: Server, receiver: Receiver, endpoints: list[str], seconds: float) -> Waits:
    """One event at a time, for one endpoint after the other."""
    receiver.reset()
    calls = round(_PER_S * seconds)
    path = "/v1/webhook_endpoints/{}/test"
    steadily(server, calls, seconds, lambda mine, n: mine.call("POST", path.format(endpoints[n % len(endpoints)]), {}))
    wait_for(receiver, calls)
    return Waits.of(receiver.hits())


class _Highest:
    """Looks every second how many requests of a server are under way."""

    def __init__(self, server: Server) -> None:
        self.value = 0
        self._server = server
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._done.wait(1.0):
            self.value = max(self.value, self._server.in_flight())

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def _intro(scale: Scale) -> str:
    return f"""{scale.endpoints} endpoints of one account, half of them on hosts of their own that accept a connection and never
answer. Those are owed {_OWED_TO_EACH} deliveries each from the moment that they count, and an attempt takes 30 s to time out.
The others get {_PER_S} events/s, one endpoint after the other.

| store | hanging ones | most deliveries under way | commit to receipt at the others |
|---|---|---|---|
"""
