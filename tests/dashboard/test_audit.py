"""Account > Audit log: who, what, on what, before and after, from where; as a page and as a file."""

import csv
import html
import io
import re
from collections.abc import Iterator

import pytest

from loyalpro.accounts.entities import AuditEntry
from loyalpro.web.dashboard.pages.audit import changed
from support.browser import Browser
from support.databases import Databases
from support.members import Signed, new_member
from support.server import Server


@pytest.fixture(params=("sqlite",))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


@pytest.fixture
def owner(server: Server) -> Signed:
    return new_member(server, "owner")


def shown(browser: Browser) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", browser.text)).split())


def test_a_change_is_shown_with_its_values_before_and_after(server: Server, owner: Signed) -> None:
    server.call("PATCH", "/v1/program", {"expiry": {"n": 24}})
    owner.browser.open("/audit")
    text = shown(owner.browser)
    assert "program.changed" in text
    assert "rules.expiry.n 12 → 24" in text
    assert "API key bootstrap" in text
    assert "127.0.0.1" in text


def test_changes_are_filtered_by_actor_and_by_object(server: Server, owner: Signed) -> None:
    campaign = server.post("/v1/campaigns", {"name": "C", "kind": "bonus", "points": 1})["id"]
    owner.browser.open(f"/rules/campaigns/{campaign}")
    owner.browser.send(f"/rules/campaigns/{campaign}/pause")
    owner.browser.open(f"/audit?object={campaign}")
    assert re.findall(r"<code>(campaign\.\w+)</code>", owner.browser.text) == ["campaign.changed", "campaign.created"]
    owner.browser.open(f"/audit?actor={owner.person.actor}&object={campaign}")
    assert re.findall(r"<code>(campaign\.\w+)</code>", owner.browser.text) == ["campaign.changed"]
    assert "owner@example.com" in owner.browser.text
    owner.browser.open("/audit?object=cus_nothing")
    assert "No change matches" in owner.browser.text


def test_pages_continue_where_the_one_before_ended(server: Server, owner: Signed) -> None:
    for number in range(60):
        server.call("PATCH", "/v1/program", {"pending": {"days": number + 1}})
    owner.browser.open("/audit")
    seen = re.findall(r"rules\.pending_days</dt><dd>.*?→ (\d+)</dd>", owner.browser.text)
    [older] = re.findall(r'href="(/audit\?before=aud_\w+)"', owner.browser.text)
    owner.browser.open(older)
    seen += re.findall(r"rules\.pending_days</dt><dd>.*?→ (\d+)</dd>", owner.browser.text)
    assert seen == [str(number) for number in range(60, 0, -1)]


def test_the_file_has_what_the_filter_finds_and_taking_it_is_noted(server: Server, owner: Signed) -> None:
    reward = {"name": "=cmd()", "type": "custom", "cost_points": 5}
    reward_id = server.post("/v1/rewards", reward)["id"]
    owner.browser.open(f"/audit?object={reward_id}")
    owner.browser.send("/audit/export", object=reward_id, actor="")
    assert owner.browser.headers["content-disposition"] == 'attachment; filename="audit-log.csv"'
    header, row = list(csv.reader(io.StringIO(owner.browser.text)))
    found = dict(zip(header, row, strict=True))
    assert (found["action"], found["object"], found["name"]) == ("reward.created", reward_id, "API key bootstrap")
    assert '"cost_points":5' in found["after"]
    [noted] = [each for each in server.get("/v1/audit_log")["data"] if each["action"] == "audit_log.exported"]
    assert noted["actor"] == owner.person.actor


def test_only_owners_read_it(server: Server) -> None:
    for role in ("developer", "support", "viewer"):
        member = new_member(server, role)
        member.browser.open("/audit")
        assert member.browser.status == 403


def entry(changes: dict[str, object] | None) -> AuditEntry:
    return AuditEntry("aud_1", "acct_1", "key:1", "a.b", "c", 0, None, None, changes)


def test_fields_of_fields_have_the_name_of_their_place() -> None:
    assert changed(entry(None)) == []
    assert changed(entry({"before": {"a": {"b": 1}}, "after": {"a": {"b": None}, "c": "x"}})) == [
        ("a.b", "1", "null"),
        ("c", None, "x"),
    ]
    assert changed(entry({"after": {"a": {"b": {"c": 1}}}})) == [("a.b.c", None, "1")]
    assert changed(entry({"before": {"a": 1}, "after": {}})) == [("a", "1", None)]
    assert changed(entry({"customers": 3, "of": {"x": [1]}})) == [("customers", None, "3"), ("of.x", None, "[1]")]
    assert len(changed(entry({"text": "x" * 1_000}))[0][2] or "") == 301
