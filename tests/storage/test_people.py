"""Signing in, web sessions, second factors, members and invitations, on both stores."""

import asyncio
from collections.abc import Iterator

import pytest
from argon2 import PasswordHasher

from loyalpro.accounts.entities import SignedIn
from loyalpro.accounts.first_run import CreateOwner, check_setup, create_owner, is_first_run, offer_setup_code
from loyalpro.accounts.invitations import (
    MAX_OPEN,
    InvitationRef,
    Invite,
    JoinAsNewPerson,
    ListInvitations,
    find_invitation,
    invite,
    join_as_member,
    join_as_new_person,
    list_invitations,
    revoke_invitation,
)
from loyalpro.accounts.password_changes import (
    ChangePassword,
    ResetMemberPassword,
    ResetPassword,
    change_password,
    reset_member_password,
    reset_password,
)
from loyalpro.accounts.passwords import Passwords
from loyalpro.accounts.people import (
    ChangeRole,
    ListMembers,
    MemberRef,
    UpdatePerson,
    change_role,
    list_members,
    remove_member,
    update_person,
)
from loyalpro.accounts.people_upkeep import remove_ended
from loyalpro.accounts.second_factor import (
    RequireSecondFactor,
    begin_second_factor,
    pending_second_factor,
    remove_second_factor,
    renew_recovery_codes,
    require_second_factor,
)
from loyalpro.accounts.sign_in import (
    GiveCode,
    GivePassword,
    enter_code,
    prove_with_code,
    prove_with_password,
    sign_out,
)
from loyalpro.accounts.web_sessions import (
    MOST_SESSIONS,
    Browser,
    EndSession,
    SwitchAccount,
    end_web_session,
    has_fresh_proof,
    list_web_sessions,
    needs_note,
    note_use,
    start_web_session,
    switch_account,
)
from loyalpro.kernel.errors import LoyalProError, RateLimited
from loyalpro.storage.unit_of_work import UnitOfWork
from support.databases import Databases
from support.history import query
from support.people import BROWSER, CHEAP, PASSWORD, People
from support.rivals import at_once
from support.units import unit_on

HOUR_S = 3_600.0
NEW_PASSWORD = "eleven loud trains to Ghent"


@pytest.fixture
def people(database_url: str) -> Iterator[People]:
    made = People(database_url)
    yield made
    made.runner.close()


@pytest.fixture
def account(people: People) -> str:
    return people.account()


def code_of(refusal: pytest.ExceptionInfo[LoyalProError]) -> str:
    return refusal.value.code


def actions(people: People, account_id: str) -> list[tuple[str, str]]:
    sql = "SELECT action, actor FROM audit_log WHERE account_id = ? ORDER BY id"
    return [(action, actor.partition(":")[0]) for action, actor in query(people.runner.url, sql, account_id)]


# -- signing in ------------------------------------------------------------------------------------------------------


def test_a_person_signs_in_with_an_address_in_any_case(people: People, account: str) -> None:
    ada = people.member(account, "developer", "ada@example.com")
    started = people.sign_in("  ADA@example.com ")
    found = people.signed_in(started.token)
    assert (found.person, found.membership.role, found.membership.account_name) == (ada, "developer", "Bakery")
    assert (found.actor, found.others, found.session) == (f"person:{ada.id}", (), started.session)
    assert (found.session.address, found.session.user_agent) == (BROWSER.address, BROWSER.user_agent)
    assert actions(people, account)[-1] == ("web_session.started", "person")


def test_the_database_has_neither_the_token_nor_the_password(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    token = people.sign_in("ada@example.com").token
    [row] = query(people.runner.url, "SELECT * FROM web_sessions")
    assert token not in str(row)
    assert token.encode() not in [each for each in row if isinstance(each, bytes)]
    assert PASSWORD not in str(query(people.runner.url, "SELECT * FROM users"))


@pytest.mark.parametrize(
    ("email", "password"),
    [("ada@example.com", "wrong"), ("bob@example.com", PASSWORD), ("", ""), ("gone@example.com", PASSWORD)],
)
def test_every_wrong_sign_in_has_the_same_error(people: People, account: str, email: str, password: str) -> None:
    people.member(account, "owner", "ada@example.com")
    gone = people.member(account, "viewer", "gone@example.com")
    people.do(lambda unit: remove_member(unit, MemberRef(account, gone.id)))
    with pytest.raises(LoyalProError) as refusal:
        people.sign_in(email, password)
    assert (refusal.value.code, refusal.value.detail, refusal.value.param) == (
        "wrong_credentials",
        "E-mail or password is not right.",
        None,
    )
    assert query(people.runner.url, "SELECT * FROM web_sessions") == []


def test_the_sixth_try_with_an_address_waits_also_with_the_right_password(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    for n in range(5):
        with pytest.raises(LoyalProError):
            people.sign_in("Ada@example.com", "wrong", Browser(f"192.0.2.{n}", None))
    with pytest.raises(RateLimited) as refusal:
        people.sign_in("ada@example.com", browser=Browser("192.0.2.99", None))
    assert refusal.value.retry_after_s == 60
    people.clock.advance(60)
    people.sign_in("ada@example.com")
    assert "ada" not in str(query(people.runner.url, "SELECT * FROM sign_in_tries"))


def test_a_right_password_forgets_the_tries_of_the_e_mail_and_not_those_of_the_address(
    people: People, account: str
) -> None:
    people.member(account, "owner", "ada@example.com")
    for n in range(20):
        if n % 4 == 3:
            people.sign_in("ada@example.com")
        else:
            with pytest.raises(LoyalProError):
                people.sign_in("ada@example.com", "wrong")
    with pytest.raises(RateLimited):
        people.sign_in("ada@example.com")
    people.sign_in("ada@example.com", browser=Browser("192.0.2.99", None))


def test_a_password_is_hashed_again_when_the_parameters_rise(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    people.passwords = Passwords(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    people.sign_in("ada@example.com")
    [(stored,)] = query(people.runner.url, "SELECT password_hash FROM users")
    assert "m=16,t=2" in stored
    people.sign_in("ada@example.com")
    assert query(people.runner.url, "SELECT password_hash FROM users") == [(stored,)]


def test_an_unknown_address_costs_a_hash() -> None:
    class Counting(PasswordHasher):
        count = 0

        def hash(self, password: str | bytes, *, salt: bytes | None = None) -> str:
            Counting.count += 1
            return CHEAP.hash(password, salt=salt)

    verified = asyncio.run(Passwords(Counting()).verify(None, "x"))
    assert (verified.matches, Counting.count) == (False, 1)


# -- web sessions ----------------------------------------------------------------------------------------------------


def test_a_web_session_ends_after_a_day_without_use(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    token = people.sign_in("ada@example.com").token
    people.clock.advance(24 * HOUR_S - 1)
    who = people.signed_in(token)
    assert needs_note(who.session, people.clock.now_ms())
    people.do(lambda unit: note_use(unit, who))
    people.clock.advance(24 * HOUR_S - 1)
    assert people.found(token) is not None
    people.clock.advance(1)
    assert people.found(token) is None


def test_a_web_session_ends_14_days_after_the_sign_in_however_much_it_is_used(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    token = people.sign_in("ada@example.com").token
    for _ in range(14 * 2 - 1):
        people.clock.advance(12 * HOUR_S)
        who = people.signed_in(token)
        people.do(lambda unit, who=who: note_use(unit, who))  # type: ignore[misc]
    people.clock.advance(12 * HOUR_S)
    assert people.found(token) is None


def test_the_use_is_stored_once_a_minute_with_when_the_member_was_seen(people: People, account: str) -> None:
    ada = people.member(account, "owner", "ada@example.com")
    token = people.sign_in("ada@example.com").token
    people.clock.advance(59)
    assert not needs_note(people.signed_in(token).session, people.clock.now_ms())
    people.clock.advance(1)
    who = people.signed_in(token)
    people.do(lambda unit: note_use(unit, who))
    now = people.clock.now_ms()
    assert people.signed_in(token).session.used_at == now
    assert people.do(lambda unit: unit.people.member(account, ada.id)).last_seen_at == now  # type: ignore[union-attr]


def test_a_person_sees_and_ends_web_sessions(people: People, account: str) -> None:
    ada = people.member(account, "owner", "ada@example.com")
    bob = people.member(account, "viewer", "bob@example.com")
    here, there = people.sign_in("ada@example.com"), people.sign_in("ada@example.com", browser=Browser(None, "x" * 999))
    listed = people.do(lambda unit: list_web_sessions(unit, ada.id))
    assert [each.id for each in listed] == [there.session.id, here.session.id]
    assert len(listed[0].user_agent or "") == 300
    with pytest.raises(LoyalProError) as refusal:
        people.do(lambda unit: end_web_session(unit, EndSession(bob.id, there.session.id)))
    assert code_of(refusal) == "not_found"
    people.do(lambda unit: end_web_session(unit, EndSession(ada.id, there.session.id)))
    assert people.found(there.token) is None
    who = people.signed_in(here.token)
    people.do(lambda unit: sign_out(unit, who), actor=who.actor)
    assert people.found(here.token) is None
    assert actions(people, account)[-1] == ("web_session.ended", "person")


def test_a_person_has_at_most_50_web_sessions(people: People, account: str) -> None:
    ada = people.member(account, "owner", "ada@example.com")

    def start(unit: UnitOfWork) -> str:
        return start_web_session(unit, ada, unit.people.memberships(ada.id)[0], BROWSER).token

    tokens = [people.do(start) for _ in range(MOST_SESSIONS + 1)]
    assert [people.found(token) is not None for token in tokens] == [False] + [True] * MOST_SESSIONS


def test_a_fresh_proof_lasts_10_minutes_and_gives_a_new_token(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    old = people.sign_in("ada@example.com").token
    people.clock.advance(600)
    who = people.signed_in(old)
    assert not has_fresh_proof(who.session, people.clock.now_ms())
    with pytest.raises(LoyalProError) as refusal:
        people.run(prove_with_password(people.runner, people.passwords, GivePassword(who, "wrong")))
    assert code_of(refusal) == "wrong_password"
    new = people.run(prove_with_password(people.runner, people.passwords, GivePassword(who, PASSWORD)))
    assert people.found(old) is None
    assert people.signed_in(new.token).session.id == who.session.id
    assert has_fresh_proof(people.signed_in(new.token).session, people.clock.now_ms() + 599_999)


def test_proofs_count_as_tries(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    who = people.signed_in(people.sign_in("ada@example.com").token)
    for _ in range(5):
        with pytest.raises(LoyalProError):
            people.run(prove_with_password(people.runner, people.passwords, GivePassword(who, "wrong")))
    with pytest.raises(RateLimited):
        people.run(prove_with_password(people.runner, people.passwords, GivePassword(who, PASSWORD)))


def test_a_person_with_two_accounts_switches_between_them(people: People, account: str) -> None:
    ada = people.member(account, "owner", "ada@example.com")
    other, third = people.account("Cafe"), people.account("Deli")
    people.join(other, ada, "viewer")
    old = people.sign_in("ada@example.com").token
    who = people.signed_in(old)
    assert [(each.account_name, each.role) for each in who.others] == [("Cafe", "viewer")]
    with pytest.raises(LoyalProError) as refusal:
        people.do(lambda unit: switch_account(unit, SwitchAccount(who, third)))
    assert code_of(refusal) == "not_found"
    people.clock.advance(60)
    new = people.do(lambda unit: switch_account(unit, SwitchAccount(who, other)))
    assert people.found(old) is None
    there = people.signed_in(new.token)
    assert (there.membership.account_id, there.membership.role) == (other, "viewer")
    assert [each.account_id for each in there.others] == [account]
    assert people.sign_in("ada@example.com").session.account_id == other, "the one that was used last"


def test_a_new_password_ends_every_other_web_session(people: People, account: str) -> None:
    ada = people.member(account, "owner", "ada@example.com")
    here, there = people.sign_in("ada@example.com").token, people.sign_in("ada@example.com").token
    who = people.signed_in(here)

    def change(old: str, new: str) -> str:
        command = ChangePassword(who, old, new)
        return people.run(change_password(people.runner, people.passwords, command)).token

    for old, new, code in (
        ("wrong", NEW_PASSWORD, "wrong_password"),
        (PASSWORD, "ada@example.com", "password_too_common"),
    ):
        with pytest.raises(LoyalProError) as refusal:
            change(old, new)
        assert code_of(refusal) == code
    token = change(PASSWORD, NEW_PASSWORD)
    assert [people.found(each) for each in (here, there)] == [None, None]
    assert people.signed_in(token).person == ada
    with pytest.raises(LoyalProError):
        people.sign_in("ada@example.com")
    people.sign_in("ada@example.com", NEW_PASSWORD)
    assert ("person.password_changed", "person") in actions(people, account)


# -- the second factor -----------------------------------------------------------------------------------------------


def test_with_a_second_factor_a_sign_in_awaits_a_code_and_then_has_a_new_token(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    first = people.sign_in("ada@example.com").token
    other = people.sign_in("ada@example.com").token
    secret, added = people.add_second_factor(first)
    assert (people.found(first), people.found(other)) == (None, None)
    assert people.signed_in(added.started.token).person.has_second_factor
    half = people.sign_in("ada@example.com")
    who = people.signed_in(half.token)
    assert who.session.awaits_code
    with pytest.raises(LoyalProError) as refusal:
        people.run(enter_code(people.runner, GiveCode(who, people.code(secret))))
    assert code_of(refusal) == "wrong_code", "the code that confirmed the second factor was used"
    people.clock.advance(30)
    whole = people.run(enter_code(people.runner, GiveCode(who, people.code(secret))))
    assert people.found(half.token) is None
    assert not people.signed_in(whole.token).session.awaits_code
    with pytest.raises(LoyalProError) as refusal:
        people.run(prove_with_code(people.runner, GiveCode(who, people.code(secret))))
    assert code_of(refusal) == "wrong_code", "each code is accepted once"


def test_a_sign_in_awaits_its_code_for_10_minutes(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    people.add_second_factor(people.sign_in("ada@example.com").token)
    half = people.sign_in("ada@example.com").token
    people.clock.advance(599)
    assert people.found(half) is not None
    people.clock.advance(1)
    assert people.found(half) is None


def test_each_recovery_code_is_accepted_once_and_new_ones_replace_them(people: People, account: str) -> None:
    ada = people.member(account, "owner", "ada@example.com")
    _, added = people.add_second_factor(people.sign_in("ada@example.com").token)
    assert len(set(added.recovery_codes)) == 10
    assert not set(added.recovery_codes) & set(str(query(people.runner.url, "SELECT * FROM recovery_codes")).split("'"))

    def enter(code: str) -> str:
        who = people.signed_in(people.sign_in("ada@example.com").token)
        return people.run(enter_code(people.runner, GiveCode(who, code))).token

    enter(added.recovery_codes[0].upper().replace("-", " "))
    with pytest.raises(LoyalProError):
        enter(added.recovery_codes[0])
    assert people.do(lambda unit: unit.second_factors.count_recovery_codes(ada.id)) == 9
    new = people.do(lambda unit: renew_recovery_codes(unit, ada.id))
    with pytest.raises(LoyalProError):
        enter(added.recovery_codes[1])
    enter(new[0])
    assert ("recovery_code.used", "person") in actions(people, account)


def test_after_5_wrong_codes_there_is_a_wait(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    secret, _ = people.add_second_factor(people.sign_in("ada@example.com").token)
    people.clock.advance(30)
    who = people.signed_in(people.sign_in("ada@example.com").token)
    for _ in range(5):
        with pytest.raises(LoyalProError) as refusal:
            people.run(enter_code(people.runner, GiveCode(who, "000000")))
        assert code_of(refusal) == "wrong_code"
    with pytest.raises(RateLimited):
        people.run(enter_code(people.runner, GiveCode(who, people.code(secret))))
    people.clock.advance(60)
    people.run(enter_code(people.runner, GiveCode(who, people.code(secret))))


def test_a_second_factor_counts_once_it_is_confirmed_and_its_secret_is_sealed(people: People, account: str) -> None:
    ada = people.member(account, "owner", "ada@example.com")
    pending = people.do(lambda unit: begin_second_factor(unit, ada))
    assert people.do(lambda unit: pending_second_factor(unit, ada)) == pending
    assert pending.uri == f"otpauth://totp/LoyalPro:ada@example.com?secret={pending.secret}&issuer=LoyalPro"
    assert pending.secret not in repr(pending)
    token = people.sign_in("ada@example.com").token
    assert not people.signed_in(token).session.awaits_code
    assert pending.secret.encode() not in query(people.runner.url, "SELECT sealed FROM second_factors")[0][0]
    _, added = people.add_second_factor(token)
    now = people.signed_in(added.started.token).person
    with pytest.raises(LoyalProError) as refusal:
        people.do(lambda unit: begin_second_factor(unit, now))
    assert code_of(refusal) == "second_factor_exists"
    people.do(lambda unit: remove_second_factor(unit, ada.id))
    assert not people.sign_in("ada@example.com").session.awaits_code
    assert query(people.runner.url, "SELECT * FROM recovery_codes") == []


def test_an_account_requires_a_second_factor_of_all(people: People, account: str) -> None:
    people.member(account, "viewer", "ada@example.com")
    token = people.sign_in("ada@example.com").token
    assert not people.signed_in(token).owes_second_factor
    people.do(lambda unit: require_second_factor(unit, RequireSecondFactor(account, required=True)))
    assert people.signed_in(token).owes_second_factor
    _, added = people.add_second_factor(token)
    assert not people.signed_in(added.started.token).owes_second_factor


# -- members ---------------------------------------------------------------------------------------------------------


def test_a_changed_role_ends_the_web_sessions_in_this_account_alone(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    bob = people.member(account, "viewer", "bob@example.com")
    other = people.account("Cafe")
    people.join(other, bob, "viewer")
    here, there = people.sign_in("bob@example.com").token, people.sign_in("bob@example.com").token
    who = people.signed_in(there)
    there = people.do(lambda unit: switch_account(unit, SwitchAccount(who, other))).token
    people.do(lambda unit: change_role(unit, ChangeRole(account, bob.id, "developer")))
    assert people.found(here) is None
    assert people.signed_in(there).membership.role == "viewer"
    members = people.do(lambda unit: list_members(unit, ListMembers(account, None, 10)))
    assert [(each.person.email, each.role) for each in members] == [
        ("ada@example.com", "owner"),
        ("bob@example.com", "developer"),
    ]
    assert people.do(lambda unit: list_members(unit, ListMembers(account, members[0].person.id, 10))) == members[1:]


def test_a_removed_member_is_signed_out_and_cannot_sign_in(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    bob = people.member(account, "owner", "bob@example.com")
    token = people.sign_in("bob@example.com").token
    made = people.do(lambda unit: invite(unit, Invite(account, "owner")), actor=bob.actor)
    people.do(lambda unit: remove_member(unit, MemberRef(account, bob.id)))
    assert people.found(token) is None
    with pytest.raises(LoyalProError):
        people.sign_in("bob@example.com")
    with pytest.raises(LoyalProError):
        people.do(lambda unit: find_invitation(unit, made.token))
    with pytest.raises(LoyalProError) as refusal:
        people.do(lambda unit: remove_member(unit, MemberRef(account, bob.id)))
    assert code_of(refusal) == "not_found"


def test_the_last_owner_neither_leaves_nor_is_demoted(people: People, account: str) -> None:
    ada = people.member(account, "owner", "ada@example.com")
    people.member(account, "developer", "bob@example.com")
    for change in (
        lambda unit: remove_member(unit, MemberRef(account, ada.id)),
        lambda unit: change_role(unit, ChangeRole(account, ada.id, "developer")),
    ):
        with pytest.raises(LoyalProError) as refusal:
            people.do(change)
        assert code_of(refusal) == "last_owner"
    people.do(lambda unit: change_role(unit, ChangeRole(account, ada.id, "owner")))
    with pytest.raises(LoyalProError) as refusal:
        people.do(lambda unit: change_role(unit, ChangeRole(account, ada.id, "queen")))
    assert code_of(refusal) == "unknown_role"


def test_two_owners_who_demote_each_other_at_the_same_time_leave_one(databases: Databases) -> None:
    people = People(databases.fresh("postgres"))
    account = people.account()
    ada, bob = (people.member(account, "owner", f"{name}@example.com") for name in ("ada", "bob"))
    refusals = []

    def demote(person_id: str) -> None:
        def work(connection: object) -> None:
            try:
                change_role(unit_on(connection), ChangeRole(account, person_id, "viewer"))  # type: ignore[arg-type]
            except LoyalProError as refusal:
                refusals.append(refusal.code)

        works.append(work)

    works: list[object] = []
    demote(ada.id)
    demote(bob.id)
    at_once(people.runner.url, works[0], works[1])  # type: ignore[arg-type]
    assert refusals == ["last_owner"]
    assert len(query(people.runner.url, "SELECT 1 FROM members WHERE role = 'owner'")) == 1
    people.runner.close()


def test_an_owner_resets_the_password_of_a_member_of_own_accounts_only(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    bob = people.member(account, "viewer", "bob@example.com")
    owner = people.signed_in(people.sign_in("ada@example.com").token)
    token = people.sign_in("bob@example.com").token

    def reset(person_id: str) -> str:
        command = ResetMemberPassword(owner, person_id)
        return people.run(reset_member_password(people.runner, people.passwords, command)).password

    password = reset(bob.id)
    assert people.found(token) is None
    people.sign_in("bob@example.com", password)
    with pytest.raises(LoyalProError) as refusal:
        reset(owner.person.id)
    assert code_of(refusal) == "own_password"
    people.join(people.account("Cafe"), bob, "viewer")
    with pytest.raises(LoyalProError) as refusal:
        reset(bob.id)
    assert code_of(refusal) == "member_elsewhere"
    stranger = people.member(people.account("Deli"), "owner", "eve@example.com")
    with pytest.raises(LoyalProError) as refusal:
        reset(stranger.id)
    assert code_of(refusal) == "not_found"


def test_the_operator_resets_any_password_and_removes_a_lost_second_factor(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    _, added = people.add_second_factor(people.sign_in("ada@example.com").token)

    def reset(email: str, *, remove: bool) -> str:
        command = ResetPassword(email, remove_second_factor=remove)
        return people.run(reset_password(people.runner, people.passwords, command, actor="cli")).password

    assert people.sign_in("ada@example.com", reset("ADA@example.com", remove=False)).session.awaits_code
    assert people.found(added.started.token) is None
    assert not people.sign_in("ada@example.com", reset("ada@example.com", remove=True)).session.awaits_code
    with pytest.raises(LoyalProError) as refusal:
        reset("nobody@example.com", remove=False)
    assert code_of(refusal) == "not_found"
    assert ("second_factor.removed", "cli") in actions(people, account)


def test_a_person_changes_the_own_settings(people: People, account: str) -> None:
    ada = people.member(account, "owner", "ada@example.com")
    token = people.sign_in("ada@example.com").token

    def update(name: str = "Ada L.", zone: str | None = "Europe/Paris", theme: str = "dark") -> None:
        command = UpdatePerson(ada.id, name, zone, theme, shortcuts=False)
        people.do(lambda unit: update_person(unit, command))

    update()
    person = people.signed_in(token).person
    assert (person.name, person.time_zone, person.theme, person.shortcuts) == ("Ada L.", "Europe/Paris", "dark", False)
    for wrong, param in (
        ({"name": "x" * 101}, "name"),
        ({"zone": "Mars/Base"}, "time_zone"),
        ({"zone": "../etc/passwd"}, "time_zone"),
        ({"theme": "pink"}, "theme"),
    ):
        with pytest.raises(LoyalProError) as refusal:
            update(**wrong)
        assert refusal.value.param == param


# -- invitations and the first run -----------------------------------------------------------------------------------


def join(people: People, token: str, email: str, password: str = PASSWORD) -> SignedIn:
    command = JoinAsNewPerson(token, email, "Bob", password, BROWSER)
    return people.signed_in(people.run(join_as_new_person(people.runner, people.passwords, command)).token)


def test_an_invitation_makes_one_member(people: People, account: str) -> None:
    ada = people.member(account, "owner", "ada@example.com")
    made = people.do(lambda unit: invite(unit, Invite(account, "support", "Bob, at the till")), actor=ada.actor)
    assert made.token not in repr(made)
    assert people.do(lambda unit: list_invitations(unit, ListInvitations(account, None, 10))) == [made.invitation]
    for email, password, code in (
        ("not an address", PASSWORD, "invalid_field"),
        ("bob@example.com", "bob@example.com", "password_too_common"),
        ("ADA@example.com", PASSWORD, "email_taken"),
    ):
        with pytest.raises(LoyalProError) as refusal:
            join(people, made.token, email, password)
        assert code_of(refusal) == code
    bob = join(people, made.token, "Bob@Example.com")
    assert (bob.person.email, bob.person.name, bob.membership.role) == ("bob@example.com", "Bob", "support")
    with pytest.raises(LoyalProError) as refusal:
        join(people, made.token, "eve@example.com")
    assert code_of(refusal) == "invitation_not_found"
    assert people.do(lambda unit: list_invitations(unit, ListInvitations(account, None, 10))) == []


def test_a_person_who_exists_joins_one_more_account(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    other = people.account("Cafe")
    old = people.sign_in("ada@example.com").token
    made = people.do(lambda unit: invite(unit, Invite(other, "viewer")))
    who = people.signed_in(old)
    new = people.do(lambda unit: join_as_member(unit, made.token, who), actor=who.actor)
    assert people.found(old) is None
    assert people.signed_in(new.token).membership.account_id == other
    again = people.do(lambda unit: invite(unit, Invite(other, "owner")))
    who = people.signed_in(new.token)
    with pytest.raises(LoyalProError) as refusal:
        people.do(lambda unit: join_as_member(unit, again.token, who))
    assert code_of(refusal) == "already_member"
    assert people.signed_in(new.token).membership.role == "viewer"


def test_an_invitation_expires_after_72_hours_and_can_be_revoked(people: People, account: str) -> None:
    first, second = (people.do(lambda unit: invite(unit, Invite(account, "viewer"))) for _ in range(2))
    other = people.account("Cafe")
    with pytest.raises(LoyalProError):
        people.do(lambda unit: revoke_invitation(unit, InvitationRef(other, first.invitation.id)))
    people.do(lambda unit: revoke_invitation(unit, InvitationRef(account, first.invitation.id)))
    people.clock.advance(72 * HOUR_S - 1)
    people.do(lambda unit: find_invitation(unit, second.token))
    people.clock.advance(1)
    for each in (first, second):
        with pytest.raises(LoyalProError) as refusal:
            people.do(lambda unit, each=each: find_invitation(unit, each.token))  # type: ignore[misc]
        assert code_of(refusal) == "invitation_not_found"


def test_an_account_has_a_limited_number_of_open_invitations(people: People, account: str) -> None:
    def fill(unit: object) -> None:
        for _ in range(MAX_OPEN):
            invite(unit, Invite(account, "viewer"))  # type: ignore[arg-type]

    people.do(fill)
    with pytest.raises(LoyalProError) as refusal:
        people.do(lambda unit: invite(unit, Invite(account, "viewer")))
    assert code_of(refusal) == "too_many_invitations"
    with pytest.raises(LoyalProError) as refusal:
        people.do(lambda unit: invite(unit, Invite(account, "viewer", "x" * 101)))
    assert refusal.value.param == "note"


def test_the_first_run_makes_the_first_owner_once(people: People, account: str) -> None:
    code = people.do(offer_setup_code)
    assert code is not None
    assert people.do(is_first_run)

    def create(setup_code: str, **fields: str) -> SignedIn:
        given = {"email": "ada@example.com", "password": PASSWORD, "business_name": "Bakery in Lyon"} | fields
        command = CreateOwner(setup_code=setup_code, time_zone="Europe/Paris", browser=BROWSER, **given)
        password_hash = people.run(check_setup(people.runner, people.passwords, command))
        return people.signed_in(people.do(lambda unit: create_owner(unit, command, password_hash)).token)

    for fields, refused in (
        ({"email": "x"}, "invalid_field"),
        ({"business_name": ""}, "invalid_field"),
        ({"password": "Bakery in Lyon 1"}, "password_too_common"),
    ):
        with pytest.raises(LoyalProError) as refusal:
            create(code, **fields)
        assert code_of(refusal) == refused
    with pytest.raises(LoyalProError) as refusal:
        create("aaaa-aaaa")
    assert code_of(refusal) == "wrong_setup_code"
    owner = create(code.upper())
    assert (owner.membership.role, owner.membership.account_id) == ("owner", account)
    assert (owner.membership.account_name, owner.person.time_zone) == ("Bakery in Lyon", "Europe/Paris")
    with pytest.raises(LoyalProError) as refusal:
        create(code, email="eve@example.com")
    assert code_of(refusal) == "owner_exists"
    assert (people.do(is_first_run), people.do(offer_setup_code)) == (False, None)


def test_a_setup_code_is_valid_for_15_minutes_and_tries_are_limited(people: People, account: str) -> None:
    assert account
    first = people.do(offer_setup_code)
    assert first is not None
    people.clock.advance(900)
    second = people.do(offer_setup_code)
    for code, refused in (
        (first, "wrong_setup_code"),
        *[("aaaa-aaaa", "wrong_setup_code")] * 4,
        (second, "too_many_tries"),
    ):
        command = CreateOwner(code or "", "ada@example.com", PASSWORD, "Bakery", None, BROWSER)
        with pytest.raises(LoyalProError) as refusal:
            people.run(check_setup(people.runner, people.passwords, command))
        assert code_of(refusal) == refused


def test_upkeep_removes_what_has_ended(people: People, account: str) -> None:
    people.member(account, "owner", "ada@example.com")
    people.sign_in("ada@example.com")
    people.do(lambda unit: invite(unit, Invite(account, "viewer")))
    people.do(lambda unit: unit.setup_codes.insert("code", unit.now + 1))
    tables = ("web_sessions", "sign_in_tries", "invitations", "setup_codes")

    def left() -> list[int]:
        return [query(people.runner.url, f"SELECT COUNT(*) FROM {table}")[0][0] for table in tables]

    assert people.do(remove_ended).items == 0
    assert all(left())
    people.clock.advance(24 * HOUR_S)
    token = people.sign_in("ada@example.com").token
    people.clock.advance(49 * HOUR_S)
    assert people.do(remove_ended).items >= 3
    assert left() == [0, 0, 0, 0]
    assert people.found(token) is None
