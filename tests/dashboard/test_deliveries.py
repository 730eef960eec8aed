"""Developers > Deliveries, through plain requests."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from support.browser import Browser
from support.chromium import Tab
from support.databases import Databases
from support.members import Signed, new_member
from support.server import Server

LIST = "/developers/deliveries"


@pytest.fixture(scope="module")
def server(databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh("sqlite")) as running:
        yield running


@pytest.fixture(scope="module")
def owner(server: Server) -> Signed:
    return new_member(server, "owner", "first@example.com")


@pytest.fixture(scope="module")
def crm(server: Server) -> str:
    """An endpoint at which nothing listens."""
    body = {"url": "https://localhost:1024/in", "events": ["*"], "description": "CRM"}
    return str(server.post("/v1/webhook_endpoints", body)["id"])


def customer(server: Server, name: str) -> tuple[str, str]:
    """A new customer; its id, and the id of the delivery that says so."""
    made = server.post("/v1/customers", {"name": name})
    found = server.until(
        f"/v1/deliveries?customer_id={made['id']}", lambda page: page["data"] and page["data"][0]["last_outcome"]
    )
    return made["id"], found["data"][0]["id"]


def rows(browser: Browser) -> list[str]:
    """The ids of the deliveries that the page shows."""
    return re.findall(rf'class="row-link mono" href="{LIST}/(dlv_\w+)"', browser.text)


def test_the_log_is_found_by_everything_that_it_shows(server: Server, owner: Signed, crm: str) -> None:
    ada, first = customer(server, "Ada Brandt")
    _, second = customer(server, "Jonas <b>Keller</b>")
    browser = owner.browser
    browser.open(LIST)
    assert rows(browser) == [second, first]
    assert "Jonas &lt;b&gt;Keller&lt;/b&gt;" in browser.text
    assert re.search(r">Pending<span class=\"n\">2<", browser.text)
    assert "No connection" in browser.text
    for query, found in {
        f"customer={ada}": [first],
        f"endpoint={crm}&status=pending": [second, first],
        "status=succeeded": [],
        "outcome=connect_failed&type=customer.created&since=1h": [second, first],
        "outcome=gone": [],
        f"since={server.get(f'/v1/deliveries/{second}')['created_at'].replace('+', '%2B')}": [second],
        "until=2020-01-01T00:00:00Z": [],
        "endpoint=nonsense&status=nonsense&type=nonsense&outcome=nonsense&since=nonsense": [second, first],
    }.items():
        browser.open(f"{LIST}?{query}")
        assert rows(browser) == found, query
    assert "curl -H" in browser.text
    browser.open(f"{LIST}?outcome=gone")
    assert "No delivery matches" in browser.text
    assert "outcome=gone&amp;limit=50" in browser.text


def test_an_id_leads_to_what_has_it(server: Server, owner: Signed, crm: str) -> None:
    ada, delivery = customer(server, "Mira")
    browser = owner.browser
    for text, path in ((delivery, f"{LIST}/{delivery}"), (delivery[-30:], f"{LIST}/{delivery}")):
        browser.request("GET", f"{LIST}?q={text}")
        assert browser.headers.get("location") == path, text
    browser.open(f"{LIST}?q={ada}")
    assert rows(browser) == [delivery]
    assert f"customer={ada}" in browser.query
    browser.open(f"{LIST}?q=no-such-id")
    assert "is found by “no-such-id”" in browser.text


def test_what_is_newer_is_counted_for_the_filters(server: Server, owner: Signed, crm: str) -> None:
    browser = owner.browser
    _, before = customer(server, "One")
    _, after = customer(server, "Two")
    browser.open(f"{LIST}/newer?after={before}")
    assert "Show 1 newer delivery<" in browser.text
    browser.open(f"{LIST}/newer?after={before}&outcome=gone")
    assert "newer" not in browser.text
    browser.open(f"{LIST}/newer?after={after}")
    assert browser.text.strip() == ""
    browser.open(f"{LIST}/rows?before={after}")
    assert rows(browser)[0] == before
    assert "/newer?" not in browser.text, "a page of older rows does not change"


def test_chosen_deliveries_are_sent_and_canceled(server: Server, owner: Signed, crm: str) -> None:
    ids = [customer(server, name)[1] for name in ("Nora", "Kai")]
    browser = owner.browser

    def status(id_: str) -> Any:
        return server.get(f"/v1/deliveries/{id_}")

    browser.open(f"{LIST}?status=pending")
    browser.send(f"{LIST}/send", id=ids, back="status=pending")
    assert browser.query == "status=pending"
    assert "2 deliveries are sent now." in browser.text
    for each in ids:
        server.until(f"/v1/deliveries/{each}", lambda found: found["attempt_count"] > 1)
    browser.send(f"{LIST}/cancel", id=ids[:1])
    assert "1 delivery is canceled." in browser.text
    assert [status(each)["status"] for each in ids] == ["canceled", "pending"]
    browser.send(f"{LIST}/send", id="")
    assert "Select deliveries first." in browser.text
    paused = server.call("PATCH", f"/v1/webhook_endpoints/{crm}", {"status": "paused"})
    assert paused.status == 200
    browser.send(f"{LIST}/send", id=ids)
    assert "0 deliveries are sent now. 2 cannot be: " in browser.text
    server.call("PATCH", f"/v1/webhook_endpoints/{crm}", {"status": "enabled"})


def test_a_viewer_sees_names_masked_and_changes_nothing(server: Server, owner: Signed, crm: str) -> None:
    customer(server, "Theo Nagel")
    viewer = new_member(server, "viewer").browser
    viewer.open(LIST)
    assert "T… N…el" in viewer.text
    assert "Theo" not in viewer.text
    assert "Send now" not in viewer.text
    support = new_member(server, "support").browser
    support.open(LIST)
    assert "Theo Nagel" in support.text
    assert "Send now" in support.text
    assert f"{LIST}/cancel" not in support.text


def test_what_is_newer_waits_until_it_is_asked_for(server: Server, owner: Signed, crm: str, tab: Tab) -> None:
    """In a browser: new rows do not move those that are there, and one delivery is sent by a key."""
    customer(server, "Before")
    page = tab.open(LIST)
    shown = page.locator("#rows tbody tr").count()
    _, delivery = customer(server, "After")
    page.wait_for_selector("text=Show 1 newer delivery")
    assert page.locator("#rows tbody tr").count() == shown
    page.click("text=Show 1 newer delivery")
    page.wait_for_selector(f'#rows a[href="{LIST}/{delivery}"]')
    page.click(f'a[href="{LIST}/{delivery}"]')
    page.wait_for_selector("text=No connection could be made")
    before = server.get(f"/v1/deliveries/{delivery}")["attempt_count"]
    page.keyboard.press("s")
    page.wait_for_selector("text=It is sent now.")
    server.until(f"/v1/deliveries/{delivery}", lambda found: found["attempt_count"] > before)
    page.wait_for_selector(f'a.attempt[href="{LIST}/{delivery}?attempt={before + 1}#attempt"]')
