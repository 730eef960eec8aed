"""From a purchase over HTTP to its webhooks at the receiver, and the outcome durable: how many a second, how soon."""

import json
import statistics
import threading
import time
from dataclasses import dataclass
from datetime import datetime

from bench.receiver import Receiver
from bench.server import Server
from loyalpro.cli.api_client import ApiClient

_EVENTS_PER_PURCHASE = 2


@dataclass(frozen=True)
class Throughput:
    """Deliveries a second, from the first commit to the last durable outcome."""

    deliveries: int
    per_s: float
    ingest_per_s: float
    cpu_us_each: float


@dataclass(frozen=True)
class Latency:
    """Milliseconds from an event's `created_at`, before its commit, to its arrival at the receiver."""

    events: int
    per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def subscribe(client: ApiClient, receiver: Receiver) -> str:
    """An endpoint for everything that purchases cause; its id."""
    types = ["transaction.completed", "points.earned"]
    return str(client.call("POST", "/v1/webhook_endpoints", {"url": receiver.url, "events": types})["id"])


def customers(client: ApiClient, count: int) -> list[str]:
    """Fresh customers; their ids."""
    return [client.call("POST", "/v1/customers", {"name": f"Bench {n}"})["id"] for n in range(count)]


def throughput(server: Server, receiver: Receiver, purchases: int, batch: int = 500) -> Throughput:
    """Record purchases in batches as fast as they are taken, and wait until every webhook is settled."""
    client = server.client()
    endpoint_id = subscribe(client, receiver)
    buyers = customers(client, 50)
    receiver.reset()
    cpu_s, began_s = server.cpu_s(), time.perf_counter()
    for start in range(0, purchases, batch):
        body = [
            {"customer_id": buyers[n % len(buyers)], "amount": 5_600, "currency": "EUR"}
            for n in range(start, min(start + batch, purchases))
        ]
        results = client.call("POST", "/v1/transactions/batch", {"transactions": body})["data"]
        if any(each["status"] != 201 for each in results):
            raise RuntimeError(f"a purchase was refused: {results}")
    ingested_s = time.perf_counter() - began_s
    _wait_until_settled(client, endpoint_id, receiver, purchases * _EVENTS_PER_PURCHASE)
    elapsed_s = time.perf_counter() - began_s
    deliveries = receiver.count()
    cpu_us = (server.cpu_s() - cpu_s) / deliveries * 1e6
    client.call("DELETE", f"/v1/webhook_endpoints/{endpoint_id}")
    return Throughput(deliveries, deliveries / elapsed_s, purchases * _EVENTS_PER_PURCHASE / ingested_s, cpu_us)


def _wait_until_settled(client: ApiClient, endpoint_id: str, receiver: Receiver, expected: int) -> None:
    deadline_s = time.monotonic() + 600
    while time.monotonic() < deadline_s:
        if receiver.count() >= expected:
            pending = client.call("GET", f"/v1/deliveries?endpoint_id={endpoint_id}&status=pending&limit=1")["data"]
            if not pending:
                return
        time.sleep(0.01)
    raise RuntimeError(f"only {receiver.count()} of {expected} deliveries arrived")


def latency(server: Server, receiver: Receiver, events_per_s: int, seconds: float) -> Latency:
    """Record purchases one by one at a steady rate, from four clients, and see when their webhooks arrive."""
    client = server.client()
    endpoint_id = subscribe(client, receiver)
    buyers = customers(client, 50)
    receiver.reset()
    total = round(events_per_s / _EVENTS_PER_PURCHASE * seconds)
    began_s = time.perf_counter()
    turns = iter(range(total))
    lock = threading.Lock()

    def shop() -> None:
        mine = server.client()
        while True:
            with lock:
                turn = next(turns, None)
            if turn is None:
                return
            time.sleep(max(0.0, began_s + turn * seconds / total - time.perf_counter()))
            mine.call(
                "POST", "/v1/transactions", {"customer_id": buyers[turn % 50], "amount": 5_600, "currency": "EUR"}
            )

    shops = [threading.Thread(target=shop) for _ in range(4)]
    for each in shops:
        each.start()
    for each in shops:
        each.join()
    elapsed_s = time.perf_counter() - began_s
    _wait_until_settled(client, endpoint_id, receiver, total * _EVENTS_PER_PURCHASE)
    waits = sorted(_waits(client, receiver))
    client.call("DELETE", f"/v1/webhook_endpoints/{endpoint_id}")
    cuts = statistics.quantiles(waits, n=100)
    return Latency(len(waits), len(waits) / elapsed_s, cuts[49], cuts[94], cuts[98])


def _waits(client: ApiClient, receiver: Receiver) -> list[float]:
    arrived_ms = receiver.log().arrived_ms
    waits: list[float] = []
    after, left = min(arrived_ms), set(arrived_ms)
    left.discard(after)
    while left:
        events = client.call("GET", f"/v1/events?after={after}&limit=100")["data"]
        if not events:
            raise RuntimeError(f"{len(left)} events arrived that the API does not list")
        for event in events:
            if event["id"] in arrived_ms:
                created_ms = datetime.fromisoformat(event["created_at"]).timestamp() * 1_000
                waits.append(arrived_ms[event["id"]] - created_ms)
                left.discard(event["id"])
        after = events[-1]["id"]
    return waits


def sample_bodies(client: ApiClient) -> list[bytes]:
    """Bodies of the size that is really sent, for the bare loop."""
    events = client.call("GET", "/v1/events?limit=100")["data"]
    return [json.dumps(each, separators=(",", ":")).encode() for each in events]
