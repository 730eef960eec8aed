"""The endpoint_secrets table: encrypted secrets, several of them valid during a rotation.

Satisfies `webhooks.ports.SecretStore`.
"""

from collections.abc import Sequence

from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.rows import RowMapper
from loyalpro.storage.sql import marks
from loyalpro.storage.vault import KEY_ID_BYTES, Vault
from loyalpro.webhooks.entities import Endpoint, Secret

_SECRETS = RowMapper(Secret, "endpoint_secrets")
_INSERT = """
INSERT INTO endpoint_secrets (endpoint_id, version, sealed, created_at, promoted_at) VALUES (?, ?, ?, ?, ?)
"""


def sealed_owner(account_id: str, endpoint_id: str) -> str:
    """The associated data that binds a sealed secret to its endpoint."""
    return f"{account_id}/{endpoint_id}"


def promote(connection: Connection, endpoint_id: str, version: int, now: UnixMs) -> None:
    """Sign the header that carries one signature with this version from now on, unless it was promoted before."""
    connection.execute(
        "UPDATE endpoint_secrets SET promoted_at = ? WHERE endpoint_id = ? AND version = ? AND promoted_at IS NULL",
        (now, endpoint_id, version),
    )


class SecretTables:
    """The secrets of endpoints, inside one database transaction."""

    def __init__(self, connection: Connection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    def valid(self, endpoint_ids: Sequence[str], now: UnixMs) -> dict[str, list[Secret]]:
        """The secrets of each endpoint that are valid now, newest first."""
        if not endpoint_ids:
            return {}
        rows = self._connection.execute(
            f"SELECT {_SECRETS.columns()}, endpoint_id FROM endpoint_secrets"
            f" WHERE endpoint_id IN ({marks(len(endpoint_ids))}) AND (expires_at IS NULL OR expires_at > ?)"
            " ORDER BY endpoint_id, version DESC",
            (*endpoint_ids, now),
        )
        found: dict[str, list[Secret]] = {}
        for secret, (endpoint_id,) in map(_SECRETS.split, rows):
            found.setdefault(endpoint_id, []).append(secret)
        return found

    def newest(self, account_id: str, endpoint_id: str) -> str:
        """The newest secret of an endpoint, in clear text. The endpoint has to exist."""
        [(sealed,)] = self._connection.execute(
            "SELECT sealed FROM endpoint_secrets WHERE endpoint_id = ? ORDER BY version DESC LIMIT 1", (endpoint_id,)
        )
        return self._vault.open(sealed, owner=sealed_owner(account_id, endpoint_id))

    def key_ids(self, now: UnixMs) -> dict[bytes, str]:
        """The ids of the keys that encrypted valid secrets or headers, each with one endpoint that needs it."""
        rows = self._connection.execute(
            f"SELECT substr(s.sealed, 1, {KEY_ID_BYTES}), MIN(e.id) FROM endpoint_secrets s"
            " JOIN endpoints e ON e.id = s.endpoint_id AND e.deleted_at IS NULL"
            " WHERE s.expires_at IS NULL OR s.expires_at > ? GROUP BY 1"
            f" UNION ALL SELECT substr(sealed_headers, 1, {KEY_ID_BYTES}), MIN(id) FROM endpoints"
            " WHERE sealed_headers IS NOT NULL GROUP BY 1",
            (now,),
        )
        return {bytes(key_id): endpoint_id for key_id, endpoint_id in rows}

    def add(self, endpoint: Endpoint, version: int, secret: str, now: UnixMs, *, promoted: bool) -> None:
        """Store a new secret as the newest one of the endpoint, and remove its expired ones."""
        sealed = self._vault.seal(secret, owner=sealed_owner(endpoint.account_id, endpoint.id))
        self._connection.execute(_INSERT, (endpoint.id, version, sealed, now, now if promoted else None))
        self._connection.execute(
            "DELETE FROM endpoint_secrets WHERE endpoint_id = ? AND expires_at <= ?", (endpoint.id, now)
        )

    def expire_older(self, endpoint_id: str, version: int, at: UnixMs) -> None:
        """Let all secrets before this version expire at `at`, unless they expire sooner."""
        self._connection.execute(
            "UPDATE endpoint_secrets SET expires_at = ? WHERE endpoint_id = ? AND version < ?"
            " AND (expires_at IS NULL OR expires_at > ?)",
            (at, endpoint_id, version, at),
        )

    def promote(self, endpoint_id: str, version: int, now: UnixMs) -> None:
        """Sign the header that carries one signature with this version from now on."""
        promote(self._connection, endpoint_id, version, now)
