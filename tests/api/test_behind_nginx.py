"""An endpoint behind nginx over HTTP/2 with its default limits: orderly ends of connections are no failures."""

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.databases import Databases
from support.history import query
from support.nginx import Nginx
from support.receivers import Authority, RawServer, good
from support.server import Server

PURCHASES = 3_000
BATCH = 500


@pytest.fixture
def url(databases: Databases) -> str:
    return databases.fresh("sqlite")


@pytest.fixture
def server(url: str, authority: Authority) -> Iterator[Server]:
    with Server(url, authority.ca_file) as running:
        yield running


def subscribe(server: Server, receiver_url: str) -> str:
    made = server.post("/v1/webhook_endpoints", {"url": receiver_url, "events": ["transaction.completed"]})
    return str(made["id"])


def buy(server: Server, customer: str, count: int) -> None:
    purchases = [{"customer_id": customer, "amount": 500, "currency": "EUR"} for _ in range(count)]
    server.post("/v1/transactions/batch", {"transactions": purchases})


def wait_until_delivered(server: Server, url: str, count: int) -> None:
    """Wait until every delivery has succeeded."""
    pause = threading.Event()
    while query(url, "SELECT COUNT(*) FROM deliveries WHERE status = 'succeeded'") != [(count,)]:
        pause.wait(0.1)
    assert server.get("/v1/deliveries?status=pending")["data"] == []


def endpoint_health(server: Server, endpoint: str) -> Any:
    return server.get(f"/v1/webhook_endpoints/{endpoint}")["health"]["state"]


def repeated(url: str) -> int:
    """How many attempts have sent more than one request."""
    [(count,)] = query(url, "SELECT COUNT(*) FROM attempts WHERE requests IS NOT NULL")
    return int(count)


def test_3000_purchases_are_delivered_in_one_attempt_each(
    server: Server, url: str, authority: Authority, tmp_path: Path
) -> None:
    with Nginx(tmp_path, authority) as nginx:
        endpoint = subscribe(server, nginx.url)
        customer = server.post("/v1/customers", {})["id"]
        for _ in range(PURCHASES // BATCH):
            buy(server, customer, BATCH)
        wait_until_delivered(server, url, PURCHASES)
    assert query(url, "SELECT outcome, number, COUNT(*) FROM attempts GROUP BY 1, 2") == [("succeeded", 1, PURCHASES)]
    assert endpoint_health(server, endpoint) == "healthy"
    assert query(url, "SELECT COUNT(*) FROM endpoint_health") == [(0,)], "the breaker has counted nothing"


def test_reloads_under_load_fail_no_attempt_and_each_request_of_the_receiver_is_recorded(
    server: Server, url: str, authority: Authority, tmp_path: Path
) -> None:
    """Some requests are repeated, and none is sent in vain: the receiver behind nginx has seen exactly those with an answer."""
    with RawServer(good) as receiver:
        location = f"proxy_pass http://127.0.0.1:{receiver.port};"
        with Nginx(tmp_path, authority, location, http="keepalive_requests 50;") as nginx:
            endpoint = subscribe(server, nginx.url)
            customer = server.post("/v1/customers", {})["id"]
            for _ in range(10):
                buy(server, customer, 100)
                nginx.reload()
            wait_until_delivered(server, url, 1_000)
        seen = Counter(hit.headers["x-loyalpro-delivery-id"] for hit in receiver.hits)
    assert query(url, "SELECT outcome, number, COUNT(*) FROM attempts GROUP BY 1, 2") == [("succeeded", 1, 1_000)]
    assert endpoint_health(server, endpoint) == "healthy"
    assert repeated(url) > 0
    assert set(seen.values()) == {1}, "what nginx refuses is not processed"
    [(delivery,)] = query(url, "SELECT delivery_id FROM attempts WHERE requests IS NOT NULL LIMIT 1")
    *refused, last = server.get(f"/v1/deliveries/{delivery}")["attempts"][0]["requests"]
    assert {each["outcome"] for each in refused} == {"connection_lost"}
    assert {each["response"] for each in refused} == {None}
    assert last["response"]["status"] == 200
