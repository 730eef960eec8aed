"""Customers are found by what the merchant knows of them: exactly, and page by page in a stable order."""

from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest

from loyalpro.loyalty.customers import ListCustomers, list_customers
from loyalpro.loyalty.entities import CustomerFilter
from support.databases import Databases
from support.history import query
from support.server import Server


class Shop:
    """A server with customers of every kind, by the names that the tests give them."""

    def __init__(self, server: Server, url: str) -> None:
        self.server, self.url = server, url
        self.names: dict[str, str] = {}
        tiers = query(url, "SELECT id FROM tiers ORDER BY rank")
        self.bronze, self.silver, self.gold = (tier_id for (tier_id,) in tiers)
        self.enroll("ann", external_id="a-1", email="Ann@Example.com", phone="+44 (79) 1", tags=["vip", "berlin"])
        self.enroll("bob", external_id="b-1", email="ann@example.com", phone="0049", tags=["vip"])
        self.enroll("eve", email="eve@example.com", phone="+44-79-1", tags=["berlin"])
        self.enroll("zoe")
        query(
            url,
            "UPDATE customers SET tier_id = ? WHERE id IN (?, ?)",
            self.silver,
            self.names["bob"],
            self.names["zoe"],
        )
        deleted = self.enroll("gone", email="ann@example.com", phone="+44791", tags=["vip"])
        server.call("DELETE", f"/v1/customers/{deleted}")

    def enroll(self, name: str, **details: Any) -> str:
        self.names[name] = id_ = self.server.post("/v1/customers", details)["id"]
        return str(id_)

    def search(self, **filters: str) -> list[str]:
        """The names of the customers that are found, newest first."""
        text = "&".join(f"{name}={quote(value)}" for name, value in filters.items())
        by_id = {id_: name for name, id_ in self.names.items()}
        return [by_id[each["id"]] for each in self.server.get(f"/v1/customers?limit=100&{text}")["data"]]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Shop]:
    url = databases.fresh(request.param)
    with Server(url) as running:
        yield Shop(running, url)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, ["zoe", "eve", "bob", "ann"]),
        ({"external_id": "a-1"}, ["ann"]),
        ({"external_id": "A-1"}, []),
        ({"email": "ANN@example.com"}, ["bob", "ann"]),
        ({"email": " ann@example.com "}, ["bob", "ann"]),
        ({"email": "nn@example.com"}, []),
        ({"phone": "+44 79 1"}, ["eve", "ann"]),
        ({"phone": "4479 1"}, []),
        ({"tag": "vip"}, ["bob", "ann"]),
        ({"tag": "berlin"}, ["eve", "ann"]),
        ({"tag": "VIP"}, []),
        ({"tag": "vip", "phone": "+44791"}, ["ann"]),
        ({"tag": "vip", "email": "ann@example.com", "external_id": "b-1"}, ["bob"]),
        ({"tag": "vip", "external_id": "unknown"}, []),
        ({"updated_since": "2026-01-01T00:00:00Z"}, ["zoe", "eve", "bob", "ann"]),
        ({"updated_since": "2199-01-01T00:00:00Z"}, []),
        ({"updated_since": "2026-01-01T00:00:00Z", "tag": "berlin"}, ["eve", "ann"]),
    ],
)
def test_filters_find_exactly_what_matches_all_of_them(shop: Shop, filters: dict[str, str], found: list[str]) -> None:
    assert shop.search(**filters) == found


def test_customers_are_found_by_their_tier(shop: Shop) -> None:
    assert shop.search(tier_id=shop.silver) == ["zoe", "bob"]
    assert shop.search(tier_id=shop.bronze) == ["eve", "ann"]
    assert shop.search(tier_id=shop.gold) == []
    assert shop.search(tier_id=shop.silver, tag="vip") == ["bob"]
    assert shop.search(tier_id=shop.bronze, phone="+44791", email="eve@example.com") == ["eve"]


def test_a_changed_detail_is_found_by_its_value_and_no_other(shop: Shop) -> None:
    path = f"/v1/customers/{shop.names['zoe']}"
    shop.server.call("PATCH", path, {"email": "Zoe@a.co", "phone": "+1 2", "tags": ["x"]})
    assert shop.search(email="zoe@A.co") == shop.search(phone="+12") == shop.search(tag="x") == ["zoe"]
    shop.server.call("PATCH", path, {"email": None, "phone": None, "tags": None})
    assert shop.search(email="zoe@a.co") == shop.search(phone="+12") == shop.search(tag="x") == []


@pytest.mark.parametrize(
    ("name", "value"), [("email", "%20"), ("phone", "none"), ("tag", ""), ("updated_since", "now")]
)
def test_a_filter_without_a_value_is_refused(shop: Shop, name: str, value: str) -> None:
    refused = shop.server.call("GET", f"/v1/customers?{name}={value}")
    assert (refused.status, refused.json["code"], refused.json["param"]) == (422, "invalid_field", name)


@pytest.mark.parametrize(
    "filters",
    ["", "&tag=pages", "&email=p%40a.co", "&phone=123", "&tier_id={bronze}", "&updated_since=2026-01-01T00:00:00Z"],
)
def test_pages_have_every_customer_once_while_customers_change(shop: Shop, filters: str) -> None:
    filters = filters.format(bronze=shop.bronze)
    details = {"tags": ["pages"], "email": "p@a.co", "phone": "123"}
    made = [shop.enroll(f"page {number} of {filters}", **details) for number in range(7)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = shop.server.get(f"/v1/customers?limit=2{filters}{cursor}")
        seen += [each["id"] for each in page["data"]]
        for each in page["data"]:  # the time of the last change moves, and the order stays
            shop.server.call("PATCH", f"/v1/customers/{each['id']}", {"name": "changed"})
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert [each for each in seen if each in made] == made[::-1]
    assert len(seen) == len(set(seen))
    for each in made:
        shop.server.call("DELETE", f"/v1/customers/{each}")


def test_a_page_of_a_combined_search_examines_a_bounded_number_of_customers(shop: Shop) -> None:
    """With two customers that match among 2,500 others, some pages are short or empty, and the cursor leads to the others."""
    names = [f"bulk-{number}" for number in range(2_500)]
    ids: list[str] = []
    for start in range(0, 2_500, 500):
        members = [{"external_id": each, "tags": ["bulk"]} for each in names[start : start + 500]]
        results = shop.server.post("/v1/customers/batch", {"customers": members})["data"]
        ids += [each["customer"]["id"] for each in results]
    query(shop.url, "UPDATE customers SET tier_id = ? WHERE id IN (?, ?)", shop.gold, ids[0], ids[2_000])
    account = query(shop.url, "SELECT account_id FROM customers WHERE id = ?", ids[0])[0][0]
    wanted = CustomerFilter(tag="bulk", tier_id=shop.gold)
    pages: list[list[str]] = []
    before: str | None = None
    while True:
        command = ListCustomers(account, wanted, before, 20)
        read = shop.server.application.runner.read
        page = shop.server.run(read(partial(list_customers, command=command)))
        pages.append([each.id for each in page.customers])
        before = page.next_before_id
        if before is None:
            break
    assert pages == [[ids[2_000]], [], [ids[0]]]
