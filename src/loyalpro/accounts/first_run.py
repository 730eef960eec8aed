"""The first run: while no owner exists, the one who has the setup code that the server prints becomes the owner."""

from dataclasses import field
from typing import Final

from loyalpro.accounts.names import checked_name
from loyalpro.accounts.password_rules import checked_password
from loyalpro.accounts.passwords import Passwords
from loyalpro.accounts.people import checked_email, checked_time_zone, new_person
from loyalpro.accounts.ports import AccountsUnit
from loyalpro.accounts.sign_in import Runner
from loyalpro.accounts.sign_in_limits import TRIES_FOR_CODE, count_tries, key_of
from loyalpro.accounts.tokens import new_code, typed_code
from loyalpro.accounts.web_sessions import Browser, StartedSession, start_web_session
from loyalpro.kernel.clock import MS_PER_S
from loyalpro.kernel.errors import Conflict, InvalidInput
from loyalpro.kernel.record import record

VALID_MS: Final = 15 * 60 * MS_PER_S
ACTOR: Final = "system:first_run"
_CODE_BYTES: Final = 5
_KEY: Final = key_of("setup code", "")


@record
class CreateOwner:
    """What the first owner gives."""

    setup_code: str = field(repr=False)
    email: str
    password: str = field(repr=False)
    business_name: str
    time_zone: str | None
    browser: Browser


def is_first_run(unit: AccountsUnit) -> bool:
    """Whether the first account has no owner."""
    account = unit.accounts.first()
    return account is not None and not account.has_owner


def offer_setup_code(unit: AccountsUnit) -> str | None:
    """A new setup code, valid for 15 minutes, to be printed where only the operator reads it; None when there is an owner."""
    if not is_first_run(unit):
        return None
    unit.setup_codes.remove_expired(unit.now)
    code = new_code(unit.random_bytes, _CODE_BYTES)
    unit.setup_codes.insert(code, unit.now + VALID_MS)
    return code


async def check_setup(runner: Runner, passwords: Passwords, command: CreateOwner) -> str:
    """The hash of the owner's password, after every check of what the owner gives, and of the setup code.

    Raises `InvalidInput` for a wrong field, `Conflict` when there is an owner, and `RateLimited` for too many wrong codes.
    """
    email = checked_email(command.email)
    checked_name(command.business_name, param="business_name")
    checked_time_zone(command.time_zone)
    checked_password(command.password, about=(email, command.business_name))
    await runner.change(lambda unit: count_tries(unit, {_KEY: TRIES_FOR_CODE}), "control", actor=ACTOR)
    await runner.read(lambda unit: _require_setup(unit, command.setup_code))
    return await passwords.hash(command.password)


def create_owner(unit: AccountsUnit, command: CreateOwner, password_hash: str) -> StartedSession:
    """Store the first owner, name the account, and sign the owner in. `password_hash`: that of `check_setup`.

    Raises as `check_setup`: somebody else may have become the owner meanwhile.
    """
    unit.accounts.lock_first()
    account_id = _require_setup(unit, command.setup_code)
    unit.accounts.rename(account_id, checked_name(command.business_name, param="business_name"))
    person = new_person(
        unit,
        account_id,
        "owner",
        email=checked_email(command.email),
        name="",
        password_hash=password_hash,
        time_zone=command.time_zone,
    )
    unit.setup_codes.remove_all()
    return start_web_session(unit, person, unit.people.memberships(person.id)[0], command.browser)


def _require_setup(unit: AccountsUnit, setup_code: str) -> str:
    """The id of the account that has no owner. Raises when there is none, and for a wrong code."""
    account = unit.accounts.first()
    if account is None or account.has_owner:
        raise Conflict("There is an owner already. Sign in.", code="owner_exists")
    if not unit.setup_codes.is_valid(typed_code(setup_code), unit.now):
        raise InvalidInput(
            "This setup code is not right, or is older than 15 minutes. Restart the server, which prints a new one.",
            code="wrong_setup_code",
            param="setup_code",
        )
    return account.id
