"""Ingestion alone: from a purchase over HTTP to its durable events and pending deliveries. Nothing is sent meanwhile."""

import http.client
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bench.load import BATCH, EVENTS_PER_PURCHASE, customers
from bench.measurement import Finding, Scale
from bench.server import API_KEY, Server
from bench.stage import Stage

CLIENTS = 8
_LOCATIONS = 300


def ingest(stage: Stage, scale: Scale) -> Finding:
    """On each database; there is no goal for it."""
    tables = []
    for store in stage.stores:
        stage.report(f"{store}: ingestion alone")
        server = stage.serve(stage.database(store))
        bench = IngestBench(server, scale.buyers)
        for _ in range(max(1, scale.rounds - 1)):
            bench.round(scale.purchases)
        server.kill()
        tables.append(f"| {store} | measured |\n|---|---|\n{rows(bench.rounds)}")
    return Finding([], "\n".join(tables))


@dataclass(frozen=True)
class Ingest:
    """Events per second, and the server's CPU time for each."""

    per_s: float
    cpu_us_each: float


@dataclass
class IngestRounds:
    """The results of several rounds of the same work."""

    batches: list[Ingest] = field(default_factory=list)
    singles: list[Ingest] = field(default_factory=list)


class IngestBench:
    """A server, with one paused endpoint for all events or with none, and customers who buy in turn."""

    def __init__(self, server: Server, buyers: int, *, paused_endpoint: bool = True) -> None:
        self._server = server
        client = server.client()
        if paused_endpoint:
            client.call(
                "POST", "/v1/webhook_endpoints", {"url": "https://localhost:9/", "events": ["*"], "status": "paused"}
            )
        self._buyers = customers(client, buyers)
        self._numbers = iter(range(10**9))
        self.rounds = IngestRounds()

    def round(self, purchases: int) -> None:
        """Record this number of purchases in batches, then a fifth of it one by one."""
        self.rounds.batches.append(self.in_batches(purchases))
        singles = [json.dumps(each).encode() for each in self._purchases(purchases // 5)]
        self.rounds.singles.append(self._measured("/v1/transactions", singles, 1, clients=CLIENTS))

    def in_batches(self, purchases: int) -> Ingest:
        """Record this number of purchases in batches, each as soon as the one before is acknowledged."""
        batches = [self._purchases(BATCH) for _ in range(max(1, purchases // BATCH))]
        bodies = [json.dumps({"transactions": batch}).encode() for batch in batches]
        return self._measured("/v1/transactions/batch", bodies, BATCH, clients=1)

    def _purchases(self, count: int) -> list[dict[str, object]]:
        return [self._purchase(next(self._numbers)) for _ in range(count)]

    def _purchase(self, number: int) -> dict[str, object]:
        """Locations and amounts differ, as those of real tills do: equal ones would all be duplicate receipts to fraud rules.

        The customers are few, so many of them do set off the rule about many purchases in an hour.
        """
        return {
            "customer_id": self._buyers[number % len(self._buyers)],
            "external_id": f"receipt-{number}",
            "amount": 1_000 + number * 37 % 8_000,
            "currency": "EUR",
            "items": [{"sku": "TEA-250", "quantity": 2, "amount": 500}],
            "channel": "pos",
            "location_id": f"store-{number % _LOCATIONS}",
            "metadata": {"till": 4},
        }

    def _measured(self, path: str, bodies: Sequence[bytes], purchases_each: int, *, clients: int) -> Ingest:
        cpu_s, began_s = self._server.cpu_s(), time.perf_counter()
        left = iter(bodies)
        threads = [threading.Thread(target=self._post_all, args=(path, left)) for _ in range(clients)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        elapsed_s, cpu_s = time.perf_counter() - began_s, self._server.cpu_s() - cpu_s
        events = len(bodies) * purchases_each * EVENTS_PER_PURCHASE
        return Ingest(events / elapsed_s, cpu_s / events * 1e6)

    def _post_all(self, path: str, bodies: Iterator[bytes]) -> None:
        """Post the bodies that are left over one connection. `next` on a list's iterator is atomic."""
        connection = http.client.HTTPConnection(urlsplit(self._server.address).netloc, timeout=120)
        headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
        for body in bodies:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            answer = response.read()
            if response.status not in (200, 201) or b'"error":' in answer:
                raise RuntimeError(f"a purchase was refused: {answer[:500]!r}")
        connection.close()


def rows(rounds: IngestRounds) -> str:
    """The rows of the table: medians."""
    batches, singles = _medians(rounds.batches), _medians(rounds.singles)
    return (
        f"| batches of {BATCH}: events/s, server CPU for each (median of {len(rounds.batches)}) "
        f"| {batches.per_s:,.0f}, {batches.cpu_us_each:,.0f} us |\n"
        f"| single posts from {CLIENTS} clients: events/s, server CPU for each "
        f"| {singles.per_s:,.0f}, {singles.cpu_us_each:,.0f} us |\n"
    )


def _medians(measured: Sequence[Ingest]) -> Ingest:
    def middle(of: Callable[[Ingest], float]) -> float:
        return statistics.median(of(each) for each in measured)

    return Ingest(middle(lambda each: each.per_s), middle(lambda each: each.cpu_us_each))
