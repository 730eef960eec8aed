"""The custom headers of endpoints: encrypted, beside the endpoint's row, which shows only their names.

Satisfies `webhooks.ports.CustomHeaderStore`.
"""

import json
from collections.abc import Mapping
from typing import Final

from loyalpro.storage.connection import Connection
from loyalpro.storage.vault import Vault
from loyalpro.webhooks.custom_headers import masked
from loyalpro.webhooks.entities import Endpoint

_SELECT: Final = "SELECT sealed_headers FROM endpoints WHERE account_id = ? AND id = ?"
_STORE: Final = "UPDATE endpoints SET sealed_headers = ? WHERE account_id = ? AND id = ?"
_CLEAR: Final = """
SELECT id, account_id, headers FROM endpoints WHERE headers <> '{}' AND sealed_headers IS NULL AND deleted_at IS NULL
"""
_SEAL: Final = "UPDATE endpoints SET headers = ?, sealed_headers = ? WHERE id = ? AND sealed_headers IS NULL"


def open_headers(sealed: bytes | None, account_id: str, endpoint_id: str, vault: Vault) -> tuple[tuple[str, str], ...]:
    """The names and values of sealed headers. Raises `ConfigurationError` when they cannot be decrypted."""
    if sealed is None:
        return ()
    return tuple(json.loads(vault.open(sealed, owner=_owner(account_id, endpoint_id))).items())


class CustomHeaderTables:
    """Custom headers, inside one database transaction."""

    def __init__(self, connection: Connection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    def read(self, endpoint: Endpoint) -> Mapping[str, str]:
        """The headers in clear text."""
        [(sealed,)] = self._connection.execute(_SELECT, (endpoint.account_id, endpoint.id))
        return dict(open_headers(sealed, endpoint.account_id, endpoint.id, self._vault))

    def store(self, endpoint: Endpoint, headers: Mapping[str, str]) -> None:
        """Replace the headers of an endpoint that is stored."""
        sealed = self._sealed(endpoint.account_id, endpoint.id, headers) if headers else None
        self._connection.execute(_STORE, (sealed, endpoint.account_id, endpoint.id))

    def seal_all(self) -> int:
        """Seal the headers that an older version stored in clear text; return how many endpoints had some."""
        rows = self._connection.execute(_CLEAR)
        for endpoint_id, account_id, text in rows:
            headers = json.loads(text)
            shown, sealed = json.dumps(masked(headers)), self._sealed(account_id, endpoint_id, headers)
            self._connection.execute(_SEAL, (shown, sealed, endpoint_id))
        return len(rows)

    def _sealed(self, account_id: str, endpoint_id: str, headers: Mapping[str, str]) -> bytes:
        return self._vault.seal(json.dumps(dict(headers)), owner=_owner(account_id, endpoint_id))


def _owner(account_id: str, endpoint_id: str) -> str:
    return f"{account_id}/{endpoint_id}/headers"
