"""The setup_codes table. Satisfies `accounts.ports.SetupCodeStore`. It has a row for each server that has started lately."""

from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.tables.digests import digest_of


class SetupCodeTables:
    """Setup codes, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, code: str, expires_at: UnixMs) -> None:
        """Store the digest of a code."""
        self._connection.execute(
            "INSERT INTO setup_codes (digest, expires_at) VALUES (?, ?)", (digest_of(code), expires_at)
        )

    def is_valid(self, code: str, now: UnixMs) -> bool:
        """Whether there is such a code that has not expired."""
        sql = "SELECT 1 FROM setup_codes WHERE digest = ? AND expires_at > ?"
        return bool(self._connection.execute(sql, (digest_of(code), now)))

    def remove_all(self) -> None:
        """Remove every code."""
        self._connection.execute("DELETE FROM setup_codes")

    def remove_expired(self, now: UnixMs) -> None:
        """Remove the codes that have expired."""
        self._connection.execute("DELETE FROM setup_codes WHERE expires_at <= ?", (now,))
