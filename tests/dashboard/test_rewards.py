"""Program > Rewards, through forms: rewards with their stock, and redemptions that are reversed and canceled."""

import html
import re
from collections.abc import Iterator

import pytest

from support.browser import Browser
from support.databases import Databases
from support.members import new_member
from support.server import Server

NEW = {
    "name": "5 EUR off", "type": "amount_off", "amount": "5", "percent": "10", "cost_points": "100", "stock": "2",
    "status": "active", "tags": "vip", "starts_at": "2026-01-01T10:00",
}  # fmt: skip


@pytest.fixture(params=("sqlite",))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


@pytest.fixture
def support(server: Server) -> Browser:
    return new_member(server, "support").browser


def shown(browser: Browser) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", browser.text)).split())


def test_a_reward_is_added_changed_and_archived(server: Server, support: Browser) -> None:
    support.open("/rewards")
    assert "No reward here" in support.text
    support.open("/rewards/new")
    support.send("/rewards/new", fields=NEW)
    assert "5 EUR off 5.00 EUR off 100 2 Active" in shown(support)
    [reward] = server.get("/v1/rewards")["data"]
    assert (reward["amount"], reward["currency"], reward["percent"], reward["tags"]) == (500, "EUR", None, ["vip"])
    assert reward["starts_at"] == "2026-01-01T10:00:00.000Z"
    path = f"/rewards/{reward['id']}"
    support.open(path)
    assert 'value="5.00"' in support.text
    support.send(path, fields=NEW | {"type": "percent_off", "stock": "0", "tags": ""})
    assert "5 EUR off 10 % off 100 none left Active" in shown(support)
    changed = server.get(f"/v1/rewards/{reward['id']}")
    assert (changed["amount"], changed["currency"], changed["percent"], changed["tags"]) == (None, None, 10, [])
    support.open(path)
    support.send(f"{path}/archive")
    assert server.get(f"/v1/rewards/{reward['id']}")["status"] == "archived"
    support.open("/rewards?status=archived")
    assert "5 EUR off" in support.text
    audited = [each["action"] for each in server.get(f"/v1/audit_log?object_id={reward['id']}")["data"]]
    assert audited == ["reward.archived", "reward.updated", "reward.created"]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"name": ""}, "name"),
        ({"amount": ""}, "amount"),
        ({"amount": "a lot"}, "amount"),
        ({"cost_points": ""}, "cost_points"),
        ({"stock": "-1"}, "stock"),
        ({"type": "percent_off", "percent": "101"}, "percent"),
        ({"type": "nothing"}, "type"),
        ({"starts_at": "soon"}, "starts_at"),
        ({"ends_at": "2025-01-01T10:00"}, "ends_at"),
    ],
)
def test_a_refused_reward_says_what_is_wrong_at_its_field(support: Browser, fields: dict[str, str], name: str) -> None:
    support.open("/rewards/new")
    support.send("/rewards/new", fields=NEW | fields)
    assert support.status == 422
    assert f'id="{name}-error"' in support.text


def test_redemptions_are_found_reversed_and_canceled_once(server: Server, support: Browser) -> None:
    customer = server.post("/v1/customers", {"name": "Jo Lee"})["id"]
    server.post(f"/v1/customers/{customer}/adjustments", {"points": 200, "reason_code": "goodwill"})
    redeemed = server.post("/v1/redemptions", {"customer_id": customer, "points": 100})
    reserved = server.post("/v1/redemptions", {"customer_id": customer, "points": 60, "reserve": True})
    support.open("/rewards/redemptions")
    text = shown(support)
    assert "Jo Lee 60 Reserved" in text
    assert "Jo Lee 100 Redeemed" in text
    key, csrf = support.hidden("key"), support.hidden("csrf")
    path = f"/rewards/redemptions/{redeemed['id']}/reverse"
    support.send(path, key=key, csrf=csrf)
    assert "100 points are given back." in support.text
    support.send(path, key=key, csrf=csrf)
    support.open("/rewards/redemptions")
    support.send(f"/rewards/redemptions/{reserved['id']}/cancel")
    assert "60 points are given back." in support.text
    assert server.get(f"/v1/customers/{customer}")["points"]["available"] == 200
    support.open("/rewards/redemptions?code=nothing")
    assert "No redemption has this code" in support.text


def test_a_viewer_changes_nothing_and_sees_initials(server: Server) -> None:
    customer = server.post("/v1/customers", {"name": "Jo Lee"})["id"]
    server.post(f"/v1/customers/{customer}/adjustments", {"points": 200, "reason_code": "goodwill"})
    server.post("/v1/redemptions", {"customer_id": customer, "points": 100})
    viewer = new_member(server, "viewer").browser
    viewer.open("/rewards/redemptions")
    assert "J… L…" in viewer.text
    assert "Jo Lee" not in viewer.text
    assert "Reverse" not in viewer.text
    viewer.open("/rewards/new")
    assert viewer.status == 403
