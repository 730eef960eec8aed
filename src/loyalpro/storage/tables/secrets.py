"""The endpoint_secrets table: sealed, several valid at a time while one takes the place of another."""

import itertools
from collections.abc import Sequence

from loyalpro.delivery.rotation import Secret
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.tables.endpoints import Endpoint, sealed_owner
from loyalpro.storage.vault import KEY_ID_BYTES, Vault


class SecretTables:
    """The secrets of endpoints, inside one transaction that holds the endpoint's row."""

    def __init__(self, connection: Connection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    def valid(self, endpoint_ids: Sequence[str], now: UnixMs) -> dict[str, list[Secret]]:
        """The secrets of each that are valid now, newest first."""
        if not endpoint_ids:
            return {}
        marks = ", ".join("?" * len(endpoint_ids))
        rows = self._connection.execute(
            f"SELECT endpoint_id, version, expires_at, promoted_at FROM endpoint_secrets WHERE endpoint_id IN ({marks})"
            " AND (expires_at IS NULL OR expires_at > ?) ORDER BY endpoint_id, version DESC",
            (*endpoint_ids, now),
        )
        grouped = itertools.groupby(rows, key=lambda row: str(row[0]))
        return {id_: [Secret(*row[1:]) for row in secrets] for id_, secrets in grouped}

    def key_ids(self, now: UnixMs) -> dict[bytes, str]:
        """What valid secrets are sealed with: the id of each key, and an endpoint that needs it."""
        rows = self._connection.execute(
            f"SELECT substr(s.sealed, 1, {KEY_ID_BYTES}), MIN(e.id) FROM endpoint_secrets s"
            " JOIN endpoints e ON e.id = s.endpoint_id AND e.deleted_at IS NULL"
            " WHERE s.expires_at IS NULL OR s.expires_at > ? GROUP BY 1",
            (now,),
        )
        return {bytes(key_id): endpoint_id for key_id, endpoint_id in rows}

    def add(self, endpoint: Endpoint, secret: str, now: UnixMs, *, promoted: bool) -> None:
        """Store the newest secret; what has expired is forgotten."""
        sealed = self._vault.seal(secret, owner=sealed_owner(endpoint.account_id, endpoint.id))
        self._connection.execute(
            "INSERT INTO endpoint_secrets (endpoint_id, version, sealed, created_at, promoted_at) VALUES (?,"
            " (SELECT MAX(version) + 1 FROM endpoint_secrets WHERE endpoint_id = ?), ?, ?, ?)",
            (endpoint.id, endpoint.id, sealed, now, now if promoted else None),
        )
        self._connection.execute(
            "DELETE FROM endpoint_secrets WHERE endpoint_id = ? AND expires_at <= ?", (endpoint.id, now)
        )

    def expire_older(self, endpoint_id: str, version: int, at: UnixMs) -> None:
        """End every secret before this version at `at`, if it does not end sooner."""
        self._connection.execute(
            "UPDATE endpoint_secrets SET expires_at = ? WHERE endpoint_id = ? AND version < ?"
            " AND (expires_at IS NULL OR expires_at > ?)",
            (at, endpoint_id, version, at),
        )

    def promote(self, endpoint_id: str, version: int, now: UnixMs) -> None:
        """From now on this one signs where only one can."""
        self._connection.execute(
            "UPDATE endpoint_secrets SET promoted_at = ? WHERE endpoint_id = ? AND version = ? AND promoted_at IS NULL",
            (now, endpoint_id, version),
        )
