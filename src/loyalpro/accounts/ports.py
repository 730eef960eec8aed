"""What the use cases of this package need from a unit of work."""

from collections.abc import Collection, Mapping
from typing import Protocol

from loyalpro.accounts.entities import FirstAccount, StoredResponse
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

    def insert_owner(self, user_id: str, account_id: str, email: str, password_hash: str, now: UnixMs) -> None:
        """Store the owner of an account."""
        ...


class ApiKeyStore(Protocol):
    """API keys, of which only a digest is stored."""

    def insert(self, key_id: str, account_id: str, name: str, api_key: str, now: UnixMs) -> None:
        """Store the digest of a key and its last four characters."""
        ...

    def account_of(self, api_key: str) -> str | None:
        """The id of the account of a key; None when the key is unknown or revoked."""
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
    def accounts(self) -> AccountStore:
        """Accounts."""
        ...

    @property
    def api_keys(self) -> ApiKeyStore:
        """API keys."""
        ...

    @property
    def idempotency(self) -> IdempotencyStore:
        """Results of requests with an idempotency key."""
        ...
