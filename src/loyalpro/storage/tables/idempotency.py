"""The idempotency_keys table. Satisfies `accounts.ports.IdempotencyStore`.

Bodies are stored sealed: a response may hold a signing secret, or personal data of a customer.
"""

import hashlib
from collections.abc import Collection, Mapping

from loyalpro.accounts.entities import StoredResponse
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.sql import flat, keys_table, marks, padded_keys, padded_list
from loyalpro.storage.vault import Vault

_STORE = (
    "INSERT INTO idempotency_keys (account_id, key, fingerprint, status_code, body, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (account_id, key) DO UPDATE SET fingerprint = excluded.fingerprint,"
    " status_code = excluded.status_code, body = excluded.body, created_at = excluded.created_at"
)


class IdempotencyTables:
    """Results of requests with an idempotency key, inside one database transaction."""

    def __init__(self, connection: Connection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    def lock(self, account_id: str, keys: Collection[str]) -> set[str]:
        """Keep other transactions off these keys until this one ends; the keys that no other transaction has locked.

        Only PostgreSQL has advisory locks, for keys that may have no row yet. SQLite runs one writing transaction at a time.
        """
        if not self._connection.dialect.is_postgres or not keys:
            return set(keys)
        of_number = {_lock_number(account_id, key): key for key in keys}
        numbers = padded_list(of_number)
        rows = self._connection.execute(
            "SELECT column1, pg_try_advisory_xact_lock(column1)"
            f" FROM (VALUES {marks(len(numbers), '(CAST(? AS BIGINT))')}) AS v",
            numbers,
        )
        return {of_number[number] for number, locked in rows if locked}

    def responses(self, account_id: str, keys: Collection[str], since: UnixMs) -> dict[str, StoredResponse]:
        """The responses of these keys that were stored after `since`."""
        if not keys:
            return {}
        wanted = padded_keys(account_id, keys)
        rows = self._connection.execute(
            f"SELECT i.key, i.fingerprint, i.status_code, i.body {keys_table(len(wanted))} idempotency_keys i"
            " WHERE i.account_id = keys.column1 AND i.key = keys.column2 AND i.created_at > ?",
            (*flat(wanted), since),
        )
        return {
            key: StoredResponse(fingerprint, status_code, self._open(account_id, key, sealed))
            for key, fingerprint, status_code, sealed in rows
        }

    def store(self, account_id: str, responses: Mapping[str, StoredResponse], now: UnixMs) -> None:
        """Store responses by their keys, in place of expired ones."""
        rows = [
            (account_id, key, each.fingerprint, each.status_code, self._seal(account_id, key, each.body), now)
            for key, each in responses.items()
        ]
        self._connection.execute_many(_STORE, rows)

    def remove_expired(self, before: UnixMs, limit: int) -> int:
        """Remove up to `limit` responses that were stored by `before`, oldest first; how many."""
        return self._connection.change(
            "DELETE FROM idempotency_keys WHERE (account_id, key) IN ("
            "SELECT account_id, key FROM idempotency_keys WHERE created_at <= ? ORDER BY created_at LIMIT ?)",
            (before, limit),
        )

    def _seal(self, account_id: str, key: str, body: bytes) -> bytes:
        return self._vault.seal(body.decode(), owner=_owner(account_id, key))

    def _open(self, account_id: str, key: str, sealed: bytes) -> bytes:
        return self._vault.open(sealed, owner=_owner(account_id, key)).encode()


def _owner(account_id: str, key: str) -> str:
    return f"{account_id}/idempotency/{key}"


def _lock_number(account_id: str, key: str) -> int:
    """64 bits for an advisory lock. Two keys with the same number wait for each other, which is harmless."""
    return int.from_bytes(hashlib.sha256(f"{account_id}/{key}".encode()).digest()[:8], "big", signed=True)
