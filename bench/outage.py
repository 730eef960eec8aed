"""How an endpoint that was away gets its backlog once it is back."""

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

_AWAY_S = 4.0
_IN_FLIGHT = 64
_TOLERANCE = 1.2
_MOST_LATE = 0.01


def outage(stage: Stage, scale: Scale) -> Finding:
    """On the first store: the engine is the same on both."""
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
    stage.say(f"{store}: the endpoint is away")
    began_s = time.monotonic()
    buy(client, buyers, backlog // EVENTS_PER_PURCHASE)
    time.sleep(max(0.0, began_s + _AWAY_S - time.monotonic()))
    back_ms = time.time() * 1_000
    receiver.accept()
    stage.say(f"{store}: the endpoint is back")
    wait_for(receiver, backlog)
    server.kill()
    hits = receiver.hits()
    return hits, (hits[0].at_ms - back_ms) / 1_000


def _allowed(second: int) -> float:
    """What the ramp lets out in this second after the first success."""
    whole = RAMP_FROM_PER_S * RAMP_DOUBLES_S / math.log(2)
    return float(whole * (2 ** ((second + 1) / RAMP_DOUBLES_S) - 2 ** (second / RAMP_DOUBLES_S)))


def _is_paced(per_s: Sequence[int]) -> bool:
    """Whether there were never more by then than the ramp lets out; a receiver that was kept waiting may catch up."""
    sent = itertools.accumulate(per_s)
    allowed = itertools.accumulate(_allowed(second) for second in range(len(per_s)))
    return all(some <= most * _TOLERANCE + 1 for some, most in zip(sent, allowed, strict=True))


def _late(hits: Sequence[Hit]) -> float:
    """The share of those that arrived after one that is younger by more than what may be under way at once."""
    rank = {event_id: n for n, event_id in enumerate(sorted(hit.event_id for hit in hits))}
    newest = late = 0
    for hit in hits:
        newest = max(newest, rank[hit.event_id])
        late += rank[hit.event_id] < newest - _IN_FLIGHT
    return late / len(hits)


def _intro(backlog: int, failed: int) -> str:
    return f"""The receiver answers 500 while {backlog:,} events are committed, and for {_AWAY_S:g} s in all; then 200. The breaker has opened
meanwhile, and probes. "Out of order": behind an event that is younger by more than the {_IN_FLIGHT} that may be under way at once;
the {failed} whose own attempt had failed wait for their next one, and are left out of that.

| second after the first success | arrived | the ramp allows |
|---|---|---|
"""
