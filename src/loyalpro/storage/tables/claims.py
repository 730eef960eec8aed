"""Pending deliveries by endpoint: the backlog scan, and the claim that leases deliveries which are due.

The part of `delivery.ports.DeliveryStore` that concerns claims, as `delivery_store.py` calls it.
"""

import itertools
import json
from collections.abc import Sequence
from typing import Final

import structlog

from loyalpro.delivery.breaker import HEALTHY, Health
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
from loyalpro.delivery.rotation import primary_secret
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.kernel.record import record
from loyalpro.storage.connection import Connection, Row, Statement
from loyalpro.storage.dialect import DialectSql
from loyalpro.storage.sql import marks, padded_chunks
from loyalpro.storage.tables.health import HEALTH_COLUMNS, begin_probe, health_from
from loyalpro.storage.tables.leases import UNLEASED
from loyalpro.storage.tables.secrets import sealed_owner
from loyalpro.storage.vault import Vault

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

_URGENT = f"""
SELECT d.endpoint_id FROM deliveries d
WHERE d.fallback_status IS NOT NULL AND d.status = 'pending' AND d.due_at <= ? AND {UNLEASED}
UNION
SELECT d.endpoint_id FROM deliveries d
WHERE d.status = 'pending' AND d.first_attempt_at IS NOT NULL AND d.first_attempt_at <= ? AND d.due_at <= ?
  AND {UNLEASED}
"""

_TARGETS = f"""
SELECT e.id, e.account_id, e.url, e.headers, e.rate_limit, e.ordering, s.sealed, s.promoted_at, s.version,
    {HEALTH_COLUMNS}
FROM endpoints e
JOIN endpoint_secrets s ON s.endpoint_id = e.id AND (s.expires_at IS NULL OR s.expires_at > ?)
LEFT JOIN endpoint_health h ON h.endpoint_id = e.id
WHERE e.status = 'enabled' AND e.deleted_at IS NULL AND e.id IN ({{marks}})
ORDER BY e.id, s.version DESC
"""

_KNOWN_WORKER: Final = DialectSql(lambda dialect: f"SELECT 1 FROM workers WHERE id = ? {dialect.for_share}")


def _select_due(endpoint: str = "d.endpoint_id", due: str = "d.due_at", urgent: str = "") -> DialectSql:
    """The statement that finds and locks due deliveries of an endpoint.

    The last condition keeps the events of a customer in order, whatever their due times are.
    """
    return DialectSql(
        lambda dialect: (
            f"""
SELECT d.id, d.event_id, d.event_type, d.attempts, d.uncounted_attempts, d.first_attempt_at, d.customer_id,
    d.fallback_status, d.fallback_due_at
FROM deliveries d
WHERE {endpoint} = ? AND d.status = 'pending' AND d.due_at IS NOT NULL AND {due} <= ? AND {UNLEASED}
  AND (d.customer_id IS NULL OR NOT EXISTS (
    SELECT 1 FROM deliveries earlier
    WHERE earlier.endpoint_id = d.endpoint_id AND earlier.customer_id = d.customer_id
      AND earlier.sequence < d.sequence AND earlier.status = 'pending'))
  {urgent}
ORDER BY {due}, d.id LIMIT ? {dialect.for_update_of("d")} {dialect.skip_locked}
"""
        )
    )


_DUE: Final = _select_due()
# Small indexes of their own find the urgent deliveries. The expressions `|| ''` and `+ 0` keep the planner from the index of
# the endpoint, with which it would read the whole queue to find a few rows.
_URGENTLY_DUE: Final = _select_due(
    endpoint="d.endpoint_id || ''",
    due="d.due_at + 0",
    urgent="""
  AND d.id IN (
    SELECT id FROM deliveries WHERE endpoint_id = ? AND fallback_status IS NOT NULL AND status = 'pending'
    UNION
    SELECT id FROM deliveries WHERE status = 'pending' AND first_attempt_at IS NOT NULL AND first_attempt_at <= ?)
""",
)

_LEASE = (
    "INSERT INTO leases (delivery_id, worker, endpoint_id, attempt, started_at) VALUES {rows}"
    " ON CONFLICT (delivery_id) DO NOTHING RETURNING delivery_id"
)


@record
class _Due:
    """A row of `_DUE`, the target of its endpoint, and whether its attempt is a probe."""

    target: Target
    probe: bool
    row: Row


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


class ClaimTables:
    """The reads and the leases of a dispatcher, inside one transaction."""

    def __init__(self, connection: Connection, vault: Vault, unreadable: UnreadableSecrets | None = None) -> None:
        self._connection = connection
        self._vault = vault
        self._unreadable = unreadable or UnreadableSecrets()

    # -- the backlog scan --------------------------------------------------------------------------------------------

    def scan_backlog(self, now: UnixMs, after: str, closing_since: UnixMs) -> BacklogPage:
        """Return the next page of enabled endpoints that have pending deliveries without a lease, by id from `after`.

        The first page (`after` is empty) also has the endpoints with urgent deliveries: manual attempts, and deliveries
        whose first attempt was at or before `closing_since`.
        """
        statements: list[Statement] = [(_BACKLOG, (after,)), ("SELECT COUNT(*) FROM workers", ())]
        if not after:
            statements.append((_URGENT, (now, closing_since, now)))
        rows, [(workers,)], *urgent = self._connection.execute_all(statements)
        pending = {id_: due_at for id_, due_at in rows if due_at is not None}
        targets = self.targets(list(pending), now)
        return BacklogPage(
            endpoints=[EndpointBacklog(targets[id_], pending[id_]) for id_ in pending if id_ in targets],
            workers=workers,
            until=rows[-1][0] if len(rows) == _ENDPOINTS_PER_PAGE else None,
            urgent=[id_ for found in urgent for (id_,) in found],
        )

    # -- targets -----------------------------------------------------------------------------------------------------

    def targets(self, endpoint_ids: Sequence[str], now: UnixMs) -> dict[str, Target]:
        """Return the targets of those of these endpoints that are enabled, with their health and all valid secrets.

        An endpoint with a secret that cannot be decrypted is left out and logged: the others must not wait for it.
        """
        return self._targets(self._connection.execute_all(_select_targets(endpoint_ids, now)))

    def _targets(self, found: Sequence[Sequence[Row]]) -> dict[str, Target]:
        targets: dict[str, Target] = {}
        for rows in found:
            for id_, secrets in itertools.groupby(rows, key=lambda row: str(row[0])):
                try:
                    targets[id_] = self._target(list(secrets))
                except ConfigurationError as error:
                    self._unreadable.log(id_, error)
        return targets

    def _target(self, rows: Sequence[Row]) -> Target:
        """Return the target of one endpoint from its rows of `_TARGETS`: one row for each secret, newest first."""
        id_, account_id, url, headers, rate_limit, ordering, _, _, _, *health = rows[0]
        owner = sealed_owner(account_id, id_)
        return Target(
            endpoint_id=id_,
            account_id=account_id,
            url=url,
            headers=() if headers == "{}" else tuple(json.loads(headers).items()),
            secrets=tuple(self._vault.open(row[6], owner=owner) for row in rows),
            primary=primary_secret([row[7] for row in rows]),
            rate_limit=rate_limit,
            ordered=ordering == "customer",
            health=health_from(health) or HEALTHY,
            versions=tuple(row[8] for row in rows),
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
        for request, rows in sorted(zip(requests, found, strict=True), key=lambda each: each[0].endpoint_id):
            if request.endpoint_id in targets:
                allowed[request.endpoint_id] = self._allow(request, targets[request.endpoint_id], rows, now)
        due = [each for request in requests for each in allowed.get(request.endpoint_id, ())]
        leased, bodies = self._lease(worker, due, now)
        claimed = [_claimed(each, bodies[each.row[1]], now) for each in due if each.row[0] in leased]
        return ClaimResult(claimed, targets)

    def _find_due(
        self, worker: WorkerId, requests: Sequence[ClaimRequest], now: UnixMs, closing_since: UnixMs
    ) -> tuple[bool, dict[str, Target], list[list[Row]]]:
        """Return whether the worker is registered, the targets of the endpoints, and the due rows of each request.

        A worker whose leases have been taken may not lease anything: no rescue would release it. The shared lock on the
        row of the worker keeps a rescue from taking its leases before this transaction commits.
        """
        known = (_KNOWN_WORKER[self._connection.dialect], (worker,))
        targets = _select_targets([request.endpoint_id for request in requests], now)
        due = [self._select_due(request, now, closing_since) for request in requests]
        worker_rows, *rows = self._connection.execute_all([known, *targets, *due])
        return bool(worker_rows), self._targets(rows[: len(targets)]), rows[len(targets) :]

    def _select_due(self, request: ClaimRequest, now: UnixMs, closing_since: UnixMs) -> Statement:
        if request.kind is not ClaimKind.URGENT:
            return _DUE[self._connection.dialect], (request.endpoint_id, now, request.limit)
        sql = _URGENTLY_DUE[self._connection.dialect]
        return sql, (request.endpoint_id, now, request.endpoint_id, closing_since, request.limit)

    def _allow(self, request: ClaimRequest, target: Target, rows: Sequence[Row], now: UnixMs) -> list[_Due]:
        """Return those of the due rows of an endpoint that its breaker allows to be sent now."""
        kind = _allowed_kind(request.kind, target.health, now)
        if kind is None:
            return []
        if kind is not ClaimKind.PROBE:
            return [_Due(target, False, row) for row in rows]
        if not rows or not begin_probe(self._connection, request.endpoint_id, now):
            return []
        return [_Due(target, True, rows[0])]

    def _lease(self, worker: WorkerId, due: Sequence[_Due], now: UnixMs) -> tuple[set[str], dict[str, bytes]]:
        """Insert the leases; return the ids of the deliveries that were leased, and the bodies of all events by id."""
        leases = [_insert_leases(worker, piece, now) for piece in padded_chunks(due)]
        bodies = [_select_bodies(ids) for ids in padded_chunks(list({each.row[1] for each in due}))]
        rows = self._connection.execute_all([*leases, *bodies])
        leased = {id_ for found in rows[: len(leases)] for (id_,) in found}
        return leased, {id_: body for found in rows[len(leases) :] for id_, body in found}


def _select_targets(endpoint_ids: Sequence[str], now: UnixMs) -> list[Statement]:
    return [(_TARGETS.format(marks=marks(len(ids))), (now, *ids)) for ids in padded_chunks(endpoint_ids)]


def _select_bodies(event_ids: Sequence[str]) -> Statement:
    return f"SELECT id, body FROM events WHERE id IN ({marks(len(event_ids))})", event_ids


def _insert_leases(worker: WorkerId, due: Sequence[_Due], now: UnixMs) -> Statement:
    params: list[object] = []
    for each in due:
        params += (each.row[0], worker, each.target.endpoint_id, each.row[3] + 1, now)
    return _LEASE.format(rows=marks(len(due), "(?, ?, ?, ?, ?)")), params


def _allowed_kind(requested: ClaimKind, health: Health, now: UnixMs) -> ClaimKind | None:
    """Return the kind of claim that the breaker allows; it may have opened or closed since the request was made."""
    if requested is ClaimKind.URGENT or not health.is_open:
        return ClaimKind.DUE if requested is ClaimKind.PROBE else requested
    return ClaimKind.PROBE if health.probe_at is not None and health.probe_at <= now else None


def _claimed(due: _Due, body: bytes, now: UnixMs) -> Claimed:
    id_, event_id, type_, attempts, uncounted, first_attempt_at, customer_id, fallback_status, fallback_due_at = due.row
    fallback = None if fallback_status is None else Fallback(DeliveryStatus(fallback_status), fallback_due_at)
    return Claimed(
        delivery_id=id_,
        event_id=event_id,
        event_type=type_,
        body=body,
        attempt_number=attempts + 1,
        scheduled_attempts=attempts + 1 - uncounted,
        first_attempt_at=now if first_attempt_at is None else first_attempt_at,
        customer_id=customer_id,
        fallback=fallback,
        probe=due.probe,
        target=due.target,
    )
