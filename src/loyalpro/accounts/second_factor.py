"""The second factor: codes of an app by RFC 6238 (30 seconds, 6 digits), and recovery codes for the day on which it is lost."""

import base64
import hmac
from collections.abc import Sequence
from dataclasses import field
from hashlib import sha1
from typing import Final
from urllib.parse import quote

from loyalpro.accounts.entities import Person, SignedIn
from loyalpro.accounts.ports import AccountsUnit
from loyalpro.accounts.tokens import new_code, typed_code
from loyalpro.accounts.web_sessions import StartedSession, end_web_sessions, renew_proved
from loyalpro.kernel.clock import MS_PER_S, UnixMs
from loyalpro.kernel.errors import Conflict, InvalidInput
from loyalpro.kernel.record import record, with_fields

STEP_MS: Final = 30 * MS_PER_S
DIGITS: Final = 6
RECOVERY_CODES: Final = 10
_SECRET_BYTES: Final = 20
_RECOVERY_BYTES: Final = 10
_ISSUER: Final = "LoyalPro"


@record
class PendingSecondFactor:
    """A secret for an app, which counts once a code of it was given. `uri`: what a QR code of it says."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


@record
class AddedSecondFactor:
    """The web session with its new token, and the recovery codes, which are shown once."""

    started: StartedSession
    recovery_codes: tuple[str, ...] = field(repr=False)


@record
class ConfirmSecondFactor:
    """The code of an app that has the secret."""

    signed_in: SignedIn
    code: str = field(repr=False)


@record
class RequireSecondFactor:
    """Whether an account requires a second factor of all its members."""

    account_id: str
    required: bool


def code_at(secret: str, step: int) -> str:
    """The code of a secret in base 32 for the step `time / 30 s`."""
    digest = hmac.digest(base64.b32decode(secret), step.to_bytes(8), sha1)
    offset = digest[-1] & 15
    return f"{(int.from_bytes(digest[offset : offset + 4]) & 0x7FFFFFFF) % 10**DIGITS:0{DIGITS}}"


def step_of(secret: str, code: str, now: UnixMs) -> int | None:
    """The step that a code belongs to: that of now, or the one before or after it; None for a wrong code."""
    step = now // STEP_MS
    given = "".join(code.split())
    if not given.isascii():
        return None
    found = [each for each in (step - 1, step, step + 1) if hmac.compare_digest(code_at(secret, each), given)]
    return found[-1] if found else None


def begin_second_factor(unit: AccountsUnit, person: Person) -> PendingSecondFactor:
    """Store a new secret, in place of one that was not confirmed. Raises `Conflict` when the person has a second factor."""
    if person.has_second_factor:
        raise _exists()
    secret = base64.b32encode(unit.random_bytes(_SECRET_BYTES)).decode()
    unit.second_factors.put(person.id, secret, unit.now)
    return _pending(person, secret)


def pending_second_factor(unit: AccountsUnit, person: Person) -> PendingSecondFactor | None:
    """The secret that waits for its first code; None when there is none."""
    secret = None if person.has_second_factor else unit.second_factors.secret(person.id)
    return None if secret is None else _pending(person, secret)


def confirm_second_factor(unit: AccountsUnit, command: ConfirmSecondFactor) -> AddedSecondFactor:
    """Make the secret count, because its app gives the right code. Every other web session of the person ends.

    Raises `InvalidInput` for a wrong code, and `Conflict` when there is a second factor already, or no secret.
    """
    person = _locked(unit, command.signed_in.person.id)
    if person.has_second_factor:
        raise _exists()
    if unit.second_factors.secret(person.id) is None:
        raise Conflict("Begin again: there is no secret that waits for a code.", code="no_second_factor")
    if not _accept_app_code(unit, person.id, command.code):
        raise wrong_code()
    unit.people.update(with_fields(person, has_second_factor=True))
    codes = _new_recovery_codes(unit, person.id)
    _audit(unit, person.id, "second_factor.added")
    end_web_sessions(unit, person.id, keep_id=command.signed_in.session.id)
    return AddedSecondFactor(renew_proved(unit, command.signed_in.session), codes)


def renew_recovery_codes(unit: AccountsUnit, person_id: str) -> tuple[str, ...]:
    """New recovery codes in place of all others. Raises `Conflict` for a person without a second factor."""
    if not _locked(unit, person_id).has_second_factor:
        raise Conflict("There is no second factor.", code="no_second_factor")
    codes = _new_recovery_codes(unit, person_id)
    _audit(unit, person_id, "recovery_codes.renewed")
    return codes


def remove_second_factor(unit: AccountsUnit, person_id: str) -> None:
    """Remove the second factor of a person, with its recovery codes. Nothing happens when there is none."""
    person = _locked(unit, person_id)
    unit.second_factors.remove(person_id)
    if person.has_second_factor:
        unit.people.update(with_fields(person, has_second_factor=False))
        _audit(unit, person_id, "second_factor.removed")


def accept_code(unit: AccountsUnit, person_id: str, code: str) -> bool:
    """Whether this is a code of the person's app, or a recovery code; each is accepted once."""
    if _accept_app_code(unit, person_id, code):
        return True
    if unit.second_factors.use_recovery_code(person_id, typed_code(code)):
        _audit(unit, person_id, "recovery_code.used")
        return True
    return False


def count_recovery_codes(unit: AccountsUnit, person_id: str) -> int:
    """How many recovery codes are left."""
    return unit.second_factors.count_recovery_codes(person_id)


def require_second_factor(unit: AccountsUnit, command: RequireSecondFactor) -> None:
    """Change whether an account requires a second factor. Members without one have to set it up before anything else."""
    unit.accounts.require_second_factor(command.account_id, required=command.required)
    changes = {
        "before": {"requires_second_factor": not command.required},
        "after": {"requires_second_factor": command.required},
    }
    unit.audit(command.account_id, "account.updated", command.account_id, changes)


def wrong_code() -> InvalidInput:
    """The error for every code that is not right, whatever is wrong with it."""
    return InvalidInput(
        "This code is not right, or was used already. Wait for the next one.", code="wrong_code", param="code"
    )


def _accept_app_code(unit: AccountsUnit, person_id: str, code: str) -> bool:
    secret = unit.second_factors.secret(person_id)
    step = None if secret is None else step_of(secret, code, unit.now)
    return step is not None and unit.second_factors.use_step(person_id, step)


def _new_recovery_codes(unit: AccountsUnit, person_id: str) -> tuple[str, ...]:
    codes = tuple(new_code(unit.random_bytes, _RECOVERY_BYTES) for _ in range(RECOVERY_CODES))
    unit.second_factors.put_recovery_codes(person_id, codes)
    return codes


def _pending(person: Person, secret: str) -> PendingSecondFactor:
    label = quote(f"{_ISSUER}:{person.email}", safe=":@")
    return PendingSecondFactor(secret, f"otpauth://totp/{label}?secret={secret}&issuer={_ISSUER}")


def _locked(unit: AccountsUnit, person_id: str) -> Person:
    found = unit.people.lock(person_id)
    if found is None:
        raise Conflict("There is no such person any more.", code="no_such_person")
    return found.person


def _audit(unit: AccountsUnit, person_id: str, action: str) -> None:
    """A person's own affairs are in the audit log of every account of the person."""
    for account_id in _accounts(unit, person_id):
        unit.audit(account_id, action, person_id)


def _accounts(unit: AccountsUnit, person_id: str) -> Sequence[str]:
    return sorted(each.account_id for each in unit.people.memberships(person_id))


def _exists() -> Conflict:
    return Conflict("There is a second factor already. Remove it first.", code="second_factor_exists")
