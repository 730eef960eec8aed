"""The accounting: three ledgers (what clients were told, what receivers got, what the database says) must agree.

It reads rows and logs only, and shares no rule with the product: what it knows of the product's promises stands here.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from loyalpro.storage.connection import Connection
from receivers.behavior import ACCEPTED, ACKNOWLEDGED, Behavior
from simulation.loop import START_MS
from simulation.network import Sent
from simulation.owner import Deeds, Subscriber
from simulation.world import TYPES, Order, Sighting, World

_LAST_ATTEMPT_BEFORE_THE_END_S = 20.0
_RECORDED_AS = {
    Behavior.ACCEPT: "succeeded",
    Behavior.SERVER_ERROR: "http_5xx",
    Behavior.CLIENT_ERROR: "http_4xx",
    Behavior.BUSY: "http_4xx",
    Behavior.UNAVAILABLE: "http_5xx",
    Behavior.GONE: "gone",
    Behavior.MOVED: "http_3xx",
    Behavior.REFUSE: "connect_failed",
    Behavior.SILENCE: "timeout",
    Behavior.SILENT_ACCEPT: "timeout",
    Behavior.LOST_ACCEPT: "connection_lost",
    Behavior.GARBAGE: "invalid_response",
    Behavior.SLOW_ACCEPT: "succeeded",
    Behavior.CUT_ACCEPT: "connection_lost",
}


@dataclass(frozen=True, slots=True)
class EventRow:
    """A row of `events`."""

    id: str
    position: int
    account_id: str
    type: str
    customer_id: str | None
    sequence: int | None
    body: bytes

    @property
    def mark(self) -> str:
        return str(json.loads(self.body)["data"][TYPES[self.type]])


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A row of `deliveries`; times are Unix milliseconds."""

    id: str
    event_id: str
    endpoint_id: str
    status: str
    attempts: int
    first_attempt_at: int | None
    finished_at: int | None


@dataclass(frozen=True)
class Books:
    """Everything that was written down about one run."""

    orders: list[Order]
    subscribers: list[Subscriber]
    log: list[Sent]
    sightings: list[Sighting]
    events: list[EventRow]
    deliveries: list[DeliveryRow]
    attempts: dict[str, list[tuple[int, str]]]
    replays: dict[str, str]
    deeds: Deeds
    window_s: float
    tolerance_s: float

    @classmethod
    def of(cls, world: World) -> "Books":
        """Read them, with SQL of our own."""

        def work(connection: Connection) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
            return (
                connection.execute("SELECT id, position, account_id, type, customer_id, sequence, body FROM events"),
                connection.execute(
                    "SELECT id, event_id, endpoint_id, status, attempts, first_attempt_at, finished_at FROM deliveries"
                ),
                connection.execute("SELECT delivery_id, number, outcome FROM attempts ORDER BY delivery_id, number"),
                connection.execute("SELECT id, status FROM replays"),
            )

        events, deliveries, attempts, replays = world.database.run(work, writes=False)
        by_delivery: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for delivery_id, number, outcome in attempts:
            by_delivery[delivery_id].append((number, outcome))
        return cls(
            orders=world.orders,
            subscribers=world.subscribers,
            log=world.network.log,
            sightings=world.sightings,
            events=[EventRow(row[0], row[1], row[2], row[3], row[4], row[5], bytes(row[6])) for row in events],
            deliveries=[DeliveryRow(*row) for row in deliveries],
            attempts=by_delivery,
            replays=dict(replays),
            deeds=world.owner.deeds,
            window_s=world.profile.pace.window_s,
            tolerance_s=2 * world.profile.skew_ms / 1_000 + 0.01,
        )

    @cached_property
    def event(self) -> dict[str, EventRow]:
        return {each.id: each for each in self.events}

    @cached_property
    def delivery(self) -> dict[str, DeliveryRow]:
        return {each.id: each for each in self.deliveries}

    @cached_property
    def subscriber(self) -> dict[str, Subscriber]:
        return {each.id: each for each in self.subscribers}

    @cached_property
    def sent(self) -> dict[str, list[Sent]]:
        """The requests of each delivery, in the order in which they left."""
        requests: dict[str, list[Sent]] = defaultdict(list)
        for each in self.log:
            requests[each.delivery_id].append(each)
        return requests

    @cached_property
    def owed(self) -> set[tuple[str, str]]:
        """Which event is owed to which endpoint: those subscribed when it was committed."""
        return {
            (event.id, subscriber.id)
            for event in self.events
            for subscriber in self.subscribers
            if subscriber.account_id == event.account_id
            and ("*" in subscriber.types or event.type in subscriber.types)
            and subscriber.after_position < event.position
            and (subscriber.until_position is None or event.position <= subscriber.until_position)
        }


def violations(books: Books) -> list[str]:
    """Every broken promise, as a sentence. None of them may ever be there."""
    checks = (_events, _debts, _endings, _requests, _records, _windows, _order, _waits)
    return [f"{check.__name__[1:]}: {each}" for check in checks for each in check(books)]


def statistics(books: Books) -> Counter[str]:
    """How much of everything there was."""
    counted: Counter[str] = Counter()
    counted["events"] = len(books.events)
    counted["deliveries"] = len(books.deliveries)
    counted["requests"] = len(books.log)
    for delivery in books.deliveries:
        counted[delivery.status] += 1
    for rows in books.attempts.values():
        counted["interrupted"] += sum(outcome == "interrupted" for _, outcome in rows)
    for sent in books.sent.values():
        counted["duplicates"] += max(0, sum(each.behavior in ACCEPTED for each in sent) - 1)
    counted["sent_after_the_end"] = sum(each.finished for each in books.sightings)
    return counted


def _events(books: Books) -> Iterator[str]:
    """Each order that was acknowledged is one event, and each event is one order."""
    found = Counter(event.mark for event in books.events)
    for order in books.orders:
        if order.acknowledged and found[order.mark] != 1:
            yield f"{order.mark} was acknowledged and is there {found[order.mark]} times"
    for mark, count in found.items():
        if count > 1 or mark not in {order.mark for order in books.orders}:
            yield f"{mark} is there {count} times"
    sequences: dict[str, list[int]] = defaultdict(list)
    for event in sorted(books.events, key=lambda each: each.position):
        if event.customer_id is not None and event.sequence is not None:
            sequences[event.customer_id].append(event.sequence)
    for customer_id, numbers in sequences.items():
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{customer_id} has the sequence {numbers}"


def _debts(books: Books) -> Iterator[str]:
    """One delivery for each event and subscriber at its time, and for what was asked for later; no more, no fewer."""
    rows = Counter((each.event_id, each.endpoint_id) for each in books.deliveries)
    for pair in books.owed - set(rows):
        yield f"lost: {pair} has no delivery"
    for pair, count in rows.items():
        if count > 1 or pair not in books.owed | books.deeds.granted:
            yield f"phantom: {pair} has {count} deliveries"
    for job in books.deeds.jobs:
        if books.replays[job.id] == "done" and "missing" in job.statuses:
            for event_id in sorted(job.event_ids):
                if not rows[event_id, job.endpoint_id]:
                    yield f"lost: {job.id} has left out {event_id}"


def _endings(books: Books) -> Iterator[str]:
    """Succeeded means that the receiver has it; exhausted means that it was tried for the whole window."""
    renewed = {
        (event_id, job.endpoint_id)
        for job in books.deeds.jobs
        if "canceled" in job.statuses
        for event_id in job.event_ids
    }
    for each in books.deliveries:
        deleted = books.subscriber[each.endpoint_id].until_position is not None
        accepted = any(sent.behavior in ACKNOWLEDGED for sent in books.sent[each.id])
        if (
            each.id in books.deeds.ended
            and each.status != "canceled"
            and (each.event_id, each.endpoint_id) not in renewed
        ):
            yield f"resurrected: {each} had been canceled"
        match each.status:
            case "succeeded" if not accepted:
                yield f"lost: {each.id} succeeded, and the receiver never said so"
            case "exhausted" if _exhausted_too_soon(books, each):
                yield f"early: {each} was given up"
            case "succeeded" | "exhausted":
                pass
            case "pending" | "canceled" if deleted:
                pass
            case "canceled" if each.id in books.deeds.canceled:
                pass
            case _:
                yield f"unfinished: {each}"


def _exhausted_too_soon(books: Books, each: DeliveryRow) -> bool:
    if each.id in books.deeds.touched:
        return False
    if each.first_attempt_at is None or each.finished_at is None:
        return True
    least_s = books.window_s - _LAST_ATTEMPT_BEFORE_THE_END_S - books.tolerance_s
    return (each.finished_at - each.first_attempt_at) / 1_000 < least_s


def _requests(books: Books) -> Iterator[str]:
    """Every request is of a delivery that is owed, to the right place, signed, with the very bytes of the event."""
    for sent in books.log:
        delivery = books.delivery.get(sent.delivery_id)
        request = sent.request
        event = books.event.get(request.webhook_id)
        if delivery is None or event is None or {request.event_id, request.webhook_id} != {delivery.event_id}:
            yield f"phantom: {sent.delivery_id} of {request.event_id}/{request.webhook_id} was sent"
            continue
        if books.subscriber[delivery.endpoint_id].receiver.url != sent.url:
            yield f"phantom: {sent.delivery_id} was sent to {sent.url}"
        if event.body != request.body or json.loads(request.body)["id"] != event.id:
            yield f"body changed: {sent.delivery_id}, attempt {sent.attempt}"
        if not request.signed:
            yield f"bad signature: {sent.delivery_id}, attempt {sent.attempt}"


def _records(books: Books) -> Iterator[str]:
    """Attempts are numbered without gaps; each was sent at most once; a request after the first has a reason."""
    for each in books.deliveries:
        rows, sent = books.attempts[each.id], books.sent[each.id]
        numbers = [number for number, _ in rows]
        if numbers != list(range(1, len(rows) + 1)):
            yield f"gaps: {each.id} has the attempts {numbers}"
        counts = Counter(request.attempt for request in sent)
        for number, count in counts.items():
            if count > 1:
                yield f"unexplained duplicate: attempt {number} of {each.id} was sent {count} times"
        outcomes = dict(rows)
        touched, canceled = each.id in books.deeds.touched, each.id in books.deeds.canceled
        if "succeeded" in list(outcomes.values())[:-1] and not touched:
            yield f"resurrected: {each.id} has {rows}"
        last_succeeded = list(outcomes.values())[-1:] == ["succeeded"]
        if (each.status == "succeeded") != last_succeeded and not touched and not canceled:
            yield f"untrue: {each.id} is {each.status} with {rows}"
        for request in sent:
            yield from _record(each, request, outcomes.get(request.attempt))


def _record(each: DeliveryRow, request: Sent, outcome: str | None) -> Iterator[str]:
    if outcome is None:
        if each.status in ("succeeded", "exhausted"):
            yield f"unexplained: attempt {request.attempt} of {each.id} was sent, and nobody wrote it down"
    elif outcome != "interrupted" and (request.behavior is None or outcome != _RECORDED_AS[request.behavior]):
        yield f"untrue: attempt {request.attempt} of {each.id} was {request.behavior}, and {outcome} was written down"


def _windows(books: Books) -> Iterator[str]:
    """Nothing is sent after the window, and nothing after the end but by one whose lease was taken meanwhile."""
    for sent in books.log:
        delivery = books.delivery.get(sent.delivery_id)
        if delivery is None or delivery.first_attempt_at is None:
            continue
        first_s = min((delivery.first_attempt_at - START_MS) / 1_000, books.sent[sent.delivery_id][0].at_s)
        after_s = sent.at_s - first_s
        if sent.delivery_id not in books.deeds.touched and after_s > books.window_s + books.tolerance_s:
            yield f"late: attempt {sent.attempt} of {sent.delivery_id} left {after_s} s after the first"
    for sighting in books.sightings:
        sent = sighting.sent
        if sent.delivery_id in books.deeds.touched | books.deeds.canceled:
            continue
        if sighting.finished and dict(books.attempts[sent.delivery_id]).get(sent.attempt) != "interrupted":
            yield f"after the end: attempt {sent.attempt} of {sent.delivery_id}"


def _order(books: Books) -> Iterator[str]:
    """Where order is asked for, a customer's events arrive first in their order, and nothing overtakes what is pending."""
    for sighting in books.sightings:
        sent = sighting.sent
        ordered = books.subscriber[books.delivery[sent.delivery_id].endpoint_id].ordered
        earlier = set(sighting.earlier_pending) - books.deeds.touched
        if ordered and earlier and sent.delivery_id not in books.deeds.touched:
            yield f"overtaken: {sent.delivery_id} left while {sorted(earlier)} before it were pending"
    arrivals: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    for each in books.deliveries:
        event = books.event[each.event_id]
        if not books.subscriber[each.endpoint_id].ordered or event.customer_id is None or each.status != "succeeded":
            continue
        if each.id in books.deeds.touched:
            continue
        first = min((sent.arrived_at_s or 0.0 for sent in books.sent[each.id] if sent.accepted), default=0.0)
        arrivals[each.endpoint_id, event.customer_id].append((event.sequence or 0, first))
    for pair, found in arrivals.items():
        times = [at_s for _, at_s in sorted(found)]
        if times != sorted(times):
            yield f"out of order: {pair} first got {sorted(found)}"


def _waits(books: Books) -> Iterator[str]:
    """A `Retry-After` that was written down is waited for, unless the window would close before."""
    for each in books.deliveries:
        if each.id in books.deeds.touched:
            continue
        outcomes = dict(books.attempts[each.id])
        by_number = {sent.attempt: sent for sent in books.sent[each.id]}
        for sent in by_number.values():
            following = by_number.get(sent.attempt + 1)
            if following is None or not sent.retry_after_s or outcomes.get(sent.attempt) == "interrupted":
                continue
            assert sent.arrived_at_s is not None
            assert each.first_attempt_at is not None
            last_s = (each.first_attempt_at - START_MS) / 1_000 + books.window_s - _LAST_ATTEMPT_BEFORE_THE_END_S
            earliest_s = min(sent.arrived_at_s + sent.retry_after_s, last_s) - books.tolerance_s
            if following.at_s < earliest_s:
                yield f"hasty: attempt {following.attempt} of {each.id} left at {following.at_s}, not at {earliest_s}"


def fingerprint(books: Books) -> str:
    """The same for two runs that were the same."""
    lines = [f"{s.at_s:.6f} {s.process} {s.delivery_id} {s.attempt} {s.behavior}" for s in books.log]
    lines += [f"{each}" for each in sorted(books.deliveries, key=lambda each: each.id)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
