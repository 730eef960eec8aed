"""One delivery, through plain requests."""

import json
import socket
import subprocess
from collections.abc import Iterator

import pytest

from loyalpro.events.envelope import Event
from loyalpro.web.dashboard.pages.delivery import MOST_SHOWN, curl_of, readable
from loyalpro.webhooks.entities import PastRequest
from support.databases import Databases
from support.members import Signed, new_member
from support.receivers import Authority, Hit, RawServer, answer
from support.scenes import REFUSED, Scene, delivery_of
from support.server import Server

LIST = "/developers/deliveries"


@pytest.fixture(scope="module")
def server(databases: Databases, authority: Authority) -> Iterator[Server]:
    with Server(databases.fresh("sqlite"), authority.ca_file) as running:
        yield running


@pytest.fixture(scope="module")
def owner(server: Server) -> Signed:
    return new_member(server, "owner", "owner-of-it@example.com")


@pytest.fixture(scope="module")
def refused(server: Server) -> str:
    """The page of a delivery that was answered with an error and a script."""
    return delivery_of(Scene(server), 0, **REFUSED)


def test_it_says_what_happened_and_why(server: Server, owner: Signed, refused: str) -> None:
    browser = owner.browser
    browser.open(f"{refused}?attempt=1")
    assert "The endpoint answered 500, an error of its own" in browser.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in browser.text
    assert "<script>alert" not in browser.text
    assert "Ada Brandt" in browser.text
    assert "203.0.113.24" in browser.text
    assert '<rect class="p-wait"' in browser.text
    browser.open(refused)
    assert "72 hours end" in browser.text
    assert "then about" in browser.text
    assert 'hx-trigger="every 1' in browser.text
    browser.open(f"{refused}/now")
    assert "<html" not in browser.text
    assert 'id="story"' in browser.text


def test_the_body_is_a_file_of_the_exact_bytes(server: Server, owner: Signed, refused: str) -> None:
    event = server.get(f"/v1/deliveries/{refused.rpartition('/')[2]}")["event_id"]
    body = json.dumps(server.get(f"/v1/events/{event}"), separators=(",", ":"), ensure_ascii=False)
    browser = owner.browser
    browser.open(f"{refused}/body")
    assert browser.text == body
    assert browser.headers["content-type"] == "application/octet-stream"
    assert browser.headers["content-disposition"] == f'attachment; filename="{event}.json"'


def test_it_is_sent_and_canceled(server: Server, owner: Signed, authority: Authority) -> None:
    browser = owner.browser
    answers = [answer(500, b"duplicate key"), answer(500), answer(200)]

    def script(connection: socket.socket, _: Hit | None) -> None:
        connection.sendall(answers.pop(0))

    with RawServer(script, authority.context()) as receiver:
        made = server.post("/v1/webhook_endpoints", {"url": receiver.url, "events": ["*"], "description": "Till"})
        sent = server.post(f"/v1/webhook_endpoints/{made['id']}/test", {"type": "points.earned"})
        path = f"{LIST}/{sent['id']}"
        server.until(f"/v1/deliveries/{sent['id']}", lambda found: found["last_outcome"] == "http_5xx")

        def attempted(number: int) -> None:
            server.until(f"/v1/deliveries/{sent['id']}", lambda found: found["attempt_count"] >= number)

        for status in (500, 200):
            browser.open(path)
            assert "The endpoint answered 500" in browser.text
            assert ("It may have seen this event before" in browser.text) == (len(answers) == 2)
            browser.send(f"{path}/send")
            assert browser.path == path
            attempted(2 if status == 500 else 3)
        browser.open(path)
        assert "The endpoint answered 200" in browser.text
        assert "every 1s" not in browser.text
        browser.send(f"{path}/cancel")
        assert browser.status == 409
        assert "only one that is pending or parked can be canceled" in browser.text
        server.call("PATCH", f"/v1/webhook_endpoints/{made['id']}", {"status": "paused"})
        browser.send(f"{path}/send")
        assert browser.status == 409
        assert "enable it with" in browser.text


def test_roles_see_what_they_may(server: Server, refused: str) -> None:
    viewer = new_member(server, "viewer").browser
    viewer.open(refused)
    assert "Ada" not in viewer.text
    assert "Send now" not in viewer.text
    assert "order-9017" not in viewer.text
    viewer.open(f"{refused}/body")
    assert viewer.status == 403
    support = new_member(server, "support").browser
    support.open(refused)
    assert "Send now" in support.text
    assert f"{refused}/cancel" not in support.text


def test_the_delivery_of_nobody_does_not_exist(server: Server, owner: Signed) -> None:
    for id_ in ("dlv_" + "0" * 36, "nothing"):
        owner.browser.open(f"{LIST}/{id_}")
        assert owner.browser.status == 404


HEADERS = (("X-A", "it's"), ("X-B", '$(touch x) `x` "y" \\'))
REQUEST = PastRequest(0, "succeeded", "", HEADERS, 200, (), b"", False, None, None, None, None, None, None)


def test_the_command_sends_the_same_bytes() -> None:
    """A shell and a stand-in for curl find every text as it was, and the body without a line feed."""
    body = b'{"a":"it\'s $HOME `x` \\\\ LOYALPRO_BODY"}'
    event = Event("evt_1", "acct_1", "points.earned", None, None, 0, body)
    command = curl_of("https://example.com/in?a='b'", REQUEST, event)
    script = f"curl() {{ printf '%s\\0' \"$@\"; tr -d '\\r\\n'; }}\n{command}"
    found = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True).stdout.split(b"\0")
    sent = ["-X", "POST", "https://example.com/in?a='b'"]
    sent += [part for name, value in HEADERS for part in ("-H", f"{name}: {value}")]
    assert found == [*(each.encode() for each in [*sent, "--data", "@-"]), body]


def test_a_body_is_shown_as_text() -> None:
    assert readable(b'{"a":1}').rstrip() == '{\n  <span class="k">&#34;a&#34;</span>: <span class="n">1</span>\n}'
    assert readable(b"<b>\x00\xff") == "<b>␀\ufffd"
    assert len(readable(b"x" * 100_000)) == MOST_SHOWN
