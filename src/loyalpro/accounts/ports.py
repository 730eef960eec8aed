"""What the use cases of this package need from a unit of work."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from loyalpro.accounts.entities import (
    Account,
    ApiKey,
    AuditEntry,
    Credentials,
    FirstAccount,
    Invitation,
    Member,
    Membership,
    Person,
    SignedIn,
    StoredResponse,
    Tries,
    WebSession,
)
from loyalpro.accounts.roles import Role
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import IdFactory


class AccountStore(Protocol):
    """Accounts."""

    def first(self) -> FirstAccount | None:
        """The account that was opened first; None on an empty database."""
        ...

    def lock_first(self) -> None:
        """Keep every other transaction from opening or completing the first account until this one ends."""
        ...

    def insert(self, account_id: str, name: str, now: UnixMs) -> None:
        """Store an account."""
        ...

    def exists(self, account_id: str) -> bool:
        """Whether there is such an account."""
        ...

    def name(self, account_id: str) -> str:
        """The name of an account that exists."""
        ...

    def list_after(self, after_id: str | None, limit: int) -> list[Account]:
        """Accounts, oldest first."""
        ...

    def rename(self, account_id: str, name: str) -> None:
        """Change the name of an account."""
        ...

    def limit_support(self, account_id: str, points: int | None) -> None:
        """Change how many points support may give or take at once; None for no limit."""
        ...

    def require_second_factor(self, account_id: str, *, required: bool) -> None:
        """Change whether an account requires a second factor of all its members."""
        ...


class PeopleStore(Protocol):
    """People and the accounts that they are members of."""

    def insert(self, person: Person, password_hash: str, account_id: str, role: Role) -> None:
        """Store a person, as a member of an account."""
        ...

    def get(self, person_id: str) -> Person | None:
        """One person."""
        ...

    def credentials(self, email: str) -> Credentials | None:
        """The person with this e-mail address, in whatever case, with the hash of the password."""
        ...

    def lock(self, person_id: str) -> Credentials | None:
        """One person with the hash of the password. No other transaction changes either until this one ends."""
        ...

    def update(self, person: Person) -> None:
        """Store name, time zone, theme, shortcuts, and whether there is a second factor."""
        ...

    def set_password(self, person_id: str, password_hash: str) -> None:
        """Replace the hash of the password."""
        ...

    def memberships(self, person_id: str) -> list[Membership]:
        """The accounts of a person, the one that was used last first."""
        ...

    def names(self, account_id: str, person_ids: Collection[str]) -> Mapping[str, str]:
        """The names, or else e-mail addresses, of the members among these people, of which there is at least one."""
        ...

    def add_member(self, account_id: str, person_id: str, role: Role, now: UnixMs) -> bool:
        """Make a person a member; False for one who is a member already."""
        ...

    def lock_members(self, account_id: str) -> None:
        """Keep every other transaction from changing or removing members of the account until this one ends."""
        ...

    def owners(self, account_id: str) -> list[str]:
        """The ids of the owners of an account."""
        ...

    def member(self, account_id: str, person_id: str) -> Member | None:
        """One member."""
        ...

    def list_members(self, account_id: str, after_id: str | None, limit: int) -> list[Member]:
        """Members in the order of their ids: those after `after_id`."""
        ...

    def set_role(self, account_id: str, person_id: str, role: Role) -> None:
        """Change the role of a member."""
        ...

    def remove_member(self, account_id: str, person_id: str) -> None:
        """Remove a member from an account, with the member's web sessions in it."""
        ...

    def seen(self, account_id: str, person_id: str, now: UnixMs) -> None:
        """Store when a member was last seen."""
        ...


class SecondFactorStore(Protocol):
    """The secrets of second factors, and recovery codes."""

    def put(self, person_id: str, secret: str, now: UnixMs) -> None:
        """Store the secret of a person, in place of another."""
        ...

    def secret(self, person_id: str) -> str | None:
        """The secret of a person."""
        ...

    def use_step(self, person_id: str, step: int) -> bool:
        """Note that the code of a step was used; False if that, or a later one, was used before."""
        ...

    def remove(self, person_id: str) -> None:
        """Remove the secret and the recovery codes of a person."""
        ...

    def put_recovery_codes(self, person_id: str, codes: Sequence[str]) -> None:
        """Store recovery codes in place of all others."""
        ...

    def use_recovery_code(self, person_id: str, code: str) -> bool:
        """Remove a recovery code; False if there is no such code."""
        ...

    def count_recovery_codes(self, person_id: str) -> int:
        """How many recovery codes are left."""
        ...


class WebSessionStore(Protocol):
    """Web sessions, of whose tokens only a digest is stored."""

    def insert(self, session: WebSession, token: str) -> None:
        """Store a web session."""
        ...

    def find(self, token: str) -> SignedIn | None:
        """The web session with this token, also one that was idle for too long. None without a membership in its account."""
        ...

    def replace(self, session: WebSession, token: str) -> bool:
        """Store the account, the times and the state of a web session, with a new token; False when it has ended."""
        ...

    def note_use(self, session_id: str, now: UnixMs) -> None:
        """Store the time of the last use."""
        ...

    def list_of(self, person_id: str) -> list[WebSession]:
        """The web sessions of a person, newest first."""
        ...

    def end(self, person_id: str, session_id: str) -> WebSession | None:
        """End one web session of a person, and return it; None if there is no such one."""
        ...

    def end_all(self, person_id: str, *, keep_id: str | None = None) -> list[WebSession]:
        """End the web sessions of a person, but for one, and return them."""
        ...

    def end_in(self, account_id: str, person_id: str) -> list[WebSession]:
        """End the web sessions of a person in one account, and return them."""
        ...

    def remove_idle(self, before: UnixMs, limit: int) -> int:
        """Remove so many web sessions that were last used before that; how many."""
        ...


class InvitationStore(Protocol):
    """Invitations, of whose tokens only a digest is stored."""

    def insert(self, invitation: Invitation, token: str) -> None:
        """Store an invitation."""
        ...

    def lock(self, token: str) -> Invitation | None:
        """The invitation with this token. No other transaction uses it until this one ends."""
        ...

    def find(self, token: str) -> Invitation | None:
        """The invitation with this token."""
        ...

    def list_before(self, account_id: str, before_id: str | None, limit: int, now: UnixMs) -> list[Invitation]:
        """The invitations of an account that can still be used, newest first."""
        ...

    def remove(self, account_id: str, invitation_id: str) -> Invitation | None:
        """Remove an invitation, and return it; None if there is no such one."""
        ...

    def remove_of(self, account_id: str, actor: str) -> None:
        """Remove the invitations to an account that this actor has made."""
        ...

    def remove_expired(self, now: UnixMs, limit: int) -> int:
        """Remove so many invitations that have expired; how many."""
        ...


class TryStore(Protocol):
    """The tries to sign in, by the digests of what they have in common."""

    def lock(self, keys: Sequence[bytes]) -> dict[bytes, Tries]:
        """The tries of each key. No other transaction counts one until this one ends. `keys` are sorted."""
        ...

    def store(self, tries: Mapping[bytes, tuple[Tries, UnixMs]]) -> None:
        """Store the tries of keys that are locked, and when they may be forgotten."""
        ...

    def remove(self, keys: Sequence[bytes]) -> None:
        """Forget the tries of keys."""
        ...

    def remove_old(self, now: UnixMs, limit: int) -> int:
        """Remove so many rows that make no difference any more; how many."""
        ...


class SetupCodeStore(Protocol):
    """The codes that let somebody become the first owner."""

    def insert(self, code: str, expires_at: UnixMs) -> None:
        """Store the digest of a code."""
        ...

    def is_valid(self, code: str, now: UnixMs) -> bool:
        """Whether there is such a code that has not expired."""
        ...

    def remove_all(self) -> None:
        """Remove every code."""
        ...

    def remove_expired(self, now: UnixMs) -> None:
        """Remove the codes that have expired."""
        ...


class ApiKeyStore(Protocol):
    """API keys, of whose texts only a digest is stored."""

    def insert(self, key: ApiKey, api_key: str) -> None:
        """Store a key and the digest of its text."""
        ...

    def find(self, api_key: str) -> ApiKey | None:
        """The key with this text, also a revoked or an expired one."""
        ...

    def get(self, account_id: str | None, key_id: str) -> ApiKey | None:
        """One key of an account; None as the account means any account."""
        ...

    def list_before(self, account_id: str | None, before_id: str | None, limit: int) -> list[ApiKey]:
        """Keys, newest first, also revoked ones; None as the account means all accounts."""
        ...

    def lock_unrevoked(self, account_id: str) -> list[ApiKey]:
        """The keys of an account that are not revoked. No other transaction adds or revokes one until this one ends."""
        ...

    def rename(self, key_id: str, name: str) -> None:
        """Change the name of a key."""
        ...

    def revoke(self, key_id: str, now: UnixMs) -> None:
        """Revoke a key that is not revoked."""
        ...

    def mark_used(self, hours: Mapping[str, UnixMs]) -> None:
        """Store, by the ids of keys, the hours in which they were last used, unless a later hour is stored."""
        ...


class AuditStore(Protocol):
    """The changes that were made, with their actors."""

    def list_before(
        self, account_id: str, before_id: str | None, limit: int, *, actor: str | None, object_id: str | None
    ) -> list[AuditEntry]:
        """Changes that match every filter, newest first."""
        ...


class IdempotencyStore(Protocol):
    """The responses to requests that carried an `Idempotency-Key`."""

    def lock(self, account_id: str, keys: Collection[str]) -> set[str]:
        """Lock keys until this transaction ends, but not those that another has locked; the keys that are locked now."""
        ...

    def responses(self, account_id: str, keys: Collection[str], since: UnixMs) -> Mapping[str, StoredResponse]:
        """The responses of these keys that were stored after `since`."""
        ...

    def store(self, account_id: str, responses: Mapping[str, StoredResponse], now: UnixMs) -> None:
        """Store responses by their keys, in place of expired ones."""
        ...


class AccountsUnit(Protocol):
    """One database transaction, as this package sees it."""

    @property
    def now(self) -> UnixMs:
        """The time of the transaction."""
        ...

    @property
    def ids(self) -> IdFactory:
        """Makes ids."""
        ...

    @property
    def actor(self) -> str:
        """Who makes the changes of the transaction."""
        ...

    @property
    def random_bytes(self) -> Callable[[int], bytes]:
        """Makes that many random bytes."""
        ...

    @property
    def accounts(self) -> AccountStore:
        """Accounts."""
        ...

    @property
    def people(self) -> PeopleStore:
        """People and their memberships."""
        ...

    @property
    def second_factors(self) -> SecondFactorStore:
        """Second factors."""
        ...

    @property
    def web_sessions(self) -> WebSessionStore:
        """Web sessions."""
        ...

    @property
    def invitations(self) -> InvitationStore:
        """Invitations."""
        ...

    @property
    def sign_in_tries(self) -> TryStore:
        """Tries to sign in."""
        ...

    @property
    def setup_codes(self) -> SetupCodeStore:
        """Setup codes."""
        ...

    @property
    def api_keys(self) -> ApiKeyStore:
        """API keys."""
        ...

    @property
    def audit_log(self) -> AuditStore:
        """The changes that were made."""
        ...

    @property
    def idempotency(self) -> IdempotencyStore:
        """Results of requests with an idempotency key."""
        ...

    def audit(self, account_id: str, action: str, object_id: str, changes: Mapping[str, Any] | None = None) -> None:
        """Store that the actor makes a change. `changes`: values before and after, without personal data."""
        ...
