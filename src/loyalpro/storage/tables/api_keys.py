"""The api_keys table. Satisfies `accounts.ports.ApiKeyStore`."""

import hashlib

from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection


def key_digest(api_key: str) -> bytes:
    """The digest that is stored of an API key. One fast hash is enough because keys are random, not chosen by people."""
    return hashlib.sha256(api_key.encode()).digest()


class ApiKeyTables:
    """API keys, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, key_id: str, account_id: str, name: str, api_key: str, now: UnixMs) -> None:
        """Store the digest of a key and its last four characters."""
        self._connection.execute(
            "INSERT INTO api_keys (id, account_id, name, digest, hint, created_at) VALUES (?, ?, ?, ?, ?, ?)",
            (key_id, account_id, name, key_digest(api_key), api_key[-4:], now),
        )

    def account_of(self, api_key: str) -> str | None:
        """The account of a key; None when the key is unknown or revoked.

        The time of a look-up by digest reveals nothing about any other key.
        """
        rows = self._connection.execute(
            "SELECT account_id FROM api_keys WHERE digest = ? AND revoked_at IS NULL", (key_digest(api_key),)
        )
        return next((account_id for (account_id,) in rows), None)
