"""Members of a server's accounts, and their browsers, without the cost of a password for each."""

from dataclasses import dataclass

from loyalpro.accounts.accounts import first_account
from loyalpro.accounts.entities import Person
from loyalpro.accounts.people import new_person
from loyalpro.accounts.roles import Role
from loyalpro.accounts.web_sessions import StartedSession, start_web_session
from loyalpro.storage.unit_of_work import UnitOfWork
from support.browser import Browser
from support.people import BROWSER, CHEAP, PASSWORD
from support.server import Server

_HASH = CHEAP.hash(PASSWORD)


@dataclass(frozen=True)
class Signed:
    """A member with a browser that is signed in."""

    person: Person
    account_id: str
    browser: Browser


def first_account_id(server: Server) -> str:
    """The account that the server has opened."""
    account = server.run(server.application.runner.read(first_account))
    assert account is not None
    return account.id


def add_member(server: Server, account_id: str, role: Role, email: str, name: str = "") -> Person:
    """A new person, whose password is `PASSWORD`."""
    return server.run(
        server.application.runner.change(
            lambda unit: new_person(unit, account_id, role, email=email, name=name, password_hash=_HASH)
        )
    )


def signed_in(server: Server, account_id: str, person: Person) -> Browser:
    """A browser with a web session of a member."""

    def work(unit: UnitOfWork) -> StartedSession:
        [membership] = [each for each in unit.people.memberships(person.id) if each.account_id == account_id]
        return start_web_session(unit, person, membership, BROWSER)

    browser = Browser(server)
    browser.cookies["loyalpro"] = server.run(server.application.runner.change(work, actor=person.actor)).token
    return browser


def new_member(server: Server, role: Role, email: str | None = None, account_id: str | None = None) -> Signed:
    """A new member, who is signed in."""
    own_id = account_id or first_account_id(server)
    person = add_member(server, own_id, role, email or f"{role}@example.com")
    return Signed(person, own_id, signed_in(server, own_id, person))
