"""Targets: the columns of an endpoint, its secrets and its health that the engine needs to send deliveries to it."""

import itertools
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final

import structlog

from loyalpro.delivery.claims import Target
from loyalpro.delivery.rotation import primary_secret
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.kernel.record import record
from loyalpro.storage.connection import Connection, Row, Statement
from loyalpro.storage.rows import RowMapper
from loyalpro.storage.sql import CHUNK_LENGTHS, marks, padded_chunks
from loyalpro.storage.tables.custom_headers import open_headers
from loyalpro.storage.tables.endpoints import ORDERED
from loyalpro.storage.tables.health import HEALTH, joined_health
from loyalpro.storage.tables.secrets import sealed_owner
from loyalpro.storage.vault import Vault


@record
class _EndpointRow:
    """The columns of an endpoint that its target needs."""

    id: str
    account_id: str
    url: str
    sealed_headers: bytes | None
    rate_limit: int | None
    ordered: bool


@record
class _SecretRow:
    """The columns of a secret that the target of its endpoint needs."""

    sealed: bytes
    promoted_at: UnixMs | None
    version: int


_ENDPOINTS: Final = RowMapper(_EndpointRow, "endpoints", codecs={"ordered": ORDERED}, columns={"ordered": "ordering"})
_SECRETS: Final = RowMapper(_SecretRow, "endpoint_secrets")


@lru_cache(CHUNK_LENGTHS)
def _select_targets(count: int) -> str:
    """The statement for so many endpoints: a row for each of their valid secrets, newest first."""
    return f"""
SELECT {_ENDPOINTS.columns("e")}, {_SECRETS.columns("s")}, {HEALTH.columns("h")}
FROM endpoints e
JOIN endpoint_secrets s ON s.endpoint_id = e.id AND (s.expires_at IS NULL OR s.expires_at > ?)
LEFT JOIN endpoint_health h ON h.endpoint_id = e.id
WHERE e.status = 'enabled' AND e.deleted_at IS NULL AND e.id IN ({marks(count)})
ORDER BY e.id, s.version DESC
"""


def select_targets(endpoint_ids: Sequence[str], now: UnixMs) -> list[Statement]:
    """Statements for the rows of which `TargetTables.read` makes targets."""
    return [(_select_targets(len(ids)), (now, *ids)) for ids in padded_chunks(endpoint_ids)]


class UnreadableSecrets:
    """Logs endpoints whose secrets cannot be decrypted: each endpoint once, because every scan finds it again."""

    def __init__(self) -> None:
        self._logged: set[str] = set()
        self._log = structlog.get_logger("storage")

    def log(self, endpoint_id: str, error: ConfigurationError) -> None:
        """Log that nothing is sent to the endpoint, and why, unless that has been logged before."""
        if endpoint_id not in self._logged:
            self._logged.add(endpoint_id)
            self._log.error("secret_unreadable", endpoint_id=endpoint_id, reason=error.detail)


class TargetTables:
    """Targets of enabled endpoints, inside one database transaction.

    The part of `delivery.ports.DeliveryStore` that concerns targets, as `delivery_store.py` calls it.
    """

    def __init__(self, connection: Connection, vault: Vault, unreadable: UnreadableSecrets | None = None) -> None:
        self._connection = connection
        self._vault = vault
        self._unreadable = unreadable or UnreadableSecrets()

    def list_enabled(self, endpoint_ids: Sequence[str], now: UnixMs) -> dict[str, Target]:
        """Return the targets of those of these endpoints that are enabled, with their health and all valid secrets.

        An endpoint with a secret that cannot be decrypted is left out and logged, so that it does not hold up the others.
        """
        return self.read(self._connection.execute_all(select_targets(endpoint_ids, now)))

    def read(self, found: Sequence[Sequence[Row]]) -> dict[str, Target]:
        """Return the targets of the rows of `select_targets` by the ids of their endpoints."""
        targets: dict[str, Target] = {}
        for rows in found:
            for endpoint, secrets in itertools.groupby(map(_ENDPOINTS.split, rows), key=itemgetter(0)):
                try:
                    targets[endpoint.id] = self._target(endpoint, [_SECRETS.split(rest) for _, rest in secrets])
                except ConfigurationError as error:
                    self._unreadable.log(endpoint.id, error)
        return targets

    def _target(self, endpoint: _EndpointRow, secrets: Sequence[tuple[_SecretRow, Row]]) -> Target:
        """Return the target of an endpoint. `secrets`: newest first, each with the columns of the endpoint's health."""
        owner = sealed_owner(endpoint.account_id, endpoint.id)
        [(_, health), *_] = secrets
        return Target(
            endpoint_id=endpoint.id,
            account_id=endpoint.account_id,
            url=endpoint.url,
            headers=open_headers(endpoint.sealed_headers, endpoint.account_id, endpoint.id, self._vault),
            secrets=tuple(self._vault.open(secret.sealed, owner=owner) for secret, _ in secrets),
            primary=primary_secret([secret.promoted_at for secret, _ in secrets]),
            rate_limit=endpoint.rate_limit,
            ordered=endpoint.ordered,
            health=joined_health(health),
            versions=tuple(secret.version for secret, _ in secrets),
        )
