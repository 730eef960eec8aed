"""Every change knows who made it: in the audit log, in the ledger and in purchases; of the events only adjustments tell it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from loyalpro.accounts.scopes import SCOPES
from support.databases import Databases
from support.history import query
from support.server import API_KEY, Server

EVER = "2020-01-01T00:00:00Z"
URL = "https://localhost:1024/hook"


@pytest.fixture
def server(databases: Databases, store: str) -> Iterator[Server]:
    with Server(databases.fresh(store), retry_schedule="3600") as running:
        yield running


class Changes:
    """Makes every change that the API has, with keys of their own, and notes who made each."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.noted: list[tuple[str, str, str]] = []
        self.calls: set[tuple[str, str]] = set()
        made = {name: server.post("/v1/api_keys", {"name": name, "scopes": SCOPES}) for name in ("one", "two")}
        self._texts = [each["key"] for each in made.values()]
        self._actors = [f"key:{each['id']}" for each in made.values()]

    def make(
        self, path: str, action: str | None, method: str = "POST", body: Any = None, *, of: Any = None, **ids: str
    ) -> Any:
        """Make a change with the key whose turn it is. `action` and `of`: what the audit log should have, of which object."""
        turn = len(self.calls) % 2
        answer = self._server.call(method, path.format(**ids), body, key=self._texts[turn])
        assert 200 <= answer.status < 300, answer.raw
        self.calls.add((method.lower(), path))
        if action is not None:
            object_id = of(answer.json) if callable(of) else of or answer.json["id"]
            self.noted.insert(0, (self._actors[turn], action, object_id))
        return answer.json


def make_every_change(changes: Changes, server: Server) -> None:
    """Every call that changes something, once."""
    make = changes.make
    endpoint = make("/v1/webhook_endpoints", "webhook_endpoint.created", body={"url": URL, "events": ["*"]})["id"]
    customer = make("/v1/customers", "customer.created", body={"external_id": "a"})["id"]
    purchase = {"customer_id": customer, "amount": 560, "currency": "EUR"}
    make("/v1/transactions", "transaction.recorded", body=purchase)
    batch = {"transactions": [purchase | {"amount": 99}, purchase]}
    first = lambda answer: answer["data"][0]["transaction"]["id"]  # noqa: E731 - the object of the next line
    make("/v1/transactions/batch", "transactions.recorded", body=batch, of=first)
    make("/v1/customers/{customer_id}", "customer.updated", "PATCH", {"name": "Ada"}, customer_id=customer)
    one = {"endpoint_id": endpoint}
    make("/v1/webhook_endpoints/{endpoint_id}/test", "webhook_endpoint.tested", of=endpoint, **one)
    make("/v1/webhook_endpoints/{endpoint_id}/rotate_secret", "secret.rotated", of=endpoint, **one)
    event = server.until("/v1/events", lambda page: page["data"])["data"][0]["id"]
    attempted = server.until(f"/v1/deliveries?event_id={event}", lambda page: page["data"][0]["attempt_count"])
    delivery = attempted["data"][0]["id"]
    make("/v1/deliveries/{delivery_id}/retry", "delivery.retried", delivery_id=delivery)
    make("/v1/deliveries/{delivery_id}/cancel", "delivery.canceled", delivery_id=delivery)
    make("/v1/webhook_endpoints/{endpoint_id}", "webhook_endpoint.updated", "PATCH", {"description": "x"}, **one)
    make("/v1/events/{event_id}/resend", "event.resent", of=event, event_id=event)
    make("/v1/webhook_endpoints/{endpoint_id}/replay", "replay.started", body={"since": EVER}, **one)
    make("/v1/customers/{customer_id}", "customer.deleted", "DELETE", customer_id=customer)
    make("/v1/webhook_endpoints/{endpoint_id}", "webhook_endpoint.deleted", "DELETE", of=endpoint, **one)
    key = make("/v1/api_keys", "api_key.created", body={"name": "x", "scopes": ["read"]})["id"]
    make("/v1/api_keys/{key_id}", "api_key.renamed", "PATCH", {"name": "y"}, key_id=key)
    make("/v1/api_keys/{key_id}", "api_key.revoked", "DELETE", key_id=key)


def make_every_change_of_redemptions(changes: Changes) -> None:
    """Every call that gives, takes, redeems or returns points by hand, and every change of a reward."""
    make = changes.make
    customer = make("/v1/customers", "customer.created", body={})["id"]
    given = {"points": 100, "reason_code": "x"}
    make("/v1/customers/{customer_id}/adjustments", "points.adjusted", body=given, customer_id=customer)
    body = {"name": "A coffee", "type": "custom", "cost_points": 10}
    reward = make("/v1/rewards", "reward.created", body=body)["id"]
    reserve = {"customer_id": customer, "reward_id": reward, "reserve": True}
    redeemed, canceled = (make("/v1/redemptions", "redemption.created", body=reserve)["id"] for _ in range(2))
    make("/v1/redemptions/{redemption_id}/capture", "redemption.captured", redemption_id=redeemed)
    make("/v1/redemptions/{redemption_id}/reverse", "redemption.reversed", redemption_id=redeemed)
    make("/v1/redemptions/{redemption_id}/cancel", "redemption.canceled", redemption_id=canceled)
    make("/v1/rewards/{reward_id}", "reward.updated", "PATCH", {"stock": 5}, reward_id=reward)
    make("/v1/rewards/{reward_id}", "reward.archived", "DELETE", reward_id=reward)


def make_every_change_of_customers(changes: Changes, url: str) -> None:
    """Every other call that changes customers and their lots."""
    make = changes.make
    first = lambda answer: answer["data"][0]["customer"]["id"]  # noqa: E731 - the object of the next line
    enrolled = make("/v1/customers/batch", "customers.created", body={"customers": [{}, {}, {}]}, of=first)["data"]
    one, other, third = (each["customer"]["id"] for each in enrolled)
    make("/v1/customers/{customer_id}/merge", "customer.merged", body={"into": other}, of=one, customer_id=one)
    [(tier,)] = query(url, "SELECT id FROM tiers WHERE rank = 2")
    body = {"tier_id": tier, "reason": "x"}
    make("/v1/customers/{customer_id}/tier", "customer.tier_assigned", "PUT", body, of=third, customer_id=third)
    for customer, change, action in ((third, "activate", "lot.activated"), (other, "cancel", "lot.canceled")):
        given = {"points": 5, "reason_code": "x"}
        make("/v1/customers/{customer_id}/adjustments", "points.adjusted", body=given, customer_id=customer)
        query(url, "UPDATE lots SET status = 'pending' WHERE customer_id = ?", customer)
        query(url, "UPDATE customers SET available = 0, pending = 5 WHERE id = ?", customer)
        [(lot,)] = query(url, "SELECT id FROM lots WHERE customer_id = ?", customer)
        make(f"/v1/lots/{{lot_id}}/{change}", action, lot_id=lot)


def test_every_call_that_changes_something_is_noted_with_its_key(server: Server) -> None:
    changes = Changes(server)
    already = len(server.get("/v1/audit_log?limit=100")["data"])
    make_every_change(changes, server)
    make_every_change_of_redemptions(changes)
    make_every_change_of_customers(changes, server.application.settings.url)
    found = server.get("/v1/audit_log?limit=100")["data"][:-already]
    assert [(each["actor"], each["action"], each["object_id"]) for each in found] == changes.noted
    paths = server.get("/openapi.json")["paths"]
    writes = {(method, path) for path, methods in paths.items() for method in methods if method != "get"}
    canceled_replay = ("post", "/v1/webhook_endpoints/{endpoint_id}/replays/{replay_id}/cancel")
    assert writes - changes.calls == {canceled_replay}  # it may be done before it can be canceled


def test_purchases_and_ledger_entries_have_their_key(server: Server) -> None:
    changes = Changes(server)
    make_every_change(changes, server)
    url = server.application.settings.url
    keys = dict(query(url, "SELECT 'key:' || id, name FROM api_keys"))
    purchases = query(url, "SELECT amount, actor FROM transactions ORDER BY id")
    entries = query(url, "SELECT type, actor FROM ledger_entries ORDER BY sequence")
    assert [(amount, keys[actor]) for amount, actor in purchases] == [(560, "one"), (99, "two"), (560, "two")]
    assert [(kind, keys[actor]) for kind, actor in entries] == [("earn", "one"), ("earn", "two"), ("adjust", "one")]


def test_an_adjustment_names_the_actor_of_its_entry_and_no_other_event_names_one(server: Server) -> None:
    make_every_change(Changes(server), server)
    url = server.application.settings.url
    bodies = [bytes(body) for (body,) in query(url, "SELECT body FROM events")]
    assert len(bodies) > 5
    naming = [json.loads(body) for body in bodies if b"key:" in body or b"actor" in body]
    shown = [(each["type"], each["data"]["entry_id"], each["data"]["actor"]) for each in naming]
    entries = query(url, "SELECT id, actor FROM ledger_entries WHERE type = 'adjust'")
    assert shown == [("points.adjusted", entry_id, actor) for entry_id, actor in entries]
    assert len(shown) == 1


def test_changes_are_found_by_actor_and_by_object_in_pages(server: Server) -> None:
    changes = Changes(server)
    make_every_change(changes, server)
    actor, _, object_id = changes.noted[-1]
    for name, value in (("actor", actor), ("object_id", object_id)):
        expected = [each for each in changes.noted if value in each]
        found: list[Any] = []
        page = server.get(f"/v1/audit_log?{name}={value}&limit=2")
        while page["next_cursor"]:
            found += page["data"]
            page = server.get(f"/v1/audit_log?{name}={value}&limit=2&cursor={page['next_cursor']}")
        found += page["data"]
        assert [(each["actor"], each["action"], each["object_id"]) for each in found] == expected


def test_a_refused_change_and_one_that_changes_nothing_are_not_noted(server: Server) -> None:
    customer = server.post("/v1/customers", {"external_id": "a", "name": "Ada"})["id"]
    before = server.get("/v1/audit_log")["data"]
    assert server.call("POST", "/v1/customers", {"external_id": "a"}).status == 409
    assert server.call("PATCH", f"/v1/customers/{customer}", {"name": "Ada"}).status == 200
    assert server.call("DELETE", "/v1/webhook_endpoints/we_" + "0" * 26).status == 404
    assert server.get("/v1/audit_log")["data"] == before


def test_the_first_account_and_its_key_are_noted_as_the_work_of_the_start(server: Server) -> None:
    found = server.get("/v1/audit_log")["data"]
    assert [(each["actor"], each["action"]) for each in found] == [
        ("system:bootstrap", "api_key.created"),
        ("system:bootstrap", "account.created"),
    ]
    assert server.call("GET", "/v1/customers", key=API_KEY).status == 200
