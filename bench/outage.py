"""How an endpoint that was down gets its backlog when it answers again."""

import itertools
import math
import time
from collections import Counter
from collections.abc import Sequence

from bench.load import EVENTS_PER_PURCHASE, buy, customers, subscribe, wait_for
from bench.measurement import Finding, Goal, Scale
from bench.receiver import Hit
from bench.stage import Stage
from loyalpro.delivery.breaker import RAMP_DOUBLES_S, RAMP_FROM_PER_S

_DOWN_S = 4.0
_IN_FLIGHT = 64
_TOLERANCE = 1.2
_MOST_LATE = 0.01


def outage(stage: Stage, scale: Scale) -> Finding:
    """On the first database: the engine is the same on both."""
    store = stage.stores[0]
    hits, first_s = _measure(stage, store, scale.outage_backlog)
    per_s = Counter(int((hit.at_ms - hits[0].at_ms) / 1_000) for hit in hits)
    paced = _is_paced([per_s[second] for second in range(max(per_s) + 1)])
    first = [hit for hit in hits if hit.attempt == 1]
    late = _late(first)
    measured = f"{'' if paced else 'not '}within the ramp; {late:.1%} out of order; the first after {first_s:.1f} s"
    goal = Goal(
        f"recovery, endpoint, {store}", "drained at a paced rate, oldest first", measured, paced and late < _MOST_LATE
    )
    rows = [f"| {second} | {per_s[second]:,} | {_allowed(second):,.0f} |" for second in range(max(per_s) + 1)]
    return Finding([goal], _intro(len(hits), len(hits) - len(first)) + "\n".join(rows) + "\n")


def _measure(stage: Stage, store: str, backlog: int) -> tuple[Sequence[Hit], float]:
    server, receiver = stage.serve(stage.database(store)), stage.receiver()
    client = server.client()
    subscribe(client, receiver.url)
    buyers = customers(client, 50)
    receiver.refuse()
    stage.report(f"{store}: the endpoint is down")
    began_s = time.monotonic()
    buy(client, buyers, backlog // EVENTS_PER_PURCHASE)
    time.sleep(max(0.0, began_s + _DOWN_S - time.monotonic()))
    up_ms = time.time() * 1_000
    receiver.accept()
    stage.report(f"{store}: the endpoint answers again")
    wait_for(receiver, backlog)
    server.kill()
    hits = receiver.hits()
    return hits, (hits[0].at_ms - up_ms) / 1_000


def _allowed(second: int) -> float:
    """The number of deliveries that the ramp allows in this second after the first success."""
    whole = RAMP_FROM_PER_S * RAMP_DOUBLES_S / math.log(2)
    return float(whole * (2 ** ((second + 1) / RAMP_DOUBLES_S) - 2 ** (second / RAMP_DOUBLES_S)))


def _is_paced(per_s: Sequence[int]) -> bool:
    """Whether the total never exceeded that of the ramp; a receiver may catch up after a delay."""
    sent = itertools.accumulate(per_s)
    allowed = itertools.accumulate(_allowed(second) for second in range(len(per_s)))
    return all(some <= most * _TOLERANCE + 1 for some, most in zip(sent, allowed, strict=True))


def _late(hits: Sequence[Hit]) -> float:
    """The share of hits that arrived after one that is younger by more than the limit of deliveries under way."""
    rank = {event_id: n for n, event_id in enumerate(sorted(hit.event_id for hit in hits))}
    newest = late = 0
    for hit in hits:
        newest = max(newest, rank[hit.event_id])
        late += rank[hit.event_id] < newest - _IN_FLIGHT
    return late / len(hits)


def _intro(backlog: int, failed: int) -> str:
    return f"""The receiver answers 500 while {backlog:,} events are committed, and for {_DOWN_S:g} s in all; then 200. The breaker has opened
by then, and probes. "Out of order": behind an event that is younger by more than the {_IN_FLIGHT} that may be under way at once;
the {failed} deliveries with a failed attempt wait for their next one, and do not count.

| second after the first success | arrived | the ramp allows |
|---|---|---|
"""
