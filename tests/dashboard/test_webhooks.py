"""Developers > Webhooks in a browser: the way from the first click to a verified webhook, and what can be done afterwards."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Page

from loyalpro.accounts.accounts import CreateAccount, create_account
from loyalpro.loyalty.new_program import start_program
from loyalpro.storage.unit_of_work import UnitOfWork
from loyalpro.transport.signing import plain
from support.chromium import Browser, Tab
from support.databases import Databases
from support.members import new_member
from support.members import signed_in as signed_in_plainly
from support.receivers import Authority, Hit, RawServer, answer
from support.scenes import Scene, endpoint_of
from support.server import Server

LIST = "/developers/webhooks"
TYPES = ["customer.created", "points.earned", "transaction.refunded"]


@pytest.fixture(scope="module", params=("sqlite", "postgres"))
def scene(request: pytest.FixtureRequest, databases: Databases, authority: Authority) -> Iterator[Scene]:
    with Server(databases.fresh(request.param), authority.ca_file) as server:
        yield Scene(server)


@contextmanager
def signed_in(chromium: Browser, scene: Scene, role: Any = "owner", *, scripts: bool = True) -> Iterator[Tab]:
    with chromium.tab(scene.base_url, scripts=scripts) as tab:
        tab.sign_in(scene.token(role))
        yield tab
        tab.require_quiet()


@contextmanager
def checking(authority: Authority) -> Iterator[tuple[RawServer, list[str]]]:
    """A receiver that checks signatures with the secret that the list gets."""
    secrets: list[str] = []

    def script(connection: socket.socket, hit: Hit | None) -> None:
        genuine = hit is not None and hit.headers["X-LoyalPro-Signature"] == plain(secrets[0], hit.body)
        connection.sendall(answer(200 if genuine else 401))

    with RawServer(script, authority.context()) as receiver:
        yield receiver, secrets


def focus(page: Page, words: str) -> None:
    """Press Tab until the focus is on what has this text, this label or this value."""
    for _ in range(120):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "() => { const e = document.activeElement;"
            " return [e.innerText, e.labels?.[0]?.innerText, e.value, e.id].map((t) => (t ?? '').trim()); }"
        )
        if any(re.fullmatch(words, each) for each in found):
            return
    raise AssertionError(f"the keyboard does not reach {words}")


def test_the_way_to_a_verified_webhook_by_keyboard_alone(chromium: Browser, scene: Scene, authority: Authority) -> None:
    with checking(authority) as (receiver, secrets), signed_in(chromium, scene) as tab:
        tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = tab.open(LIST)
        keys = page.keyboard
        focus(page, "Add Endpoint")
        keys.press("Enter")
        page.wait_for_url(f"**{LIST}/new")
        assert page.get_by_role("heading", name="Enter your webhook URL").is_visible()
        focus(page, "Endpoint URL")
        keys.type(receiver.url)
        page.wait_for_selector("text=localhost leads to an address that the operator allows")
        focus(page, "Name optional")
        keys.type("CRM by keyboard")
        assert page.get_by_role("heading", name="Select the events you want to receive").is_visible()
        focus(page, r"All events\s.*")
        keys.press("ArrowDown")
        for type_ in TYPES:
            focus(page, type_)
            keys.press("Space")
        focus(page, "Add Endpoint")
        keys.press("Enter")
        page.wait_for_selector("text=It gets 3 event types from now on.")
        assert page.get_by_role("heading", name="CRM by keyboard is added").is_visible()
        assert page.get_by_role("heading", name="Copy your webhook signing secret for verification").is_visible()
        secrets.append(page.locator("#the-secret").inner_text())
        focus(page, "Copy secret")
        keys.press("Enter")
        page.wait_for_selector("text=Copied")
        assert page.evaluate("() => navigator.clipboard.readText()") == secrets[0]
        assert page.get_by_role("heading", name="Verify it in your receiver").is_visible()
        focus(page, "Flask")
        keys.press("Enter")
        page.wait_for_selector("text=from flask import")
        assert all(f'case "{each}":' in page.locator("#receiver-code").inner_text() for each in TYPES)
        assert '@app.post("/hook")' in page.locator("#receiver-code").inner_text()
        assert page.get_by_role("heading", name="Send a test event and watch it arrive").is_visible()
        focus(page, "Send test event")
        keys.press("Enter")
        page.wait_for_selector("text=/Arrived in .*: your endpoint answered 200/")
        focus(page, "Send one with a wrong signature")
        keys.press("Enter")
        page.wait_for_selector("text=Good: it refuses what is not from us")
        assert page.locator("#the-secret").inner_text() == secrets[0], "nothing has left the page"
        [genuine, forged] = receiver.wait_for(2)
        assert genuine.headers["X-LoyalPro-Event-Type"] == "points.earned"
        assert forged.headers["X-LoyalPro-Signature"] != plain(secrets[0], forged.body)


def test_the_same_way_without_scripts(chromium: Browser, scene: Scene, authority: Authority) -> None:
    with checking(authority) as (receiver, secrets), signed_in(chromium, scene, scripts=False) as tab:
        page = tab.open(f"{LIST}/new")
        page.get_by_label("Endpoint URL").fill("http://shop.example/in")
        page.get_by_role("button", name="Check the URL").click()
        assert page.get_by_text("Webhooks are only sent over HTTPS. Put https:// in front.").is_visible()
        page.get_by_label("Endpoint URL").fill(receiver.url)
        page.get_by_role("textbox", name="Name").fill("Plain")
        page.get_by_label("Only these").check()
        tab.expect("422")
        page.get_by_role("button", name="Add Endpoint").click()
        assert page.get_by_text("Select at least one event type, or all events.").is_visible()
        assert page.get_by_label("Endpoint URL").input_value() == receiver.url, "the input is kept"
        page.locator("[id='points.earned']").check()
        page.get_by_role("button", name="Add Endpoint").click()
        secrets.append(page.locator("#the-secret").inner_text())
        page.reload()
        page.wait_for_url("**/set-up")
        assert page.locator("#the-secret").count() == 0, "the form that is sent again shows no secret"
        page.get_by_role("link", name="Go", exact=True).click()
        assert "package main" in page.locator("#receiver-code").inner_text()
        page.get_by_role("button", name="Send test event").click()
        for _ in range(300):
            if not page.get_by_role("link", name="Look again").count():
                break
            page.get_by_role("link", name="Look again").click()
        assert page.get_by_text("your endpoint answered 200").is_visible()
        page.get_by_role("link", name="Go to the endpoint").click()
        page.get_by_role("button", name="Pause").click()
        assert page.get_by_text("Plain is paused. What it is owed waits.").is_visible()
        page.get_by_role("button", name="Undo").click()
        assert page.get_by_text("Plain is enabled.").is_visible()
        assert [each["description"] for each in scene.server.get("/v1/webhook_endpoints")["data"]].count("Plain") == 1


def test_a_receiver_that_does_not_check_or_does_not_answer_is_named(
    chromium: Browser, scene: Scene, authority: Authority
) -> None:
    def script(connection: socket.socket, _: Hit | None) -> None:
        connection.sendall(answer(200))

    with RawServer(script, authority.context()) as receiver, signed_in(chromium, scene) as tab:
        path = endpoint_of(scene, "Careless", url=receiver.url)
        page = tab.open(f"{path}/set-up")
        page.get_by_role("button", name="Send one with a wrong signature").click()
        page.wait_for_selector("text=It accepted a forged event. Its check does not work.")
        page = tab.open(f"{endpoint_of(scene, 'Closed', url='https://localhost:1025/in')}/set-up")
        page.get_by_role("button", name="Send test event").click()
        page.wait_for_selector("text=No connection could be made.")


def test_settings_are_changed_and_an_error_keeps_the_input(chromium: Browser, scene: Scene) -> None:
    with signed_in(chromium, scene, "developer") as tab:
        path = endpoint_of(scene, "Settings", headers={"X-Team": "loyalty"})
        page = tab.open(f"{path}/settings")
        assert page.get_by_label("Headers").input_value().strip() == "X-Team: ********"
        page.get_by_role("textbox", name="Name").fill("Renamed <b>")
        page.get_by_label("At most this many").fill("-5")
        tab.expect("422")
        page.get_by_role("button", name="Save").click()
        assert page.get_by_text("A rate limit is a whole number from 1 to 10,000, or nothing.").is_visible()
        assert page.get_by_role("textbox", name="Name").input_value() == "Renamed <b>"
        page.get_by_label("At most this many").fill("50")
        page.get_by_role("button", name="Save").click()
        page.wait_for_selector("text=The settings of Renamed <b> are saved.")
    changed = scene.server.get(f"/v1/webhook_endpoints/{scene.ids['Settings']}")
    assert (changed["description"], changed["rate_limit"]) == ("Renamed <b>", 50)
    assert changed["headers"] == {"X-Team": "********"}
    assert sorted(changed["events"]) == ["customer.created", "points.earned"]


def test_a_secret_is_shown_rotated_and_promoted(chromium: Browser, scene: Scene) -> None:
    with signed_in(chromium, scene) as tab:
        path = endpoint_of(scene, "Rotated")
        api = f"/v1/webhook_endpoints/{scene.ids['Rotated']}"
        page = tab.open(f"{path}/secret")
        page.get_by_role("button", name="Show secret").click()
        first = page.locator("#the-secret").inner_text()
        assert first == scene.server.get(f"{api}/secret")["secret"]
        page.get_by_role("button", name="Rotate secret").click()
        page.wait_for_selector("text=2 valid secrets")
        assert page.locator("#the-secret").inner_text() == scene.server.get(f"{api}/secret")["secret"] != first
        page.get_by_role("button", name="My receiver has it").click()
        page.wait_for_selector("text=The new secret signs x-loyalpro-signature from now on.")
        assert page.get_by_role("button", name="My receiver has it").count() == 0
    actions = [each["action"] for each in scene.server.get(f"/v1/audit_log?object_id={scene.ids['Rotated']}")["data"]]
    assert actions == ["secret.promoted", "secret.rotated", "secret.read", "webhook_endpoint.created"]


def test_an_endpoint_is_deleted_by_typing_its_name(chromium: Browser, scene: Scene) -> None:
    with signed_in(chromium, scene) as tab:
        page = tab.open(endpoint_of(scene, "Old one"))
        page.get_by_role("link", name="Delete").click()
        tab.expect("422")
        page.get_by_label("Type Old one to confirm").fill("Old")
        page.get_by_role("button", name="Delete endpoint").click()
        assert page.get_by_text("This is not its name. Nothing was deleted.").is_visible()
        page.get_by_label("Type Old one to confirm").fill("Old one")
        page.get_by_role("button", name="Delete endpoint").click()
        page.wait_for_selector("text=Old one is deleted.")
    assert scene.server.call("GET", f"/v1/webhook_endpoints/{scene.ids['Old one']}").status == 404


def test_a_viewer_sees_and_changes_nothing(chromium: Browser, scene: Scene) -> None:
    with signed_in(chromium, scene, "viewer") as tab:
        path = endpoint_of(scene, "Seen")
        page = tab.open(path)
        assert page.get_by_role("heading", name="Seen").is_visible()
        assert page.get_by_role("button", name="Pause").count() == 0
        tab.expect("403")
        for address in (f"{path}/set-up", f"{path}/settings", f"{path}/secret", f"{path}/delete", f"{LIST}/new"):
            page = tab.open(address)
            assert page.get_by_text("Your role, viewer, cannot do this. Ask an owner.").is_visible()


@pytest.mark.parametrize("id_", ["we_01m8793d0xn5jh2v2cqxwp5zmg", "nothing"])
def test_an_endpoint_that_does_not_exist_is_not_found(chromium: Browser, scene: Scene, id_: str) -> None:
    with signed_in(chromium, scene) as tab:
        tab.expect("404")
        for rest in ("", "/set-up", "/settings", "/secret", "/delete"):
            page = tab.open(f"{LIST}/{id_}{rest}")
            assert page.get_by_text("There is no such endpoint here.").is_visible()


def test_the_owner_of_another_account_finds_no_endpoint_of_this_one(scene: Scene) -> None:
    path = endpoint_of(scene, "Ours")

    def work(unit: UnitOfWork) -> str:
        account = create_account(unit, CreateAccount("Elsewhere"))
        start_program(unit, account.id)
        return account.id

    other = scene.server.run(scene.server.application.runner.change(work))
    stranger = new_member(scene.server, "owner", "stranger@example.com", other)
    visitor = signed_in_plainly(scene.server, stranger.account_id, stranger.person)
    for rest in ("", "/set-up", "/set-up/receiver", "/settings", "/secret", "/delete"):
        visitor.open(path + rest)
        assert visitor.status == 404
    for rest in ("/pause", "/test", "/settings", "/secret/show", "/secret/rotate", "/secret/promote", "/delete"):
        visitor.open("/me")  # a page with the token that forms carry
        visitor.send(
            path + rest, type="points.earned", overlap="0", confirm="Ours", which="*", url="https://localhost:1/x"
        )
        assert visitor.status == 404
    ours = scene.server.get(f"/v1/webhook_endpoints/{scene.ids['Ours']}")
    assert (ours["status"], ours["events"], ours["rotation"]) == (
        "enabled",
        ["points.earned", "customer.created"],
        None,
    )


def test_those_that_need_a_person_come_first(chromium: Browser, scene: Scene) -> None:
    closed = endpoint_of(scene, "Zeta", url="https://localhost:1026/in")
    endpoint_of(scene, "Alpha")
    sent = scene.server.post(f"/v1/webhook_endpoints/{closed.rpartition('/')[2]}/test", {})
    scene.server.until(f"/v1/deliveries/{sent['id']}", lambda found: found["last_outcome"] is not None)
    with signed_in(chromium, scene, "viewer") as tab:
        page = tab.open(LIST)
        names = page.locator("a.row-link").all_inner_texts()
        assert names.index("Zeta") < names.index("Alpha")
        assert page.get_by_text(re.compile("has failed for")).count() >= 1
        assert page.get_by_role("link", name="Add Endpoint").count() == 0
