"""Developers > Events, through plain requests."""

import re
from collections.abc import Iterator

import pytest

from support.browser import Browser
from support.databases import Databases
from support.members import Signed, new_member
from support.scenes import Scene, event_of
from support.server import Server

LIST = "/developers/events"


@pytest.fixture(scope="module")
def scene(databases: Databases) -> Iterator[Scene]:
    with Server(databases.fresh("sqlite"), sweep_interval=1) as running:
        yield Scene(running)


@pytest.fixture(scope="module")
def owner(scene: Scene) -> Signed:
    return new_member(scene.server, "owner", "owner-of-it@example.com")


@pytest.fixture(scope="module")
def points(scene: Scene) -> str:
    """The page of an event about points."""
    return event_of(scene)


def rows(browser: Browser) -> list[str]:
    """The types of the events that the page lists."""
    found = re.findall(rf'class="row-link mono" href="{LIST}/evt_\w+">(.*?)</a>', browser.text)
    return [each.replace("<wbr>", "") for each in found]


def test_the_list_says_what_was_said_and_whom_it_reached(scene: Scene, owner: Signed, points: str) -> None:
    browser = owner.browser
    browser.open(LIST)
    assert rows(browser) == ["points.earned", "transaction.completed", "customer.created"]
    assert ">0 of 1</a>" in browser.text
    assert "nobody" in browser.text
    assert "Ada Brandt" in browser.text
    browser.open(f"{LIST}?type=customer.created&customer={scene.ids['log']}")
    assert rows(browser) == ["customer.created"]
    browser.open(f"{LIST}?before={points.rpartition('/')[2]}")
    assert rows(browser) == ["transaction.completed", "customer.created"]
    for query in ("type=churn.risk", "customer=cus_00000000000000000000000000"):
        browser.open(f"{LIST}?{query}")
        assert rows(browser) == []
        assert "No event matches" in browser.text


def test_one_event_shows_its_body_its_cause_and_its_neighbors(scene: Scene, owner: Signed, points: str) -> None:
    browser = owner.browser
    browser.open(points)
    assert "Matches its schema" in browser.text
    assert rows(browser) == ["transaction.completed", "customer.created"]
    assert re.search(r"Purchase</dt><dd><a href=\"/transactions/txn_\w+\">", browser.text)
    assert re.search(r'href="/developers/deliveries/dlv_\w+">CRM<', browser.text)
    assert "event number 3 of this customer" in browser.text


def test_it_is_sent_again_to_one_or_to_all(scene: Scene, owner: Signed, points: str) -> None:
    browser, server = owner.browser, scene.server
    event = points.rpartition("/")[2]
    late = server.post(
        "/v1/webhook_endpoints",
        {"url": "https://localhost:1025/in", "events": ["fraud.detected"], "description": "Late"},
    )
    browser.open(points)
    browser.send(f"{points}/resend", endpoint=late["id"])
    assert "It is sent to 1 endpoint." in browser.text
    assert ">Late<" in browser.text
    assert len(server.get(f"/v1/deliveries?event_id={event}")["data"]) == 2
    browser.send(f"{points}/resend", endpoint="")
    assert "It is sent to 1 endpoint." in browser.text, "the other one is not subscribed"
    server.call("PATCH", f"/v1/webhook_endpoints/{late['id']}", {"status": "paused"})
    browser.send(f"{points}/resend", endpoint=late["id"])
    assert browser.status == 409
    assert "enable it with" in browser.text


def test_an_erased_event_says_so_and_is_sent_to_nobody(scene: Scene, owner: Signed) -> None:
    server, browser = scene.server, owner.browser
    gone = server.post("/v1/customers", {"name": "Gone Soon"})["id"]
    [event] = server.listed(f"/v1/events?customer_id={gone}")["data"]
    assert server.call("DELETE", f"/v1/customers/{gone}").status == 200
    server.until("/v1/events?limit=100", lambda found: event["id"] not in {each["id"] for each in found["data"]}, 90)
    browser.open(f"{LIST}/{event['id']}")
    assert "the content is erased" in browser.text
    assert "Gone Soon" not in browser.text
    assert "Resend" not in browser.text
    browser.open(LIST)
    assert "erased</span>" in browser.text


def test_roles_see_what_they_may(scene: Scene, points: str) -> None:
    viewer = new_member(scene.server, "viewer").browser
    viewer.open(points)
    assert "Ada" not in viewer.text
    assert "order-9017" not in viewer.text
    assert "Resend" not in viewer.text
    viewer.open(f"{LIST}/evt_00000000000000000000000000")
    assert viewer.status == 404
