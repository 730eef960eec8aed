"""Deliveries as their owner looks at them: lists and details, with the status that is visible."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from loyalpro.delivery.states import DeliveryStatus, EndpointStatus, visible_status
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import delivery_id
from loyalpro.storage.connection import Connection, Row

_COLUMNS = (
    "d.id, d.account_id, d.endpoint_id, d.event_id, d.event_type, d.status, p.status, p.deleted_at, d.attempts, d.due_at,"
    " d.outcome, d.created_at, d.first_attempt_at, d.finished_at"
)
_TABLES = "deliveries d JOIN endpoints p ON p.id = d.endpoint_id"

_VISIBLE_AS = {
    DeliveryStatus.PENDING: "d.status = 'pending' AND p.deleted_at IS NULL AND p.status = 'enabled'",
    DeliveryStatus.PARKED: "d.status = 'pending' AND p.deleted_at IS NULL AND p.status <> 'enabled'",
    DeliveryStatus.CANCELED: "(d.status = 'canceled' OR (d.status = 'pending' AND p.deleted_at IS NOT NULL))",
    DeliveryStatus.SUCCEEDED: "d.status = 'succeeded'",
    DeliveryStatus.EXHAUSTED: "d.status = 'exhausted'",
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one endpoint."""

    id: str
    account_id: str
    endpoint_id: str
    event_id: str
    event_type: str
    status: DeliveryStatus
    attempts: int
    next_attempt_at: UnixMs | None
    outcome: str | None
    created_at: UnixMs
    first_attempt_at: UnixMs | None
    finished_at: UnixMs | None


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """One attempt as it was written down."""

    number: int
    started_at: UnixMs
    outcome: str
    detail: str
    request_headers: Sequence[tuple[str, str]]
    response_status: int | None
    response_headers: Sequence[tuple[str, str]] | None
    response_excerpt: bytes | None
    response_truncated: bool
    remote_ip: str | None
    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    first_byte_ms: float | None
    total_ms: float | None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """What a reader of the deliveries list asks for."""

    endpoint_id: str | None = None
    event_id: str | None = None
    type: str | None = None
    status: DeliveryStatus | None = None


class DeliveryTables:
    """Deliveries and attempts, to be read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, account_id: str, delivery_id: str) -> Delivery | None:
        """One delivery."""
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM {_TABLES} WHERE d.account_id = ? AND d.id = ?", (account_id, delivery_id)
        )
        return _delivery(rows[0]) if rows else None

    def list_before(self, account_id: str, before_id: str | None, wanted: DeliveryFilter, limit: int) -> list[Delivery]:
        """Deliveries, newest first."""
        clauses, params = ["d.account_id = ?"], [account_id]
        for clause, value in (
            ("d.id < ?", before_id),
            ("d.endpoint_id = ?", wanted.endpoint_id),
            ("d.event_id = ?", wanted.event_id),
            ("d.id >= ?", wanted.event_id and delivery_id(wanted.event_id, "")),
            ("d.id < ?", wanted.event_id and delivery_id(wanted.event_id, "~")),
            ("d.event_type = ?", wanted.type),
        ):
            if value is not None:
                clauses.append(clause)
                params.append(value)
        if wanted.status is not None:
            clauses.append(_VISIBLE_AS[wanted.status])
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM {_TABLES} WHERE {' AND '.join(clauses)} ORDER BY d.id DESC LIMIT ?",
            (*params, limit),
        )
        return [_delivery(row) for row in rows]

    def attempts(self, delivery_id: str) -> list[PastAttempt]:
        """Every attempt of a delivery, first to last."""
        rows = self._connection.execute(
            "SELECT number, started_at, outcome, detail, request_headers, response_status, response_headers,"
            " response_excerpt, response_truncated, remote_ip, dns_ms, connect_ms, tls_ms, first_byte_ms, total_ms"
            " FROM attempts WHERE delivery_id = ? ORDER BY number",
            (delivery_id,),
        )
        return [_past_attempt(row) for row in rows]


def _delivery(row: Row) -> Delivery:
    *identity, stored, endpoint, deleted_at, attempts, due_at, outcome, created, first, finished = row
    status = visible_status(DeliveryStatus(stored), EndpointStatus(endpoint), endpoint_deleted=deleted_at is not None)
    next_attempt_at = due_at if status is DeliveryStatus.PENDING else None
    values = [*identity, status, attempts, next_attempt_at, outcome, created, first, finished]
    return Delivery(*values)


def _past_attempt(row: Row) -> PastAttempt:
    number, started, outcome, detail, request, status, headers, excerpt, truncated, *rest = row
    return PastAttempt(
        number,
        started,
        outcome,
        detail,
        json.loads(request),
        status,
        None if headers is None else json.loads(headers),
        excerpt,
        bool(truncated),
        *rest,
    )
