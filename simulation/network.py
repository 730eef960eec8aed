"""The receivers' side: endpoints that misbehave by script, and the log of all that was sent to them and reached them."""

import asyncio
import base64
import hashlib
import hmac
import random
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from enum import StrEnum

from loyalpro.delivery.attempt import OutcomeCode, OutgoingRequest, Response, SendResult, Timings
from simulation.loop import PROCESS, Process, stop_if_dead


class Answer(StrEnum):
    """What a receiver does with one request."""

    ACCEPT = "accept"
    SERVER_ERROR = "server_error"
    CLIENT_ERROR = "client_error"
    BUSY = "busy"
    UNAVAILABLE = "unavailable"
    GONE = "gone"
    MOVED = "moved"
    REFUSE = "refuse"
    SILENCE = "silence"
    SILENT_ACCEPT = "silent_accept"
    LOST_ACCEPT = "lost_accept"
    GARBAGE = "garbage"


_STATUS = {
    Answer.ACCEPT: 200,
    Answer.SERVER_ERROR: 500,
    Answer.CLIENT_ERROR: 404,
    Answer.BUSY: 429,
    Answer.UNAVAILABLE: 503,
    Answer.GONE: 410,
    Answer.MOVED: 301,
}
_FAILURE = {
    Answer.REFUSE: OutcomeCode.CONNECT_FAILED,
    Answer.SILENCE: OutcomeCode.TIMEOUT,
    Answer.SILENT_ACCEPT: OutcomeCode.TIMEOUT,
    Answer.LOST_ACCEPT: OutcomeCode.CONNECTION_LOST,
    Answer.GARBAGE: OutcomeCode.INVALID_RESPONSE,
}
ACCEPTED = frozenset({Answer.ACCEPT, Answer.SILENT_ACCEPT, Answer.LOST_ACCEPT})
HANGS = frozenset({Answer.SILENCE, Answer.SILENT_ACCEPT})
ASKS_TO_WAIT = frozenset({Answer.BUSY, Answer.UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class Outage:
    """From when to when a receiver does nothing but this."""

    begin_s: float
    end_s: float
    answer: Answer


@dataclass
class Receiver:
    """One endpoint's other side. `heal` makes it a good one for the rest of the time."""

    url: str
    secret: str
    chance: random.Random
    noise: dict[Answer, float] = field(default_factory=dict)
    outages: list[Outage] = field(default_factory=list)
    slowest_s: float = 0.05
    longest_retry_after_s: int = 0
    healed: bool = False

    def answer(self, now_s: float) -> Answer:
        """To a request that arrives now."""
        if self.healed:
            return Answer.ACCEPT
        for outage in self.outages:
            if outage.begin_s <= now_s < outage.end_s:
                return outage.answer
        kinds = [Answer.ACCEPT, *self.noise]
        return self.chance.choices(kinds, [max(0.0, 1.0 - sum(self.noise.values())), *self.noise.values()])[0]

    def latency_s(self) -> float:
        return 0.002 if self.healed else 0.002 + self.chance.random() ** 3 * self.slowest_s

    def retry_after_s(self) -> int | None:
        """What a busy receiver asks for; None when it does not say."""
        asks = not self.healed and self.longest_retry_after_s and self.chance.random() < 0.7
        return self.chance.randint(1, self.longest_retry_after_s) if asks else None


@dataclass(slots=True)
class Sent:
    """One request, from the moment it was made. `answer` is None until it has arrived.

    `in_the_wire`: it arrives even if its sender dies meanwhile. `forced`: what the receiver has to answer.
    """

    at_s: float
    process: str
    url: str
    delivery_id: str
    event_id: str
    attempt: int
    body: bytes
    signed: bool
    in_the_wire: bool
    forced: Answer | None = None
    answer: Answer | None = None
    arrived_at_s: float | None = None
    retry_after_s: int | None = None

    @property
    def accepted(self) -> bool:
        """Whether the receiver has it and means to keep it."""
        return self.answer in ACCEPTED


class Network:
    """Between the processes and the receivers. Its log is the receivers' own: the product cannot touch it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, receivers: list[Receiver], chance: random.Random) -> None:
        self._loop = loop
        self._receivers = {each.url: each for each in receivers}
        self._chance = chance
        self.log: list[Sent] = []
        self.answered: Counter[Answer] = Counter()
        self.on_sent: Callable[[Sent], None] = lambda _: None

    def add(self, receiver: Receiver) -> None:
        """A new endpoint somewhere."""
        self._receivers[receiver.url] = receiver

    def heal(self) -> None:
        """From now on every receiver is there and accepts."""
        for receiver in self._receivers.values():
            receiver.healed = True

    def post(self, request: OutgoingRequest) -> asyncio.Future[SendResult]:
        """Put a request on its way. It arrives whatever becomes of the process that sent it, or almost."""
        process = PROCESS.get()
        receiver = self._receivers[request.url]
        name, in_the_wire = process.name if process else "", self._chance.random() < 0.5
        sent = _sent(request, receiver, self._loop.time(), name, in_the_wire=in_the_wire)
        self.log.append(sent)
        self.on_sent(sent)
        future: asyncio.Future[SendResult] = self._loop.create_future()
        there_s, back_s = receiver.latency_s() / 2, receiver.latency_s() / 2
        delivery = _Delivery(self._loop, self.answered, request, receiver, sent, future, process, back_s)
        Context().run(self._loop.call_later, there_s, delivery.arrive)
        return future


@dataclass(slots=True)
class _Delivery:
    loop: asyncio.AbstractEventLoop
    answered: Counter[Answer]
    request: OutgoingRequest
    receiver: Receiver
    sent: Sent
    future: asyncio.Future[SendResult]
    process: Process | None
    back_s: float

    def arrive(self) -> None:
        loop, sent = self.loop, self.sent
        if self.process is not None and self.process.dead and not sent.in_the_wire:
            return  # it died before its last byte had left
        sent.answer = sent.forced or self.receiver.answer(loop.time())
        sent.arrived_at_s = loop.time()
        if sent.answer in ASKS_TO_WAIT:
            sent.retry_after_s = self.receiver.retry_after_s()
        self.answered[sent.answer] += 1
        wait_s = self.request.timeout_s if sent.answer in HANGS else self.back_s
        loop.call_later(wait_s, self.come_back)

    def come_back(self) -> None:
        if not self.future.done():
            self.future.set_result(_result(self.sent))


class SimulatedSender:
    """Satisfies `Sender`, for every process."""

    alive = True

    def __init__(self, network: Network) -> None:
        self._network = network

    async def send(self, request: OutgoingRequest) -> SendResult:
        stop_if_dead()
        return await self._network.post(request)


def _result(sent: Sent) -> SendResult:
    assert sent.answer is not None
    timings = Timings(None, None, None, None, 1.0)
    status = _STATUS.get(sent.answer)
    if status is None:
        return SendResult(None, _FAILURE[sent.answer], "simulated", None, timings)
    headers = () if sent.retry_after_s is None else (("Retry-After", str(sent.retry_after_s)),)
    return SendResult(Response(status, headers, b"", truncated=False), None, "", "192.0.2.1", timings)


def _sent(request: OutgoingRequest, receiver: Receiver, now_s: float, process: str, *, in_the_wire: bool) -> Sent:
    headers = {name.lower(): value for name, value in request.headers}
    return Sent(
        at_s=now_s,
        process=process,
        url=request.url,
        delivery_id=headers["x-loyalpro-delivery-id"],
        event_id=headers["webhook-id"],
        attempt=int(headers["x-loyalpro-attempt"]),
        body=request.body,
        signed=_signature(receiver.secret, headers, request.body) in headers["webhook-signature"].split(),
        in_the_wire=in_the_wire,
    )


def _signature(secret: str, headers: dict[str, str], body: bytes) -> str:
    """Standard Webhooks 1.0, as a receiver that never saw our code would check it."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
