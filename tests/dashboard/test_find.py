"""One field finds what has an id, a number or a name, in the dashboard and in the API."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from loyalpro.accounts.roles import ROLE_NAMES, Role
from support.browser import Browser
from support.databases import Databases
from support.members import Signed, new_member
from support.server import Server


@pytest.fixture(scope="module", params=("sqlite", "postgres"))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


@pytest.fixture(scope="module")
def members(server: Server) -> dict[Role, Signed]:
    return {role: new_member(server, role) for role in ROLE_NAMES}


@pytest.fixture
def owner(members: dict[Role, Signed]) -> Browser:
    return members["owner"].browser


@pytest.fixture(scope="module")
def made(server: Server) -> dict[str, str]:
    """The ids of an endpoint, a customer with a purchase, and two with one name."""
    endpoint = server.post("/v1/webhook_endpoints", {"url": "https://localhost:1024/in", "events": ["*"]})["id"]
    body = {"external_id": "till-7", "email": "ida@example.com", "phone": "+4930123456", "name": "Ida Find"}
    customer = server.post("/v1/customers", body)["id"]
    for number in range(2):
        server.post("/v1/customers", {"name": f"Twin {number}"})
    bought = {"customer_id": customer, "external_id": "order-7", "amount": 100, "currency": "EUR"}
    purchase = server.post("/v1/transactions", bought)["id"]
    event = server.listed(f"/v1/events?customer_id={customer}")["data"][0]["id"]
    delivery = server.get(f"/v1/deliveries?event_id={event}")["data"][0]["id"]
    return {"we": endpoint, "cus": customer, "txn": purchase, "evt": event, "dlv": delivery}


def found(server: Server, text: str) -> list[Any]:
    answer = server.call("GET", f"/v1/find?q={quote(text)}")
    assert answer.status == 200, answer.raw
    return [(each["type"], each["id"]) for each in answer.json["data"]]


@pytest.mark.parametrize("text", ["till-7", "IDA@example.com", "+49 30 123456", "ida f"])
def test_a_customer_is_one_hit_which_leads_to_its_page(
    server: Server, owner: Browser, made: dict[str, str], text: str
) -> None:
    assert found(server, text) == [("customer", made["cus"])]
    owner.open(f"/find?q={quote(text)}")
    assert owner.path == f"/customers/{made['cus']}"


def test_every_id_is_found_whole_and_by_its_end(server: Server, owner: Browser, made: dict[str, str]) -> None:
    kinds = {"we": "endpoint", "cus": "customer", "txn": "transaction", "evt": "event", "dlv": "delivery"}
    for prefix, kind in kinds.items():
        assert found(server, made[prefix]) == [(kind, made[prefix])]
        if prefix != "we":
            for tail in (made[prefix][-6:], f"{prefix}_…{made[prefix][-6:]}", made[prefix][-8:].upper()):
                assert (kind, made[prefix]) in found(server, tail), tail
    owner.open(f"/find?q={made['txn']}")
    assert owner.path == f"/transactions/{made['txn']}"
    owner.open(f"/find?q={made['we']}")
    assert owner.path == f"/developers/webhooks/{made['we']}"
    assert found(server, "order-7") == [("transaction", made["txn"])]


def test_a_short_end_and_an_old_object_are_not_found(server: Server, made: dict[str, str]) -> None:
    assert found(server, made["cus"][-5:]) == []
    old = server.post("/v1/customers", {})["id"]
    aged = "cus_00" + old[6:]

    def age(unit: Any) -> None:
        unit.connection.execute("UPDATE customers SET id = ? WHERE id = ?", (aged, old))

    server.run(server.application.runner.change(age))
    assert found(server, old[-8:]) == []
    assert found(server, aged) == [("customer", aged)]


def test_several_hits_are_listed(owner: Browser, made: dict[str, str]) -> None:
    assert made
    owner.open("/find?q=twin")
    assert re.findall(r'class="row-link" href="/customers/[^"]+">([^<]+)<', owner.text) == ["Twin 0", "Twin 1"]


def test_nothing_is_said_to_be_nothing(server: Server, owner: Browser) -> None:
    assert found(server, "cus_01m8793ctx2zrb94rghckj4mw4") == []
    owner.open("/find?q=nothing-like-this")
    assert "Nothing found" in owner.text
    owner.open("/find?q=cus_01m8793ctx2zrb94rghckj4mw4")
    assert "There is no such customer here." in owner.text
    assert server.get("/v1/find") == {"data": [], "next_cursor": None}


def test_a_viewer_finds_nobody_by_the_start_of_a_name(members: dict[Role, Signed], made: dict[str, str]) -> None:
    viewer = members["viewer"].browser
    viewer.open("/find?q=ida+f")
    assert "Nothing found" in viewer.text
    viewer.open("/find?q=ida@example.com")
    assert viewer.path == f"/customers/{made['cus']}"


def test_the_field_is_on_every_page_with_its_key(owner: Browser) -> None:
    owner.open("/me")
    assert re.search(r'<form class="find" role="search" action="/find".*data-key="/"', owner.text)
