"""What one account feels of another's backlog."""

import secrets

from bench.load import customers, steady_purchases, subscribe, wait_for
from bench.measurement import Finding, Goal, Scale
from bench.receiver import Receiver
from bench.server import Server
from bench.stage import Stage
from bench.waits import Waits

_PER_S = 100
_BUSY_ENDPOINTS = 10


def hot_account(stage: Stage, scale: Scale) -> Finding:
    """The quiet account's waits before the other one's backlog may go out, and while it does."""
    goals, lines = [], []
    for store in stage.stores:
        before, during, drained_per_s = _measure(stage, store, scale)
        measured = f"p95 {before.percentile(95):.1f} ms without, {during.percentile(95):.1f} ms with"
        goals.append(Goal(f"hot account, {store}", "none was set; beside itself without", measured, None))
        lines += [f"| {store} | without | | {before} |", f"| {store} | with | {drained_per_s:,.0f} | {during} |"]
    return Finding(goals, _intro(scale) + "\n".join(lines) + "\n")


def _measure(stage: Stage, store: str, scale: Scale) -> tuple[Waits, Waits, float]:
    url, receiver, busy = stage.database(store), stage.receiver(), stage.receiver(remembers=False)
    stage.say(f"{store}: writing the backlog")
    with stage.past(url) as past:
        other = past.account(f"lp_bench_{secrets.token_hex(16)}")
        past.endpoints(other, [busy.url] * _BUSY_ENDPOINTS, status="paused")
        past.events(other, scale.hot_backlog // _BUSY_ENDPOINTS)
    server = stage.serve(url)
    subscribe(server.client(), receiver.url)
    stage.say(f"{store}: without the backlog")
    before = _waits(server, receiver, scale.hot_s)
    server.stop()
    with stage.past(url) as past:
        past.enable_all()
    server = stage.serve(url)
    stage.say(f"{store}: with the backlog")
    sent = busy.count()
    during = _waits(server, receiver, scale.hot_s)
    drained_per_s = (busy.count() - sent) / scale.hot_s
    server.kill()
    return before, during, drained_per_s


def _waits(server: Server, receiver: Receiver, seconds: float) -> Waits:
    buyers = customers(server.client(), 20)
    receiver.reset()
    wait_for(receiver, steady_purchases(server, buyers, _PER_S, seconds))
    return Waits.of(receiver.hits())


def _intro(scale: Scale) -> str:
    return f"""One account gets {_PER_S} events/s. Another one's {_BUSY_ENDPOINTS} endpoints are owed {scale.hot_backlog:,} deliveries, which are
held back for the first measurement and go out as fast as they can during the second.

| store | the other's backlog | of which went out, deliveries/s | commit to receipt at the first |
|---|---|---|---|
"""
