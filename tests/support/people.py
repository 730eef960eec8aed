"""People for tests: a runner on a database of its own clock, passwords that cost little, and members of accounts."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from argon2 import PasswordHasher

from loyalpro.accounts.accounts import CreateAccount, create_account
from loyalpro.accounts.entities import Person, SignedIn
from loyalpro.accounts.passwords import Passwords
from loyalpro.accounts.people import new_person
from loyalpro.accounts.roles import Role
from loyalpro.accounts.second_factor import (
    STEP_MS,
    AddedSecondFactor,
    ConfirmSecondFactor,
    begin_second_factor,
    code_at,
    confirm_second_factor,
)
from loyalpro.accounts.sign_in import SignIn, sign_in
from loyalpro.accounts.web_sessions import Browser, StartedSession, find_web_session
from loyalpro.kernel.clock import VirtualClock
from loyalpro.kernel.unit_of_work import SYSTEM, WriterName
from loyalpro.storage.unit_of_work import UnitOfWork
from support.history import connect
from support.units import tools

T = TypeVar("T")

CHEAP: Final = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD: Final = "seven grey owls at noon"
BROWSER: Final = Browser("192.0.2.7", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0")


class TransactionRunner:
    """Runs each unit of work in a transaction, on one connection."""

    def __init__(self, url: str, seed: int = 1, clock: VirtualClock | None = None) -> None:
        self.url = url
        self.clock = clock or VirtualClock()
        self.tools = tools(seed, clock=self.clock)
        self._connection = connect(url)

    async def change(self, work: Callable[[UnitOfWork], T], writer: WriterName = "ingest", *, actor: str = SYSTEM) -> T:
        """Commit `work`. There is one writer."""
        assert writer
        return self.do(work, actor=actor)

    async def read(self, work: Callable[[UnitOfWork], T]) -> T:
        """Run `work`."""
        return self.do(work)

    async def lookup(self, work: Callable[[UnitOfWork], T]) -> T:
        """Run `work`."""
        return self.do(work)

    def do(self, work: Callable[[UnitOfWork], T], *, actor: str = SYSTEM) -> T:
        """Commit `work`; nothing of it when it raises."""
        self._connection.begin()
        try:
            result = work(UnitOfWork(self._connection, self.tools, actor=actor))
            self._connection.flush()
            self._connection.commit()
        except BaseException:
            self._connection.rollback()
            raise
        return result

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class People:
    """An account after the other with members, on one database."""

    def __init__(self, url: str, seed: int = 1) -> None:
        self.runner = TransactionRunner(url, seed)
        self.clock = self.runner.clock
        self.do = self.runner.do
        self.passwords = Passwords(CHEAP)
        self.password_hash = self.run(self.passwords.hash(PASSWORD))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of a coroutine."""
        return asyncio.run(work)

    def account(self, name: str = "Bakery") -> str:
        """The id of a new account."""
        return self.do(lambda unit: create_account(unit, CreateAccount(name)).id)

    def member(self, account_id: str, role: Role, email: str) -> Person:
        """A new person, who is a member."""
        return self.do(
            lambda unit: new_person(unit, account_id, role, email=email, name="Ada", password_hash=self.password_hash)
        )

    def join(self, account_id: str, person: Person, role: Role) -> None:
        """Make a person a member of one more account."""
        assert self.do(lambda unit: unit.people.add_member(account_id, person.id, role, unit.now))

    def sign_in(self, email: str, password: str = PASSWORD, browser: Browser = BROWSER) -> StartedSession:
        """Sign in."""
        return self.run(sign_in(self.runner, self.passwords, SignIn(email, browser, password)))

    def found(self, token: str) -> SignedIn | None:
        """Who has a token."""
        return self.do(lambda unit: find_web_session(unit, token))

    def signed_in(self, token: str) -> SignedIn:
        """Who has a token that is valid."""
        found = self.found(token)
        assert found is not None
        return found

    def add_second_factor(self, token: str) -> tuple[str, AddedSecondFactor]:
        """The secret of a new second factor, and what its confirmation returns."""
        who = self.signed_in(token)
        pending = self.do(lambda unit: begin_second_factor(unit, who.person))
        command = ConfirmSecondFactor(who, self.code(pending.secret))
        return pending.secret, self.do(lambda unit: confirm_second_factor(unit, command), actor=who.actor)

    def code(self, secret: str) -> str:
        """The code of now."""
        return code_at(secret, self.clock.now_ms() // STEP_MS)
