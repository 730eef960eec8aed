"""Accounts, the people and keys that speak for them, and the answers that idempotency keys are owed."""

import hashlib
from dataclasses import dataclass

from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection

_ANSWERS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a request with an idempotency key was answered. In the database, `body` is sealed."""

    fingerprint: bytes
    status_code: int
    body: bytes


def key_digest(api_key: str) -> bytes:
    """What is kept of an API key. It holds at least 128 random bits, so one fast hash is enough."""
    return hashlib.sha256(api_key.encode()).digest()


class AccountTables:
    """Accounts, users, API keys and idempotency keys, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def any_account(self) -> bool:
        """Whether somebody has been here before."""
        return bool(self._connection.execute("SELECT 1 FROM accounts LIMIT 1"))

    def insert_account(self, account_id: str, name: str, now: UnixMs) -> None:
        """Open an account."""
        self._connection.execute(
            "INSERT INTO accounts (id, name, created_at) VALUES (?, ?, ?)", (account_id, name, now)
        )

    def insert_owner(self, user_id: str, account_id: str, email: str, password_hash: str, now: UnixMs) -> None:
        """Give the account its owner."""
        self._connection.execute(
            "INSERT INTO users (id, account_id, email, password_hash, role, created_at) VALUES (?, ?, ?, ?, 'owner', ?)",
            (user_id, account_id, email, password_hash, now),
        )

    def insert_api_key(self, key_id: str, account_id: str, name: str, api_key: str, now: UnixMs) -> None:
        """Let a key speak for the account. Only its digest and its last four characters are kept."""
        self._connection.execute(
            "INSERT INTO api_keys (id, account_id, name, digest, hint, created_at) VALUES (?, ?, ?, ?, ?, ?)",
            (key_id, account_id, name, key_digest(api_key), api_key[-4:], now),
        )

    def account_of(self, api_key: str) -> str | None:
        """The account that a key speaks for. Looking a digest up tells an attacker nothing about any other key."""
        rows = self._connection.execute(
            "SELECT account_id FROM api_keys WHERE digest = ? AND revoked_at IS NULL", (key_digest(api_key),)
        )
        return str(rows[0][0]) if rows else None

    def hold_idempotency_key(self, account_id: str, key: str) -> bool:
        """Keep others off this key until the transaction ends; False when somebody holds it.

        SQLite runs one writing transaction at a time, so there is nobody to keep off.
        """
        if self._connection.dialect == "sqlite":
            return True
        number = int.from_bytes(hashlib.sha256(f"{account_id}/{key}".encode()).digest()[:8], "big", signed=True)
        [(held,)] = self._connection.execute("SELECT pg_try_advisory_xact_lock(?)", (number,))
        return bool(held)

    def answer(self, account_id: str, key: str, since: UnixMs) -> StoredAnswer | None:
        """What this key was answered, if that was after `since`."""
        rows = self._connection.execute(
            "SELECT fingerprint, status_code, body FROM idempotency_keys"
            " WHERE account_id = ? AND key = ? AND created_at > ?",
            (account_id, key, since),
        )
        return StoredAnswer(*rows[0]) if rows else None

    def store_answer(self, account_id: str, key: str, answer: StoredAnswer, now: UnixMs) -> None:
        """Remember an answer, in the transaction of its effect. An older one under this key has expired."""
        self._connection.execute(
            "INSERT INTO idempotency_keys (account_id, key, fingerprint, status_code, body, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (account_id, key) DO UPDATE SET fingerprint = excluded.fingerprint,"
            " status_code = excluded.status_code, body = excluded.body, created_at = excluded.created_at",
            (account_id, key, answer.fingerprint, answer.status_code, answer.body, now),
        )

    def forget_answers(self, before: UnixMs) -> bool:
        """Drop a bounded number of expired answers, oldest first; whether there may be more."""
        removed = self._connection.change(
            "DELETE FROM idempotency_keys WHERE (account_id, key) IN ("
            "SELECT account_id, key FROM idempotency_keys WHERE created_at <= ? ORDER BY created_at LIMIT ?)",
            (before, _ANSWERS_AT_ONCE),
        )
        return removed == _ANSWERS_AT_ONCE
