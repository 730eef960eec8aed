"""Any sequence of what people do, on both stores: exactly the web sessions that should be valid are, with the right rights."""

import itertools
from dataclasses import dataclass, field
from typing import ClassVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from loyalpro.accounts.entities import Person
from loyalpro.accounts.password_changes import ChangePassword, change_password
from loyalpro.accounts.people import ChangeRole, MemberRef, change_role, remove_member
from loyalpro.accounts.roles import ROLE_NAMES, Role
from loyalpro.accounts.second_factor import remove_second_factor
from loyalpro.accounts.sign_in import GiveCode, GivePassword, enter_code, prove_with_password, sign_out
from loyalpro.accounts.web_sessions import StartedSession, SwitchAccount, has_fresh_proof, note_use, switch_account
from loyalpro.kernel.errors import LoyalProError, RateLimited
from support.databases import Databases
from support.people import PASSWORD, People

_seeds = itertools.count(1)
_DAY_S = 86_400
_WRONG = "not the password at all"


@dataclass
class Session:
    """A web session as it should be. `person`: an e-mail address; times in seconds of the virtual clock."""

    person: str
    account: str
    created_s: float
    used_s: float
    proved_s: float
    awaits_code: bool


@dataclass
class Somebody:
    """A person as it should be."""

    person: Person
    password: str = PASSWORD
    secret: str | None = None
    last_step: int = 0
    tries_s: list[float] = field(default_factory=list)


class Model(RuleBasedStateMachine):
    """One example: two accounts, and three people, who are members of one or of both."""

    url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        seed = next(_seeds)
        self.people = People(self.url, seed)
        self.accounts = [self.people.account(name) for name in ("Bakery", "Cafe")]
        self.roles: dict[tuple[str, str], Role] = {}
        self.known: dict[str, Somebody] = {}
        self.sessions: dict[str, Session] = {}
        self.ended: set[str] = set()
        for n, joined in enumerate(("owner", "owner developer", "viewer owner")):
            email = f"p{n}.{seed}@example.com"
            first, *more = joined.split()
            person = self.people.member(self.accounts[0], self._role(first), email)
            self.known[email] = Somebody(person)
            self.roles[self.accounts[0], email] = self._role(first)
            for role in more:
                self.people.join(self.accounts[1], person, self._role(role))
                self.roles[self.accounts[1], email] = self._role(role)

    def teardown(self) -> None:
        self.people.runner.close()

    @staticmethod
    def _role(text: str) -> Role:
        return next(each for each in ROLE_NAMES if each == text)

    @property
    def now_s(self) -> float:
        return self.people.clock.now_ms() / 1_000

    def is_alive(self, session: Session) -> bool:
        waits = session.awaits_code and self.now_s - session.created_s >= 600
        ages = self.now_s - session.created_s < 14 * _DAY_S and self.now_s - session.used_s < _DAY_S
        return ages and not waits and (session.account, session.person) in self.roles

    def alive(self) -> list[str]:
        return sorted(token for token, session in self.sessions.items() if self.is_alive(session))

    def draw(self, data: st.DataObject, *, whole: bool = True) -> str:
        return data.draw(st.sampled_from([each for each in self.alive() if whole != self.sessions[each].awaits_code]))

    def end(self, *tokens: str) -> None:
        for token in tokens:
            self.sessions.pop(token, None)
            self.ended.add(token)

    def end_of(self, email: str, *, account: str | None = None, keep: str | None = None) -> None:
        self.end(
            *[
                token
                for token, session in self.sessions.items()
                if session.person == email and account in (None, session.account) and token != keep
            ]
        )

    def renewed(self, old: str, started: StartedSession) -> Session:
        session = self.sessions[old]
        self.end(old)
        self.sessions[started.token] = session
        session.used_s = self.now_s
        return session

    def counted(self, email: str) -> None:
        """A try was accepted: it is one of at most 5 in a minute."""
        tries = self.known[email].tries_s
        tries.append(self.now_s)
        assert sum(self.now_s - each < 60 for each in tries) <= 5

    def waited(self, email: str, refusal: RateLimited) -> None:
        """A try was refused: there were 5 within a minute, not long ago."""
        tries = self.known[email].tries_s
        assert refusal.retry_after_s <= 300
        assert any(tries[n + 4] - tries[n] < 60 and self.now_s - tries[n + 4] < 300 for n in range(len(tries) - 4))

    # -- rules ---------------------------------------------------------------------------------------------------------

    @rule(data=st.data(), right=st.booleans())
    def sign_in(self, data: st.DataObject, *, right: bool) -> None:
        email = data.draw(st.sampled_from(sorted(self.known)))
        somebody = self.known[email]
        is_member = any(person == email for _, person in self.roles)
        try:
            started = self.people.sign_in(email, somebody.password if right else _WRONG)
        except RateLimited as refusal:
            self.waited(email, refusal)
        except LoyalProError as refusal:
            assert refusal.code == "wrong_credentials"
            assert not (right and is_member)
            self.counted(email)
        else:
            assert right
            assert is_member
            self.counted(email)
            somebody.tries_s.clear()
            awaits = somebody.secret is not None
            assert started.session.awaits_code == awaits
            account = started.session.account_id
            self.sessions[started.token] = Session(email, account, self.now_s, self.now_s, self.now_s, awaits)

    @precondition(lambda self: any(self.sessions[each].awaits_code for each in self.alive()))
    @rule(data=st.data(), right=st.booleans())
    def give_code(self, data: st.DataObject, *, right: bool) -> None:
        token = self.draw(data, whole=False)
        somebody = self.known[self.sessions[token].person]
        step = self.people.clock.now_ms() // 30_000
        if somebody.secret is None:  # it was removed meanwhile
            right = False
        code = self.people.code(somebody.secret) if right and somebody.secret else "00000x"
        try:
            started = self.people.run(enter_code(self.people.runner, GiveCode(self.people.signed_in(token), code)))
        except RateLimited:
            pass
        except LoyalProError as refusal:
            assert refusal.code == "wrong_code"
            assert not right or step <= somebody.last_step
        else:
            assert right
            assert step > somebody.last_step
            somebody.last_step = step
            session = self.renewed(token, started)
            session.awaits_code, session.proved_s = False, self.now_s

    @precondition(lambda self: any(not self.sessions[each].awaits_code for each in self.alive()))
    @rule(data=st.data(), right=st.booleans())
    def prove(self, data: st.DataObject, *, right: bool) -> None:
        token = self.draw(data)
        email = self.sessions[token].person
        command = GivePassword(self.people.signed_in(token), self.known[email].password if right else _WRONG)
        try:
            started = self.people.run(prove_with_password(self.people.runner, self.people.passwords, command))
        except RateLimited as refusal:
            self.waited(email, refusal)
        except LoyalProError as refusal:
            assert (refusal.code, right) == ("wrong_password", False)
            self.counted(email)
        else:
            assert right
            self.known[email].tries_s.clear()
            self.renewed(token, started).proved_s = self.now_s

    @precondition(lambda self: self.alive())
    @rule(data=st.data())
    def use(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(self.alive()))
        who = self.people.signed_in(token)
        self.people.do(lambda unit: note_use(unit, who))
        self.sessions[token].used_s = self.now_s

    @precondition(lambda self: self.alive())
    @rule(data=st.data())
    def sign_out(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(self.alive()))
        who = self.people.signed_in(token)
        self.people.do(lambda unit: sign_out(unit, who))
        self.end(token)

    @precondition(lambda self: any(not self.sessions[each].awaits_code for each in self.alive()))
    @rule(data=st.data(), to=st.integers(0, 1))
    def switch(self, data: st.DataObject, to: int) -> None:
        token = self.draw(data)
        email, account = self.sessions[token].person, self.accounts[to]
        who = self.people.signed_in(token)
        try:
            started = self.people.do(lambda unit: switch_account(unit, SwitchAccount(who, account)))
        except LoyalProError as refusal:
            assert refusal.code == "not_found"
            assert (account, email) not in self.roles
        else:
            assert (account, email) in self.roles
            self.renewed(token, started).account = account

    @precondition(lambda self: any(not self.sessions[each].awaits_code for each in self.alive()))
    @rule(data=st.data(), number=st.integers(0, 10**6))
    def change_password(self, data: st.DataObject, number: int) -> None:
        token = self.draw(data)
        email = self.sessions[token].person
        new = f"seven owls fly {number}"
        command = ChangePassword(self.people.signed_in(token), self.known[email].password, new)
        try:
            started = self.people.run(change_password(self.people.runner, self.people.passwords, command))
        except RateLimited as refusal:
            self.waited(email, refusal)
            return
        self.known[email].password = new
        self.known[email].tries_s.clear()
        self.end_of(email, keep=token)
        self.renewed(token, started).proved_s = self.now_s

    @precondition(lambda self: any(not self.sessions[each].awaits_code for each in self.alive()))
    @rule(data=st.data())
    def change_second_factor(self, data: st.DataObject) -> None:
        token = self.draw(data)
        somebody = self.known[self.sessions[token].person]
        if somebody.secret is not None:
            self.people.do(lambda unit: remove_second_factor(unit, somebody.person.id))
            somebody.secret = None
            return
        somebody.secret, added = self.people.add_second_factor(token)
        somebody.last_step = self.people.clock.now_ms() // 30_000
        self.end_of(self.sessions[token].person, keep=token)
        self.renewed(token, added.started).proved_s = self.now_s

    @precondition(lambda self: self.roles)
    @rule(data=st.data(), role=st.sampled_from([*ROLE_NAMES, None]))
    def change_role_or_remove(self, data: st.DataObject, role: Role | None) -> None:
        account, email = data.draw(st.sampled_from(sorted(self.roles)))
        person_id, old = self.known[email].person.id, self.roles[account, email]
        owners = [person for (where, person), has in self.roles.items() if where == account and has == "owner"]
        try:
            if role is None:
                self.people.do(lambda unit: remove_member(unit, MemberRef(account, person_id)))
            else:
                self.people.do(lambda unit: change_role(unit, ChangeRole(account, person_id, role)))
        except LoyalProError as refusal:
            assert (refusal.code, owners) == ("last_owner", [email])
            return
        assert owners != [email] or role == "owner"
        if role is None:
            del self.roles[account, email]
        else:
            self.roles[account, email] = role
        if role != old:
            self.end_of(email, account=account)

    @rule(seconds=st.sampled_from([1, 10, 30, 59, 60, 120, 300, 599, 3_600, _DAY_S // 2, _DAY_S - 1, 3 * _DAY_S]))
    def wait(self, seconds: int) -> None:
        self.people.clock.advance(seconds)

    # -- what always holds ---------------------------------------------------------------------------------------------

    @invariant()
    def exactly_the_right_web_sessions_are_valid(self) -> None:
        for token, session in self.sessions.items():
            found = self.people.found(token)
            assert (found is not None) == self.is_alive(session)
            if found is not None:
                assert found.person.email == session.person
                assert found.membership.role == self.roles[session.account, session.person]
                assert found.session.awaits_code == session.awaits_code
                here = {where for where, person in self.roles if person == session.person}
                assert {found.membership.account_id, *(each.account_id for each in found.others)} == here
                fresh = has_fresh_proof(found.session, self.people.clock.now_ms())
                assert fresh == (self.now_s - session.proved_s < 600)
        assert all(self.people.found(token) is None for token in self.ended)

    @invariant()
    def each_account_has_an_owner(self) -> None:
        for account in self.accounts:
            owners = self.people.do(lambda unit, account=account: unit.people.owners(account))  # type: ignore[misc]
            expected = [person for (where, person), role in self.roles.items() if (where, role) == (account, "owner")]
            assert sorted(owners) == sorted(self.known[email].person.id for email in expected)
            assert owners


def test_any_sequence_of_what_people_do_leaves_exactly_the_right_web_sessions(databases: Databases, store: str) -> None:
    Model.url = databases.fresh(store)
    run_state_machine_as_test(
        Model,
        settings=settings(max_examples=6, stateful_step_count=25, deadline=None, phases=[Phase.generate]),
    )
