"""Concurrent purchases are answered as if each had been sent alone."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from loyalpro.kernel.errors import Refused
from loyalpro.web.idempotency import IdempotentRequest, Reply, run_once
from loyalpro.web.unit import Unit
from support.databases import Databases
from support.server import Answer, Server
from support.writes import Held


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


class Shop:
    """A customer with purchases."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.customer = server.post("/v1/customers", {"external_id": name})["id"]

    def buy(self, key: str, **changes: Any) -> Answer:
        body = {"customer_id": self.customer, "amount": 5_600, "currency": "EUR"} | changes
        return self.server.call("POST", "/v1/transactions", body, Idempotency_Key=key)

    def purchases(self) -> list[Any]:
        found: list[Any] = self.server.get(f"/v1/transactions?customer_id={self.customer}&limit=100")["data"]
        return found


def at_once(server: Server, *requests: Callable[[], Answer]) -> list[Answer]:
    """Send the requests while the writer is busy, and release the writer when all of them wait."""
    held, keys = Held(None), server.application.web.state.services.keys_in_flight
    busy = threading.Thread(target=lambda: asyncio.run(server.application.database.write(held)))
    busy.start()
    asyncio.run(held.under_way())
    with ThreadPoolExecutor(len(requests)) as pool:
        answers = [pool.submit(each) for each in requests]
        server.until("/healthz", lambda _: len(keys) == len(requests))
        held.go.set()
        busy.join()
        return [each.result() for each in answers]


def test_each_request_of_a_batch_gets_its_own_answer(server: Server) -> None:
    shop = Shop(server, "own")
    first = shop.buy("own-1", external_id="own-1")
    assert first.status == 201
    answers = at_once(
        server,
        lambda: shop.buy("own-2", external_id="own-2", amount=100),
        lambda: shop.buy("own-1", external_id="own-1"),
        lambda: shop.buy("own-1b", external_id="own-1"),
        lambda: shop.buy("own-3", currency="USD"),
        lambda: shop.buy("own-4", customer_id="cus_00000000000000000000000000"),
        lambda: shop.buy("own-5", external_id="own-1", amount=1),
        lambda: shop.buy("own-6", amount=99),
    )
    assert [each.status for each in answers] == [201, 201, 200, 422, 404, 409, 201]
    assert answers[1].raw == first.raw
    assert answers[1].headers["idempotent-replayed"] == "true"
    assert [answers[n].json["points_earned"] for n in (0, 6)] == [1, 0]
    assert answers[2].json["id"] == first.json["id"]
    assert len(shop.purchases()) == 3
    assert server.get(f"/v1/customers/{shop.customer}")["points"]["available"] == 57


def test_a_reused_key_does_not_affect_the_other_requests_of_its_batch(server: Server) -> None:
    shop = Shop(server, "reused")
    shop.buy("reused-1")
    answers = at_once(server, lambda: shop.buy("reused-1", amount=1), lambda: shop.buy("reused-2"))
    assert [each.status for each in answers] == [422, 201]
    assert answers[0].json["code"] == "idempotency_key_reused"
    assert len(shop.purchases()) == 2


def test_results_of_a_batch_are_stored_and_refusals_are_not(server: Server) -> None:
    shop = Shop(server, "kept")
    first = at_once(server, *(lambda n=n: shop.buy(f"kept-{n}", amount=n * 100) for n in range(1, 9)))
    refused = at_once(server, *(lambda n=n: shop.buy(f"kept-no-{n}", currency="USD") for n in range(2)))
    assert {each.status for each in refused} == {422}
    again = at_once(server, *(lambda n=n: shop.buy(f"kept-{n}", amount=n * 100) for n in range(1, 9)))
    assert [each.raw for each in again] == [each.raw for each in first]
    assert {each.headers.get("idempotent-replayed") for each in again} == {"true"}
    assert [shop.buy(f"kept-no-{n}").status for n in range(2)] == [201, 201]
    assert len(shop.purchases()) == 10


def test_concurrent_purchases_with_one_external_id_are_recorded_once(server: Server) -> None:
    shop = Shop(server, "twice")
    answers = at_once(server, *(lambda n=n: shop.buy(f"twice-{n}", external_id="twice") for n in range(5)))
    assert sorted(each.status for each in answers) == [200, 200, 200, 200, 201]
    assert len({each.json["id"] for each in answers}) == len(shop.purchases()) == 1


def test_a_key_that_occurs_twice_in_a_batch_is_processed_once(server: Server) -> None:
    """The first request's connection may be closed; then the process no longer keeps its key in flight."""
    done: list[Any] = []

    def work(_unit: Unit, _account_id: str, commands: Sequence[Any]) -> list[Reply | Refused]:
        done.extend(commands)
        return [Reply(201, {"said": command}) for command in commands]

    asked = [IdempotentRequest(command, "waits", b"f") for command in ("first", "second")]
    change = server.application.runner.change(lambda unit: run_once(unit, "acct_waits", asked, work))
    with suppress(Exception):  # the account is not there, and that is noticed last
        asyncio.run(change)
    assert done == ["first"]
