"""A purchase names the redemptions that paid for it: they are captured and linked in its own transaction."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.databases import Databases
from support.server import Server


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


def customer_with_points(server: Server, name: str) -> str:
    id_: str = server.post("/v1/customers", {"external_id": name})["id"]
    server.post("/v1/transactions", {"customer_id": id_, "amount": 50_000, "currency": "EUR"})
    return id_


def redeem(server: Server, customer: str, points: int, **fields: Any) -> str:
    id_: str = server.post("/v1/redemptions", {"customer_id": customer, "points": points} | fields)["id"]
    return id_


def buy(server: Server, customer: str, *redemptions: str, **fields: Any) -> Any:
    body = {"customer_id": customer, "amount": 8_000, "currency": "EUR", "redemption_ids": list(redemptions)}
    return server.call("POST", "/v1/transactions", body | fields)


def test_a_purchase_captures_what_is_reserved_and_links_what_is_redeemed(server: Server) -> None:
    customer = customer_with_points(server, "both")
    reserved, redeemed = redeem(server, customer, 100, reserve=True), redeem(server, customer, 50)
    answer = buy(server, customer, reserved, redeemed, external_id="paid-1")
    assert answer.status == 201
    for id_ in (reserved, redeemed):
        found = server.get(f"/v1/redemptions/{id_}")
        assert (found["status"], found["transaction_id"]) == ("redeemed", answer.json["id"])
    events = server.listed(f"/v1/events?customer_id={customer}&type=transaction.completed")["data"]
    told = {event["data"]["transaction"]["external_id"]: event["data"]["redemption_ids"] for event in events}
    assert told == {None: [], "paid-1": [reserved, redeemed]}
    again = buy(server, customer, reserved, redeemed, external_id="paid-1")
    assert (again.status, again.json["id"]) == (200, answer.json["id"])


def test_a_redemption_pays_for_one_purchase_only(server: Server) -> None:
    customer = customer_with_points(server, "once")
    redemption = redeem(server, customer, 100)
    assert buy(server, customer, redemption).status == 201
    refused = buy(server, customer, redemption)
    assert (refused.status, refused.json["code"]) == (409, "redemption_has_transaction")
    count = len(server.get(f"/v1/transactions?customer_id={customer}")["data"])
    assert count == 2, "the refused purchase is not recorded"


def test_a_redemption_of_another_customer_cannot_pay(server: Server) -> None:
    customer, other = customer_with_points(server, "own"), customer_with_points(server, "foreign")
    refused = buy(server, customer, redeem(server, other, 10))
    assert (refused.status, refused.json["param"]) == (404, "redemption_ids")


def test_an_ended_redemption_cannot_pay(server: Server) -> None:
    customer = customer_with_points(server, "ended")
    redemption = redeem(server, customer, 10, reserve=True)
    server.post(f"/v1/redemptions/{redemption}/cancel")
    refused = buy(server, customer, redemption)
    assert (refused.status, refused.json["code"]) == (409, "redemption_not_reserved")


def test_two_purchases_of_a_batch_cannot_share_a_redemption(server: Server) -> None:
    customer = customer_with_points(server, "batch")
    redemption = redeem(server, customer, 10)
    one = {"customer_id": customer, "amount": 100, "currency": "EUR", "redemption_ids": [redemption, redemption]}
    results = server.post("/v1/transactions/batch", {"transactions": [one, one]})["data"]
    assert [each["status"] for each in results] == [201, 409]
