"""From commit to receipt, at a steady rate."""

from bench.load import customers, steady_purchases, subscribe, wait_until_settled
from bench.measurement import Finding, Goal, Scale
from bench.server import Server
from bench.stage import Stage
from bench.waits import Waits

_RATES = (100, 200)
_WARM_UP_S = 1.0


def latency(stage: Stage, scale: Scale) -> Finding:
    """Two rates on every store."""
    goals, lines = [], []
    for store in stage.stores:
        server = stage.serve(stage.database(store))
        for per_s in _RATES:
            stage.say(f"{store}: {per_s} events/s")
            waits = _waits(stage, server, per_s, scale.latency_s)
            lines.append(f"| {store} | {per_s} | {len(waits.sorted_ms):,} | {waits} |")
        server.kill()
        reached = waits.percentile(50) < 10 and waits.percentile(99) < 50
        goals.append(
            Goal(f"latency at {per_s} events/s, {store}", "p50 below 10 ms, p99 below 50 ms", str(waits), reached)
        )
    return Finding(goals, _INTRO + "\n".join(lines) + "\n")


_INTRO = """Single purchases from four clients, two events each. The time runs from the event's id, which is made before the
commit, to the last byte at the receiver; the clients, the database and the receiver share the cores with the server.

| store | events/s | events | commit to receipt |
|---|---|---|---|
"""


def _waits(stage: Stage, server: Server, per_s: int, seconds: float) -> Waits:
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
    return Waits.of(receiver.hits())
