"""Invitations: an owner makes a link and passes it on; whoever opens it within 72 hours joins the account, once."""

from dataclasses import field
from typing import Final

from loyalpro.accounts.entities import Invitation, SignedIn
from loyalpro.accounts.password_rules import checked_password
from loyalpro.accounts.passwords import Passwords
from loyalpro.accounts.people import checked_email, checked_role, new_person
from loyalpro.accounts.ports import AccountsUnit
from loyalpro.accounts.sign_in import SIGN_IN, Runner, count_sign_in
from loyalpro.accounts.tokens import new_token
from loyalpro.accounts.web_sessions import Browser, StartedSession, SwitchAccount, start_web_session, switch_account
from loyalpro.kernel.clock import MS_PER_S
from loyalpro.kernel.errors import Conflict, InvalidInput, NotFound
from loyalpro.kernel.record import record

VALID_MS: Final = 72 * 3_600 * MS_PER_S
MAX_OPEN: Final = 100
"""How many invitations of an account can be open at once."""
MAX_NOTE: Final = 100


@record
class Invite:
    """An invitation to make. `note`: for whom it is."""

    account_id: str
    role: str
    note: str = ""


@record
class CreatedInvitation:
    """A new invitation, and the token of its link, which is shown once."""

    invitation: Invitation
    token: str = field(repr=False)


@record
class OpenInvitation:
    """An invitation that can be used, and the account to join."""

    invitation: Invitation
    account_name: str


@record
class ListInvitations:
    """A page of the invitations that can still be used, newest first: those older than `before_id`."""

    account_id: str
    before_id: str | None
    limit: int


@record
class InvitationRef:
    """Names an invitation of an account."""

    account_id: str
    invitation_id: str


@record
class JoinAsNewPerson:
    """What somebody who has a link, and no password yet, gives."""

    token: str = field(repr=False)
    email: str
    name: str
    password: str = field(repr=False)
    browser: Browser
    time_zone: str | None = None


def invite(unit: AccountsUnit, command: Invite) -> CreatedInvitation:
    """Make an invitation. Raises `InvalidInput` for an unknown role, a long note, and an account with many open invitations."""
    role, note = checked_role(command.role), command.note.strip()
    if len(note) > MAX_NOTE or not note.isprintable():
        raise InvalidInput(f"A note is one line of up to {MAX_NOTE} characters.", code="invalid_field", param="note")
    unit.people.lock_members(command.account_id)
    if len(unit.invitations.list_before(command.account_id, None, MAX_OPEN, unit.now)) >= MAX_OPEN:
        raise InvalidInput(
            f"The account has {MAX_OPEN} open invitations; revoke one first.", code="too_many_invitations"
        )
    invitation = Invitation(
        id=unit.ids.new("inv"),
        account_id=command.account_id,
        role=role,
        note=note,
        created_by=unit.actor,
        created_at=unit.now,
        expires_at=unit.now + VALID_MS,
    )
    token = new_token(unit.random_bytes)
    unit.invitations.insert(invitation, token)
    unit.audit(command.account_id, "invitation.created", invitation.id, {"before": {}, "after": {"role": role}})
    return CreatedInvitation(invitation, token)


def list_invitations(unit: AccountsUnit, query: ListInvitations) -> list[Invitation]:
    """The invitations that can still be used, newest first."""
    return unit.invitations.list_before(query.account_id, query.before_id, query.limit, unit.now)


def revoke_invitation(unit: AccountsUnit, command: InvitationRef) -> None:
    """Make the link of an invitation worthless. Raises `NotFound`, also for one that was used or has expired and is removed."""
    if unit.invitations.remove(command.account_id, command.invitation_id) is None:
        raise NotFound(f"There is no invitation {command.invitation_id[:64]}.", param="id")
    unit.audit(command.account_id, "invitation.revoked", command.invitation_id)


def find_invitation(unit: AccountsUnit, token: str) -> OpenInvitation:
    """The invitation of a link. Raises `NotFound` for one that is unknown, used, revoked or expired."""
    invitation = _usable(unit, unit.invitations.find(token))
    return OpenInvitation(invitation, unit.accounts.name(invitation.account_id))


def join_as_member(unit: AccountsUnit, token: str, signed_in: SignedIn) -> StartedSession:
    """A person who is signed in joins the account, and goes on there. Raises `NotFound`, and `Conflict` for a member."""
    invitation = _use(unit, token)
    if not unit.people.add_member(invitation.account_id, signed_in.person.id, invitation.role, unit.now):
        raise Conflict("You are a member of this account already.", code="already_member")
    changes = {"before": {}, "after": {"role": invitation.role}}
    unit.audit(invitation.account_id, "member.added", signed_in.person.id, changes)
    return switch_account(unit, SwitchAccount(signed_in, invitation.account_id))


async def join_as_new_person(runner: Runner, passwords: Passwords, command: JoinAsNewPerson) -> StartedSession:
    """A new person joins the account, and is signed in.

    Raises `NotFound` for a link that is not valid, `InvalidInput` for a wrong field, `Conflict` `email_taken`, and
    `RateLimited`.
    """
    email = checked_email(command.email)
    checked_password(command.password, about=(email, command.name))
    await runner.read(lambda unit: find_invitation(unit, command.token))
    await count_sign_in(runner, email, command.browser.address)
    password_hash = await passwords.hash(command.password)

    def work(unit: AccountsUnit) -> StartedSession:
        invitation = _use(unit, command.token)
        person = new_person(
            unit,
            invitation.account_id,
            invitation.role,
            email=email,
            name=command.name.strip(),
            password_hash=password_hash,
            time_zone=command.time_zone,
        )
        return start_web_session(unit, person, unit.people.memberships(person.id)[0], command.browser)

    return await runner.change(work, "control", actor=SIGN_IN)


def _use(unit: AccountsUnit, token: str) -> Invitation:
    """The invitation of a link, which is removed: it is used once."""
    invitation = _usable(unit, unit.invitations.lock(token))
    unit.invitations.remove(invitation.account_id, invitation.id)
    unit.audit(invitation.account_id, "invitation.accepted", invitation.id)
    return invitation


def _usable(unit: AccountsUnit, found: Invitation | None) -> Invitation:
    if found is None or found.expires_at <= unit.now:
        raise NotFound(
            "This invitation was used, was revoked or has expired. Ask for a new one.", code="invitation_not_found"
        )
    return found
