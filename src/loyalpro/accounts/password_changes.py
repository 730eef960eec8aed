"""Changing a password: the own one, one of a member, and any as the operator. Every other web session of the person ends."""

from dataclasses import field
from typing import Final

from loyalpro.accounts.entities import Person, SignedIn
from loyalpro.accounts.password_rules import checked_password
from loyalpro.accounts.passwords import Passwords
from loyalpro.accounts.people import MemberRef, get_member
from loyalpro.accounts.ports import AccountsUnit
from loyalpro.accounts.second_factor import remove_second_factor
from loyalpro.accounts.sign_in import GivePassword, Runner, verify_password
from loyalpro.accounts.sign_in_limits import forget_tries, key_of
from loyalpro.accounts.tokens import new_code
from loyalpro.accounts.web_sessions import StartedSession, end_web_sessions, renew_proved
from loyalpro.kernel.errors import Conflict, Forbidden, NotFound
from loyalpro.kernel.record import record

_BYTES: Final = 15


@record
class ChangePassword:
    """The password of a person who is signed in, and the new one."""

    signed_in: SignedIn
    old: str = field(repr=False)
    new: str = field(repr=False)


@record
class ResetMemberPassword:
    """The member of an account whose password an owner resets."""

    signed_in: SignedIn
    person_id: str


@record
class ResetPassword:
    """The person whose password the operator resets. `remove_second_factor`: for one who has lost it."""

    email: str
    remove_second_factor: bool


@record
class NewPassword:
    """A person with a new password, which is shown once."""

    person: Person
    password: str = field(repr=False)


async def change_password(runner: Runner, passwords: Passwords, command: ChangePassword) -> StartedSession:
    """The web session with a new token. Raises `InvalidInput` for a wrong old or a weak new password, and `RateLimited`."""
    person = command.signed_in.person
    checked_password(command.new, about=(person.email, person.name), param="new")
    found, _ = await verify_password(runner, passwords, GivePassword(command.signed_in, command.old))
    password_hash = await passwords.hash(command.new)

    def work(unit: AccountsUnit) -> StartedSession:
        if unit.people.lock(person.id) != found:
            raise Conflict("The password was changed meanwhile. Sign in again.", code="password_changed")
        _store(unit, person, password_hash, keep_id=command.signed_in.session.id)
        return renew_proved(unit, command.signed_in.session)

    return await runner.change(work, "control", actor=person.actor)


async def reset_member_password(runner: Runner, passwords: Passwords, command: ResetMemberPassword) -> NewPassword:
    """A new random password for a member, to pass on. The second factor stays.

    Raises `NotFound`, and `Forbidden` for oneself, and for a member of another account that the owner does not own: with the
    password the owner could sign in there.
    """
    password, password_hash = await _new(runner, passwords)

    def work(unit: AccountsUnit) -> NewPassword:
        owner = command.signed_in
        member = get_member(unit, MemberRef(owner.membership.account_id, command.person_id))
        _require_own_accounts(unit, owner.person.id, member.person.id)
        unit.people.lock(member.person.id)
        _store(unit, member.person, password_hash)
        return NewPassword(member.person, password)

    return await runner.change(work, "control", actor=command.signed_in.actor)


async def reset_password(runner: Runner, passwords: Passwords, command: ResetPassword, *, actor: str) -> NewPassword:
    """A new random password for any person, as the operator wishes. Raises `NotFound`."""
    password, password_hash = await _new(runner, passwords)

    def work(unit: AccountsUnit) -> NewPassword:
        found = unit.people.credentials(command.email.strip())
        if found is None:
            raise NotFound("There is no person with this e-mail address.", param="email")
        unit.people.lock(found.person.id)
        _store(unit, found.person, password_hash)
        if command.remove_second_factor:
            remove_second_factor(unit, found.person.id)
        return NewPassword(found.person, password)

    return await runner.change(work, "control", actor=actor)


async def _new(runner: Runner, passwords: Passwords) -> tuple[str, str]:
    """A random password and its hash."""
    password = await runner.read(lambda unit: new_code(unit.random_bytes, _BYTES))
    return password, await passwords.hash(password)


def _store(unit: AccountsUnit, person: Person, password_hash: str, *, keep_id: str | None = None) -> None:
    unit.people.set_password(person.id, password_hash)
    forget_tries(unit, key_of("email", person.email.strip().lower()))
    for membership in sorted(unit.people.memberships(person.id), key=lambda each: each.account_id):
        unit.audit(membership.account_id, "person.password_changed", person.id)
    end_web_sessions(unit, person.id, keep_id=keep_id)


def _require_own_accounts(unit: AccountsUnit, owner_id: str, person_id: str) -> None:
    if owner_id == person_id:
        raise Forbidden("Change your own password on your own page.", code="own_password")
    owned = {each.account_id for each in unit.people.memberships(owner_id) if each.role == "owner"}
    if any(each.account_id not in owned for each in unit.people.memberships(person_id)):
        raise Forbidden(
            "This person is also a member of an account that you do not own. Ask the operator to run: loyalpro reset-password",
            code="member_elsewhere",
        )
