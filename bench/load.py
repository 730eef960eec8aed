"""The load of clients on a server: purchases in batches or at a steady rate, over HTTP."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.receiver import Receiver
from bench.server import Server
from loyalpro.cli.api_client import ApiClient

EVENTS_PER_PURCHASE = 2
BATCH = 500
_CLIENTS = 4
_LONGEST_S = 600


def subscribe(client: ApiClient, url: str, types: Sequence[str] = ("transaction.completed", "points.earned")) -> str:
    """Add an endpoint, by default for all events of purchases; its id."""
    return str(client.call("POST", "/v1/webhook_endpoints", {"url": url, "events": list(types)})["id"])


def customers(client: ApiClient, count: int) -> list[str]:
    """Add customers; their ids."""
    return [client.call("POST", "/v1/customers", {"name": f"Bench {n}"})["id"] for n in range(count)]


def purchase(customer_id: str) -> dict[str, Any]:
    """The smallest body of a purchase."""
    return {"customer_id": customer_id, "amount": 5_600, "currency": "EUR"}


def buy(client: ApiClient, buyers: Sequence[str], purchases: int, batch: int = BATCH) -> None:
    """Record purchases in batches, each as soon as the one before is acknowledged."""
    for start in range(0, purchases, batch):
        body = [purchase(buyers[n % len(buyers)]) for n in range(start, min(start + batch, purchases))]
        results = client.call("POST", "/v1/transactions/batch", {"transactions": body})["data"]
        if any(each["status"] != 201 for each in results):
            raise RuntimeError(f"a purchase was refused: {results}")


def steadily(server: Server, calls: int, seconds: float, post: Callable[[ApiClient, int], object]) -> float:
    """Make calls at a steady rate, from four clients; the elapsed seconds. `post` gets the number of the call."""
    return _at(server, [turn * seconds / calls for turn in range(calls)], post)


def at_random_times(server: Server, calls: int, seconds: float, post: Callable[[ApiClient, int], object]) -> float:
    """Make calls at random times, the same in every run. A steady rate would coincide with periodic work, or never meet it."""
    rng = random.Random(calls)
    return _at(server, sorted(rng.uniform(0, seconds) for _ in range(calls)), post)


def _at(server: Server, times_s: Sequence[float], post: Callable[[ApiClient, int], object]) -> float:
    began_s = time.perf_counter()
    turns = iter(enumerate(times_s))
    lock = threading.Lock()
    errors: list[Exception] = []

    def run_client() -> None:
        client = server.client()
        while not errors:
            with lock:
                turn, at_s = next(turns, (None, 0.0))
            if turn is None:
                return
            time.sleep(max(0.0, began_s + at_s - time.perf_counter()))
            try:
                post(client, turn)
            except Exception as error:  # noqa: BLE001 - raised again below, in the calling thread
                errors.append(error)

    clients = [threading.Thread(target=run_client) for _ in range(_CLIENTS)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    if errors:
        raise errors[0]
    return time.perf_counter() - began_s


def steady_purchases(server: Server, buyers: Sequence[str], events_per_s: int, seconds: float) -> int:
    """Record single purchases at a steady rate; the number of their events."""
    calls = round(events_per_s / EVENTS_PER_PURCHASE * seconds)
    steadily(
        server,
        calls,
        seconds,
        lambda client, n: client.call("POST", "/v1/transactions", purchase(buyers[n % len(buyers)])),
    )
    return calls * EVENTS_PER_PURCHASE


def wait_for(receiver: Receiver, expected: int) -> None:
    """Wait until this number of requests has arrived. Raises RuntimeError after ten minutes."""
    deadline_s = time.monotonic() + _LONGEST_S
    while receiver.count() < expected:
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"only {receiver.count()} of {expected} deliveries arrived")
        time.sleep(0.01)


def wait_until_settled(client: ApiClient, endpoint_id: str, receiver: Receiver, expected: int) -> None:
    """Wait until this number of requests has arrived and no delivery is pending. Raises RuntimeError after ten minutes."""
    wait_for(receiver, expected)
    path = f"/v1/deliveries?endpoint_id={endpoint_id}&status=pending&limit=1"
    deadline_s = time.monotonic() + _LONGEST_S
    while client.call("GET", path)["data"]:
        if time.monotonic() > deadline_s:
            raise RuntimeError("some deliveries stay pending")
        time.sleep(0.01)
