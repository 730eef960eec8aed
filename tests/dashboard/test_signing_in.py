"""From the first run to signing out, through forms, on both stores."""

import re
from collections.abc import Iterator

import pytest

from loyalpro.accounts.first_run import offer_setup_code
from loyalpro.accounts.second_factor import code_at
from loyalpro.kernel.clock import VirtualClock
from support.browser import Browser
from support.databases import Databases
from support.people import PASSWORD
from support.server import Server

EMAIL = "ada@example.com"
NEW_PASSWORD = "eleven loud trains to Ghent"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(params=("sqlite", "postgres"))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


@pytest.fixture
def setup_code(server: Server) -> str:
    code = server.run(server.application.runner.change(offer_setup_code))
    assert code is not None
    return code


def first_owner(browser: Browser, setup_code: str, **fields: str) -> None:
    given = {
        "setup_code": setup_code, "email": EMAIL, "password": PASSWORD, "again": PASSWORD,
        "business_name": "Bakery in Lyon", "time_zone": "Europe/Paris", "currency": "CHF",
    }  # fmt: skip
    browser.open("/first-run")
    browser.send("/first-run", fields=given | fields)


def sign_in(browser: Browser, email: str = EMAIL, password: str = PASSWORD) -> None:
    browser.open("/sign-in")
    browser.send("/sign-in", email=email, password=password)


def test_without_an_owner_every_page_leads_to_the_first_run_and_then_to_the_sign_in(
    server: Server, setup_code: str
) -> None:
    browser = Browser(server)
    browser.open("/me")
    assert browser.path == "/first-run"
    first_owner(browser, setup_code, again="another")
    assert (browser.status, browser.path) == (422, "/first-run")
    assert "The two passwords differ." in browser.text
    assert 'value="Bakery in Lyon"' in browser.text
    assert PASSWORD not in browser.text
    first_owner(browser, setup_code)
    assert browser.status == 200
    assert "Bakery in Lyon" in browser.text
    program = server.get("/v1/program")
    assert (program["currency"], program["time_zone"]) == ("CHF", "Europe/Paris")
    other = Browser(server)
    other.open("/first-run")
    assert other.path == "/sign-in"


def test_a_wrong_setup_code_makes_no_owner(server: Server, setup_code: str) -> None:
    browser = Browser(server)
    first_owner(browser, "aaaa-aaaa")
    assert browser.status == 422
    assert "This setup code is not right" in browser.text
    assert setup_code not in browser.text
    browser.open("/me")
    assert browser.path == "/first-run"


def test_signing_in_leads_back_to_the_page_that_was_asked_for(server: Server, setup_code: str) -> None:
    first_owner(Browser(server), setup_code)
    browser = Browser(server)
    browser.open("/me/sessions")
    assert (browser.path, browser.query) == ("/sign-in", "next=/me/sessions")
    browser.send("/sign-in", email=EMAIL, password="wrong", next="/me/sessions")
    assert browser.status == 422
    assert "E-mail or password is not right." in browser.text
    before = dict(browser.cookies)
    browser.send("/sign-in", email=EMAIL, password=PASSWORD, next="/me/sessions")
    assert (browser.status, browser.path) == (200, "/me/sessions")
    assert browser.cookies["loyalpro"] not in before.values()
    browser.send("/sign-out")
    assert browser.path == "/sign-in"
    browser.open("/me")
    assert browser.path == "/sign-in"


@pytest.mark.parametrize("next_", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_signing_in_leads_to_no_other_site(server: Server, setup_code: str, next_: str) -> None:
    first_owner(Browser(server), setup_code)
    browser = Browser(server)
    browser.open("/sign-in")
    browser.send("/sign-in", email=EMAIL, password=PASSWORD, next=next_)
    assert browser.host == f"127.0.0.1:{server.port}"
    assert (browser.status, browser.path) == (200, "/")


def test_a_cookie_that_was_set_before_the_sign_in_is_never_the_one_after(server: Server, setup_code: str) -> None:
    first_owner(Browser(server), setup_code)
    browser = Browser(server)
    browser.cookies["loyalpro"] = "a-token-that-somebody-else-has-set"
    sign_in(browser)
    assert browser.path != "/sign-in"
    assert browser.cookies["loyalpro"] != "a-token-that-somebody-else-has-set"


def test_after_5_wrong_passwords_the_page_says_how_long_to_wait(server: Server, setup_code: str) -> None:
    first_owner(Browser(server), setup_code)
    browser = Browser(server)
    for _ in range(5):
        sign_in(browser, password="wrong")
        assert browser.status == 422
    sign_in(browser)
    assert browser.status == 429
    assert re.search(r"Too many tries\. Try again in \d+ seconds\.", browser.text)
    assert int(browser.headers["retry-after"]) > 0


def test_a_second_factor_is_set_up_and_asked_for(server: Server, setup_code: str) -> None:
    browser = Browser(server)
    first_owner(browser, setup_code)
    browser.open("/me/second-factor")
    browser.send("/me/second-factor/begin")
    [secret] = re.findall(r'id="factor-secret">([A-Z2-7]{32})<', browser.text)
    assert "<svg" in browser.text
    browser.send("/me/second-factor/confirm", code="000000")
    assert browser.status == 422
    step = server.application.clock.now_ms() // 30_000
    browser.send("/me/second-factor/confirm", code=code_at(secret, step))
    assert browser.status == 200
    codes = re.findall(r"[a-z2-7]{4}-[a-z2-7]{4}-[a-z2-7]{4}-[a-z2-7]{4}", browser.text)
    assert len(codes) == 10
    browser.open("/me/second-factor")
    assert "10 of 10 are left" in browser.text
    other = Browser(server)
    other.open("/me/sessions")
    other.send("/sign-in", email=EMAIL, password=PASSWORD, next="/me/sessions")
    assert other.path == "/sign-in/code"
    assert "Bakery" not in other.text
    half = other.cookies["loyalpro"]
    for path in ("/me", "/members", "/developers/keys"):
        other.open(path)
        assert other.path == "/sign-in/code"
    other.send("/sign-in/code", code="000000", next="/me/sessions")
    assert other.status == 422
    other.send("/sign-in/code", code=codes[0], next="/me/sessions")
    assert (other.status, other.path) == (200, "/me/sessions")
    assert other.cookies["loyalpro"] != half
    browser.open("/me/second-factor")
    assert "9 of 10 are left" in browser.text
    browser.send("/me/second-factor/recovery-codes")
    assert codes[1] not in browser.text
    browser.open("/me/second-factor")
    browser.send("/me/second-factor/remove")
    assert "There is no second factor" in browser.text


def test_sessions_are_seen_and_ended_and_a_new_password_ends_the_others(server: Server, setup_code: str) -> None:
    browser, other = Browser(server), Browser(server)
    first_owner(browser, setup_code)
    sign_in(other)
    browser.open("/me/sessions")
    assert browser.text.count("Firefox on Linux") == 2
    [path] = re.findall(r'action="(/me/sessions/wse_[^"]+/end)"', browser.text)
    browser.send(path)
    assert "Signed out there." in browser.text
    other.open("/me")
    assert other.path == "/sign-in"
    sign_in(other)
    browser.open("/me")
    browser.send("/me/password", password="wrong", new=NEW_PASSWORD, again=NEW_PASSWORD)
    assert browser.status == 422
    assert "This password is not right." in browser.text
    browser.send("/me/password", password=PASSWORD, new=NEW_PASSWORD, again=NEW_PASSWORD)
    assert "The password is changed." in browser.text
    other.open("/me")
    assert other.path == "/sign-in"
    sign_in(other, password=NEW_PASSWORD)
    browser.open("/me/sessions")
    browser.send("/me/sessions/end-others")
    other.open("/me")
    assert other.path == "/sign-in"


def test_a_person_changes_the_own_settings(server: Server, setup_code: str) -> None:
    browser = Browser(server)
    first_owner(browser, setup_code)
    browser.open("/me")
    browser.send("/me", name="Ada Lovelace", time_zone="Asia/Tokyo", theme="dark")
    assert browser.path == "/me"
    assert "Saved" in browser.text
    assert 'data-theme="dark"' in browser.text
    assert 'data-keys="off"' in browser.text
    assert "Asia/Tokyo" in browser.text
    browser.send("/me", name="x" * 101, time_zone="Asia/Tokyo", theme="dark")
    assert browser.status == 422
    assert "A name is one line" in browser.text


def test_over_plain_http_from_elsewhere_nobody_signs_in(databases: Databases) -> None:
    with Server(databases.fresh("sqlite"), public_url="http://loyalty.example.com") as server:
        browser = Browser(server, host="loyalty.example.com")
        browser.open("/first-run")
        browser.send("/first-run", setup_code="x", email=EMAIL, password=PASSWORD)
        assert browser.status == 403
        assert "not encrypted" in browser.text
