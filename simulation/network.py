"""The virtual network between the simulated processes and their receivers, and the log of every request in it."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field

from loyalpro.delivery.attempt import OutcomeCode, OutgoingRequest, Response, SendResult, Timings
from receivers.behavior import ACCEPTED, ASKS_TO_WAIT, HANGS, STATUSES, Behavior
from receivers.receiver import Receiver, WebhookRequest
from simulation.loop import PROCESS, Process, stop_if_dead

_FASTEST_S = 0.002
_FAILURE = {
    Behavior.REFUSE: OutcomeCode.CONNECT_FAILED,
    Behavior.SILENCE: OutcomeCode.TIMEOUT,
    Behavior.SILENT_ACCEPT: OutcomeCode.TIMEOUT,
    Behavior.LOST_ACCEPT: OutcomeCode.CONNECTION_LOST,
    Behavior.CUT_ACCEPT: OutcomeCode.CONNECTION_LOST,
    Behavior.GARBAGE: OutcomeCode.INVALID_RESPONSE,
}


@dataclass(kw_only=True)
class SimulatedReceiver(Receiver):
    """A receiver with an address, a distance and a `Retry-After`, all drawn from `rng`.

    `ended_connections`: the share of the requests whose connection ends before it begins to answer; `endings` decides which.
    """

    url: str
    rng: random.Random
    slowest_s: float = 0.05
    longest_retry_after_s: int = 0
    endings: random.Random = field(default_factory=lambda: random.Random(0))
    ended_connections: float = 0.0

    def latency_s(self) -> float:
        """The time of a request and its response in the network."""
        return _FASTEST_S if self.healed else _FASTEST_S + self.rng.random() ** 3 * self.slowest_s

    def retry_after_s(self) -> int | None:
        """The `Retry-After` of a response; None for a response without it."""
        asks = not self.healed and self.longest_retry_after_s and self.rng.random() < 0.7
        return self.rng.randint(1, self.longest_retry_after_s) if asks else None

    def ending(self) -> Behavior | None:
        """What it does with a request whose connection ends: usually it has not read it. None if the connection stays open."""
        if self.healed or self.endings.random() >= self.ended_connections:
            return None
        return self.endings.choice((Behavior.REFUSE, Behavior.REFUSE, Behavior.LOST_ACCEPT))


@dataclass(slots=True)
class Sent:
    """One request, from the moment it was sent. `behavior` is None until the request arrives.

    `in_the_wire`: it arrives even if its sender dies meanwhile. `forced`: what the receiver has to do with it. `ended`: its
    connection ended without an answer, and it may be repeated.
    """

    at_s: float
    process: str
    url: str
    request: WebhookRequest
    in_the_wire: bool
    forced: Behavior | None = None
    behavior: Behavior | None = None
    arrived_at_s: float | None = None
    retry_after_s: int | None = None
    ended: bool = False

    @property
    def delivery_id(self) -> str:
        return self.request.delivery_id

    @property
    def attempt(self) -> int:
        return self.request.attempt

    @property
    def accepted(self) -> bool:
        """Whether the receiver has processed it."""
        return self.behavior in ACCEPTED


class Network:
    """Carries requests and responses. Its log is the evidence of the receivers: no code of the product writes it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receivers: list[SimulatedReceiver], rng: random.Random) -> None:
        self._loop = loop
        self._receivers = {each.url: each for each in receivers}
        self._rng = rng
        self.log: list[Sent] = []
        self.behaviors: Counter[Behavior] = Counter()
        self.on_sent: Callable[[Sent], None] = lambda _: None

    def add(self, receiver: SimulatedReceiver) -> None:
        """Connect one more receiver."""
        self._receivers[receiver.url] = receiver

    def heal(self) -> None:
        """From now on every receiver accepts every request."""
        for receiver in self._receivers.values():
            receiver.healed = True

    def post(self, request: OutgoingRequest) -> asyncio.Future[SendResult]:
        """Send a request. If its process dies before it arrives, it arrives in half of the cases."""
        process = PROCESS.get()
        receiver = self._receivers[request.url]
        in_the_wire = self._rng.random() < 0.5
        read = receiver.read(dict(request.headers), request.body)
        sent = Sent(self._loop.time(), process.name if process else "", request.url, read, in_the_wire)
        self.log.append(sent)
        self.on_sent(sent)
        future: asyncio.Future[SendResult] = self._loop.create_future()
        there_s, back_s = receiver.latency_s() / 2, receiver.latency_s() / 2
        exchange = _Exchange(self._loop, self.behaviors, receiver, sent, future, process, request.timeout_s, back_s)
        Context().run(self._loop.call_later, there_s, exchange.arrive)
        return future


@dataclass(slots=True)
class _Exchange:
    """A request and its response on their way."""

    loop: asyncio.AbstractEventLoop
    behaviors: Counter[Behavior]
    receiver: SimulatedReceiver
    sent: Sent
    future: asyncio.Future[SendResult]
    process: Process | None
    timeout_s: float
    back_s: float

    def arrive(self) -> None:
        sent = self.sent
        if self.process is not None and self.process.dead and not sent.in_the_wire:
            return  # its process died before the last byte had left
        behavior = sent.forced or self.receiver.behavior(sent.request, self.loop.time())
        if sent.forced is None and (ending := self.receiver.ending()) is not None:
            behavior, sent.ended = ending, True
        sent.behavior, sent.arrived_at_s = behavior, self.loop.time()
        if behavior in ASKS_TO_WAIT:
            sent.retry_after_s = self.receiver.retry_after_s()
        self.behaviors[behavior] += 1
        self.loop.call_later(self.timeout_s if behavior in HANGS else self.back_s, self.respond, behavior)

    def respond(self, behavior: Behavior) -> None:
        if not self.future.done():
            result = _ENDED if self.sent.ended else _result(behavior, self.sent.retry_after_s)
            self.future.set_result(result)


_ENDED = SendResult(
    None, OutcomeCode.CONNECTION_LOST, "simulated", None, Timings(None, None, None, None, 1.0), repeatable=True
)


class SimulatedSender:
    """Satisfies `Sender`, for every process."""

    alive = True

    def __init__(self, network: Network) -> None:
        self._network = network

    async def send(self, request: OutgoingRequest) -> SendResult:
        """One request; the result is what the network made of it."""
        stop_if_dead()
        return await self._network.post(request)


def _result(behavior: Behavior, retry_after_s: int | None) -> SendResult:
    timings = Timings(None, None, None, None, 1.0)
    if behavior in _FAILURE:
        return SendResult(None, _FAILURE[behavior], "simulated", None, timings)
    headers = () if retry_after_s is None else (("Retry-After", str(retry_after_s)),)
    return SendResult(Response(STATUSES[behavior], headers, b"", truncated=False), None, "", "192.0.2.1", timings)
