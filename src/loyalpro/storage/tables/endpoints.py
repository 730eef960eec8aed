"""The endpoints table and the secrets that belong to each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from loyalpro.delivery.states import EndpointStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.vault import Vault

_COLUMNS = (
    "id, account_id, url, description, types, ordering, rate_limit, headers, status, status_reason,"
    " created_at, updated_at"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as its owner configured it."""

    id: str
    account_id: str
    url: str
    description: str | None
    types: tuple[str, ...]
    ordering: str
    rate_limit: int | None
    headers: Mapping[str, str]
    status: EndpointStatus
    status_reason: str | None
    created_at: UnixMs
    updated_at: UnixMs

    def wants(self, event_type: str) -> bool:
        """Whether it is subscribed to events of this type."""
        return "*" in self.types or event_type in self.types


def split_types(text: str) -> list[str]:
    """The event types of a row: kept as one text, separated by spaces, because they are always read together."""
    return text.split(" ")


def sealed_owner(account_id: str, endpoint_id: str) -> str:
    """What an endpoint's sealed secrets are bound to."""
    return f"{account_id}/{endpoint_id}"


class EndpointTables:
    """Endpoints and their secrets, inside one transaction."""

    def __init__(self, connection: Connection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    def insert(self, endpoint: Endpoint, secret: str) -> None:
        """Store a new endpoint with its first secret."""
        self._connection.execute(
            f"INSERT INTO endpoints ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _values(endpoint)
        )
        sealed = self._vault.seal(secret, owner=sealed_owner(endpoint.account_id, endpoint.id))
        self._connection.execute(
            "INSERT INTO endpoint_secrets (endpoint_id, version, sealed, created_at, promoted_at) VALUES (?, 1, ?, ?, ?)",
            (endpoint.id, sealed, endpoint.created_at, endpoint.created_at),
        )

    def get(self, account_id: str, endpoint_id: str, *, lock: bool = False) -> Endpoint | None:
        """One endpoint; with `lock`, nobody else changes it until this transaction ends."""
        suffix = " FOR UPDATE" if lock and self._connection.dialect.is_postgres else ""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM endpoints WHERE account_id = ? AND id = ? AND deleted_at IS NULL{suffix}",
            (account_id, endpoint_id),
        )
        return _endpoint(rows[0]) if rows else None

    def enabled(self, account_id: str, event_type: str) -> list[Endpoint]:
        """Every enabled endpoint that wants events of this type; nobody else changes them until this transaction ends."""
        suffix = " FOR UPDATE" if self._connection.dialect.is_postgres else ""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM endpoints WHERE account_id = ? AND status = 'enabled' AND deleted_at IS NULL"
            f" ORDER BY id{suffix}",
            (account_id,),
        )
        return [each for each in map(_endpoint, rows) if each.wants(event_type)]

    def list_before(self, account_id: str, before_id: str | None, limit: int) -> list[Endpoint]:
        """Endpoints, newest first."""
        older, params = ("", ()) if before_id is None else (" AND id < ?", (before_id,))
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM endpoints WHERE account_id = ? AND deleted_at IS NULL{older}"
            " ORDER BY id DESC LIMIT ?",
            (account_id, *params, limit),
        )
        return [_endpoint(row) for row in rows]

    def update(self, endpoint: Endpoint) -> None:
        """Store what its owner changed."""
        self._connection.execute(
            "UPDATE endpoints SET url = ?, description = ?, types = ?, ordering = ?, rate_limit = ?, headers = ?,"
            " status = ?, status_reason = ?, updated_at = ? WHERE account_id = ? AND id = ? AND deleted_at IS NULL",
            (*_values(endpoint)[2:10], endpoint.updated_at, endpoint.account_id, endpoint.id),
        )

    def delete(self, account_id: str, endpoint_id: str, now: UnixMs) -> bool:
        """Take the endpoint away. Its deliveries stay to be looked at; those still pending are canceled by it."""
        changed = self._connection.change(
            "UPDATE endpoints SET deleted_at = ?, updated_at = ? WHERE account_id = ? AND id = ? AND deleted_at IS NULL",
            (now, now, account_id, endpoint_id),
        )
        return changed == 1

    def secret(self, account_id: str, endpoint_id: str) -> str:
        """The newest signing secret of an endpoint that exists."""
        [(sealed,)] = self._connection.execute(
            "SELECT sealed FROM endpoint_secrets WHERE endpoint_id = ? ORDER BY version DESC LIMIT 1", (endpoint_id,)
        )
        return self._vault.open(sealed, owner=sealed_owner(account_id, endpoint_id))


def _values(endpoint: Endpoint) -> tuple[object, ...]:
    return (
        endpoint.id,
        endpoint.account_id,
        endpoint.url,
        endpoint.description,
        " ".join(endpoint.types),
        endpoint.ordering,
        endpoint.rate_limit,
        json.dumps(dict(endpoint.headers)),
        endpoint.status.value,
        endpoint.status_reason,
        endpoint.created_at,
        endpoint.updated_at,
    )


def _endpoint(row: Row) -> Endpoint:
    values = list(row)
    values[4], values[7], values[8] = tuple(split_types(row[4])), json.loads(row[7]), EndpointStatus(row[8])
    return Endpoint(*values)
