"""The time from commit to receipt, at a steady rate."""

from bench.delays import Delays
from bench.load import customers, steady_purchases, subscribe, wait_until_settled
from bench.measurement import Finding, Goal, Scale
from bench.server import Server
from bench.stage import Stage

_RATES = (100, 200)
_WARM_UP_S = 1.0


def latency(stage: Stage, scale: Scale) -> Finding:
    """Two rates on each database."""
    goals, lines = [], []
    for store in stage.stores:
        server = stage.serve(stage.database(store))
        for per_s in _RATES:
            stage.report(f"{store}: {per_s} events/s")
            delays = _delays(stage, server, per_s, scale.latency_s)
            lines.append(f"| {store} | {per_s} | {len(delays.sorted_ms):,} | {delays} |")
        server.kill()
        reached = delays.percentile(50) < 10 and delays.percentile(99) < 50
        goals.append(
            Goal(f"latency at {per_s} events/s, {store}", "p50 below 10 ms, p99 below 50 ms", str(delays), reached)
        )
    return Finding(goals, _INTRO + "\n".join(lines) + "\n")


_INTRO = """Single purchases from four clients, two events each. The time runs from the creation of the event's id, before the
commit, to the last byte at the receiver; the clients, the database and the receiver share the cores with the server.

| store | events/s | events | commit to receipt |
|---|---|---|---|
"""


def _delays(stage: Stage, server: Server, per_s: int, seconds: float) -> Delays:
    receiver = stage.receiver()
    client = server.client()
    endpoint_id = subscribe(client, receiver.url)
    buyers = customers(client, 50)
    warm = steady_purchases(server, buyers, per_s, _WARM_UP_S)
    wait_until_settled(client, endpoint_id, receiver, warm)
    receiver.reset()
    events = steady_purchases(server, buyers, per_s, seconds)
    wait_until_settled(client, endpoint_id, receiver, events)
    client.call("DELETE", f"/v1/webhook_endpoints/{endpoint_id}")
    return Delays.of(receiver.hits())
