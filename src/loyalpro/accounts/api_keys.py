"""API keys: the key of a request determines its account and what it may do. Keys are created, listed, renamed and revoked."""

from collections.abc import Sequence
from dataclasses import field
from typing import Final

from loyalpro.accounts.entities import ApiKey
from loyalpro.accounts.names import checked_name
from loyalpro.accounts.ports import AccountsUnit
from loyalpro.accounts.roles import Role
from loyalpro.accounts.scopes import checked_scopes
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import Conflict, Forbidden, InvalidInput, NotFound, Unauthenticated
from loyalpro.kernel.record import record

MAX_KEYS: Final = 1_000
"""How many keys that are not revoked an account can have: the request that revokes one reads all of them."""
MAX_REQUESTS_PER_MINUTE: Final = 1_000_000
PREFIX: Final = "lp_"
_KEY_BYTES: Final = 24


@record
class CreateKey:
    """A key to create. `expires_at` and `requests_per_minute`: None for never and for no limit.

    `creator`: the key that asks for it, which limits what the new key may do; None for the operator. `creator_role`: the role
    of the person who asks for it.
    """

    account_id: str
    name: str
    scopes: Sequence[str]
    expires_at: UnixMs | None = None
    requests_per_minute: int | None = None
    creator: ApiKey | None = None
    creator_role: Role | None = None


@record
class CreatedKey:
    """A new key, and its text, which is not stored."""

    key: ApiKey
    api_key: str = field(repr=False)


@record
class KeyRef:
    """Names one key. None as the account means any account."""

    account_id: str | None
    key_id: str


@record
class RenameKey:
    """The key to rename, and its new name."""

    account_id: str
    key_id: str
    name: str


@record
class RevokeKey:
    """The key to revoke. `keep_admin`: refuse to revoke the only usable key of the account that has the scope `admin`."""

    account_id: str | None
    key_id: str
    keep_admin: bool = True


@record
class ListKeys:
    """A page of keys, newest first: those older than `before_id`. None as the account means all accounts."""

    account_id: str | None
    before_id: str | None
    limit: int


def authenticate_key(unit: AccountsUnit, api_key: str) -> ApiKey:
    """The key with this text. Raises `Unauthenticated` when it is unknown, revoked or expired."""
    key = unit.api_keys.find(api_key)
    if key is None or key.revoked_at is not None:
        raise Unauthenticated("This API key is unknown or revoked.", code="invalid_api_key")
    if key.expires_at is not None and key.expires_at <= unit.now:
        raise Unauthenticated(f"This API key expired at {rfc3339(key.expires_at)}.", code="api_key_expired")
    return key


def create_key(unit: AccountsUnit, command: CreateKey) -> CreatedKey:
    """Store a new key.

    Raises `InvalidInput` for a wrong field and for an account with `MAX_KEYS` keys, `NotFound` for an unknown account, and
    `Forbidden` when the creator may do less.
    """
    require_grantable(command)
    name, scopes = checked_name(command.name), checked_scopes(command.scopes)
    _check_limits(command, unit.now)
    if not unit.accounts.exists(command.account_id):
        raise NotFound(f"There is no account {command.account_id}.", param="account_id")
    if len(unit.api_keys.lock_unrevoked(command.account_id)) >= MAX_KEYS:
        raise InvalidInput(f"The account has {MAX_KEYS} API keys; revoke one first.", code="too_many_api_keys")
    api_key = f"{PREFIX}{unit.random_bytes(_KEY_BYTES).hex()}"
    key = new_key(
        unit,
        command.account_id,
        name=name,
        api_key=api_key,
        scopes=scopes,
        expires_at=command.expires_at,
        requests_per_minute=command.requests_per_minute,
    )
    return CreatedKey(key, api_key)


def new_key(
    unit: AccountsUnit,
    account_id: str,
    *,
    name: str,
    api_key: str,
    scopes: Sequence[str],
    expires_at: UnixMs | None = None,
    requests_per_minute: int | None = None,
) -> ApiKey:
    """Store a key with a text that is known already."""
    key = ApiKey(
        id=unit.ids.new("key"),
        account_id=account_id,
        name=name,
        hint=api_key[-4:],
        scopes=tuple(scopes),
        requests_per_minute=requests_per_minute,
        created_at=unit.now,
        created_by=unit.actor,
        expires_at=expires_at,
        last_used_at=None,
        revoked_at=None,
    )
    unit.api_keys.insert(key, api_key)
    unit.audit(account_id, "api_key.created", key.id)
    return key


def require_grantable(command: CreateKey) -> None:
    """Raise `Forbidden` when the new key would have more scopes than its creator, live longer, or have a higher limit."""
    if command.creator_role not in (None, "owner") and "admin" in command.scopes:
        raise Forbidden(
            "Only an owner can create a key with the scope admin, because it can change members.",
            code="insufficient_role",
            param="scopes",
        )
    creator = command.creator
    if creator is None:
        return
    missing = [each for each in checked_scopes(command.scopes) if each not in creator.scopes]
    if missing:
        raise Forbidden(
            f"A key cannot create a key that may do more: this key does not have the scope {missing[0]}.",
            code="insufficient_scope",
            param="scopes",
        )
    for name, most, wanted in (
        ("expires_at", creator.expires_at, command.expires_at),
        ("requests_per_minute", creator.requests_per_minute, command.requests_per_minute),
    ):
        if most is not None and (wanted is None or wanted > most):
            shown = rfc3339(most) if name == "expires_at" else most
            raise Forbidden(
                f"A key cannot create a key that may do more: {name} of this key is {shown}; send at most that.",
                code="key_exceeds_creator",
                param=name,
            )


def rename_key(unit: AccountsUnit, command: RenameKey) -> ApiKey:
    """Change the name of a key. Raises `NotFound`."""
    name = checked_name(command.name)
    key = get_key(unit, KeyRef(command.account_id, command.key_id))
    if name != key.name:
        unit.api_keys.rename(key.id, name)
        unit.audit(key.account_id, "api_key.renamed", key.id)
    return get_key(unit, KeyRef(key.account_id, key.id))


def revoke_key(unit: AccountsUnit, command: RevokeKey) -> ApiKey:
    """Revoke a key: every request that begins after the commit is refused. A key that is revoked already stays as it is.

    Raises `NotFound`, and `Conflict` `last_admin_key` when `keep_admin` forbids it.
    """
    key = get_key(unit, KeyRef(command.account_id, command.key_id))
    usable = unit.api_keys.lock_unrevoked(key.account_id)
    if all(each.id != key.id for each in usable):
        return get_key(unit, KeyRef(key.account_id, key.id))
    others = [each for each in usable if each.id != key.id]
    if command.keep_admin and _manages(key, unit.now) and not any(_manages(each, unit.now) for each in others):
        raise Conflict(
            "This is the only usable key of the account with the scope admin. Create another one first, or revoke it on "
            "the server: loyalpro keys revoke.",
            code="last_admin_key",
        )
    unit.api_keys.revoke(key.id, unit.now)
    unit.audit(key.account_id, "api_key.revoked", key.id)
    return get_key(unit, KeyRef(key.account_id, key.id))


def get_key(unit: AccountsUnit, query: KeyRef) -> ApiKey:
    """One key. Raises `NotFound`."""
    key = unit.api_keys.get(query.account_id, query.key_id)
    if key is None:
        raise NotFound(f"There is no API key {query.key_id[:64]}.", param="id")
    return key


def list_keys(unit: AccountsUnit, query: ListKeys) -> list[ApiKey]:
    """Keys, newest first, also expired and revoked ones."""
    return unit.api_keys.list_before(query.account_id, query.before_id, query.limit)


def _manages(key: ApiKey, now: UnixMs) -> bool:
    return "admin" in key.scopes and key.status(now) == "active"


def _check_limits(command: CreateKey, now: UnixMs) -> None:
    if command.expires_at is not None and command.expires_at <= now:
        raise InvalidInput(
            f"expires_at is in the past; it is {rfc3339(now)} now.", code="invalid_field", param="expires_at"
        )
    limit = command.requests_per_minute
    if limit is not None and not 1 <= limit <= MAX_REQUESTS_PER_MINUTE:
        raise InvalidInput(
            f"requests_per_minute is between 1 and {MAX_REQUESTS_PER_MINUTE}; leave it out for no limit.",
            code="invalid_field",
            param="requests_per_minute",
        )
