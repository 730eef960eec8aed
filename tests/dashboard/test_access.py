"""Who reaches which route, and which forms are accepted: a case for each route of the table.

No check here depends on the store, so one is enough; `test_other_accounts` has both.
"""

import re
from collections.abc import Iterator
from typing import get_args

import pytest

from loyalpro.accounts.roles import ROLE_NAMES, ROLES, Role
from loyalpro.accounts.web_sessions import EndSession, end_web_session, start_web_session
from loyalpro.storage.unit_of_work import UnitOfWork
from loyalpro.web.dashboard.dashboard import pages_of
from loyalpro.web.dashboard.rights import AWAITING_CODE, PUBLIC, ROUTES, Audience
from support.browser import Browser
from support.databases import Databases
from support.members import Signed, new_member, signed_in
from support.people import BROWSER
from support.server import Server

PATHS = {route.name: (route.path, sorted((route.methods or set()) - {"HEAD"})) for route in pages_of()}
GETS = sorted(name for name, (_, methods) in PATHS.items() if methods == ["GET"])
POSTS = sorted(name for name, (_, methods) in PATHS.items() if methods == ["POST"])
NOT_PUBLIC = sorted(name for name in PATHS if ROUTES[name].need != PUBLIC)
SENT_ELSEWHERE = ("/sign-in", "/sign-in/code", "/me/proof", "/me/second-factor", "/first-run")


@pytest.fixture(scope="module")
def server(databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh("sqlite")) as running:
        yield running


@pytest.fixture(scope="module")
def members(server: Server) -> dict[Role, Signed]:
    return {role: new_member(server, role) for role in ROLE_NAMES}


def address(name: str) -> str:
    """The path of a route, with the id of nothing in it."""
    return re.sub(r"\{\w+\}", "nothing", PATHS[name][0])


def ask(browser: Browser, name: str, **headers: str) -> int:
    """The status of a request for a route; a form is one that the page of the browser could have sent, without fields."""
    own = {"Sec-Fetch-Site": "same-origin", "Origin": browser.origin} | headers
    if PATHS[name][1] == ["GET"]:
        return browser.request("GET", address(name), headers=own)
    own.setdefault("Content-Type", "application/x-www-form-urlencoded")
    token = browser.hidden("csrf") or ""
    return browser.request("POST", address(name), f"csrf={token}&key=0123456789abcdef".encode(), own)


def fresh(server: Server, member: Signed) -> Browser:
    """A browser of a member, on a page with a form."""
    browser = signed_in(server, member.account_id, member.person)
    browser.open("/me")
    assert browser.hidden("csrf")
    return browser


def test_every_route_of_the_table_is_one_of_the_matrices() -> None:
    assert sorted(PATHS) == sorted(ROUTES)
    assert sorted(GETS + POSTS) == sorted(PATHS)


@pytest.mark.parametrize("name", NOT_PUBLIC)
def test_nobody_is_led_to_the_sign_in(server: Server, members: dict[Role, Signed], name: str) -> None:
    assert members
    browser = Browser(server)
    assert ask(browser, name) == 303
    assert browser.headers["location"].partition("?")[0] == "/sign-in"


@pytest.mark.parametrize("name", NOT_PUBLIC)
def test_an_ended_session_is_nobody(server: Server, members: dict[Role, Signed], name: str) -> None:
    owner = members["owner"]
    browser = fresh(server, owner)

    def work(unit: UnitOfWork) -> None:
        newest = unit.web_sessions.list_of(owner.person.id)[0]
        end_web_session(unit, EndSession(owner.person.id, newest.id))

    server.run(server.application.runner.change(work))
    assert ask(browser, name) == 303
    assert browser.headers["location"].partition("?")[0] == "/sign-in"


@pytest.mark.parametrize("name", sorted(name for name in NOT_PUBLIC if ROUTES[name].need != AWAITING_CODE))
def test_who_has_not_given_the_code_is_led_to_it(server: Server, members: dict[Role, Signed], name: str) -> None:
    owner = members["owner"]

    def work(unit: UnitOfWork) -> str:
        [membership] = unit.people.memberships(owner.person.id)
        return start_web_session(unit, owner.person, membership, BROWSER, awaits_code=True).token

    browser = Browser(server)
    browser.cookies["loyalpro"] = server.run(server.application.runner.change(work))
    browser.open("/sign-in/code")
    assert ask(browser, name) == 303
    assert browser.headers["location"].partition("?")[0] == "/sign-in/code"


@pytest.mark.parametrize("role", ROLE_NAMES)
@pytest.mark.parametrize("name", sorted(name for name in NOT_PUBLIC if name != "sign_out"))
def test_a_role_reaches_what_it_has_the_right_to(
    server: Server, members: dict[Role, Signed], name: str, role: Role
) -> None:
    browser = fresh(server, members[role])
    status = ask(browser, name)
    need = ROUTES[name].need
    if need in get_args(Audience) or need in ROLES[role]:
        assert status in (200, 303, 404, 409, 422), (status, browser.text[:500])
        assert browser.headers.get("location", "").partition("?")[0] not in ("/sign-in", "/me/proof")
    else:
        assert status == 403
        assert f"Your role, {role}, cannot do this." in browser.text


@pytest.mark.parametrize("name", [name for name in NOT_PUBLIC if ROUTES[name].fresh])
def test_without_a_fresh_proof_it_is_asked_for(server: Server, members: dict[Role, Signed], name: str) -> None:
    owner = members["owner"]
    browser = fresh(server, owner)
    sql = "UPDATE web_sessions SET proved_at = proved_at - 600001 WHERE id = ?"

    def work(unit: UnitOfWork) -> None:
        unit.connection.execute(sql, (unit.web_sessions.list_of(owner.person.id)[0].id,))

    server.run(server.application.runner.change(work))
    assert ask(browser, name) == 303
    assert browser.headers["location"].partition("?")[0] == "/me/proof"


# -- forms -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def owner_at_a_form(server: Server, members: dict[Role, Signed]) -> Browser:
    """An owner of their own: a person has a number of web sessions at once, and the cases begin more of them."""
    return fresh(server, new_member(server, "owner", "forms@example.com", members["owner"].account_id))


@pytest.fixture
def visitor(owner_at_a_form: Browser) -> Browser:
    """The browser of an owner, on a page with a form."""
    return owner_at_a_form.copy()


def on_its_page(server: Server, visitor: Browser, name: str) -> Browser:
    """The browser that can send the form of a route: nobody's for a route for everybody."""
    if ROUTES[name].need != PUBLIC:
        return visitor
    nobody = Browser(server)
    nobody.open("/sign-in")
    return nobody


@pytest.mark.parametrize("name", POSTS)
def test_a_form_without_its_token_is_refused(server: Server, visitor: Browser, name: str) -> None:
    sender = on_its_page(server, visitor, name)
    sender.text = ""
    assert ask(sender, name) == 403
    assert "Go back, reload the page" in sender.text


@pytest.mark.parametrize("name", POSTS)
def test_a_form_with_the_token_of_another_session_is_refused(
    server: Server, members: dict[Role, Signed], visitor: Browser, name: str
) -> None:
    sender = on_its_page(server, visitor, name)
    sender.text = fresh(server, members["owner"]).text
    assert ask(sender, name) == 403


@pytest.mark.parametrize("name", POSTS)
@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_a_form_of_another_site_is_refused(server: Server, visitor: Browser, name: str, site: str) -> None:
    sender = on_its_page(server, visitor, name)
    assert ask(sender, name, **{"Sec-Fetch-Site": site}) == 403
    assert "sent by another site" in sender.text


@pytest.mark.parametrize("name", POSTS)
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", ""])
def test_a_form_of_a_foreign_origin_is_refused_by_a_browser_without_fetch_metadata(
    server: Server, visitor: Browser, name: str, origin: str
) -> None:
    sender = on_its_page(server, visitor, name)
    body = f"csrf={sender.hidden('csrf')}".encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"} | ({"Origin": origin} if origin else {})
    assert sender.request("POST", address(name), body, headers) == 403


@pytest.mark.parametrize("name", POSTS)
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data; boundary=x", ""])
def test_a_form_of_another_type_is_refused(server: Server, visitor: Browser, name: str, kind: str) -> None:
    assert ask(on_its_page(server, visitor, name), name, **{"Content-Type": kind}) == 400


@pytest.mark.parametrize("name", POSTS)
def test_no_change_is_made_by_a_get(server: Server, visitor: Browser, name: str) -> None:
    path = address(name)
    status = visitor.request("GET", path, headers={"Sec-Fetch-Site": "same-origin"})
    pages = {shown for shown, methods in PATHS.values() if methods == ["GET"]}
    assert status == (405 if PATHS[name][0] not in pages else status)
    assert status in (200, 303, 404, 405)


def test_each_page_has_its_headers_and_is_small(server: Server, visitor: Browser) -> None:
    for name in GETS:
        visitor.request("GET", address(name))
        assert visitor.headers["content-security-policy"].startswith("default-src 'none'"), name
        assert visitor.headers["cache-control"] == "no-store"
        assert visitor.headers["referrer-policy"] == "same-origin"
        assert len(visitor.text.encode()) < 60_000, name
        assert not re.search(r"\sstyle=|\son\w+=|<script(?![^>]* src=)", visitor.text), name


def test_an_unknown_host_is_refused(server: Server) -> None:
    visitor = Browser(server, host="evil.example")
    for name in GETS:
        assert visitor.request("GET", address(name)) == 400, name
