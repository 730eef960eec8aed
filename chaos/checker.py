"""Compares the journals with each other and with the database, and reports what is missing, extra or different.

Each check yields findings; a run without findings has lost nothing. The checker shares no code with the product: it relies
on the documented contract alone.
"""

import hashlib
import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Any

from chaos.database import Delivery, Event, Snapshot
from chaos.evidence import NEVER, End, Evidence, Hit, Purchase, Subscription
from receivers.behavior import ACCEPTED, ACKNOWLEDGED

_POINT_COSTS = 100
_MOST_REQUESTS = 5
"""An attempt that was interrupted has no record of its requests; it may have sent so many."""
_NEARBY_MS = 20_000
"""A fault explains a duplicate up to this time before or after it: a lease, a restart and some retries."""
_IN_FLIGHT_MS = 5_000
_COMMITTED_WITHIN_MS = 30_000
_CHANGES = frozenset({"join", "leave", "pause"})
"""Changes by the merchant do not explain a duplicate."""
_DATABASE_FAULTS = frozenset({"restart", "cut after commit", "cut in transaction", "partition", "full disk"})
"""During one of these, a process that is starting may end."""
_WRITTEN_LATE_MS = 1_000
"""A cut is recorded up to this time after it has happened."""


class Kind(StrEnum):
    """A kind of finding; the value is its name in the table."""

    LOST = "lost"
    STUCK = "still pending"
    PHANTOM = "phantom"
    BODY = "bodies changed"
    ID = "ids changed"
    SIGNATURE = "signatures wrong"
    DUPLICATE = "duplicates unexplained"
    REPEATED = "requests not recorded"
    UNRECORDED = "attempts not recorded"
    UNANSWERED = "attempts without an answer of nginx"
    EARLY = "exhausted early"
    ORDER = "out of order"
    SEQUENCE = "sequence gaps"
    LEDGER = "ledger differences"
    REFUSED = "requests refused"
    CRASHED = "processes that crashed"
    TOO_FEW = "faults that did not fire"


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation of a promise."""

    kind: Kind
    what: str


@dataclass(frozen=True, slots=True)
class TakeOver:
    """A delivery that was in flight when its process was killed, and was sent again.

    `unseen`: the attempts in between that were interrupted before they arrived at the receiver.
    """

    kill_ms: float
    waited_s: float
    unseen: int


@dataclass(slots=True)
class Verdict:
    """The result of the checks of a run."""

    counts: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    duplicates: Counter[str] = field(default_factory=Counter)
    fired: dict[str, int] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    taken_over: list[TakeOver] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether there is no finding."""
        return not self.findings

    def found(self, kind: Kind) -> int:
        """The number of findings of this kind."""
        return sum(finding.kind is kind for finding in self.findings)


def check(evidence: Evidence, database: Snapshot) -> Verdict:
    """Run every check on a run."""
    return _Comparison(evidence, database).verdict()


class _Comparison:
    """The evidence and the database, with indexes that several checks use."""

    def __init__(self, evidence: Evidence, database: Snapshot) -> None:
        self.evidence = evidence
        self.database = database
        self.pairs = 0
        self.duplicates: Counter[str] = Counter()
        self.bodies: dict[str, dict[str, Any]] = {id_: _parsed(event) for id_, event in database.events.items()}
        self.sha256 = {id_: hashlib.sha256(event.body).hexdigest() for id_, event in database.events.items()}
        self.ref_of_transaction = {each.id: each.ref for each in database.transactions}
        self.refs = {id_: self._ref(event) for id_, event in database.events.items()}

    def verdict(self) -> Verdict:
        """The findings and the counts."""
        findings = [
            *self._purchases(),
            *self._unrequested(),
            *self._events(),
            *self._pairs(),
            *self._deliveries(),
            *self._hits(),
            *self._order(),
            *self._ledger(),
            *self._processes_and_faults(),
        ]
        taken_over = list(self._taken_over())
        return Verdict(self._counts(), findings, self.duplicates, self.fired, self.evidence.asked, taken_over)

    # -- lookups -----------------------------------------------------------------------------------------------------

    @cached_property
    def hits_of(self) -> dict[str, list[Hit]]:
        """The hits of each delivery, in the order of arrival."""
        found: defaultdict[str, list[Hit]] = defaultdict(list)
        for hit in sorted(self.evidence.hits, key=lambda each: each.at_ms):
            found[hit.delivery_id].append(hit)
        return found

    @cached_property
    def deliveries_of(self) -> dict[str, dict[str, Delivery]]:
        """Event -> endpoint -> delivery."""
        found: defaultdict[str, dict[str, Delivery]] = defaultdict(dict)
        for delivery in self.database.deliveries.values():
            found[delivery.event_id][delivery.endpoint_id] = delivery
        return found

    @cached_property
    def fired(self) -> dict[str, int]:
        """How often each fault took effect."""
        counts = Counter(fault.name for fault in self.evidence.faults if fault.took_effect)
        return {name: counts[name] for name in self.evidence.asked}

    def _ref(self, event: Event) -> str | None:
        """The purchase that caused an event; empty if it is unknown, None if no purchase causes this type."""
        data = self.bodies[event.id].get("data", {})
        match event.type:
            case "transaction.completed":
                return str(data.get("transaction", {}).get("metadata", {}).get("ref", ""))
            case "points.earned":
                return self.ref_of_transaction.get(data.get("transaction_id"), "")
        return None

    def _window(self, event: Event) -> tuple[float, float]:
        """The first and the last time at which the event may have been committed."""
        purchase = self.evidence.purchases.get(self.refs[event.id] or "")
        if purchase is not None:
            return purchase.first_ms, purchase.last_ms
        if event.type == "customer.created" and event.customer_id in self.evidence.enrolled:
            return self.evidence.enrolled[event.customer_id]
        created_ms = _epoch_ms(self.bodies[event.id].get("created_at", ""))
        return created_ms, created_ms + _COMMITTED_WITHIN_MS

    # -- each acknowledged purchase exists once ------------------------------------------------------------------------

    def _purchases(self) -> Iterator[Finding]:
        rows = defaultdict(list)
        for row in self.database.transactions:
            rows[row.ref].append(row.id)
        events: defaultdict[tuple[str, str], int] = defaultdict(int)
        for id_, event in self.database.events.items():
            events[self.refs[id_] or "", event.type] += 1
        for purchase in self.evidence.purchases.values():
            yield from self._purchase(purchase, rows[purchase.ref])
            if purchase.transaction_id is not None:
                yield from _expect(1, events[purchase.ref, "transaction.completed"], f"{purchase.ref} completed")
                earns = int(purchase.amount >= _POINT_COSTS)
                yield from _expect(earns, events[purchase.ref, "points.earned"], f"{purchase.ref} earned")

    def _purchase(self, purchase: Purchase, ids: list[str]) -> Iterator[Finding]:
        if purchase.must_be_refused:
            if ids or (purchase.status is not None and purchase.status < 400):
                yield Finding(Kind.PHANTOM, f"{purchase.ref} had to be refused, and exists")
        elif purchase.status is None:
            yield Finding(Kind.STUCK, f"{purchase.ref} was never acknowledged")
        elif purchase.status >= 400:
            yield Finding(Kind.REFUSED, f"{purchase.ref} was answered {purchase.status}")
        else:
            yield from _expect(1, len(ids), f"purchase {purchase.ref}")
            if ids and purchase.transaction_id not in ids:
                yield Finding(Kind.ID, f"{purchase.ref} was acknowledged as {purchase.transaction_id}, and is {ids}")

    def _unrequested(self) -> Iterator[Finding]:
        """Each transaction, event and customer was requested by a producer."""
        for row in self.database.transactions:
            if row.ref not in self.evidence.purchases:
                yield Finding(Kind.PHANTOM, f"transaction {row.id}: no producer sent it")
        for id_, event in self.database.events.items():
            ref = self.refs[id_]
            if ref is not None and ref not in self.evidence.purchases:
                yield Finding(Kind.PHANTOM, f"event {id_}: no purchase caused it")
            elif event.customer_id not in self.evidence.enrolled:
                yield Finding(Kind.PHANTOM, f"event {id_}: its customer was not enrolled")

    def _events(self) -> Iterator[Finding]:
        """Bodies agree with their rows, and the sequence of each customer has no gaps."""
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        for id_, event in self.database.events.items():
            body = self.bodies[id_]
            if body.get("id") != id_:
                yield Finding(Kind.ID, f"event {id_} has the id {body.get('id')} in its body")
            if (body.get("type"), body.get("sequence")) != (event.type, event.sequence):
                yield Finding(Kind.BODY, f"event {id_}: its body and its row disagree")
            if event.customer_id is not None:
                numbers[event.customer_id].append(event.sequence or 0)
        for customer_id, found in numbers.items():
            if sorted(found) != list(range(1, len(found) + 1)):
                yield Finding(Kind.SEQUENCE, f"customer {customer_id} has events {sorted(found)[:20]}")

    # -- each event has its deliveries ---------------------------------------------------------------------

    def _pairs(self) -> Iterator[Finding]:
        for id_, event in self.database.events.items():
            window, deliveries = self._window(event), self.deliveries_of.get(id_, {})
            yield from _expect(event.endpoint_count, len(deliveries), f"deliveries of event {id_}")
            for endpoint_id in deliveries.keys() - self.evidence.subscriptions.keys():
                yield Finding(Kind.PHANTOM, f"event {id_} has a delivery to {endpoint_id}, which was not added")
            for subscription in self.evidence.subscriptions.values():
                yield from self._pair(event, window, subscription, there=subscription.endpoint_id in deliveries)

    def _pair(
        self, event: Event, window: tuple[float, float], subscription: Subscription, *, there: bool
    ) -> Iterator[Finding]:
        expected = _expected(event.type, window, subscription)
        self.pairs += there or bool(expected)
        if there and expected is False:
            yield Finding(
                Kind.PHANTOM, f"event {event.id} has a delivery to {subscription.name}, which is not subscribed to it"
            )
        if not there and expected:
            yield Finding(Kind.LOST, f"event {event.id} has no delivery to {subscription.name}")

    # -- every delivery ended ------------------------------------------------------------------------------

    def _deliveries(self) -> Iterator[Finding]:
        for delivery in self.database.deliveries.values():
            hits = self.hits_of.get(delivery.id, [])
            yield from self._ending(delivery, hits)
            yield from self._duplicates_of(delivery, [hit for hit in hits if hit.behavior in ACCEPTED])
            for attempt, outcome in delivery.attempts.items():
                if self.evidence.behind_nginx and outcome == "connection_lost":
                    yield Finding(Kind.UNANSWERED, f"{delivery.id}: attempt {attempt} is connection_lost")

    def _ending(self, delivery: Delivery, hits: list[Hit]) -> Iterator[Finding]:
        match delivery.status:
            case "succeeded":
                wins = {number for number, outcome in delivery.attempts.items() if outcome == "succeeded"}
                won = [hit for hit in hits if hit.behavior in ACKNOWLEDGED and hit.attempt in wins]
                if len(wins) != 1 or not any(self._is_true(hit, delivery) for hit in won):
                    yield Finding(Kind.LOST, f"{delivery.id} is succeeded, and its receiver did not acknowledge it")
            case "exhausted":
                if len(delivery.attempts) <= self.evidence.retries or not delivery.reason:
                    yield Finding(Kind.EARLY, f"{delivery.id} is exhausted after {len(delivery.attempts)} attempts")
            case "canceled":
                if self._removed_at(delivery.endpoint_id) == NEVER:
                    yield Finding(Kind.LOST, f"{delivery.id} was canceled, and its endpoint exists")
            case status:
                yield Finding(Kind.STUCK, f"{delivery.id} is {status}")

    def _removed_at(self, endpoint_id: str) -> float:
        subscription = self.evidence.subscriptions.get(endpoint_id)
        return subscription.removed[1] if subscription else NEVER

    def _is_true(self, hit: Hit, delivery: Delivery) -> bool:
        return hit.signed and hit.sha256 == self.sha256.get(delivery.event_id)

    def _duplicates_of(self, delivery: Delivery, taken: list[Hit]) -> Iterator[Finding]:
        """Of the hits that the receiver accepted, all but one must be recorded as failed, for a known reason."""
        if len(taken) < 2:
            return
        reasons = [reason for hit in taken if (reason := self._reason(hit, delivery)) is not None]
        reasons += ["resent manually"] * min(self.evidence.resent[delivery.id], len(taken) - len(reasons))
        self.duplicates.update(reasons[: len(taken) - 1])
        for _ in range(len(taken) - 1 - len(reasons)):
            history = ", ".join(f"{hit.attempt} {hit.behavior}" for hit in taken)
            yield Finding(Kind.DUPLICATE, f"{delivery.id} arrived as {history}; recorded are {delivery.attempts}")

    def _reason(self, hit: Hit, delivery: Delivery) -> str | None:
        """Why the sender had to send again after this hit; None if it had no reason."""
        outcome = delivery.attempts.get(hit.attempt, "")
        if outcome in {"", "succeeded"}:
            return None
        if hit.behavior not in ACKNOWLEDGED:
            return f"receiver's {hit.behavior}: {outcome}"
        return f"fault: {outcome}" if self._is_near_a_fault(hit.at_ms) else None

    def _is_near_a_fault(self, at_ms: float) -> bool:
        return any(
            fault.from_ms - _NEARBY_MS <= at_ms <= fault.to_ms + _NEARBY_MS
            for fault in self.evidence.faults
            if fault.name not in _CHANGES
        )

    # -- every request was allowed ------------------------------------------------------------------------

    def _hits(self) -> Iterator[Finding]:
        for delivery_id, hits in self.hits_of.items():
            delivery = self.database.deliveries.get(delivery_id)
            if delivery is None:
                yield Finding(
                    Kind.PHANTOM, f"{len(hits)} requests for {delivery_id or 'no delivery'}, which does not exist"
                )
                continue
            for hit in hits:
                yield from self._hit(hit, delivery)
            for attempt, times in Counter(hit.attempt for hit in hits).items():
                recorded = delivery.requests.get(attempt, 1)
                if times > (recorded or _MOST_REQUESTS):
                    yield Finding(
                        Kind.REPEATED,
                        f"{delivery_id}: attempt {attempt} arrived {times} times, with {recorded} requests recorded",
                    )

    def _hit(self, hit: Hit, delivery: Delivery) -> Iterator[Finding]:
        if hit.endpoint_id != delivery.endpoint_id or {hit.event_id, hit.webhook_id} != {delivery.event_id}:
            yield Finding(Kind.ID, f"{delivery.id} arrived as {hit.event_id}/{hit.webhook_id} to {hit.endpoint_id}")
        if hit.sha256 != self.sha256.get(delivery.event_id):
            yield Finding(Kind.BODY, f"{delivery.id}, attempt {hit.attempt}: not the stored bytes")
        if not hit.signed:
            yield Finding(Kind.SIGNATURE, f"{delivery.id}, attempt {hit.attempt}")
        if hit.attempt not in delivery.attempts:
            yield Finding(Kind.UNRECORDED, f"{delivery.id}, attempt {hit.attempt}: recorded are {delivery.attempts}")

    def _order(self) -> Iterator[Finding]:
        """At an ordered endpoint, an event arrives after its predecessor was accepted, or has ended otherwise."""
        schedules: defaultdict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
        ordered = {id_ for id_, each in self.evidence.subscriptions.items() if each.ordered}
        for delivery in self.database.deliveries.values():
            event = self.database.events.get(delivery.event_id)
            if delivery.endpoint_id in ordered and event and event.customer_id and event.sequence:
                schedules[delivery.endpoint_id, event.customer_id].append((event.sequence, delivery.id))
        for schedule in schedules.values():
            ids = [id_ for _, id_ in sorted(schedule) if self.hits_of.get(id_)]
            for earlier, later in pairwise(ids):
                taken = [hit.at_ms for hit in self.hits_of[earlier] if hit.behavior in ACCEPTED]
                if taken and self.hits_of[later][0].at_ms < taken[0]:
                    yield Finding(Kind.ORDER, f"{later} arrived before {earlier}")

    # -- the ledger --------------------------------------------------------------------------------------------------

    def _ledger(self) -> Iterator[Finding]:
        """A balance is the sum of its ledger, and the ledger is what was acknowledged to the producers."""
        bought: Counter[str] = Counter()
        for purchase in self.evidence.purchases.values():
            if purchase.transaction_id is not None:
                bought[purchase.customer_id] += purchase.amount // _POINT_COSTS
        for customer in self.database.customers.values():
            balance = customer.available - customer.debt
            if not balance == customer.entry_points == bought[customer.id]:
                yield Finding(
                    Kind.LEDGER,
                    f"{customer.id}: balance {balance}, ledger {customer.entry_points}, bought {bought[customer.id]}",
                )
            if customer.entry_count != customer.last_entry:
                yield Finding(Kind.LEDGER, f"{customer.id}: {customer.entry_count} entries up to {customer.last_entry}")

    # -- processes and faults ----------------------------------------------------------------------------------------------

    def _processes_and_faults(self) -> Iterator[Finding]:
        for refusal in self.evidence.refusals:
            yield Finding(Kind.REFUSED, refusal)
        for end in self.evidence.ends:
            if not self._ended_while_starting(end):
                ready = "after" if end.was_ready else "before"
                yield Finding(Kind.CRASHED, f"{end.product} ended with exit code {end.exit_code} {ready} it was ready")
        if self.evidence.behind_nginx and not self.evidence.reloads:
            yield Finding(Kind.TOO_FEW, "nginx was never reloaded")
        for why in self.evidence.missed:
            yield Finding(Kind.TOO_FEW, why)
        for name, asked in self.evidence.asked.items():
            if self.fired[name] < asked:
                yield Finding(Kind.TOO_FEW, f"{name}: {self.fired[name]} of {asked}")

    def _ended_while_starting(self, end: End) -> bool:
        """Whether it ended before it was ready, while its database was broken."""
        return not end.was_ready and any(
            fault.from_ms - _WRITTEN_LATE_MS <= end.at_ms and end.began_ms <= fault.to_ms
            for fault in self.evidence.faults
            if fault.name in _DATABASE_FAULTS
        )

    def _taken_over(self) -> Iterator[TakeOver]:
        """Deliveries in flight at a kill; the wait ends with the next request at the receiver."""
        kills = sorted(fault.from_ms for fault in self.evidence.faults if fault.name == "kill")
        for delivery in self.database.deliveries.values():
            subscription = self.evidence.subscriptions.get(delivery.endpoint_id)
            hits = self.hits_of.get(delivery.id, [])
            for hit, following in pairwise(hits):
                kill_ms = next(iter(kills[bisect_left(kills, hit.at_ms) :]), NEVER)
                interrupted = delivery.attempts.get(hit.attempt) == "interrupted"
                reachable = subscription is not None and subscription.name != "outage"
                if interrupted and reachable and kill_ms - hit.at_ms < _IN_FLIGHT_MS and following.at_ms > kill_ms:
                    unseen = following.attempt - hit.attempt - 1
                    yield TakeOver(kill_ms, (following.at_ms - kill_ms) / 1_000, unseen)

    def _counts(self) -> dict[str, int]:
        purchases = self.evidence.purchases.values()
        ends = Counter(each.status for each in self.database.deliveries.values())
        sent = [count for each in self.database.deliveries.values() for count in each.requests.values()]
        reloads = {"reloads of nginx": self.evidence.reloads} if self.evidence.behind_nginx else {}
        return {
            "requests": self.evidence.requests["attempt"],
            "without a clear answer": self.evidence.requests["unknown"],
            "of these committed": self.evidence.requests["recovered"],
            "purchases attempted": len(purchases),
            "purchases acknowledged": sum(each.transaction_id is not None for each in purchases),
            "purchases refused, as expected": sum(each.must_be_refused for each in purchases),
            "events": len(self.database.events),
            "pairs (event, endpoint)": self.pairs,
            "delivered": ends["succeeded"],
            "exhausted": ends["exhausted"],
            "canceled with their endpoint": ends["canceled"],
            "requests at the receiver": len(self.evidence.hits),
            "requests sent again within their attempt": sum(max(0, count - 1) for count in sent),
            **reloads,
            "processes ended before they were ready": sum(map(self._ended_while_starting, self.evidence.ends)),
        }


def _expected(event_type: str, window: tuple[float, float], subscription: Subscription) -> bool | None:
    """Whether an event committed in this window must be delivered to an endpoint; None if the order of the two is unknown."""
    first, last = window
    if not subscription.wants(event_type) or last < subscription.added[0] or first > subscription.removed[1]:
        return False
    return True if first >= subscription.added[1] and last <= subscription.removed[0] else None


def _expect(wanted: int, there: int, what: str) -> Iterator[Finding]:
    for _ in range(wanted - there):
        yield Finding(Kind.LOST, f"{what}: {there} of {wanted}")
    for _ in range(there - wanted):
        yield Finding(Kind.PHANTOM, f"{what}: {there}, not {wanted}")


def _parsed(event: Event) -> dict[str, Any]:
    try:
        body = json.loads(event.body)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _epoch_ms(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp() * 1_000
    except ValueError:
        return 0.0
