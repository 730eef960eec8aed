"""Objects of an account: the owner of another one finds and changes none of them."""

import pytest

from loyalpro.accounts.accounts import CreateAccount, create_account
from loyalpro.loyalty.new_program import start_program
from loyalpro.storage.unit_of_work import UnitOfWork
from support.members import Signed, new_member, signed_in
from support.server import Server


@pytest.fixture(scope="module")
def owner(server: Server) -> Signed:
    return new_member(server, "owner")


@pytest.fixture(scope="module")
def viewer(server: Server) -> Signed:
    return new_member(server, "viewer")


@pytest.fixture(scope="module")
def stranger(server: Server) -> Signed:

    def work(unit: UnitOfWork) -> str:
        account = create_account(unit, CreateAccount("Elsewhere"))
        start_program(unit, account.id)
        return account.id

    other = server.run(server.application.runner.change(work))
    return new_member(server, "owner", "stranger@example.com", other)


@pytest.mark.parametrize(
    "path",
    [
        "/members/{person}/role",
        "/members/{person}/reset-password",
        "/members/{person}/remove",
        "/developers/keys/{key}/revoke",
        "/members/invitations/{invitation}/revoke",
        "/me/sessions/{session}/end",
    ],
)
def test_the_owner_of_another_account_changes_nothing_of_this_one(
    server: Server, owner: Signed, viewer: Signed, stranger: Signed, path: str
) -> None:
    browser = owner.browser
    browser.open("/members")
    browser.send("/members/invite", role="viewer")
    created = server.call("POST", "/v1/api_keys", {"name": "theirs", "scopes": ["read"]}).json

    def ids(unit: UnitOfWork) -> dict[str, str]:
        [invitation, *_] = unit.invitations.list_before(viewer.account_id, None, 9, unit.now)
        session = unit.web_sessions.list_of(viewer.person.id)[0]
        return {
            "person": viewer.person.id,
            "key": created["id"],
            "invitation": invitation.id,
            "session": session.id,
        }

    before = server.run(server.application.runner.read(ids))
    other = signed_in(server, stranger.account_id, stranger.person)
    other.open("/me")
    other.send(path.format(**before), role="owner")
    assert other.status == 404
    assert server.run(server.application.runner.read(ids)) == before
    found = server.run(
        server.application.runner.read(lambda unit: unit.people.member(viewer.account_id, viewer.person.id))
    )
    assert found is not None
    assert found.role == "viewer"
