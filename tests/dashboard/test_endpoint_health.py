"""How endpoints are: the list, the page of one, "Try it now", and replays."""

import re
import socket
from collections.abc import Iterator

import pytest

from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, rfc3339
from support.browser import Browser
from support.chromium import Browser as Chromium
from support.databases import Databases
from support.members import new_member
from support.receivers import Authority, Hit, RawServer, answer
from support.scenes import Scene, endpoint_of, plant_attempts
from support.server import Server


@pytest.fixture(scope="module")
def server(databases: Databases, authority: Authority) -> Iterator[Server]:
    with Server(databases.fresh("sqlite"), authority.ca_file) as running:
        yield running


@pytest.fixture(scope="module")
def owner(server: Server) -> Browser:
    return new_member(server, "owner", "mira@example.com").browser


def figures(browser: Browser) -> dict[str, tuple[str, str]]:
    """The figures of a page: the value and the note of each."""
    found = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", browser.text)
    plain = [(name, re.sub(r"<.*?>", "|", each).strip("|")) for name, each in found]
    return {name: (value.partition("|")[0], value.rpartition("|")[2]) for name, value in plain}


def test_the_page_of_an_endpoint_says_what_was_counted(server: Server, owner: Browser, scene: Scene) -> None:
    path = endpoint_of(scene, "Counted", events=["points.redeemed"])
    now = server.application.clock.now_ms()
    plant_attempts(scene, scene.ids["Counted"], now, failing_hours=30 * 24, hours=30 * 24 + 40)
    for period, words in (("1h", "1 hour"), ("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days")):
        stats = server.get(f"/v1/webhook_endpoints/{scene.ids['Counted']}/stats?period={period}")
        owner.open(f"{path}?period={period}")
        attempts = stats["delivered"] + stats["failed"]
        _, note = figures(owner)[f"Delivered in {words}"]
        assert note == f"{stats['delivered']:,} of {attempts:,} attempts"
        assert f"Attempts by the {stats['step']}" in owner.text
        assert len(owner.text.encode()) < 60_000
        for failure in stats["failures"]:
            label = str(failure["response_status"] or "No answer")
            row = rf"<tr><td>(?:<a [^>]+>)?{label}(?:</a>)?</td>.*?<td class=\"num\">{failure['attempts']:,}</td></tr>"
            assert re.search(row, owner.text), (period, row)
        rows = re.findall(r"<td>[^<]+</td><td class=\"num\">([\d,]+)</td><td class=\"num\">([\d,]+)</td>", owner.text)
        assert sum(int(each.replace(",", "")) for each, _ in rows) == stats["delivered"]
        assert sum(int(each.replace(",", "")) for _, each in rows) == stats["failed"]
        assert owner.text.count("<g><title>") == len(rows)
    owner.open(f"{path}?period=forever")
    assert "Delivered in 24 hours" in owner.text


def test_the_list_sums_the_last_day_and_each_row_is_the_day_of_its_endpoint(
    server: Server, owner: Browser, scene: Scene
) -> None:
    endpoint_of(scene, "Listed", events=["points.redeemed"])
    plant_attempts(scene, scene.ids["Listed"], server.application.clock.now_ms(), failing_hours=4)
    listed = server.get("/v1/webhook_endpoints?limit=100")["data"]
    stats = [server.get(f"/v1/webhook_endpoints/{each['id']}/stats") for each in listed]
    delivered, failed = sum(each["delivered"] for each in stats), sum(each["failed"] for each in stats)
    owner.open("/developers/webhooks/rows")
    assert figures(owner)["Delivered in 24 hours"] == (f"{delivered:,}", f"in {delivered + failed:,} attempts")
    for each in stats:
        assert f'aria-label="{each["delivered"]:,} delivered, {each["failed"]:,} failed"' in owner.text


def test_a_failing_endpoint_is_tried_at_once(server: Server, owner: Browser, authority: Authority) -> None:
    answers = [500]

    def script(connection: socket.socket, hit: Hit | None) -> None:
        connection.sendall(answer(answers[0]))

    with RawServer(script, authority.context()) as receiver:
        body = {"url": receiver.url, "events": ["*"], "description": "Flaky"}
        endpoint = server.post("/v1/webhook_endpoints", body)["id"]
        path = f"/developers/webhooks/{endpoint}"
        server.post("/v1/customers", {})
        server.until(f"/v1/webhook_endpoints/{endpoint}", lambda found: found["health"]["state"] != "healthy")
        owner.open(path)
        assert "It has failed since" in owner.text
        assert figures(owner)["Waiting"][0] == "1"
        assert re.search(r">oldest <time [^>]+>[^<]+</time>", owner.text)
        assert ">500<" in owner.text
        owner.open("/developers/webhooks")
        assert "Flaky has failed" in owner.text
        answers[0] = 200
        owner.send(f"{path}/try")
        assert "One delivery is being tried now." in owner.text
        server.until(f"/v1/webhook_endpoints/{endpoint}/stats", lambda found: found["delivered"] == 1)
        [entry] = [
            each for each in server.get("/v1/audit_log?limit=10")["data"] if each["action"] == "delivery.retried"
        ]
        assert entry["actor"].startswith("person:")
        owner.send(f"{path}/try", key="another")
        assert "No delivery waits for this endpoint." in owner.text
        assert figures(owner)["Time to answer"][1].startswith("p50 ")
        owner.open(f"{path}/now")
        assert 'id="figures" hx-swap-oob="true"' in owner.text
        server.call("DELETE", f"/v1/webhook_endpoints/{endpoint}")


def test_a_replay_is_counted_started_watched_and_listed(server: Server, scene: Scene) -> None:
    person = new_member(server, "developer", "zoe@example.com").browser
    person.cookies["loyalpro-zone"] = "America/New_York"
    for _ in range(3):
        server.post("/v1/customers", {})
    path = endpoint_of(scene, "Replayed", status="paused", events=["customer.created"])
    person.open(f"{path}/replays")
    assert "No replay yet" in person.text
    events = len(server.get("/v1/events?limit=100")["data"])
    assert f"<strong>{events}</strong> events are in this range" in person.text
    fields = {"since": "2026-03-08T03:00:00", "until": "", "status": ["missing"], "types": ["customer.created"]}
    person.send(f"{path}/count-replay", fields=fields | {"since": "2099-01-01T00:00"})
    assert "since must be before until, and before now." in person.text
    for name, value, words in (
        ("since", "", "Say where the range begins."),
        ("since", "yesterday", "Write a date and a time of day"),
        ("until", "2001-01-01T00:00", "since must be before until"),
        ("status", [], "Select at least one kind of deliveries."),
        ("types", ["no.such"], "no.such"),
    ):
        person.send(f"{path}/replays", fields=fields | {name: value})
        assert person.status in (400, 422), (name, value)
        assert words in person.text
        assert 'value="2026-03-08T03:00:00"' in person.text or name == "since", "the input is kept"
    person.send(f"{path}/replays", fields=fields)
    assert re.fullmatch(rf"{path}/replays/rpl_\w+", person.path)
    own = person.path.replace("/developers/webhooks", "/v1/webhook_endpoints")
    started = server.until(own, lambda found: found["status"] == "done")
    assert started["since"] == "2026-03-08T07:00:00.000Z", "3 o'clock on the day of summer time"
    assert started["delivery_statuses"] == ["missing"]
    person.open(f"{person.path}/now")
    assert "Done" in person.text
    assert "hx-get" not in person.text, "what is done is not polled"
    assert f"{started['replayed']} deliver" in person.text
    person.open(f"{path}/replays")
    person.send(f"{path}/replays/{started['id']}/cancel")
    assert "This replay is done, so it cannot be canceled." in person.text
    person.open(f"{path}/replays")
    assert f'href="{path}/replays/{started["id"]}"' in person.text


def test_a_viewer_sees_replays_and_starts_none(server: Server, scene: Scene) -> None:
    viewer = new_member(server, "viewer", "vera@example.com").browser
    viewer.open(f"{endpoint_of(scene, 'Replayed', status='paused')}/replays")
    assert viewer.status == 200
    assert "New replay" not in viewer.text
    viewer.open(endpoint_of(scene, "Counted", events=["points.redeemed"]))
    assert "/try" not in viewer.text


def test_the_number_of_events_follows_the_range_in_a_browser(chromium: Chromium, scene: Scene) -> None:
    server = scene.server
    server.post("/v1/customers", {})
    path = endpoint_of(scene, "Watched", status="paused")
    with chromium.tab(scene.base_url) as tab:
        tab.sign_in(scene.token("owner"))
        page = tab.open(f"{path}/replays")
        before = page.locator("#count strong").inner_text()
        assert int(before) > 0
        until = rfc3339(server.application.clock.now_ms() - MS_PER_DAY + 60 * MS_PER_S)[:16]
        page.get_by_label("Until").fill(f"{until}:00")
        page.get_by_label("Given up").uncheck()
        page.wait_for_function("() => document.querySelector('#count strong')?.innerText === '0'")
        assert not page.get_by_label("Given up").is_checked(), "the form stays as it is"
        page.get_by_label("Until").fill("")
        page.get_by_role("button", name="Start replay").click()
        page.wait_for_selector("text=Done")
        page.get_by_role("link", name="Replays").first.click()
        page.wait_for_selector("text=Replays so far")
        tab.require_quiet()
