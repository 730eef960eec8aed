"""Members, invitations and API keys, through forms, on both stores."""

import re
from collections.abc import Iterator

import pytest

from loyalpro.accounts.accounts import CreateAccount, create_account
from loyalpro.loyalty.new_program import start_program
from loyalpro.storage.unit_of_work import UnitOfWork
from support.browser import Browser
from support.databases import Databases
from support.history import query
from support.members import Signed, add_member, new_member, signed_in
from support.people import PASSWORD
from support.server import Server


@pytest.fixture(params=("sqlite", "postgres"))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


@pytest.fixture
def owner(server: Server) -> Signed:
    return new_member(server, "owner", "ada@example.com")


def another_account(server: Server, name: str) -> str:
    def work(unit: UnitOfWork) -> str:
        account = create_account(unit, CreateAccount(name))
        start_program(unit, account.id)
        return account.id

    return server.run(server.application.runner.change(work))


def invited(owner: Signed, role: str = "support") -> str:
    """The path of a new invitation."""
    owner.browser.open("/members")
    owner.browser.send("/members/invite", role=role, note="Bob, at the till")
    assert owner.browser.status == 200, owner.browser.text
    [path] = re.findall(r'id="the-secret">http://[^/]+(/invitations/[\w-]{43})<', owner.browser.text)
    return str(path)


def test_an_invitation_is_passed_on_and_used_once(server: Server, owner: Signed) -> None:
    path = invited(owner)
    owner.browser.open("/members")
    assert "Bob, at the till" in owner.browser.text
    assert path not in owner.browser.text
    bob = Browser(server)
    bob.open(path)
    assert "You join Main as support." in bob.text
    bob.send(path, email="bob@example.com", name="Bob", password=PASSWORD, again="another")
    assert bob.status == 422
    assert 'value="bob@example.com"' in bob.text
    bob.send(path, email="bob@example.com", name="Bob", password="short", again="short")
    assert "12 characters or more" in bob.text
    bob.send(path, email="bob@example.com", name="Bob", password=PASSWORD, again=PASSWORD)
    assert (bob.status, bob.path) == (200, "/")
    assert "Support" in bob.text
    bob.open("/members")
    assert bob.status == 403
    assert "Your role, support, cannot do this. Ask an owner." in bob.text
    eve = Browser(server)
    eve.open(path)
    assert eve.status == 404
    assert "Ask for a new one." in eve.text


def test_a_person_who_is_signed_in_joins_one_more_account_and_switches(server: Server, owner: Signed) -> None:
    other = new_member(server, "owner", "eve@example.com", another_account(server, "Cafe"))
    path = invited(owner, "viewer")
    eve = other.browser
    eve.open(path)
    assert "You are signed in as eve@example.com." in eve.text
    old = eve.cookies["loyalpro"]
    eve.send(f"{path}/join")
    assert eve.cookies["loyalpro"] != old
    assert "Viewer" in eve.text
    eve.send("/me/switch", account=other.account_id)
    assert "Cafe" in eve.text
    assert "Owner" in eve.text
    stranger = another_account(server, "Deli")
    eve.send("/me/switch", account=stranger)
    assert eve.status == 404


def test_a_revoked_invitation_is_worth_nothing(server: Server, owner: Signed) -> None:
    path = invited(owner)
    owner.browser.open("/members")
    [revoke] = re.findall(r'action="(/members/invitations/inv_\w+/revoke)"', owner.browser.text)
    owner.browser.send(revoke)
    assert "The invitation is revoked." in owner.browser.text
    browser = Browser(server)
    browser.open(path)
    assert browser.status == 404


def test_an_owner_changes_a_role_and_the_member_signs_in_again(server: Server, owner: Signed) -> None:
    bob = new_member(server, "viewer", "bob@example.com")
    owner.browser.open("/members")
    owner.browser.send(f"/members/{bob.person.id}/role", role="developer")
    assert "bob@example.com is developer from now on" in owner.browser.text
    bob.browser.open("/me")
    assert bob.browser.path == "/sign-in"
    owner.browser.send(f"/members/{owner.person.id}/role", role="viewer")
    assert owner.browser.status == 409
    assert "This is the only owner of the account." in owner.browser.text
    owner.browser.open("/members")
    owner.browser.send("/members/usr_01kat6b8z00000000000000000/role", role="viewer")
    assert owner.browser.status == 404


def test_an_owner_resets_a_password_and_removes_a_member(server: Server, owner: Signed) -> None:
    bob = new_member(server, "viewer", "bob@example.com")
    owner.browser.open("/members")
    owner.browser.send(f"/members/{bob.person.id}/reset-password")
    [password] = re.findall(r'id="the-secret">([a-z2-7-]{29})<', owner.browser.text)
    bob.browser.open("/me")
    bob.browser.send("/sign-in", email="bob@example.com", password=password)
    assert bob.browser.path == "/"
    owner.browser.open("/members")
    owner.browser.send(f"/members/{bob.person.id}/remove")
    assert "The member is removed." in owner.browser.text
    bob.browser.open("/me")
    assert bob.browser.path == "/sign-in"
    owner.browser.send(f"/members/{owner.person.id}/remove")
    assert owner.browser.status == 409


def test_an_owner_requires_a_second_factor_which_is_set_up_before_anything_else(server: Server, owner: Signed) -> None:
    bob = new_member(server, "developer", "bob@example.com")
    owner.browser.open("/members")
    owner.browser.send("/members/second-factor", required="yes")
    for path in ("/me", "/developers/keys", "/me/sessions"):
        bob.browser.open(path)
        assert bob.browser.path == "/me/second-factor"
    assert "This account requires a second factor" in bob.browser.text
    bob.browser.send("/me/second-factor/begin")
    assert "Scan this with your app" in bob.browser.text


def test_what_needs_a_fresh_proof_asks_for_it_and_leads_back(server: Server, databases: Databases) -> None:
    owner = new_member(server, "owner", "ada@example.com")
    query(server.application.settings.url, "UPDATE web_sessions SET proved_at = proved_at - 600001")
    owner.browser.open("/members")
    assert owner.browser.status == 200
    owner.browser.send("/members/invite", role="viewer")
    assert owner.browser.path == "/me/proof"
    owner.browser.send("/me/proof", password="wrong", next="/members")
    assert owner.browser.status == 422
    old = owner.browser.cookies["loyalpro"]
    owner.browser.send("/me/proof", password=PASSWORD, next=owner.browser.hidden("next"))
    assert (owner.browser.status, owner.browser.path) == (200, "/members")
    assert owner.browser.cookies["loyalpro"] != old
    owner.browser.send("/members/invite", role="viewer")
    assert "Pass this link on" in owner.browser.text


def test_a_key_is_created_shown_once_and_revoked(server: Server, owner: Signed) -> None:
    browser = owner.browser
    browser.open("/developers/keys")
    browser.send("/developers/keys", name="till", scopes=["read", "transactions"])
    [key] = re.findall(r'id="the-secret">(lp_[0-9a-f]{48})<', browser.text)
    assert server.call("GET", "/v1/customers", key=key).status == 200
    browser.open("/developers/keys")
    assert key not in browser.text
    assert "till" in browser.text
    [path] = re.findall(r'action="(/developers/keys/key_\w+/revoke)"[^>]*>.*?', browser.text)[:1]
    browser.send(path)
    assert server.call("GET", "/v1/customers", key=key).status == 401
    browser.send("/developers/keys", name="", scopes=[])
    assert browser.status == 422
    entry = server.get(f"/v1/audit_log?actor={owner.person.actor}")["data"]
    assert {each["action"] for each in entry} >= {"api_key.created", "api_key.revoked"}


def test_a_form_that_is_sent_twice_makes_one_key(server: Server, owner: Signed) -> None:
    owner.browser.open("/developers/keys")
    fields = {name: owner.browser.hidden(name) for name in ("csrf", "key")} | {"name": "till", "scopes": ["read"]}
    owner.browser.send("/developers/keys", fields=fields)
    assert "Copy your API key" in owner.browser.text
    owner.browser.send("/developers/keys", fields=fields)
    assert "This key was created already." in owner.browser.text
    assert len([each for each in server.get("/v1/api_keys")["data"] if each["name"] == "till"]) == 1


def test_only_an_owner_creates_a_key_that_manages_members(server: Server, owner: Signed) -> None:
    bob = new_member(server, "developer", "bob@example.com")
    bob.browser.open("/developers/keys")
    assert 'value="admin"' not in bob.browser.text
    bob.browser.send("/developers/keys", name="mine", scopes=["admin"])
    assert bob.browser.status == 403
    owner.browser.open("/developers/keys")
    owner.browser.send("/developers/keys", name="mine", scopes=["admin"])
    assert owner.browser.status == 200


def test_neither_tokens_nor_passwords_reach_the_logs(
    server: Server, owner: Signed, capfd: pytest.CaptureFixture[str]
) -> None:
    path = invited(owner)
    bob = Browser(server)
    bob.open(path)
    bob.send(path, email="bob@example.com", name="Bob", password=PASSWORD, again=PASSWORD)
    person = add_member(server, owner.account_id, "viewer", "eve@example.com")
    eve = signed_in(server, owner.account_id, person)
    eve.open("/me/sessions")
    out, err = capfd.readouterr()
    secrets = (path.rpartition("/")[2], PASSWORD, "bob@example.com", bob.cookies["loyalpro"], eve.cookies["loyalpro"])
    for secret in secrets:
        assert secret not in out + err
    assert "/invitations/{token}" in out + err
