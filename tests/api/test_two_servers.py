"""Two server processes on one PostgreSQL database record batches that name the same customers in every way."""

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.databases import Databases
from support.history import query
from support.processes import ask, running, until_ready
from support.server import API_KEY

CUSTOMERS = 6
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


class Shop:
    """Two servers, and the customers of one account by both of their ids."""

    def __init__(self, url: str, addresses: list[str]) -> None:
        self.url = url
        self.addresses = addresses
        self.ids = [self.call(0, "/v1/customers", {"external_id": f"c{number}"})["id"] for number in range(CUSTOMERS)]

    def call(self, server: int, path: str, body: Any) -> Any:
        answer = ask(self.addresses[server], "POST", path, body, Authorization=f"Bearer {API_KEY}")
        assert 200 <= answer.status < 300, answer.body
        return answer.json

    def status(self, server: int, path: str, body: Any = None) -> int:
        return ask(self.addresses[server], "POST", path, body, Authorization=f"Bearer {API_KEY}").status

    def redeem(self, bodies: list[dict[str, Any]]) -> Counter[int]:
        """Send redemptions to both servers at once; how many were answered with each status."""
        with ThreadPoolExecutor(len(bodies)) as threads:
            sent = [threads.submit(self.status, n % 2, "/v1/redemptions", body) for n, body in enumerate(bodies)]
            return Counter(each.result() for each in sent)

    def purchase(self, rng: random.Random) -> dict[str, Any]:
        number = rng.randrange(CUSTOMERS)
        name = {"customer_id": self.ids[number]} if rng.random() < 0.5 else {"customer_external_id": f"c{number}"}
        return {**name, "amount": 100, "currency": "EUR"}

    def send_batches(self, server: int, seed: int, count: int) -> int:
        """Record batches in which every customer occurs, in any order and by either id; how many purchases were recorded."""
        rng = random.Random(seed)
        recorded = 0
        for _ in range(count):
            body = {"transactions": [self.purchase(rng) for _ in range(20)]}
            recorded += sum(each["status"] == 201 for each in self.call(server, "/v1/transactions/batch", body)["data"])
        return recorded

    def send_purchases(self, server: int, seed: int, count: int) -> int:
        rng = random.Random(seed)
        for _ in range(count):
            self.call(server, "/v1/transactions", self.purchase(rng))
        return count

    def merge(self, server: int, customer_id: str, into: str) -> int:
        """The status of a request to merge a customer into another one."""
        return self.status(server, f"/v1/customers/{customer_id}/merge", {"into": into})

    def buy(self, server: int, customer_id: str) -> int:
        """The status of a request to record a purchase of 10 points."""
        return self.status(server, "/v1/transactions", {"customer_id": customer_id, "amount": 1_000, "currency": "EUR"})

    def deadlocks(self) -> int:
        [(count,)] = query(self.url, DEADLOCKS)
        return int(count)


@pytest.fixture
def shop(databases: Databases, tmp_path: Path) -> Iterator[Shop]:
    url = databases.fresh("postgres")
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                running(
                    "serve",
                    database_url=url,
                    data_dir=str(tmp_path / name),
                    port="0",
                    bootstrap_api_key=API_KEY,
                    min_free_mb="0",
                )
            )
            for name in ("a", "b")
        ]
        addresses = [each.logged("listening")["address"] for each in servers]
        for address in addresses:
            until_ready(address)
        yield Shop(url, addresses)
        for each in servers:
            each.stop()


def test_batches_of_two_processes_never_deadlock(shop: Shop) -> None:
    with ThreadPoolExecutor(2) as threads:
        sent = [threads.submit(shop.send_batches, server, server, 60) for server in range(2)]
        assert [each.result() for each in sent] == [1_200, 1_200]
    assert shop.deadlocks() == 0
    assert query(shop.url, "SELECT SUM(available) FROM customers") == [(2_400,)]
    [(emitted,)] = query(shop.url, "SELECT COUNT(*) FROM events WHERE customer_id IS NOT NULL")
    assert query(shop.url, "SELECT SUM(event_sequence) FROM customers") == [(emitted,)]
    purchases = "SELECT COUNT(*) FROM events WHERE type IN ('transaction.completed', 'points.earned')"
    assert query(shop.url, purchases) == [(4_800,)]


def test_groups_of_writes_of_two_processes_never_deadlock(shop: Shop) -> None:
    """Writes that wait at the same time share a transaction. A group that has locks does not wait for those of another."""
    with ThreadPoolExecutor(12) as threads:
        sent = [threads.submit(shop.send_batches, number % 2, number, 15) for number in range(6)]
        sent += [threads.submit(shop.send_purchases, number % 2, number, 15) for number in range(6)]
        recorded = sum(each.result() for each in sent)
    assert recorded == 6 * 15 * 20 + 6 * 15
    assert query(shop.url, "SELECT SUM(available), COUNT(*) FROM customers") == [(recorded, CUSTOMERS)]
    assert shop.deadlocks() == 0


def test_example_30_of_fifty_redemptions_of_two_processes_exactly_ten_succeed(shop: Shop) -> None:
    """A balance of 100 covers ten redemptions of 10; of a reward with a stock of seven, seven of fifty succeed."""
    customer = shop.ids[0]
    shop.call(0, f"/v1/customers/{customer}/adjustments", {"points": 100, "reason_code": "test"})
    answers = shop.redeem([{"customer_id": customer, "points": 10}] * 50)
    assert answers == {201: 10, 422: 40}
    assert query(shop.url, "SELECT available FROM customers WHERE id = ?", customer) == [(0,)]
    for each in shop.ids:
        shop.call(1, f"/v1/customers/{each}/adjustments", {"points": 100, "reason_code": "test"})
    reward = shop.call(0, "/v1/rewards", {"name": "r", "type": "custom", "cost_points": 1, "stock": 7})["id"]
    answers = shop.redeem([{"customer_id": shop.ids[n % CUSTOMERS], "reward_id": reward} for n in range(50)])
    assert answers == {201: 7, 422: 43}
    assert query(shop.url, "SELECT stock FROM rewards") == [(0,)]
    assert query(shop.url, "SELECT SUM(available) FROM customers") == [(100 * CUSTOMERS - 7,)]
    assert shop.deadlocks() == 0


def test_moves_of_one_redemption_by_two_processes_are_made_once(shop: Shop) -> None:
    """Each of twenty reservations is captured and canceled by both processes at once: one of the two moves is made."""
    customer = shop.ids[0]
    shop.call(0, f"/v1/customers/{customer}/adjustments", {"points": 100, "reason_code": "test"})
    body = {"customer_id": customer, "points": 5, "reserve": True}
    made = [shop.call(0, "/v1/redemptions", body)["id"] for _ in range(20)]
    with ThreadPoolExecutor(16) as threads:
        moves = [(n, id_, move) for id_ in made for n in range(2) for move in ("capture", "cancel")]
        statuses = list(threads.map(lambda each: shop.status(each[0], f"/v1/redemptions/{each[1]}/{each[2]}"), moves))
    assert Counter(statuses) == {200: 40, 409: 40}
    counted = dict(query(shop.url, "SELECT status, COUNT(*) FROM redemptions GROUP BY status"))
    assert sum(counted.values()) == 20
    assert query(shop.url, "SELECT available FROM customers WHERE id = ?", customer) == [
        (5 * counted.get("canceled", 0),)
    ]
    assert shop.deadlocks() == 0


def test_one_external_id_that_two_processes_use_at_once_takes_effect_once(shop: Shop) -> None:
    for each in shop.ids:
        shop.call(0, f"/v1/customers/{each}/adjustments", {"points": 100, "reason_code": "test"})
    for number in range(10):
        bodies = [{"customer_id": each, "points": 1, "external_id": f"r-{number}"} for each in shop.ids]
        assert shop.redeem(bodies) == {201: 1, 409: CUSTOMERS - 1}
    assert query(shop.url, "SELECT SUM(available) FROM customers") == [(100 * CUSTOMERS - 10,)]


def test_merges_of_two_processes_never_deadlock(shop: Shop) -> None:
    """Both servers merge customers into each other in opposite directions, while purchases of all of them arrive."""
    for _ in range(8):
        ids = [shop.call(0, "/v1/customers", {})["id"] for _ in range(4)]
        for customer in ids:
            shop.call(1, "/v1/transactions", {"customer_id": customer, "amount": 1_000, "currency": "EUR"})
        pairs = [(a, b) for a in ids for b in ids if a != b]
        with ThreadPoolExecutor(8) as threads:
            merges = [threads.submit(shop.merge, number % 2, *pair) for number, pair in enumerate(pairs)]
            bought = [threads.submit(shop.buy, number % 2, customer) for number, customer in enumerate(ids)]
            statuses = [each.result() for each in merges]
            recorded = sum(each.result() == 201 for each in bought)
        assert set(statuses) <= {200, 404}
        assert statuses.count(200) == 3
        left = query(shop.url, "SELECT SUM(available), SUM(debt) FROM customers WHERE id IN (?, ?, ?, ?)", *ids)
        assert [tuple(map(int, each)) for each in left] == [(40 + 10 * recorded, 0)]
        owners = query(
            shop.url, "SELECT DISTINCT customer_id FROM transactions WHERE customer_id IN (?, ?, ?, ?)", *ids
        )
        [(active,)] = query(shop.url, "SELECT id FROM customers WHERE status = 'active' AND id IN (?, ?, ?, ?)", *ids)
        assert owners == [(active,)]
    assert shop.deadlocks() == 0
