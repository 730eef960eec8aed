"""How much the backlog of one account delays the deliveries of another."""

import secrets

from bench.delays import Delays
from bench.load import customers, steady_purchases, subscribe, wait_for
from bench.measurement import Finding, Goal, Scale
from bench.receiver import Receiver
from bench.server import Server
from bench.stage import Stage

_PER_S = 100
_BUSY_ENDPOINTS = 10


def hot_account(stage: Stage, scale: Scale) -> Finding:
    """The delays of the quiet account before the backlog of the other is sent, and while it is."""
    goals, lines = [], []
    for store in stage.stores:
        before, during, drained_per_s = _measure(stage, store, scale)
        measured = f"p95 {before.percentile(95):.1f} ms without, {during.percentile(95):.1f} ms with"
        goals.append(Goal(f"hot account, {store}", "none was set; compared with no backlog", measured, None))
        lines += [f"| {store} | without | | {before} |", f"| {store} | with | {drained_per_s:,.0f} | {during} |"]
    return Finding(goals, _intro(scale) + "\n".join(lines) + "\n")


def _measure(stage: Stage, store: str, scale: Scale) -> tuple[Delays, Delays, float]:
    url, receiver, busy = stage.database(store), stage.receiver(), stage.receiver(remembers=False)
    stage.report(f"{store}: writing the backlog")
    with stage.past(url) as past:
        other = past.account(f"lp_bench_{secrets.token_hex(16)}")
        past.endpoints(other, [busy.url] * _BUSY_ENDPOINTS, status="paused")
        past.events(other, scale.hot_backlog // _BUSY_ENDPOINTS)
    server = stage.serve(url)
    subscribe(server.client(), receiver.url)
    stage.report(f"{store}: without the backlog")
    before = _delays(server, receiver, scale.hot_s)
    server.stop()
    with stage.past(url) as past:
        past.enable_all()
    server = stage.serve(url)
    stage.report(f"{store}: with the backlog")
    sent = busy.count()
    during = _delays(server, receiver, scale.hot_s)
    drained_per_s = (busy.count() - sent) / scale.hot_s
    server.kill()
    return before, during, drained_per_s


def _delays(server: Server, receiver: Receiver, seconds: float) -> Delays:
    buyers = customers(server.client(), 20)
    receiver.reset()
    wait_for(receiver, steady_purchases(server, buyers, _PER_S, seconds))
    return Delays.of(receiver.hits())


def _intro(scale: Scale) -> str:
    return f"""One account gets {_PER_S} events/s. The {_BUSY_ENDPOINTS} endpoints of another account have {scale.hot_backlog:,} pending deliveries, which
are held back during the first measurement and sent as fast as possible during the second.

| store | backlog of the other | sent of it, deliveries/s | commit to receipt at the first |
|---|---|---|---|
"""
