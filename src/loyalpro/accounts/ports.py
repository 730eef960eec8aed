"""What the use cases of this package need from a unit of work."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from loyalpro.accounts.entities import Account, ApiKey, AuditEntry, FirstAccount, StoredResponse
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import IdFactory


class AccountStore(Protocol):
    """Accounts and their owners."""

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

    def list_after(self, after_id: str | None, limit: int) -> list[Account]:
        """Accounts, oldest first."""
        ...

    def insert_owner(self, user_id: str, account_id: str, email: str, password_hash: str, now: UnixMs) -> None:
        """Store the owner of an account."""
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
