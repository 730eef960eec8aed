"""Pending deliveries by endpoint: the backlog scan, and the claim that leases deliveries which are due.

The part of `delivery.ports.DeliveryStore` that concerns claims, as `delivery_store.py` calls it.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from loyalpro.delivery.breaker import Health
from loyalpro.delivery.claims import (
    BacklogPage,
    Claimed,
    ClaimKind,
    ClaimRequest,
    ClaimResult,
    EndpointBacklog,
    Fallback,
    Target,
)
from loyalpro.delivery.ports import WorkerId
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import is_forged
from loyalpro.kernel.iteration import pull
from loyalpro.kernel.record import record, with_fields
from loyalpro.storage.connection import Connection, Row, Statement
from loyalpro.storage.dialect import Dialect, DialectSql
from loyalpro.storage.rows import RowMapper
from loyalpro.storage.sql import CHUNK_LENGTHS, marks, padded_chunks
from loyalpro.storage.tables.health import begin_probe
from loyalpro.storage.tables.leases import UNLEASED
from loyalpro.storage.tables.targets import TargetTables, UnreadableSecrets, select_targets
from loyalpro.storage.vault import Vault
from loyalpro.transport.signing import wrong_secret


@record
class _DueDelivery:
    """The columns of a due delivery that its next attempt needs."""

    id: str
    event_id: str
    event_type: str
    attempts: int
    uncounted_attempts: int
    first_attempt_at: UnixMs | None
    customer_id: str | None
    fallback_status: str | None
    fallback_due_at: UnixMs | None
    created_at: UnixMs


_DUE_DELIVERIES: Final = RowMapper(_DueDelivery, "deliveries")

# One probe of the index leads from an endpoint with pending deliveries to the next: endpoints without any cost nothing.
_ENDPOINTS_PER_PAGE = 64
_BACKLOG = f"""
WITH RECURSIVE backlog (endpoint_id) AS (
    SELECT MIN(endpoint_id) FROM deliveries WHERE status = 'pending' AND due_at IS NOT NULL AND endpoint_id > ?
    UNION ALL
    SELECT (SELECT MIN(d.endpoint_id) FROM deliveries d
            WHERE d.status = 'pending' AND d.due_at IS NOT NULL AND d.endpoint_id > backlog.endpoint_id)
    FROM backlog WHERE backlog.endpoint_id IS NOT NULL
)
SELECT endpoint_id, (
    SELECT d.due_at FROM deliveries d WHERE d.endpoint_id = backlog.endpoint_id AND d.status = 'pending'
    AND d.due_at IS NOT NULL AND {UNLEASED} ORDER BY d.due_at LIMIT 1)
FROM backlog WHERE endpoint_id IS NOT NULL LIMIT {_ENDPOINTS_PER_PAGE}
"""

# Small indexes of their own find the urgent deliveries. The expressions `|| ''` and `+ 0` keep the planner from the index of
# the endpoint, with which it would read the whole queue to find a few rows.
_URGENT: Final = DialectSql(
    lambda dialect: (
        f"""
SELECT d.endpoint_id FROM {dialect.pending_deliveries} d
WHERE d.fallback_status IS NOT NULL AND {dialect.is_pending} AND d.due_at + 0 <= ? AND {UNLEASED}
UNION
SELECT d.endpoint_id FROM {dialect.pending_deliveries} d
WHERE {dialect.is_pending} AND d.first_attempt_at IS NOT NULL AND d.first_attempt_at <= ? AND d.due_at + 0 <= ?
  AND {UNLEASED}
"""
    )
)

_KNOWN_WORKER: Final = DialectSql(lambda dialect: f"SELECT 1 FROM workers WHERE id = ? {dialect.for_share}")


def _select_due(endpoint: str, due: str, urgent: Callable[[Dialect], str]) -> DialectSql:
    """The statement that finds and locks due deliveries of an endpoint.

    The last condition keeps the events of a customer in order, whatever their due times are.
    """
    return DialectSql(
        lambda dialect: (
            f"""
SELECT {_DUE_DELIVERIES.columns("d")} FROM deliveries d
WHERE {endpoint} = ? AND d.status = 'pending' AND d.due_at IS NOT NULL AND {due} <= ? AND {UNLEASED}
  AND (d.customer_id IS NULL OR NOT EXISTS (
    SELECT 1 FROM deliveries earlier
    WHERE earlier.endpoint_id = d.endpoint_id AND earlier.customer_id = d.customer_id
      AND earlier.sequence < d.sequence AND earlier.status = 'pending'))
  {urgent(dialect)}
ORDER BY {due}, d.id LIMIT ? {dialect.for_update_of("d")} {dialect.skip_locked}
"""
        )
    )


def _urgent_ids(dialect: Dialect) -> str:
    return f"""
    SELECT d.id FROM {dialect.pending_deliveries} d
    WHERE d.endpoint_id = ? AND d.fallback_status IS NOT NULL AND {dialect.is_pending}
    UNION
    SELECT d.id FROM {dialect.pending_deliveries} d
    WHERE {dialect.is_pending} AND d.first_attempt_at IS NOT NULL AND d.first_attempt_at <= ?"""


_DUE: Final = _select_due("d.endpoint_id", "d.due_at", lambda _: "")
_URGENTLY_DUE: Final = _select_due(
    "d.endpoint_id || ''", "d.due_at + 0", lambda dialect: f"AND d.id {dialect.among(_urgent_ids(dialect))}"
)


@lru_cache(CHUNK_LENGTHS)
def _lease_sql(count: int) -> str:
    return (
        "INSERT INTO leases (delivery_id, worker, endpoint_id, attempt, started_at)"
        f" VALUES {marks(count, '(?, ?, ?, ?, ?)')} ON CONFLICT (delivery_id) DO NOTHING RETURNING delivery_id"
    )


@lru_cache(CHUNK_LENGTHS)
def _events_sql(count: int) -> str:
    return f"SELECT id, body, request_id, traceparent FROM events WHERE id IN ({marks(count)})"


_SentEvent = Sequence[Any]
"""Of an event its body, the id of the request that caused it, and the trace context of that request."""


@record
class _Due:
    """A due delivery, the target of its endpoint, and whether its attempt is a probe."""

    target: Target
    probe: bool
    delivery: _DueDelivery


class ClaimTables:
    """Backlog scans and claims of workers, inside one database transaction."""

    def __init__(self, connection: Connection, vault: Vault, unreadable: UnreadableSecrets | None = None) -> None:
        self._connection = connection
        self._targets = TargetTables(connection, vault, unreadable)

    # -- the backlog scan --------------------------------------------------------------------------------------------

    def scan_backlog(self, now: UnixMs, after: str, closing_since: UnixMs) -> BacklogPage:
        """Return the next page of enabled endpoints that have pending deliveries without a lease, by id from `after`.

        The first page (`after` is empty) also has the endpoints with urgent deliveries: manual attempts, and deliveries
        whose first attempt was at or before `closing_since`.
        """
        statements: list[Statement] = [(_BACKLOG, (after,)), ("SELECT COUNT(*) FROM workers", ())]
        if not after:
            statements.append((_URGENT[self._connection.dialect], (now, closing_since, now)))
        rows, [(workers,)], *urgent = self._connection.execute_all(statements)
        pending = {id_: due_at for id_, due_at in rows if due_at is not None}
        targets = self._targets.list_enabled(list(pending), now)
        return BacklogPage(
            endpoints=[EndpointBacklog(targets[id_], pending[id_]) for id_ in pending if id_ in targets],
            workers=workers,
            until=pull(id_ for id_, _ in reversed(rows)) if len(rows) == _ENDPOINTS_PER_PAGE else None,
            urgent=[id_ for found in urgent for (id_,) in found],
        )

    # -- claims ------------------------------------------------------------------------------------------------------

    def claim(
        self, worker: WorkerId, requests: Sequence[ClaimRequest], now: UnixMs, closing_since: UnixMs
    ) -> ClaimResult:
        """Lease due deliveries of enabled endpoints, for each endpoint the oldest first.

        Endpoints are handled in the order of their ids, the same in all workers: a probe locks the health row of its
        endpoint until the transaction ends, and two workers must not wait for each other in a cycle.
        """
        known, targets, found = self._find_due(worker, requests, now, closing_since)
        if not known:
            return ClaimResult((), targets)
        allowed: dict[str, list[_Due]] = {}
        for request, rows in sorted(zip(requests, found, strict=True), key=lambda pair: pair[0].endpoint_id):
            if request.endpoint_id in targets:
                deliveries = _DUE_DELIVERIES.records(rows)
                allowed[request.endpoint_id] = self._allow(request, targets[request.endpoint_id], deliveries, now)
        due = [each for request in requests for each in allowed.get(request.endpoint_id, ())]
        leased, events = self._lease(worker, due, now)
        claimed = [_claimed(each, events[each.delivery.event_id], now) for each in due if each.delivery.id in leased]
        return ClaimResult(claimed, targets)

    def _find_due(
        self, worker: WorkerId, requests: Sequence[ClaimRequest], now: UnixMs, closing_since: UnixMs
    ) -> tuple[bool, dict[str, Target], list[list[Row]]]:
        """Return whether the worker is registered, the targets of the endpoints, and the due rows of each request.

        A worker whose leases have been taken may not lease anything: no rescue would release it. The shared lock on the
        row of the worker keeps a rescue from taking its leases before this transaction commits.
        """
        known = (_KNOWN_WORKER[self._connection.dialect], (worker,))
        targets = select_targets([request.endpoint_id for request in requests], now)
        due = [self._select_due(request, now, closing_since) for request in requests]
        worker_rows, *rows = self._connection.execute_all([known, *targets, *due])
        return bool(worker_rows), self._targets.read(rows[: len(targets)]), rows[len(targets) :]

    def _select_due(self, request: ClaimRequest, now: UnixMs, closing_since: UnixMs) -> Statement:
        if request.kind is not ClaimKind.URGENT:
            return _DUE[self._connection.dialect], (request.endpoint_id, now, request.limit)
        sql = _URGENTLY_DUE[self._connection.dialect]
        return sql, (request.endpoint_id, now, request.endpoint_id, closing_since, request.limit)

    def _allow(
        self, request: ClaimRequest, target: Target, deliveries: Sequence[_DueDelivery], now: UnixMs
    ) -> list[_Due]:
        """Return those of the due deliveries of an endpoint that its breaker allows to be sent now."""
        kind = _allowed_kind(request.kind, target.health, now)
        if kind is None:
            return []
        if kind is not ClaimKind.PROBE:
            return [_Due(target, False, each) for each in deliveries]
        if deliveries and is_forged(deliveries[0].id, request.endpoint_id):
            return [_Due(target, False, deliveries[0])]  # its outcome would not tell whether the endpoint works
        if not deliveries or not begin_probe(self._connection, request.endpoint_id, now):
            return []
        return [_Due(target, True, deliveries[0])]

    def _lease(self, worker: WorkerId, due: Sequence[_Due], now: UnixMs) -> tuple[set[str], dict[str, _SentEvent]]:
        """Insert the leases; return the ids of the deliveries that were leased, and all events by id."""
        leases = [_insert_leases(worker, chunk, now) for chunk in padded_chunks(due)]
        events = [_select_events(ids) for ids in padded_chunks(list({each.delivery.event_id for each in due}))]
        rows = self._connection.execute_all([*leases, *events])
        leased = {id_ for found in rows[: len(leases)] for (id_,) in found}
        return leased, {id_: event for found in rows[len(leases) :] for id_, *event in found}


def _select_events(event_ids: Sequence[str]) -> Statement:
    return _events_sql(len(event_ids)), event_ids


def _insert_leases(worker: WorkerId, due: Sequence[_Due], now: UnixMs) -> Statement:
    params: list[object] = []
    for each in due:
        params += (each.delivery.id, worker, each.target.endpoint_id, each.delivery.attempts + 1, now)
    return _lease_sql(len(due)), params


def _allowed_kind(requested: ClaimKind, health: Health, now: UnixMs) -> ClaimKind | None:
    """Return the kind of claim that the breaker allows; it may have opened or closed since the request was made."""
    if requested is ClaimKind.URGENT or not health.is_open:
        return ClaimKind.DUE if requested is ClaimKind.PROBE else requested
    return ClaimKind.PROBE if health.probe_at is not None and health.probe_at <= now else None


def _claimed(due: _Due, event: _SentEvent, now: UnixMs) -> Claimed:
    delivery, (body, request_id, traceparent) = due.delivery, event
    return Claimed(
        delivery_id=delivery.id,
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        body=body,
        attempt_number=delivery.attempts + 1,
        scheduled_attempts=delivery.attempts + 1 - delivery.uncounted_attempts,
        first_attempt_at=now if delivery.first_attempt_at is None else delivery.first_attempt_at,
        customer_id=delivery.customer_id,
        fallback=_fallback(delivery),
        probe=due.probe,
        target=_forged_target(due) if is_forged(delivery.id, due.target.endpoint_id) else due.target,
        created_at=delivery.created_at,
        request_id=request_id,
        traceparent=traceparent,
    )


def _forged_target(due: _Due) -> Target:
    """The target with one wrong secret in place of all its own."""
    return with_fields(due.target, secrets=(wrong_secret(due.delivery.id),), primary=0, versions=(0,))


def _fallback(delivery: _DueDelivery) -> Fallback | None:
    if delivery.fallback_status is None:
        return None
    return Fallback(DeliveryStatus(delivery.fallback_status), delivery.fallback_due_at)
