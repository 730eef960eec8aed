"""The api_keys table. Satisfies `accounts.ports.ApiKeyStore`."""

from collections.abc import Mapping
from typing import Final

from loyalpro.accounts.entities import ApiKey
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.rows import WORDS, RowMapper
from loyalpro.storage.sql import where
from loyalpro.storage.tables.digests import digest_of

_KEYS = RowMapper(ApiKey, "api_keys", codecs={"scopes": WORDS})
_INSERT: Final = f"INSERT INTO api_keys ({_KEYS.columns()}, digest) VALUES ({'?, ' * _KEYS.width}?)"
_SELECT: Final = f"SELECT {_KEYS.columns()} FROM api_keys"
_FIND: Final = f"{_SELECT} WHERE digest = ?"
_LOCK_ACCOUNT: Final = DialectSql(lambda dialect: f"SELECT id FROM accounts WHERE id = ? {dialect.for_no_key_update}")
_UNREVOKED: Final = f"{_SELECT} WHERE account_id = ? AND revoked_at IS NULL"
_MARK_USED: Final = "UPDATE api_keys SET last_used_at = ? WHERE id = ? AND (last_used_at IS NULL OR last_used_at < ?)"


class ApiKeyTables:
    """API keys, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, key: ApiKey, api_key: str) -> None:
        """Store a key and the digest of its text."""
        self._connection.execute(_INSERT, (*_KEYS.values(key), digest_of(api_key)))

    def find(self, api_key: str) -> ApiKey | None:
        """The key with this text, also a revoked or an expired one.

        The time of a look-up by digest reveals nothing about any other key.
        """
        return self._one(_FIND, digest_of(api_key))

    def get(self, account_id: str | None, key_id: str) -> ApiKey | None:
        """One key of an account; None as the account means any account."""
        clause, params = where(("id = ?", key_id), ("account_id = ?", account_id))
        return self._one(f"{_SELECT} {clause}", *params)

    def list_before(self, account_id: str | None, before_id: str | None, limit: int) -> list[ApiKey]:
        """Keys, newest first, also revoked ones; None as the account means all accounts."""
        clause, params = where(("account_id = ?", account_id), ("id < ?", before_id))
        rows = self._connection.execute(f"{_SELECT} {clause} ORDER BY id DESC LIMIT ?", (*params, limit))
        return _KEYS.records(rows)

    def lock_unrevoked(self, account_id: str) -> list[ApiKey]:
        """The keys of an account that are not revoked. No other transaction adds or revokes one until this one ends."""
        self._connection.execute(_LOCK_ACCOUNT[self._connection.dialect], (account_id,))
        return _KEYS.records(self._connection.execute(_UNREVOKED, (account_id,)))

    def rename(self, key_id: str, name: str) -> None:
        """Change the name of a key."""
        self._connection.execute("UPDATE api_keys SET name = ? WHERE id = ?", (name, key_id))

    def revoke(self, key_id: str, now: UnixMs) -> None:
        """Revoke a key that is not revoked."""
        self._connection.execute(
            "UPDATE api_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (now, key_id)
        )

    def mark_used(self, hours: Mapping[str, UnixMs]) -> None:
        """Store, by the ids of keys, the hours in which they were last used, unless a later hour is stored.

        In the order of the ids, so that two processes do not wait for each other in a circle.
        """
        self._connection.execute_many(_MARK_USED, [(hours[id_], id_, hours[id_]) for id_ in sorted(hours)])

    def _one(self, sql: str, *params: object) -> ApiKey | None:
        rows = self._connection.execute(sql, params)
        return _KEYS.record(rows[0]) if rows else None
