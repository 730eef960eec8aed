"""Accounts, the people and keys that speak for them, and the answers that idempotency keys are owed."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.sql import marks, padded_list

_ANSWERS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What a request with an idempotency key was answered. In the database, `body` is sealed."""

    fingerprint: bytes
    status_code: int
    body: bytes


@dataclass(frozen=True, slots=True)
class FirstAccount:
    """The account that the environment names a key and an owner for, and what it has of them."""

    id: str
    has_key: bool
    has_owner: bool


def key_digest(api_key: str) -> bytes:
    """What is kept of an API key. One fast hash is enough for one that is random; whoever chooses it has to see to that."""
    return hashlib.sha256(api_key.encode()).digest()


class AccountTables:
    """Accounts, users, API keys and idempotency keys, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def first(self) -> FirstAccount | None:
        """The first that was opened; None on an empty database. A key that was revoked is one that it has had."""
        rows = self._connection.execute(
            "SELECT a.id, EXISTS (SELECT 1 FROM api_keys k WHERE k.account_id = a.id),"
            " EXISTS (SELECT 1 FROM users u WHERE u.account_id = a.id AND u.role = 'owner')"
            " FROM accounts a ORDER BY a.id LIMIT 1"
        )
        return FirstAccount(rows[0][0], has_key=bool(rows[0][1]), has_owner=bool(rows[0][2])) if rows else None

    def hold_first(self) -> None:
        """Let nobody else open or complete the first account until the transaction ends.

        SQLite runs one writing transaction at a time, so there is nobody to keep off.
        """
        if self._connection.dialect.is_postgres:
            self._connection.execute("LOCK TABLE accounts IN SHARE ROW EXCLUSIVE MODE")

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

    def hold_idempotency_keys(self, account_id: str, keys: Collection[str]) -> set[str]:
        """Keep others off these keys until the transaction ends; those that nobody else holds.

        SQLite runs one writing transaction at a time, so there is nobody to keep off.
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
        return {of_number[number] for number, held in rows if held}

    def answers(self, account_id: str, keys: Collection[str], since: UnixMs) -> dict[str, StoredAnswer]:
        """What these keys were answered, if that was after `since`."""
        if not keys:
            return {}
        wanted = padded_list(keys)
        rows = self._connection.execute(
            "SELECT key, fingerprint, status_code, body FROM idempotency_keys"
            f" WHERE account_id = ? AND key IN ({marks(len(wanted))}) AND created_at > ?",
            (account_id, *wanted, since),
        )
        return {key: StoredAnswer(*answer) for key, *answer in rows}

    def store_answers(self, account_id: str, answers: Mapping[str, StoredAnswer], now: UnixMs) -> None:
        """Remember answers by their keys, in the transaction of their effects. Older ones have expired."""
        self._connection.execute_many(
            "INSERT INTO idempotency_keys (account_id, key, fingerprint, status_code, body, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (account_id, key) DO UPDATE SET fingerprint = excluded.fingerprint,"
            " status_code = excluded.status_code, body = excluded.body, created_at = excluded.created_at",
            [(account_id, key, each.fingerprint, each.status_code, each.body, now) for key, each in answers.items()],
        )

    def forget_answers(self, before: UnixMs) -> bool:
        """Drop a bounded number of expired answers, oldest first; whether there may be more."""
        removed = self._connection.change(
            "DELETE FROM idempotency_keys WHERE (account_id, key) IN ("
            "SELECT account_id, key FROM idempotency_keys WHERE created_at <= ? ORDER BY created_at LIMIT ?)",
            (before, _ANSWERS_AT_ONCE),
        )
        return removed == _ANSWERS_AT_ONCE


def _lock_number(account_id: str, key: str) -> int:
    """64 bits for an advisory lock. Two keys that share them wait for each other, and nothing worse."""
    return int.from_bytes(hashlib.sha256(f"{account_id}/{key}".encode()).digest()[:8], "big", signed=True)
