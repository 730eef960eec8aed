"""Signing in: the password, then the code of the second factor if there is one; and proving again who one is.

Each try is counted in a database transaction of its own, before the password or the code is checked.
"""

from dataclasses import field
from typing import Final, Literal

from loyalpro.accounts.entities import Credentials, Person, SignedIn
from loyalpro.accounts.passwords import Passwords, Verified
from loyalpro.accounts.ports import AccountsUnit
from loyalpro.accounts.second_factor import accept_code, wrong_code
from loyalpro.accounts.sign_in_limits import (
    TRIES_FOR_ADDRESS,
    TRIES_FOR_CODE,
    TRIES_FOR_EMAIL,
    count_tries,
    forget_tries,
    key_of,
)
from loyalpro.accounts.web_sessions import (
    Browser,
    EndSession,
    StartedSession,
    end_web_session,
    note_start,
    renew_proved,
    start_web_session,
)
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.record import record
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner

Runner = UnitOfWorkRunner[AccountsUnit]
SIGN_IN: Final = "system:sign_in"
"""The actor of counting a try of somebody who is not known yet."""


@record
class SignIn:
    """What a person gives to sign in, and from where."""

    email: str
    browser: Browser
    password: str = field(repr=False)


@record
class GiveCode:
    """A code of the second factor, or a recovery code, of a person who has given the password."""

    signed_in: SignedIn
    code: str = field(repr=False)


@record
class GivePassword:
    """The password of a person who is signed in."""

    signed_in: SignedIn
    password: str = field(repr=False)


async def sign_in(runner: Runner, passwords: Passwords, command: SignIn) -> StartedSession:
    """A web session, which awaits a code if the person has a second factor.

    It is in the account that was used last. Raises `InvalidInput` `wrong_credentials`, the same for an unknown e-mail address,
    a wrong password and a person without an account, and `RateLimited` for too many tries.
    """
    email = command.email.strip().lower()
    await count_sign_in(runner, email, command.browser.address)
    found = await runner.read(lambda unit: unit.people.credentials(email))
    verified = await passwords.verify(None if found is None else found.password_hash, command.password)
    if found is None or not verified.matches:
        raise wrong_credentials()
    known = found
    return await runner.change(
        lambda unit: _start(unit, known, verified, command.browser), "control", actor=found.person.actor
    )


async def enter_code(runner: Runner, command: GiveCode) -> StartedSession:
    """The web session with a new token, after the right code. Raises `InvalidInput` `wrong_code`, and `RateLimited`."""
    return await _with_code(runner, command, "signed_in")


async def prove_with_code(runner: Runner, command: GiveCode) -> StartedSession:
    """A fresh proof by a code: the web session with a new token. Raises as `enter_code`."""
    return await _with_code(runner, command, "proved")


async def prove_with_password(runner: Runner, passwords: Passwords, command: GivePassword) -> StartedSession:
    """A fresh proof by the password: the web session with a new token.

    Raises `InvalidInput` `wrong_password`, and `RateLimited` for too many tries.
    """
    found, verified = await verify_password(runner, passwords, command)

    def work(unit: AccountsUnit) -> StartedSession:
        _require_same_password(unit, found, verified)
        return renew_proved(unit, command.signed_in.session)

    return await runner.change(work, "control", actor=command.signed_in.actor)


async def verify_password(runner: Runner, passwords: Passwords, command: GivePassword) -> tuple[Credentials, Verified]:
    """The credentials of a person who is signed in, after the right password. Raises as `prove_with_password`."""
    person = command.signed_in.person
    await count_sign_in(runner, person.email, None)
    found = await runner.read(lambda unit: unit.people.credentials(person.email))
    verified = await passwords.verify(None if found is None else found.password_hash, command.password)
    if found is None or not verified.matches:
        raise InvalidInput("This password is not right.", code="wrong_password", param="password")
    return found, verified


def sign_out(unit: AccountsUnit, signed_in: SignedIn) -> None:
    """End the web session. Raises `NotFound` when it has ended already."""
    end_web_session(unit, EndSession(signed_in.person.id, signed_in.session.id))


async def count_sign_in(runner: Runner, email: str, address: str | None) -> None:
    """Count a try with an e-mail address, and from an address of the network. Raises `RateLimited`."""
    limits = {key_of("email", email): TRIES_FOR_EMAIL}
    if address is not None:
        limits[key_of("address", address)] = TRIES_FOR_ADDRESS
    await runner.change(lambda unit: count_tries(unit, limits), "control", actor=SIGN_IN)


async def count_code(runner: Runner, person: Person) -> None:
    """Count a try with a code. Raises `RateLimited`."""
    limits = {key_of("code", person.id): TRIES_FOR_CODE}
    await runner.change(lambda unit: count_tries(unit, limits), "control", actor=person.actor)


def wrong_credentials() -> InvalidInput:
    """The one error for a sign-in that fails, so that nobody learns which e-mail addresses exist."""
    return InvalidInput("E-mail or password is not right.", code="wrong_credentials")


def _start(unit: AccountsUnit, found: Credentials, verified: Verified, browser: Browser) -> StartedSession:
    _require_same_password(unit, found, verified)
    memberships = unit.people.memberships(found.person.id)
    if not memberships:
        raise wrong_credentials()
    awaits_code = found.person.has_second_factor
    return start_web_session(unit, found.person, memberships[0], browser, awaits_code=awaits_code)


def _require_same_password(unit: AccountsUnit, found: Credentials, verified: Verified) -> None:
    """Raise when password or second factor were changed while the password was checked; else forget the tries."""
    locked = unit.people.lock(found.person.id)
    if locked != found:
        raise wrong_credentials()
    forget_tries(unit, key_of("email", found.person.email.strip().lower()))
    if verified.new_hash is not None:
        unit.people.set_password(found.person.id, verified.new_hash)


async def _with_code(runner: Runner, command: GiveCode, then: Literal["signed_in", "proved"]) -> StartedSession:
    person, session = command.signed_in.person, command.signed_in.session
    await count_code(runner, person)

    def work(unit: AccountsUnit) -> StartedSession:
        locked = unit.people.lock(person.id)
        if locked is None or not locked.person.has_second_factor or not accept_code(unit, person.id, command.code):
            raise wrong_code()
        forget_tries(unit, key_of("code", person.id))
        started = renew_proved(unit, session)
        if then == "signed_in":
            note_start(unit, started.session)
        return started

    return await runner.change(work, "control", actor=person.actor)
