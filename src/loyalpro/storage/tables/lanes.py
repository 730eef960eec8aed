"""What is owed to whom: the survey of all lanes, and the claim that leases due deliveries."""

import itertools
import json
from collections.abc import Sequence

import structlog

from loyalpro.delivery.breaker import HEALTHY, Health
from loyalpro.delivery.ports import Claim, Claimed, Claims, Fallback, LaneRequest, LaneState, Survey, Target, WorkerId
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.kernel.record import record
from loyalpro.storage.connection import Connection, Row, Statement
from loyalpro.storage.sql import marks, padded_chunks
from loyalpro.storage.tables.health import HEALTH_COLUMNS, begin_probe, health_from
from loyalpro.storage.tables.secrets import sealed_owner
from loyalpro.storage.vault import Vault

_UNLEASED = "NOT EXISTS (SELECT 1 FROM leases l WHERE l.delivery_id = d.id)"

# From one endpoint that is owed something to the next, a probe of the index each: those that are owed nothing cost nothing.
_LANES_A_PAGE = 64
_LANES = f"""
WITH RECURSIVE lanes (endpoint_id) AS (
    SELECT MIN(endpoint_id) FROM deliveries WHERE status = 'pending' AND due_at IS NOT NULL AND endpoint_id > ?
    UNION ALL
    SELECT (SELECT MIN(d.endpoint_id) FROM deliveries d
            WHERE d.status = 'pending' AND d.due_at IS NOT NULL AND d.endpoint_id > lanes.endpoint_id)
    FROM lanes WHERE lanes.endpoint_id IS NOT NULL
)
SELECT endpoint_id, (
    SELECT d.due_at FROM deliveries d WHERE d.endpoint_id = lanes.endpoint_id AND d.status = 'pending'
    AND d.due_at IS NOT NULL AND {_UNLEASED} ORDER BY d.due_at LIMIT 1)
FROM lanes WHERE endpoint_id IS NOT NULL LIMIT {_LANES_A_PAGE}
"""

_URGENT = f"""
SELECT d.endpoint_id FROM deliveries d
WHERE d.fallback_status IS NOT NULL AND d.status = 'pending' AND d.due_at <= ? AND {_UNLEASED}
UNION
SELECT d.endpoint_id FROM deliveries d
WHERE d.status = 'pending' AND d.first_attempt_at IS NOT NULL AND d.first_attempt_at <= ? AND d.due_at <= ?
  AND {_UNLEASED}
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

# The last condition keeps a customer's events in order whatever their due times say.
_DUE = f"""
SELECT d.id, d.event_id, d.event_type, d.attempts, d.uncounted_attempts, d.first_attempt_at, d.customer_id,
    d.fallback_status, d.fallback_due_at
FROM deliveries d
WHERE {{endpoint}} = ? AND d.status = 'pending' AND d.due_at IS NOT NULL AND {{due}} <= ? AND {_UNLEASED}
  AND (d.customer_id IS NULL OR NOT EXISTS (
    SELECT 1 FROM deliveries earlier
    WHERE earlier.endpoint_id = d.endpoint_id AND earlier.customer_id = d.customer_id
      AND earlier.sequence < d.sequence AND earlier.status = 'pending'))
  {{urgent}}
ORDER BY {{due}}, d.id LIMIT ? {{lock}}
"""
# Found by their own small indexes. The lane's is kept out of it: all of the lane would be read to find the few.
_ONLY_URGENT = """
  AND d.id IN (
    SELECT id FROM deliveries WHERE endpoint_id = ? AND fallback_status IS NOT NULL AND status = 'pending'
    UNION
    SELECT id FROM deliveries WHERE status = 'pending' AND first_attempt_at IS NOT NULL AND first_attempt_at <= ?)
"""

_LEASE = (
    "INSERT INTO leases (delivery_id, worker, endpoint_id, attempt, started_at) VALUES {rows}"
    " ON CONFLICT (delivery_id) DO NOTHING RETURNING delivery_id"
)


@record
class _Due:
    """A row of `_DUE` and what it was asked for as."""

    target: Target
    probe: bool
    row: Row


class Unreadable:
    """Tells the log of endpoints whose secrets do not open: once of each, because each is looked at again and again."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._log = structlog.get_logger("storage")

    def tell(self, endpoint_id: str, why: ConfigurationError) -> None:
        """Nothing is sent to the endpoint, and this is why."""
        if endpoint_id not in self._told:
            self._told.add(endpoint_id)
            self._log.error("secret_unreadable", endpoint_id=endpoint_id, reason=why.detail)


class LaneTables:
    """What the dispatcher reads and leases, inside one transaction."""

    def __init__(self, connection: Connection, vault: Vault, unreadable: Unreadable | None = None) -> None:
        self._connection = connection
        self._vault = vault
        self._unreadable = unreadable or Unreadable()
        self._lock = "FOR UPDATE OF d SKIP LOCKED" if connection.dialect.is_postgres else ""
        self._share = "FOR SHARE" if connection.dialect.is_postgres else ""

    def survey(self, now: UnixMs, after: str, closing_since: UnixMs) -> Survey:
        """Enabled endpoints that are owed something that nobody is sending, of those that come `after` one."""
        statements: list[Statement] = [(_LANES, (after,)), ("SELECT COUNT(*) FROM workers", ())]
        if not after:
            statements.append((_URGENT, (now, closing_since, now)))
        rows, [(workers,)], *urgent = self._connection.execute_all(statements)
        owing = {id_: due_at for id_, due_at in rows if due_at is not None}
        targets = self.targets(list(owing), now)
        return Survey(
            lanes=[LaneState(targets[id_], owing[id_]) for id_ in owing if id_ in targets],
            workers=workers,
            until=rows[-1][0] if len(rows) == _LANES_A_PAGE else None,
            urgent=[id_ for found in urgent for (id_,) in found],
        )

    def claim(self, worker: WorkerId, lanes: Sequence[LaneRequest], now: UnixMs, closing_since: UnixMs) -> Claims:
        """Lease due deliveries of enabled endpoints, oldest first within a lane."""
        known, targets, found = self._look(worker, lanes, now, closing_since)
        if not known:
            return Claims((), targets)
        let_through: dict[str, list[_Due]] = {}
        for lane, rows in sorted(zip(lanes, found, strict=True), key=lambda each: each[0].endpoint_id):
            if lane.endpoint_id in targets:  # in one order for all workers: a probe holds its endpoint's row
                let_through[lane.endpoint_id] = self._let_through(lane, targets[lane.endpoint_id], rows, now)
        due = [each for lane in lanes for each in let_through.get(lane.endpoint_id, ())]
        leased, bodies = self._lease(worker, due, now)
        return Claims([_claimed(each, bodies[each.row[1]], now) for each in due if each.row[0] in leased], targets)

    def targets(self, endpoint_ids: Sequence[str], now: UnixMs) -> dict[str, Target]:
        """The enabled ones among these endpoints, with every secret that is valid now and how they are doing.

        One that has a secret which does not open is left out: the others have to go on.
        """
        return self._targets(self._connection.execute_all(_select_targets(endpoint_ids, now)))

    def _targets(self, found: Sequence[Sequence[Row]]) -> dict[str, Target]:
        targets: dict[str, Target] = {}
        for rows in found:
            for id_, secrets in itertools.groupby(rows, key=lambda row: str(row[0])):
                try:
                    targets[id_] = self._target(list(secrets))
                except ConfigurationError as error:
                    self._unreadable.tell(id_, error)
        return targets

    def _target(self, rows: Sequence[Row]) -> Target:
        """One endpoint; a row for each of its secrets, newest first. The newest promoted one signs alone."""
        id_, account_id, url, headers, rate_limit, ordering, _, _, _, *health = rows[0]
        owner = sealed_owner(account_id, id_)
        return Target(
            endpoint_id=id_,
            account_id=account_id,
            url=url,
            headers=() if headers == "{}" else tuple(json.loads(headers).items()),
            secrets=tuple(self._vault.open(row[6], owner=owner) for row in rows),
            primary=next((index for index, row in enumerate(rows) if row[7] is not None), len(rows) - 1),
            rate_limit=rate_limit,
            ordered=ordering == "customer",
            health=health_from(health) or HEALTHY,
            versions=tuple(row[8] for row in rows),
        )

    def _look(
        self, worker: WorkerId, lanes: Sequence[LaneRequest], now: UnixMs, closing_since: UnixMs
    ) -> tuple[bool, dict[str, Target], list[list[Row]]]:
        """Whether the worker is known, the targets of the lanes, and what is due in each.

        One that has been given up may lease nothing: nobody would free it. It cannot be given up before we commit.
        """
        known = (f"SELECT 1 FROM workers WHERE id = ? {self._share}", (worker,))
        targets = _select_targets([lane.endpoint_id for lane in lanes], now)
        due = [self._select_due(lane, now, closing_since) for lane in lanes]
        worker_rows, *rows = self._connection.execute_all([known, *targets, *due])
        return bool(worker_rows), self._targets(rows[: len(targets)]), rows[len(targets) :]

    def _select_due(self, lane: LaneRequest, now: UnixMs, closing_since: UnixMs) -> Statement:
        if lane.claim is not Claim.URGENT:
            sql = _DUE.format(urgent="", endpoint="d.endpoint_id", due="d.due_at", lock=self._lock)
            return sql, (lane.endpoint_id, now, lane.room)
        sql = _DUE.format(urgent=_ONLY_URGENT, endpoint="d.endpoint_id || ''", due="d.due_at + 0", lock=self._lock)
        return sql, (lane.endpoint_id, now, lane.endpoint_id, closing_since, lane.room)

    def _let_through(self, lane: LaneRequest, target: Target, rows: Sequence[Row], now: UnixMs) -> list[_Due]:
        """Of what is due in a lane, what its breaker lets through."""
        claim = _allowed(lane.claim, target.health, now)
        if claim is None:
            return []
        if claim is not Claim.PROBE:
            return [_Due(target, False, row) for row in rows]
        if not rows or not begin_probe(self._connection, lane.endpoint_id, now):
            return []
        return [_Due(target, True, rows[0])]

    def _lease(self, worker: WorkerId, due: Sequence[_Due], now: UnixMs) -> tuple[set[str], dict[str, bytes]]:
        """The deliveries that are ours now, and the bodies of their events.

        Another worker may have leased one since we looked: the lease's key lets only one of us have it.
        """
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


def _allowed(asked: Claim, health: Health, now: UnixMs) -> Claim | None:
    """What the breaker lets through, which may have opened since the lane last heard of it."""
    if asked is Claim.URGENT or not health.is_open:
        return Claim.DUE if asked is Claim.PROBE else asked
    return Claim.PROBE if health.probe_at is not None and health.probe_at <= now else None


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
