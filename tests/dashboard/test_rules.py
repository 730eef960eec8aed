"""Program > Rules and tiers, through forms: sentences, effects before a change is saved, versions and campaigns."""

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from support.browser import Browser
from support.databases import Databases
from support.members import Signed, new_member
from support.server import Server


@pytest.fixture(params=("sqlite",))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


@pytest.fixture
def owner(server: Server) -> Browser:
    return new_member(server, "owner").browser


def shown(browser: Browser) -> str:
    """The text of the page, without its markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", browser.text)).split())


def fields_of(browser: Browser) -> dict[str, Any]:
    """What the fields of the page have, as a browser would send them."""
    found: dict[str, Any] = {}
    for tag in re.findall(r"<input [^>]*>", browser.text):
        given = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
        kind = given.get("type", "text")
        if "name" not in given or (kind in ("radio", "checkbox") and " checked" not in tag):
            continue
        found.setdefault(given["name"], []).append(html.unescape(given.get("value", "")))
    for name, value in re.findall(r'<textarea [^>]*name="([^"]+)"[^>]*>\n(.*?)</textarea>', browser.text, re.DOTALL):
        found[name] = [html.unescape(value)]
    for name, options in re.findall(r'<select [^>]*name="([^"]+)"[^>]*>(.*?)</select>', browser.text, re.DOTALL):
        found[name] = re.findall(r'<option value="([^"]*)" selected', options)
    return {name: values for name, values in found.items() if name not in ("csrf", "key")}


def first_rule(server: Server) -> str:
    """The path of the first rule."""
    return f"/rules/earning/{server.get('/v1/program')['earning']['rules'][0]['id']}"


def buy(server: Server, amount: int) -> str:
    """A new customer with a purchase."""
    customer = server.post("/v1/customers", {})["id"]
    server.post("/v1/transactions", {"customer_id": customer, "amount": amount, "currency": "EUR"})
    return str(customer)


def save(browser: Browser, note: str = "") -> None:
    """Send the form that saves what the page shows the effect of."""
    kept = fields_of(browser)
    browser.send("/rules/save", version=kept["version"], patch=kept["patch"], note=note)


def test_each_rule_is_a_sentence(server: Server, owner: Browser) -> None:
    owner.open("/rules")
    text = shown(owner)
    assert "1 point per 1.00 EUR 1 point for each 1.00 EUR." in text
    assert "Every customer starts here." in text
    assert "Reached with 1,000 points earned." in text
    assert "Tiers count points earned in the last 12 months." in text
    assert "Points last 12 months." in text
    assert "Version 1 is in force." in text
    assert "No campaign yet" in text


def test_an_edited_rule_shows_its_effect_and_is_saved_after_it(server: Server, owner: Browser) -> None:
    buy(server, 60_000)
    buy(server, 5_050)
    path = first_rule(server)
    owner.open(path)
    owner.send(path, fields=fields_of(owner) | {"points": "2", "name": "Two for one"})
    text = shown(owner)
    assert owner.status == 200, text
    assert "The last 30 days would have given 100.2 % more points" in text, text
    assert "1 customer would be Silver." in text
    assert "Two for one: 2 points for each 1.00 EUR." in text
    assert server.get("/v1/program")["version"] == 1, "nothing is saved yet"
    save(owner, "spring")
    assert "Version 2 of the program is in force." in owner.text
    program = server.get("/v1/program")
    assert (program["version"], program["note"]) == (2, "spring")
    [rule] = program["earning"]["rules"]
    assert (rule["name"], rule["rates"]) == ("Two for one", {"EUR": {"points": 2, "per_amount": 100}})
    assert program["actor"].startswith("person:")
    owner.open("/rules/versions/2")
    assert "spring" in owner.text
    assert "Two for one" in shown(owner)


def test_a_form_that_is_sent_twice_makes_one_version(server: Server, owner: Browser) -> None:
    path = first_rule(server)
    owner.open(path)
    owner.send(path, fields=fields_of(owner) | {"points": "3"})
    kept = fields_of(owner)
    sent = {
        "version": kept["version"],
        "patch": kept["patch"],
        "key": owner.hidden("key"),
        "csrf": owner.hidden("csrf"),
    }
    owner.send("/rules/save", fields=sent)
    owner.send("/rules/save", fields=sent)
    assert owner.status == 200
    assert server.get("/v1/program")["version"] == 2


def test_a_change_of_another_version_is_not_made(server: Server, owner: Browser) -> None:
    path = first_rule(server)
    owner.open(path)
    owner.send(path, fields=fields_of(owner) | {"points": "3"})
    server.call("PATCH", "/v1/program", {"pending": {"days": 3}})
    save(owner)
    assert owner.status == 412
    assert server.get("/v1/program")["earning"]["rules"][0]["rates"]["EUR"]["points"] == 1


@pytest.mark.parametrize(
    ("fields", "name", "words"),
    [
        ({"points": "many"}, "points", "Write a whole number"),
        ({"points": "0"}, "points", "Send 1 or more."),
        ({"per_amount": "1.005"}, "per_amount", "Write an amount such as 1.00."),
        ({"name": ""}, "name", "Send at least 1 character"),
        ({"others": "JPY 1"}, "others", "JPY 1 per 100"),
        ({"others": "XXQ 1 per 1"}, "others", "ISO 4217"),
        ({"min_spend": "0"}, "min_spend", "Send 1 or more."),
    ],
)
def test_a_refused_rule_keeps_its_input_and_says_what_to_do(
    server: Server, owner: Browser, fields: dict[str, str], name: str, words: str
) -> None:
    path = first_rule(server)
    owner.open(path)
    owner.send(path, fields=fields_of(owner) | fields)
    assert owner.status == 422
    [error] = re.findall(rf'id="{name}-error">(.*?)</p>', owner.text)
    assert words in re.sub(r"<[^>]+>", "", error)
    assert [html.unescape(fields[each]) for each in fields] == [fields_of(owner)[each][0] for each in fields]


def test_a_rule_for_pieces_is_added_edited_further_and_removed(server: Server, owner: Browser) -> None:
    owner.open("/rules/earning/new")
    given = fields_of(owner) | {
        "name": "Tea", "kind": "piece", "points_per_item": "10", "categories": "tea\ncoffee", "min_spend": "5.00",
    }  # fmt: skip
    owner.send("/rules/earning/new", fields=given)
    assert "10 points for each piece of items of the category tea or coffee, from 5.00 EUR on." in shown(owner)
    kept = fields_of(owner)
    owner.send("/rules/earning/new", fields=kept)
    assert fields_of(owner)["points_per_item"] == ["10"], "the input is there again"
    owner.send("/rules/earning/new", fields=fields_of(owner) | {"points_per_item": "20"})
    save(owner)
    _, tea = server.get("/v1/program")["earning"]["rules"]
    assert (tea["points_per_item"], tea["match"]) == (20, {"skus": [], "categories": ["tea", "coffee"]})
    owner.open(f"/rules/earning/{tea['id']}")
    owner.send(f"/rules/earning/{tea['id']}/remove")
    assert "removed" in owner.text
    save(owner)
    assert len(server.get("/v1/program")["earning"]["rules"]) == 1
    path = first_rule(server)
    owner.open(path)
    owner.send(f"{path}/remove")
    assert owner.status == 422, "the last rule stays"
    assert "Send at least 1 item" in shown(owner)


def test_tiers_are_changed_added_and_retired(server: Server, owner: Browser) -> None:
    buy(server, 120_000)
    owner.open("/rules/tiers")
    given = fields_of(owner) | {
        "tiers[1].name": "", "tiers[2].threshold": "1200", "tiers[2].benefits": "ship: Free shipping",
        "tiers[3].name": "Crown", "tiers[3].threshold": "9000", "tiers[3].multiplier_permille": "1.5",
    }  # fmt: skip
    owner.send("/rules/tiers", fields=given)
    text = shown(owner)
    assert "1 customer would be Gold." in text, text
    assert "Reached with 9,000 points earned. Purchases earn 1.5 times the points." in text
    save(owner)
    tiers = server.get("/v1/program")["tiers"]
    assert [(each["name"], each["threshold"], each["multiplier_permille"]) for each in tiers] == [
        ("Bronze", 0, 1_000),
        ("Gold", 1_200, 1_000),
        ("Crown", 9_000, 1_500),
    ]
    assert tiers[1]["benefits"] == [{"code": "ship", "text": "Free shipping"}]
    owner.open("/rules/tiers")
    owner.send("/rules/tiers", fields=fields_of(owner) | {"tiers[1].threshold": "x"})
    assert owner.status == 422
    assert "Write a whole number" in owner.text
    owner.send("/rules/tiers", fields=fields_of(owner) | {"tiers[1].threshold": "0"})
    assert "Two tiers have the threshold 0" in owner.text


def test_settings_are_saved_as_they_are_stated_and_an_earlier_version_is_used_again(
    server: Server, owner: Browser
) -> None:
    before = server.get("/v1/program")
    owner.open("/rules/settings")
    unchanged = fields_of(owner)
    owner.send("/rules/settings", fields=unchanged)
    assert "This changes nothing" in owner.text
    owner.open("/rules/settings")
    given = unchanged | {
        "earning.rounding": "half_up", "earning.min_spend": "10.00", "earning.exclude.skus": "GIFT",
        "earning.conversion": "JPY 0.0061", "expiry.kind": "date", "expiry.month_day": "06-30", "pending.days": "14",
        "tiering.window.kind": "calendar", "point_value": "0.01", "earning.max_points_per_day": "500",
    }  # fmt: skip
    owner.send("/rules/settings", fields=given)
    text = shown(owner)
    assert "Points expire after the next 30 June." in text, text
    assert "Nothing is earned on items with the SKU GIFT." in text
    save(owner)
    after = server.get("/v1/program")
    assert after["earning"]["conversion"] == {"JPY": "0.0061"}
    assert (after["earning"]["min_spend"], after["earning"]["exclude"]["skus"]) == (1_000, ["GIFT"])
    assert (after["expiry"]["month_day"], after["pending"]["days"], after["point_value"]) == ("06-30", 14, "0.01")
    owner.open("/rules/settings")
    owner.send("/rules/settings", fields=fields_of(owner) | {"expiry.month_day": "02-30"})
    assert owner.status == 422
    assert 'id="expiry.month_day-error"' in owner.text
    owner.open("/rules/versions/1")
    owner.send("/rules/versions/1/again")
    assert "Points last 12 months." in shown(owner)
    save(owner)
    again = server.get("/v1/program")
    assert again["version"] == 3
    own = ("version", "note", "actor", "created_at")
    assert {name: again[name] for name in again if name not in own} == {
        name: before[name] for name in before if name not in own
    }


def test_a_patch_that_nobody_was_shown_is_checked_like_every_other(server: Server, owner: Browser) -> None:
    owner.open("/rules/tiers")
    for patch in ("", "[]", "{", json.dumps({"tiers": []}), json.dumps({"surprise": 1})):
        owner.open("/rules/tiers")
        owner.send("/rules/save", version="1", patch=patch)
        assert owner.status == 422, patch
    owner.open("/rules/tiers")
    owner.send("/rules/save", version="x", patch="{}")
    assert owner.status == 422
    assert server.get("/v1/program")["version"] == 1


def test_a_campaign_is_added_changed_paused_and_archived(server: Server, owner: Browser) -> None:
    silver = server.get("/v1/program")["tiers"][1]["id"]
    owner.open("/rules/campaigns/new")
    given = fields_of(owner) | {
        "name": "Weekend", "multiplier_permille": "2.5", "weekdays": ["5", "6"], "tier_ids": [silver],
        "ends_at": "2030-01-01T12:00", "tags": "vip, staff",
    }  # fmt: skip
    owner.send("/rules/campaigns/new", fields=given)
    text = shown(owner)
    assert "The campaign Weekend is added." in text, text
    words = (
        "2.5 times the points, on Saturdays and Sundays, for the tier Silver, for customers with the tag vip or staff."
    )
    assert words in text
    [campaign] = server.get("/v1/campaigns")["data"]
    assert (campaign["weekdays"], campaign["ends_at"]) == (["sat", "sun"], "2030-01-01T12:00:00.000Z")
    path = f"/rules/campaigns/{campaign['id']}"
    owner.open(path)
    owner.send(path, fields=fields_of(owner) | {"kind": "bonus", "points": "100", "min_spend": "50"})
    assert "100 points on top, from 50.00 EUR on" in shown(owner)
    owner.open(path)
    owner.send(path, fields=fields_of(owner) | {"points": ""})
    assert owner.status == 422
    assert 'id="points-error"' in owner.text
    owner.open(path)
    owner.send(f"{path}/pause")
    assert "The campaign Weekend is paused." in owner.text
    owner.send(f"{path}/resume")
    assert server.get(f"/v1/campaigns/{campaign['id']}")["status"] == "active"
    owner.open(path)
    owner.send(f"{path}/archive")
    assert "Archived" in owner.text
    owner.open("/rules/campaigns/new")
    owner.send(f"{path}/resume")
    assert owner.status == 404
    audited = [each["action"] for each in server.get(f"/v1/audit_log?object_id={campaign['id']}")["data"]]
    assert audited == ["campaign.changed"] * 4 + ["campaign.created"]


def test_a_viewer_sees_the_rules_and_no_way_to_change_them(server: Server) -> None:
    viewer: Signed = new_member(server, "viewer")
    viewer.browser.open("/rules")
    assert "1 point for each 1.00 EUR." in shown(viewer.browser)
    assert "Edit" not in viewer.browser.text
    viewer.browser.open(first_rule(server))
    assert viewer.browser.status == 403
