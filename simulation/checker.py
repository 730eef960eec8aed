"""Checks that three records agree: what clients were acknowledged, what receivers got, and what the database contains.

It reads rows and logs only, and shares no rule with the product: the promises of the product are written here again.
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
from simulation.owner import OwnerActions, Subscriber
from simulation.world import TYPES, Order, SendSnapshot, World

_MOST_REQUESTS = 5
"""In one attempt."""
_TIME_LEFT_UNTIL_S = 4.0
"""A request that arrived so soon after the start of its attempt has an answer in time, at any distance of its receiver."""
_LAST_ATTEMPT_BEFORE_THE_END_S = 20.0
"""The last attempt is due at most this long before the window closes."""
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
    def reference(self) -> str:
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
class Evidence:
    """The records of one run."""

    orders: list[Order]
    subscribers: list[Subscriber]
    log: list[Sent]
    snapshots: list[SendSnapshot]
    events: list[EventRow]
    deliveries: list[DeliveryRow]
    attempts: dict[str, list[tuple[int, str]]]
    requests: dict[tuple[str, int], list[str]]
    replays: dict[str, str]
    counters: dict[tuple[str, str], int]
    actions: OwnerActions
    window_s: float
    tolerance_s: float
    frozen: bool

    @classmethod
    def of(cls, world: World) -> "Evidence":
        """Read the database with own SQL, and collect the logs."""

        def work(connection: Connection) -> tuple[list[Any], ...]:
            return (
                connection.execute("SELECT id, position, account_id, type, customer_id, sequence, body FROM events"),
                connection.execute(
                    "SELECT id, event_id, endpoint_id, status, attempts, first_attempt_at, finished_at FROM deliveries"
                ),
                connection.execute(
                    "SELECT delivery_id, number, outcome, requests FROM attempts ORDER BY delivery_id, number"
                ),
                connection.execute("SELECT id, status FROM replays"),
                connection.execute(
                    "SELECT endpoint_id, outcome, SUM(attempts) FROM delivery_counters GROUP BY endpoint_id, outcome"
                ),
            )

        events, deliveries, attempts, replays, counters = world.database.run(work, writes=False)
        by_delivery: dict[str, list[tuple[int, str]]] = defaultdict(list)
        requests: dict[tuple[str, int], list[str]] = {}
        for delivery_id, number, outcome, recorded in attempts:
            by_delivery[delivery_id].append((number, outcome))
            requests[delivery_id, number] = (
                [each["outcome"] for each in json.loads(recorded)] if recorded else [outcome]
            )
        return cls(
            orders=world.orders,
            subscribers=world.subscribers,
            log=world.network.log,
            snapshots=world.snapshots,
            events=[EventRow(row[0], row[1], row[2], row[3], row[4], row[5], bytes(row[6])) for row in events],
            deliveries=[DeliveryRow(*row) for row in deliveries],
            attempts=by_delivery,
            requests=requests,
            replays=dict(replays),
            counters={(endpoint_id, outcome): count for endpoint_id, outcome, count in counters},
            actions=world.owner.actions,
            window_s=world.profile.pace.window_s,
            tolerance_s=2 * world.profile.skew_ms / 1_000 + 0.01,
            frozen=world.profile.freezes,
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
        """The requests of each delivery, in the order in which they were sent."""
        requests: dict[str, list[Sent]] = defaultdict(list)
        for each in self.log:
            requests[each.delivery_id].append(each)
        return requests

    @cached_property
    def expected(self) -> set[tuple[str, str]]:
        """(event id, endpoint id) for each endpoint that was subscribed when the event was committed."""
        return {
            (event.id, subscriber.id)
            for event in self.events
            for subscriber in self.subscribers
            if subscriber.account_id == event.account_id
            and ("*" in subscriber.types or event.type in subscriber.types)
            and subscriber.after_position < event.position
            and (subscriber.until_position is None or event.position <= subscriber.until_position)
        }


def violations(evidence: Evidence) -> list[str]:
    """Every broken promise, as a sentence that begins with the name of the check. A correct run has none."""
    checks = (_events, _deliveries, _outcomes, _requests, _records, _counters, _windows, _order, _waits)
    return [f"{check.__name__[1:]}: {each}" for check in checks for each in check(evidence)]


def statistics(evidence: Evidence) -> Counter[str]:
    """How many rows and requests of each kind there are."""
    counted: Counter[str] = Counter()
    counted["events"] = len(evidence.events)
    counted["deliveries"] = len(evidence.deliveries)
    counted["requests"] = len(evidence.log)
    counted["ended"] = sum(each.ended for each in evidence.log)
    for delivery in evidence.deliveries:
        counted[delivery.status] += 1
    for rows in evidence.attempts.values():
        counted["interrupted"] += sum(outcome == "interrupted" for _, outcome in rows)
    for sent in evidence.sent.values():
        counted["duplicates"] += max(0, sum(each.behavior in ACCEPTED for each in sent) - 1)
    counted["sent_after_the_end"] = sum(each.finished for each in evidence.snapshots)
    return counted


def _events(evidence: Evidence) -> Iterator[str]:
    """Each acknowledged order is one event, and each event is one order; sequences have no gaps."""
    found = Counter(event.reference for event in evidence.events)
    for order in evidence.orders:
        if order.acknowledged and found[order.reference] != 1:
            yield f"{order.reference} was acknowledged and is {found[order.reference]} events"
    for reference, count in found.items():
        if count > 1 or reference not in {order.reference for order in evidence.orders}:
            yield f"{reference} is {count} events"
    sequences: dict[str, list[int]] = defaultdict(list)
    for event in sorted(evidence.events, key=lambda each: each.position):
        if event.customer_id is not None and event.sequence is not None:
            sequences[event.customer_id].append(event.sequence)
    for customer_id, numbers in sequences.items():
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"{customer_id} has the sequence {numbers}"


def _deliveries(evidence: Evidence) -> Iterator[str]:
    """One delivery for each event and each endpoint subscribed at its time, or added by the owner; no more, no fewer."""
    rows = Counter((each.event_id, each.endpoint_id) for each in evidence.deliveries)
    for pair in evidence.expected - set(rows):
        yield f"lost: {pair} has no delivery"
    for pair, count in rows.items():
        if count > 1 or pair not in evidence.expected | evidence.actions.added:
            yield f"phantom: {pair} has {count} deliveries"
    for replay in evidence.actions.replays:
        if evidence.replays[replay.id] == "done" and "missing" in replay.statuses:
            for event_id in sorted(replay.event_ids):
                if not rows[event_id, replay.endpoint_id]:
                    yield f"lost: {replay.id} omitted {event_id}"


def _outcomes(evidence: Evidence) -> Iterator[str]:
    """`succeeded` means that the receiver accepted it; `exhausted` means that it was tried for the whole window."""
    renewed = {
        (event_id, replay.endpoint_id)
        for replay in evidence.actions.replays
        if "canceled" in replay.statuses
        for event_id in replay.event_ids
    }
    for each in evidence.deliveries:
        deleted = evidence.subscriber[each.endpoint_id].until_position is not None
        accepted = any(sent.behavior in ACKNOWLEDGED for sent in evidence.sent[each.id])
        if (
            each.id in evidence.actions.ended
            and each.status != "canceled"
            and (each.event_id, each.endpoint_id) not in renewed
        ):
            yield f"resurrected: {each} had been canceled"
        match each.status:
            case "succeeded" if not accepted:
                yield f"lost: {each.id} succeeded, and the receiver never acknowledged it"
            case "exhausted" if _exhausted_too_soon(evidence, each):
                yield f"early: {each} is exhausted"
            case "succeeded" | "exhausted":
                pass
            case "pending" | "canceled" if deleted:
                pass
            case "canceled" if each.id in evidence.actions.canceled:
                pass
            case _:
                yield f"unfinished: {each}"


def _exhausted_too_soon(evidence: Evidence, each: DeliveryRow) -> bool:
    if each.id in evidence.actions.resent:
        return False
    if each.first_attempt_at is None or each.finished_at is None:
        return True
    least_s = evidence.window_s - _LAST_ATTEMPT_BEFORE_THE_END_S - evidence.tolerance_s
    return (each.finished_at - each.first_attempt_at) / 1_000 < least_s


def _requests(evidence: Evidence) -> Iterator[str]:
    """Every request belongs to a delivery, goes to its URL, is signed, and has the exact bytes of the event."""
    for sent in evidence.log:
        delivery = evidence.delivery.get(sent.delivery_id)
        request = sent.request
        event = evidence.event.get(request.webhook_id)
        if delivery is None or event is None or {request.event_id, request.webhook_id} != {delivery.event_id}:
            yield f"phantom: {sent.delivery_id} of {request.event_id}/{request.webhook_id} was sent"
            continue
        if evidence.subscriber[delivery.endpoint_id].receiver.url != sent.url:
            yield f"phantom: {sent.delivery_id} was sent to {sent.url}"
        if event.body != request.body or json.loads(request.body)["id"] != event.id:
            yield f"body changed: {sent.delivery_id}, attempt {sent.attempt}"
        if not request.signed:
            yield f"bad signature: {sent.delivery_id}, attempt {sent.attempt}"


def _records(evidence: Evidence) -> Iterator[str]:
    """Attempts are numbered without gaps, and recorded with each request that was sent and with their true outcome."""
    for each in evidence.deliveries:
        rows, sent = evidence.attempts[each.id], evidence.sent[each.id]
        numbers = [number for number, _ in rows]
        if numbers != list(range(1, len(rows) + 1)):
            yield f"gaps: {each.id} has the attempts {numbers}"
        outcomes = dict(rows)
        resent, canceled = each.id in evidence.actions.resent, each.id in evidence.actions.canceled
        if "succeeded" in list(outcomes.values())[:-1] and not resent:
            yield f"resurrected: {each.id} has {rows}"
        last_succeeded = list(outcomes.values())[-1:] == ["succeeded"]
        if (each.status == "succeeded") != last_succeeded and not resent and not canceled:
            yield f"untrue: {each.id} is {each.status} with {rows}"
        for number in sorted({request.attempt for request in sent}):
            requests = [request for request in sent if request.attempt == number]
            yield from _record(each, number, requests, evidence.requests.get((each.id, number)), frozen=evidence.frozen)


def _record(
    each: DeliveryRow, number: int, sent: list[Sent], recorded: list[str] | None, *, frozen: bool
) -> Iterator[str]:
    """One attempt: the requests that were sent, and the outcomes of those that are recorded.

    `frozen`: processes may be frozen in this run, and find that an attempt is over when they read an answer.
    """
    if recorded is None:
        if each.status in ("succeeded", "exhausted"):
            yield f"unexplained: attempt {number} of {each.id} was sent, and is not recorded"
        return
    if any(not request.ended for request in sent[:-1]) or len(sent) > _MOST_REQUESTS:
        yield f"unexplained duplicate: attempt {number} of {each.id} was sent {len(sent)} times"
    if recorded == ["interrupted"]:
        return
    true = [_recorded_as(request) for request in sent]
    if recorded != true:
        yield f"untrue: attempt {number} of {each.id} was {true}, and {recorded} is recorded"
    in_time = (sent[-1].arrived_at_s or 0.0) - sent[0].at_s < _TIME_LEFT_UNTIL_S
    if sent[-1].ended and len(sent) < _MOST_REQUESTS and in_time and not frozen:
        yield f"not repeated: the connection of attempt {number} of {each.id} ended after {len(sent)} requests"


def _recorded_as(request: Sent) -> str | None:
    if request.ended:
        return "connection_lost"
    return None if request.behavior is None else _RECORDED_AS[request.behavior]


def _counters(evidence: Evidence) -> Iterator[str]:
    """Each attempt is counted once, for its endpoint and its outcome."""
    endpoint = {each.id: each.endpoint_id for each in evidence.deliveries}
    recorded = Counter(
        (endpoint[id_], outcome) for id_, attempts in evidence.attempts.items() for _, outcome in attempts
    )
    for key in sorted(recorded.keys() | evidence.counters.keys()):
        if recorded[key] != evidence.counters.get(key, 0):
            yield f"{recorded[key]} attempts of {key} are recorded, and {evidence.counters.get(key, 0)} are counted"


def _windows(evidence: Evidence) -> Iterator[str]:
    """No request is sent after the window, or after the end of the delivery (except by a process that has lost its lease)."""
    for sent in evidence.log:
        delivery = evidence.delivery.get(sent.delivery_id)
        if delivery is None or delivery.first_attempt_at is None:
            continue
        first_s = min((delivery.first_attempt_at - START_MS) / 1_000, evidence.sent[sent.delivery_id][0].at_s)
        began_s = min(each.at_s for each in evidence.sent[sent.delivery_id] if each.attempt == sent.attempt)
        after_s = began_s - first_s
        if sent.delivery_id not in evidence.actions.resent and after_s > evidence.window_s + evidence.tolerance_s:
            yield f"late: attempt {sent.attempt} of {sent.delivery_id} was sent {after_s} s after the first"
    for snapshot in evidence.snapshots:
        sent = snapshot.sent
        if sent.delivery_id in evidence.actions.resent | evidence.actions.canceled:
            continue
        if snapshot.finished and dict(evidence.attempts[sent.delivery_id]).get(sent.attempt) != "interrupted":
            yield f"after the end: attempt {sent.attempt} of {sent.delivery_id}"


def _order(evidence: Evidence) -> Iterator[str]:
    """An ordered endpoint first gets the events of a customer in order, and no event is sent before a pending earlier one."""
    for snapshot in evidence.snapshots:
        sent = snapshot.sent
        ordered = evidence.subscriber[evidence.delivery[sent.delivery_id].endpoint_id].ordered
        earlier = set(snapshot.earlier_pending) - evidence.actions.resent
        if ordered and earlier and sent.delivery_id not in evidence.actions.resent:
            yield f"overtaken: {sent.delivery_id} was sent while the earlier {sorted(earlier)} were pending"
    arrivals: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    for each in evidence.deliveries:
        event = evidence.event[each.event_id]
        if not evidence.subscriber[each.endpoint_id].ordered or event.customer_id is None or each.status != "succeeded":
            continue
        if each.id in evidence.actions.resent:
            continue
        first = min((sent.arrived_at_s or 0.0 for sent in evidence.sent[each.id] if sent.accepted), default=0.0)
        arrivals[each.endpoint_id, event.customer_id].append((event.sequence or 0, first))
    for pair, found in arrivals.items():
        times = [at_s for _, at_s in sorted(found)]
        if times != sorted(times):
            yield f"out of order: {pair} first got {sorted(found)}"


def _waits(evidence: Evidence) -> Iterator[str]:
    """The next attempt waits for a recorded `Retry-After`, unless the window would close before."""
    for each in evidence.deliveries:
        if each.id in evidence.actions.resent:
            continue
        outcomes = dict(evidence.attempts[each.id])
        by_number = {sent.attempt: sent for sent in evidence.sent[each.id]}
        for sent in by_number.values():
            following = by_number.get(sent.attempt + 1)
            if following is None or not sent.retry_after_s or outcomes.get(sent.attempt) == "interrupted":
                continue
            assert sent.arrived_at_s is not None
            assert each.first_attempt_at is not None
            last_s = (each.first_attempt_at - START_MS) / 1_000 + evidence.window_s - _LAST_ATTEMPT_BEFORE_THE_END_S
            earliest_s = min(sent.arrived_at_s + sent.retry_after_s, last_s) - evidence.tolerance_s
            if following.at_s < earliest_s:
                yield f"hasty: attempt {following.attempt} of {each.id} was sent at {following.at_s}, not at {earliest_s}"


def fingerprint(evidence: Evidence) -> str:
    """A hash of the requests and the deliveries: equal runs have equal fingerprints."""
    lines = [f"{s.at_s:.6f} {s.process} {s.delivery_id} {s.attempt} {s.behavior}" for s in evidence.log]
    lines += [f"{each}" for each in sorted(evidence.deliveries, key=lambda each: each.id)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
