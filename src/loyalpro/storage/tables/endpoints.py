"""The endpoints table. Satisfies `webhooks.ports.EndpointStore` and `events.outbox.SubscriptionStore`."""

from typing import Final

from loyalpro.delivery.states import EndpointStatus
from loyalpro.events.outbox import Subscription
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.rows import FLAG, JSON, WORDS, Codec, RowMapper, enum
from loyalpro.storage.sql import where
from loyalpro.webhooks.entities import Endpoint

ORDERED: Final = Codec(
    lambda ordered: "customer" if ordered else "none",
    lambda ordering: ordering == "customer",
)
"""The column `ordering` as a flag: whether the events of one customer are sent in order."""

_ENDPOINTS = RowMapper(
    Endpoint, "endpoints", codecs={"types": WORDS, "headers": JSON, "status": enum(EndpointStatus), "imports": FLAG}
)
_CONFIGURATION = (
    "url", "description", "types", "ordering", "rate_limit", "headers", "status", "status_reason", "imports",
    "updated_at",
)  # fmt: skip
_SUBSCRIPTIONS = RowMapper(
    Subscription,
    "endpoints",
    codecs={
        "types": Codec(lambda types: " ".join(sorted(types)), lambda text: frozenset(text.split(" "))),
        "ordered": ORDERED,
        "imports": FLAG,
    },
    columns={"endpoint_id": "id", "ordered": "ordering"},
)
_SELECT_SUBSCRIPTIONS = f"SELECT {_SUBSCRIPTIONS.columns()} FROM endpoints WHERE account_id = ? AND deleted_at IS NULL"
_DISABLE = """
UPDATE endpoints SET status = 'disabled', status_reason = ?, updated_at = ?
WHERE id = ? AND status = 'enabled' AND deleted_at IS NULL
"""
_SELECT = f"SELECT {_ENDPOINTS.columns()} FROM endpoints"
_GET = f"{_SELECT} WHERE account_id = ? AND id = ? AND deleted_at IS NULL"
_ENABLED = f"{_SELECT} WHERE account_id = ? AND status = 'enabled' AND deleted_at IS NULL ORDER BY id"
_LOCK_ACCOUNT: Final = DialectSql(lambda dialect: f"SELECT id FROM accounts WHERE id = ? {dialect.for_no_key_update}")
_WITH_URL = f"{_SELECT} WHERE account_id = ? AND url = ? AND deleted_at IS NULL ORDER BY id LIMIT ?"
_COUNT = "SELECT COUNT(*) FROM endpoints WHERE account_id = ? AND deleted_at IS NULL"
_UPDATE = f"""
UPDATE endpoints SET {_ENDPOINTS.assignments(*_CONFIGURATION)} WHERE account_id = ? AND id = ? AND deleted_at IS NULL
"""
_DELETE = """
UPDATE endpoints SET deleted_at = ?, updated_at = ?, headers = '{}', sealed_headers = NULL
WHERE account_id = ? AND id = ? AND deleted_at IS NULL
"""


class EndpointTables:
    """Endpoints, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, endpoint: Endpoint) -> None:
        """Store a new endpoint."""
        self._connection.execute(_ENDPOINTS.insert, _ENDPOINTS.values(endpoint))

    def get(self, account_id: str, endpoint_id: str, *, lock: bool = False) -> Endpoint | None:
        """One endpoint; with `lock`, no other transaction changes it until this one ends."""
        rows = self._connection.execute(
            f"{_GET} {self._connection.dialect.for_update}" if lock else _GET, (account_id, endpoint_id)
        )
        return _ENDPOINTS.record(rows[0]) if rows else None

    def lock_and_count(self, account_id: str) -> int:
        """How many endpoints the account has. No other transaction counts them until this one ends."""
        self._connection.execute(_LOCK_ACCOUNT[self._connection.dialect], (account_id,))
        [(count,)] = self._connection.execute(_COUNT, (account_id,))
        return int(count)

    def list_before(self, account_id: str, before_id: str | None, limit: int) -> list[Endpoint]:
        """Endpoints, newest first."""
        clause, params = where(("account_id = ?", account_id), "deleted_at IS NULL", ("id < ?", before_id))
        rows = self._connection.execute(f"{_SELECT} {clause} ORDER BY id DESC LIMIT ?", (*params, limit))
        return _ENDPOINTS.records(rows)

    def with_url(self, account_id: str, url: str, limit: int) -> list[Endpoint]:
        """Endpoints with this URL, oldest first."""
        return _ENDPOINTS.records(self._connection.execute(_WITH_URL, (account_id, url, limit)))

    def subscriptions(self, account_id: str) -> list[Subscription]:
        """Every endpoint of the account that is not deleted, whatever its status."""
        rows = self._connection.execute(_SELECT_SUBSCRIPTIONS, (account_id,))
        return _SUBSCRIPTIONS.records(rows)

    def lock_enabled(self, account_id: str, event_type: str, *, is_import: bool) -> list[Endpoint]:
        """Every enabled endpoint that gets events of this type, from imports or not, locked, in the order of their ids."""
        rows = self._connection.execute(f"{_ENABLED} {self._connection.dialect.for_update}", (account_id,))
        return [each for each in _ENDPOINTS.records(rows) if each.wants(event_type, is_import=is_import)]

    def update(self, endpoint: Endpoint) -> None:
        """Store the configuration of an endpoint."""
        values = _ENDPOINTS.values_of(endpoint, *_CONFIGURATION)
        self._connection.execute(_UPDATE, (*values, endpoint.account_id, endpoint.id))

    def disable(self, endpoint_id: str, reason: str, now: UnixMs) -> bool:
        """Disable an endpoint that is enabled. False when it is not: another transaction may have disabled or deleted it."""
        return self._connection.change(_DISABLE, (reason, now, endpoint_id)) == 1

    def delete(self, account_id: str, endpoint_id: str, now: UnixMs) -> bool:
        """Mark the endpoint as deleted, which cancels its pending deliveries, and erase its headers. False without one."""
        changed = self._connection.change(_DELETE, (now, now, account_id, endpoint_id))
        return changed == 1
