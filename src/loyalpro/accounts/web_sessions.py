"""Web sessions: a browser that a person has signed in with. The token is in a cookie; the database has its digest.

A web session ends 14 days after the sign-in, after 24 hours without use, when it is ended by hand, when the password changes,
and with the membership. It gets a new token at every change of what it may do.
"""

from dataclasses import field
from typing import Final

from loyalpro.accounts.entities import Membership, Person, SignedIn, WebSession
from loyalpro.accounts.ports import AccountsUnit
from loyalpro.accounts.tokens import new_token
from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs
from loyalpro.kernel.errors import NotFound, Unauthenticated
from loyalpro.kernel.record import record, with_fields

LONGEST_MS: Final = 14 * MS_PER_DAY
IDLE_MS: Final = MS_PER_DAY
CODE_MS: Final = 600 * MS_PER_S
"""How long a sign-in waits for the code of the second factor."""
PROOF_MS: Final = 600 * MS_PER_S
"""How long a password or a code is a fresh proof."""
NOTE_EVERY_MS: Final = 60 * MS_PER_S
MOST_SESSIONS: Final = 50
"""How many web sessions a person can have: with one more the one that was started first ends."""
_LONGEST_USER_AGENT: Final = 300


@record
class Browser:
    """Where a sign-in comes from: the address, and what the browser says of itself."""

    address: str | None
    user_agent: str | None


@record
class StartedSession:
    """A web session with its new token, which is shown once: in a cookie."""

    session: WebSession
    token: str = field(repr=False)


@record
class SwitchAccount:
    """The account to go on in."""

    signed_in: SignedIn
    account_id: str


@record
class EndSession:
    """A web session to end, of a person."""

    person_id: str
    session_id: str


def is_alive(session: WebSession, now: UnixMs) -> bool:
    """Whether a web session can be used."""
    if session.awaits_code and now - session.created_at >= CODE_MS:
        return False
    return now - session.created_at < LONGEST_MS and now - session.used_at < IDLE_MS


def has_fresh_proof(session: WebSession, now: UnixMs) -> bool:
    """Whether the person gave a password or a code within 10 minutes."""
    return now - session.proved_at < PROOF_MS


def needs_note(session: WebSession, now: UnixMs) -> bool:
    """Whether the last use is to be stored: at most once a minute."""
    return now - session.used_at >= NOTE_EVERY_MS


def find_web_session(unit: AccountsUnit, token: str) -> SignedIn | None:
    """Who has this token; None when it is unknown, or the web session has ended."""
    found = unit.web_sessions.find(token)
    return found if found is not None and is_alive(found.session, unit.now) else None


def note_use(unit: AccountsUnit, signed_in: SignedIn) -> None:
    """Store that a web session is used, and when its person was last seen."""
    unit.web_sessions.note_use(signed_in.session.id, unit.now)
    unit.people.seen(signed_in.session.account_id, signed_in.person.id, unit.now)


def start_web_session(
    unit: AccountsUnit, person: Person, membership: Membership, browser: Browser, *, awaits_code: bool = False
) -> StartedSession:
    """Store a web session of a person whose password or invitation is right. `awaits_code`: it can only take the code.

    Raises `NotFound` when the person is not a member any more.
    """
    _require_member(unit, membership.account_id, person.id)
    user_agent = browser.user_agent and browser.user_agent[:_LONGEST_USER_AGENT]
    session = WebSession(
        id=unit.ids.new("wse"),
        person_id=person.id,
        account_id=membership.account_id,
        created_at=unit.now,
        used_at=unit.now,
        proved_at=unit.now,
        awaits_code=awaits_code,
        address=browser.address,
        user_agent=user_agent,
    )
    for oldest in unit.web_sessions.list_of(person.id)[MOST_SESSIONS - 1 :]:
        end_web_session(unit, EndSession(person.id, oldest.id))
    token = new_token(unit.random_bytes)
    unit.web_sessions.insert(session, token)
    if not awaits_code:
        note_start(unit, session)
    return StartedSession(session, token)


def note_start(unit: AccountsUnit, session: WebSession) -> None:
    """Store that a person has signed in."""
    unit.people.seen(session.account_id, session.person_id, unit.now)
    unit.audit(session.account_id, "web_session.started", session.id)


def renew(unit: AccountsUnit, session: WebSession) -> StartedSession:
    """Store the state of a web session with a new token. Raises `Unauthenticated` when it has ended meanwhile."""
    token = new_token(unit.random_bytes)
    if not unit.web_sessions.replace(session, token):
        raise Unauthenticated("You are signed out. Sign in again.", code="signed_out")
    return StartedSession(session, token)


def renew_proved(unit: AccountsUnit, session: WebSession) -> StartedSession:
    """A new token for a web session whose person has just given a password or a code."""
    return renew(unit, with_fields(session, proved_at=unit.now, used_at=unit.now, awaits_code=False))


def switch_account(unit: AccountsUnit, command: SwitchAccount) -> StartedSession:
    """Go on in another account of the person, with a new token. Raises `NotFound` when the person is not a member of it."""
    session = command.signed_in.session
    _require_member(unit, command.account_id, session.person_id)
    started = renew(unit, with_fields(session, account_id=command.account_id, used_at=unit.now))
    note_start(unit, started.session)
    return started


def list_web_sessions(unit: AccountsUnit, person_id: str) -> list[WebSession]:
    """The web sessions of a person that can be used, newest first."""
    return [each for each in unit.web_sessions.list_of(person_id) if is_alive(each, unit.now)]


def end_web_session(unit: AccountsUnit, command: EndSession) -> WebSession:
    """End a web session. Raises `NotFound`."""
    ended = unit.web_sessions.end(command.person_id, command.session_id)
    if ended is None:
        raise NotFound("This session has ended already.", param="id")
    unit.audit(ended.account_id, "web_session.ended", ended.id)
    return ended


def end_web_sessions(unit: AccountsUnit, person_id: str, *, keep_id: str | None = None) -> int:
    """End the web sessions of a person, but for one; how many."""
    ended = unit.web_sessions.end_all(person_id, keep_id=keep_id)
    for each in ended:
        unit.audit(each.account_id, "web_session.ended", each.id)
    return len(ended)


def _require_member(unit: AccountsUnit, account_id: str, person_id: str) -> None:
    """Raise `NotFound` unless the person is a member, and remains one until this transaction ends."""
    unit.people.lock_members(account_id)
    if unit.people.member(account_id, person_id) is None:
        raise NotFound("You are not a member of this account.", param="account_id")
