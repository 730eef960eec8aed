"""Every event type, caused through the API alone, on both stores: as its schema says, and as its documentation shows it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jsonschema
import pytest

from docs.pages import REFERENCE
from loyalpro.kernel.clock import MS_PER_DAY, VirtualClock, rfc3339
from support.databases import Databases
from support.history import query
from support.server import Server
from support.timeline import instant

START = instant("2026-11-28T10:00Z")
TYPES = [
    "customer.created", "customer.updated", "customer.deleted", "customer.tier_changed", "points.earned",
    "points.redeemed", "points.expired", "points.adjusted", "transaction.completed", "transaction.refunded",
    "fraud.detected", "churn.risk",
]  # fmt: skip
SIGNS = {"points.earned": 1, "points.redeemed": -1, "points.expired": -1, "points.adjusted": 1}
ID = re.compile(r"([a-z]+)_[0-9a-z]{26}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@dataclass(frozen=True)
class Story:
    """What the customers of an account did. `balances`: the points of the customers that stay."""

    server: Server
    events: list[dict[str, Any]]
    balances: dict[str, dict[str, int]]


class Shop:
    """Makes the calls of the story."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def call(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.server.call(method, path, body)
        assert 200 <= answer.status < 300, answer.raw
        return answer.json

    def post(self, path: str, body: Any = None) -> Any:
        return self.call("POST", path, body)

    def sell(self, customer: str, amount: int, days_ago: int = 0, **more: Any) -> str:
        occurred_at = rfc3339(START - days_ago * MS_PER_DAY)
        sale = {"customer_id": customer, "amount": amount, "currency": "EUR", "occurred_at": occurred_at} | more
        return str(self.post("/v1/transactions", sale)["id"])

    def finish(self, path: str) -> Any:
        """Read a job until it is done, while the clock of the server moves on."""
        clock: Any = self.server.application.clock
        while (found := self.call("GET", path))["status"] != "done":
            self.server.loop.call_soon_threadsafe(clock.advance, 0.2)
        return found

    def events(self) -> list[dict[str, Any]]:
        self.server.wait_until_listed()
        found: list[dict[str, Any]] = []
        page = self.call("GET", "/v1/events?limit=100")
        found += page["data"]
        while page["next_cursor"]:
            page = self.call("GET", f"/v1/events?limit=100&cursor={page['next_cursor']}")
            found += page["data"]
        return found

    def await_first_run(self) -> None:
        """Let the run take place that a server schedules at its start, and that announces nothing."""
        clock: Any = self.server.application.clock
        done = "SELECT COUNT(*) FROM churn_runs WHERE status = 'done' AND requested = 0"
        while query(self.server.application.settings.url, done) == [(0,)]:
            self.server.loop.call_soon_threadsafe(clock.advance, 0.2)

    def regular(self) -> str:
        """A customer that is changed, buys, returns a half, climbs a tier, is given points, redeems, and buys too often."""
        person = {"external_id": "sample-customer", "email": "old@example.com", "name": "Ada Sample"}
        customer = str(self.post("/v1/customers", person)["id"])
        self.call("PATCH", f"/v1/customers/{customer}", {"email": "ada@example.com"})
        items = [{"sku": "SAMPLE-1", "quantity": 1, "amount": 5_600}]
        sale: dict[str, Any] = {"external_id": "sample-order", "tax_amount": 934, "items": items, "channel": "pos"}
        sold = self.sell(customer, 5_600, **sale)
        self.post(f"/v1/transactions/{sold}/refunds", {"amount": 2_800, "reason": "return"})
        for _ in range(5):
            self.sell(customer, 25_000)
        given = {"points": 20, "reason_code": "goodwill", "note": "Sample"}
        self.post(f"/v1/customers/{customer}/adjustments", given)
        reward = {"name": "5 EUR off", "type": "amount_off", "amount": 500, "currency": "EUR", "cost_points": 50}
        body = {"customer_id": customer, "reward_id": self.post("/v1/rewards", reward)["id"]}
        self.post("/v1/redemptions", body)
        reserved = self.post("/v1/redemptions", body | {"reserve": True})
        self.post(f"/v1/redemptions/{reserved['id']}/cancel")
        return customer

    def silent(self) -> str:
        """A customer that bought every ten days until a hundred days ago, and once long before: those points have expired."""
        customer = str(self.post("/v1/customers", {"external_id": "silent-customer"})["id"])
        for days_ago in (500, *range(200, 99, -10)):
            self.sell(customer, 1_000, days_ago)
        run = self.post("/v1/churn/runs", {})
        assert self.finish(f"/v1/churn/runs/{run['id']}")["events"] == 1
        return customer

    def leaving(self) -> None:
        """A customer that is deleted with points."""
        customer = str(self.post("/v1/customers", {"external_id": "leaving-customer"})["id"])
        self.sell(customer, 5_600)
        self.call("DELETE", f"/v1/customers/{customer}")


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def story(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Story]:
    with Server(databases.fresh(request.param), clock=VirtualClock(START)) as server:
        shop = Shop(server)
        shop.await_first_run()
        staying = [shop.regular(), shop.silent()]
        shop.leaving()
        balances = {id_: server.get(f"/v1/customers/{id_}")["points"] for id_ in staying}
        yield Story(server, shop.events(), balances)


def test_every_type_is_caused_and_published(story: Story) -> None:
    assert {each["type"] for each in story.events} == {*TYPES}
    published = story.server.get("/v1/event_types")["data"]
    assert [each["type"] for each in published] == TYPES
    assert list(story.server.get("/openapi.json")["webhooks"]) == TYPES


def test_every_event_is_as_both_published_schemas_say(story: Story) -> None:
    listed = {each["type"]: each["schema"] for each in story.server.get("/v1/event_types")["data"]}
    webhooks = story.server.get("/openapi.json")["webhooks"]
    for event in story.events:
        content = webhooks[event["type"]]["post"]["requestBody"]["content"]["application/json"]
        for schema in (listed[event["type"]], content["schema"]):
            jsonschema.Draft202012Validator(schema).validate(event)


def test_the_points_of_events_add_up_to_the_balance(story: Story) -> None:
    for customer, points in story.balances.items():
        sums = [
            SIGNS[each["type"]] * each["data"]["points"]
            for each in story.events
            if each["type"] in SIGNS and each["data"]["customer_id"] == customer
        ]
        assert len(sums) > 5
        assert sum(sums) == points["available"] + points["pending"] - points["debt"]


def test_the_events_of_a_customer_are_numbered_without_gaps(story: Story) -> None:
    for customer in story.balances:
        numbers = [
            each["sequence"]
            for each in story.events
            if customer in (each["data"].get("customer_id"), each["data"].get("customer", {}).get("id"))
        ]
        assert sorted(numbers) == list(range(1, len(numbers) + 1))


def shape(value: Any) -> Any:
    """A value with the kind of each text and number in its place."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    if isinstance(value, str):
        id_ = ID.fullmatch(value)
        return f"{id_[1]} id" if id_ else "time" if TIME.fullmatch(value) else "text"
    return value if value is None else "flag" if isinstance(value, bool) else "number"


def differences(shown: Any, real: Any, at: str = "") -> list[str]:
    """Where the shapes of a documented value and a real one differ. A null may stand for any value."""
    if shown is None or real is None:
        return []
    if isinstance(shown, dict) and isinstance(real, dict):
        missing = [f"{at}.{name} is in one of both" for name in shown.keys() ^ real.keys()]
        order = [] if missing or list(shown) == list(real) else [f"{at} has another order"]
        nested = [
            each for name in shown if name in real for each in differences(shown[name], real[name], f"{at}.{name}")
        ]
        return missing + order + nested
    if isinstance(shown, list) and isinstance(real, list):
        return [each for one in shown[:1] for other in real[:1] for each in differences(one, other, f"{at}[0]")]
    return [] if shown == real else [f"{at}: {shown}, not {real}"]


def documented(story: Story) -> Iterator[tuple[str, Any]]:
    """Every body of an event in the documentation."""
    for name, webhook in story.server.get("/openapi.json")["webhooks"].items():
        yield name, webhook["post"]["requestBody"]["content"]["application/json"]["example"]
    page = (REFERENCE / "events.md").read_text("utf-8")
    for text in re.findall(r"^```json\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        body = json.loads(text)
        yield body["type"], body


def test_the_bodies_of_the_documentation_have_the_fields_and_kinds_of_real_ones(story: Story) -> None:
    shown = list(documented(story))
    assert [name for name, _ in shown] == TYPES * 2
    for name, body in shown:
        real = [shape(each) for each in story.events if each["type"] == name]
        found = [differences(shape(body), each) for each in real]
        assert [] in found, (name, min(found, key=len))
