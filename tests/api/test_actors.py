"""Every change knows who made it: in the audit log, in the ledger and in purchases; of the events only adjustments tell it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from loyalpro.accounts.scopes import SCOPES
from support.calls import calls_of
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
        turn = len(self.noted) % 2
        answer = self._server.call(method, path.format(**ids), body, key=self._texts[turn])
        assert 200 <= answer.status < 300, answer.raw
        self.calls.add((method.lower(), path))
        if action is not None:
            object_id = of(answer.json) if callable(of) else of or answer.json["id"]
            self.noted.insert(0, (self._actors[turn], action, object_id))
            entry = self._server.get("/v1/audit_log?limit=1")["data"][0]
            erased = {None} if action in ("customer.deleted", "customer.merged") else set()
            assert entry["request_id"] in {answer.headers["x-request-id"]} | erased
            assert entry["address"] == "127.0.0.1"
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
    make("/v1/webhook_endpoints/{endpoint_id}/replay/estimate", None, body={"since": EVER}, **one)
    replay = make("/v1/webhook_endpoints/{endpoint_id}/replay", "replay.started", body={"since": EVER}, **one)["id"]
    path = "/v1/webhook_endpoints/{endpoint_id}/replays/{replay_id}"
    server.until(path.format(**one, replay_id=replay), lambda found: found["status"] == "done")
    running = "UPDATE replays SET status = 'running', finished_at = NULL WHERE id = ?"
    query(server.application.settings.url, running, replay)
    make(f"{path}/cancel", "replay.canceled", **one, replay_id=replay)
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


def make_every_change_of_rules(changes: Changes, server: Server) -> None:
    """Every call that changes the program, campaigns, fraud rules and churn settings, and every call that starts a job."""
    make = changes.make
    url = server.application.settings.url
    [(account,)] = query(url, "SELECT id FROM accounts")
    make("/v1/program", "program.changed", "PATCH", {"point_value": "0.01"}, of=account)
    body: Any = {"name": "c", "kind": "bonus", "points": 1, "status": "paused"}
    campaign = make("/v1/campaigns", "campaign.created", body=body)["id"]
    make("/v1/campaigns/{campaign_id}", "campaign.changed", "PATCH", {"points": 2}, campaign_id=campaign)
    make("/v1/campaigns/{campaign_id}", "campaign.changed", "DELETE", campaign_id=campaign)
    rule = server.get("/v1/fraud/rules/velocity.redeem")["id"]
    body = {"rules": [{"code": "velocity.redeem", "score": 51}]}
    make("/v1/fraud/rules", "fraud_rule.updated", "PUT", body, of=rule)
    make("/v1/fraud/rules/{code}", "fraud_rule.updated", "PUT", {"score": 52}, code="points.cap")
    make("/v1/churn/settings", "churn_settings.updated", "PUT", {"horizon_days": 60}, of=account)
    make("/v1/churn/runs", "churn_run.started", body={"baseline": True})
    for kind, body in (("import", {"kind": "customers", "rows": [{}]}), ("export", {"kind": "customers"})):
        job = make(f"/v1/{kind}s", f"{kind}.created", body=body)["id"]
        server.until(f"/v1/{kind}s/{job}", lambda found: found["status"] == "done")
        query(url, "UPDATE jobs SET status = 'queued', finished_at = NULL WHERE id = ?", job)
        make(f"/v1/{kind}s/{{{kind}_id}}/cancel", "job.canceled", **{f"{kind}_id": job})


def make_every_change_of_refunds(changes: Changes, server: Server) -> None:
    """Every call that refunds, and the resolution of a fraud case."""
    make = changes.make
    customer = make("/v1/customers", "customer.created", body={})["id"]
    purchases = [{"customer_id": customer, "amount": 560, "currency": "EUR"}] * 6
    first = lambda answer: answer["data"][0]["transaction"]["id"]  # noqa: E731 - the object of the next line
    sold = make("/v1/transactions/batch", "transactions.recorded", body={"transactions": purchases}, of=first)["data"]
    one, *others = (each["transaction"]["id"] for each in sold)
    make("/v1/transactions/{transaction_id}/refunds", "transaction.refunded", of=one, body={}, transaction_id=one)
    body: Any = {"refunds": [{"transaction_id": each} for each in others[:3]]}
    make("/v1/refunds/batch", "transactions.refunded", body=body, of=others[0])
    case = server.get("/v1/fraud/cases?rule=velocity.earn")["data"][0]["id"]
    body = {"resolution": "false_positive"}
    make("/v1/fraud/cases/{case_id}/resolve", "fraud_case.false_positive", body=body, case_id=case)


def make_reading_posts(changes: Changes) -> None:
    """Every call that computes something from its body and changes nothing."""
    body = {"amount": 1, "currency": "EUR"}
    changes.make("/v1/transactions/calculate", None, body=body)
    changes.make("/v1/webhook_endpoints/check_url", None, body={"url": "https://localhost:1024/hook"})
    changes.make("/v1/fraud/rules/{code}/backtest", None, body={"days": 1}, code="points.cap")


def test_every_call_that_changes_something_is_noted_once_with_its_key_its_request_and_its_address(
    server: Server,
) -> None:
    changes = Changes(server)
    already = {each["id"] for each in server.get("/v1/audit_log?limit=100")["data"]}
    make_every_change(changes, server)
    make_every_change_of_redemptions(changes)
    make_every_change_of_customers(changes, server.application.settings.url)
    make_every_change_of_rules(changes, server)
    make_every_change_of_refunds(changes, server)
    make_reading_posts(changes)
    found = [each for each in server.get("/v1/audit_log?limit=100")["data"] if each["id"] not in already]
    assert [(each["actor"], each["action"], each["object_id"]) for each in found] == changes.noted
    assert {call for call in calls_of(server) if call[0] != "get"} == changes.calls


def changes_noted(server: Server, object_id: str) -> list[Any]:
    """What the audit log tells of the changes of an object, oldest first."""
    return [each["changes"] for each in reversed(server.get(f"/v1/audit_log?object_id={object_id}")["data"])]


def test_changes_of_the_configuration_have_the_values_that_differ_before_and_after(server: Server) -> None:
    [(account,)] = query(server.application.settings.url, "SELECT id FROM accounts")
    version = server.get("/v1/program")["version"]
    call = server.call
    assert call("PATCH", "/v1/program", {"pending": {"days": 3}}).status == 200
    assert call("PUT", "/v1/churn/settings", {"horizon_days": 60}).status == 200
    assert changes_noted(server, account)[-2:] == [
        {"before": {"version": version, "rules": {"pending_days": 0}},
         "after": {"version": version + 1, "rules": {"pending_days": 3}}},
        {"before": {"horizon_days": 90}, "after": {"horizon_days": 60}},
    ]  # fmt: skip
    campaign = server.post("/v1/campaigns", {"name": "c", "kind": "bonus", "points": 1, "status": "paused"})["id"]
    assert call("PATCH", f"/v1/campaigns/{campaign}", {"points": 2}).status == 200
    assert call("DELETE", f"/v1/campaigns/{campaign}").status == 200
    made, *later = changes_noted(server, campaign)
    assert (made["before"], made["after"]["name"], made["after"]["points"]) == ({}, "c", 1)
    assert later == [
        {"before": {"points": 1}, "after": {"points": 2}},
        {"before": {"status": "paused"}, "after": {"status": "archived"}},
    ]
    reward = server.post("/v1/rewards", {"name": "r", "type": "custom", "cost_points": 10})["id"]
    assert call("PATCH", f"/v1/rewards/{reward}", {"stock": 5}).status == 200
    assert changes_noted(server, reward)[1:] == [{"before": {"stock": None}, "after": {"stock": 5}}]
    rule = call("PUT", "/v1/fraud/rules/points.cap", {"threshold": 9_000, "score": 51}).json
    assert changes_noted(server, rule["id"]) == [
        {"before": {"params": {"threshold": 10_000}, "score": 50, "version": 1},
         "after": {"params": {"threshold": 9_000}, "score": 51, "version": 2}},
    ]  # fmt: skip


def test_changes_tell_no_personal_data_no_secret_and_no_value_of_a_header(server: Server) -> None:
    endpoint = server.post("/v1/webhook_endpoints", {"url": URL, "events": ["*"], "headers": {"X-A": "hidden-1"}})
    path = f"/v1/webhook_endpoints/{endpoint['id']}"
    assert server.call("PATCH", path, {"headers": {"X-A": "hidden-2"}}).status == 200
    assert (
        server.call("PATCH", path, {"status": "paused", "headers": {"X-A": "hidden-2", "X-B": "hidden-3"}}).status
        == 200
    )
    made, value, paused = changes_noted(server, endpoint["id"])
    assert (made["before"]["headers"], made["after"]["headers"], made["after"]["url"]) == ([], ["X-A"], URL)
    assert value == {"before": {"headers": ["X-A"]}, "after": {"headers": ["X-A"]}}
    assert paused == {
        "before": {"headers": ["X-A"], "status": "enabled"}, "after": {"headers": ["X-A", "X-B"], "status": "paused"},
    }  # fmt: skip
    customer = server.post("/v1/customers", {"name": "hidden-4"})["id"]
    body = {"name": "hidden-5", "email": "hidden@example.com", "phone": "+441234"}
    assert server.call("PATCH", f"/v1/customers/{customer}", body).status == 200
    assert [sorted(each["fields"]) for each in changes_noted(server, customer)[1:]] == [["email", "name", "phone"]]
    assert b"hidden" not in server.call("GET", "/v1/audit_log?limit=100").raw
    assert endpoint["secret"].encode() not in server.call("GET", "/v1/audit_log?limit=100").raw


def test_purchases_and_ledger_entries_have_their_key(server: Server) -> None:
    changes = Changes(server)
    make_every_change(changes, server)
    url = server.application.settings.url
    keys = dict(query(url, "SELECT 'key:' || id, name FROM api_keys"))
    purchases = query(url, "SELECT amount, actor FROM transactions ORDER BY id")
    entries = query(url, "SELECT type, actor FROM ledger_entries ORDER BY sequence")
    assert [(amount, keys[actor]) for amount, actor in purchases] == [(560, "one"), (99, "two"), (560, "two")]
    assert [(kind, keys[actor]) for kind, actor in entries] == [("earn", "one"), ("earn", "two"), ("adjust", "two")]


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
