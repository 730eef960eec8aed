"""Who may deliver what: workers, their leases, claims and settlements. Every write names the state and lease it leaves."""

import json
from collections.abc import Sequence

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.ports import Attempt, Claimed, LaneRequest, Settlement, Survey, Target, WorkerId
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.tables.endpoints import sealed_owner
from loyalpro.storage.vault import Vault

_INTERRUPTED = "The process that was sending this stopped before the outcome was written down."

_CLAIM = """
UPDATE deliveries SET lease = ?, attempts = attempts + 1, first_attempt_at = COALESCE(first_attempt_at, ?)
WHERE status = 'pending' AND lease IS NULL AND id IN (
    SELECT id FROM deliveries d
    WHERE endpoint_id = ? AND status = 'pending' AND lease IS NULL AND due_at <= ?
      AND (customer_id IS NULL OR NOT EXISTS (
        SELECT 1 FROM deliveries earlier
        WHERE earlier.endpoint_id = d.endpoint_id AND earlier.customer_id = d.customer_id
          AND earlier.sequence < d.sequence AND earlier.status = 'pending'))
    ORDER BY due_at, id LIMIT ?{lock})
RETURNING id, event_id, attempts, first_attempt_at, endpoint_id
"""

_SETTLE = """
UPDATE deliveries SET status = v.column2, due_at = v.column3, lease = NULL, finished_at = v.column4, outcome = v.column5
FROM (VALUES {rows}) AS v
WHERE deliveries.id = v.column1 AND deliveries.status = 'pending' AND deliveries.lease = ?
RETURNING deliveries.id
"""
_SETTLE_ROW = "(CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS TEXT))"

_INSERT_ATTEMPT = (
    "INSERT INTO attempts (delivery_id, number, started_at, outcome, detail, request_headers, response_status,"
    " response_headers, response_excerpt, response_truncated, remote_ip, dns_ms, connect_ms, tls_ms, first_byte_ms,"
    " total_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class LeaseTables:
    """What the engine reads and writes, inside one transaction."""

    def __init__(self, connection: Connection, vault: Vault) -> None:
        self._connection = connection
        self._vault = vault

    # -- workers -----------------------------------------------------------------------------------------------------

    def register(self, worker: WorkerId, *, host: str, pid: int, now: UnixMs, ttl_ms: int) -> None:
        """Make a worker known."""
        now = self._shared_now(now)
        self._connection.execute(
            "INSERT INTO workers (id, host, pid, started_at, expires_at) VALUES (?, ?, ?, ?, ?)",
            (worker, host, pid, now, now + ttl_ms),
        )

    def renew(self, worker: WorkerId, *, now: UnixMs, ttl_ms: int) -> bool:
        """Push the end of the worker's leases out; False when they have been taken from it."""
        expires_at = self._shared_now(now) + ttl_ms
        return self._connection.change("UPDATE workers SET expires_at = ? WHERE id = ?", (expires_at, worker)) == 1

    def release(self, worker: WorkerId, now: UnixMs) -> None:
        """Free what the worker holds and forget it."""
        self._free([worker], now)

    def rescue(self, now: UnixMs) -> frozenset[str]:
        """Free what workers hold that have been silent for too long; the endpoints it is for."""
        rows = self._connection.execute("SELECT id FROM workers WHERE expires_at < ?", (self._shared_now(now),))
        return self._free([id_ for (id_,) in rows], now)

    def rescue_all_but(self, worker: WorkerId, now: UnixMs) -> frozenset[str]:
        """The same for every other worker: only for a database that one process at a time can open."""
        rows = self._connection.execute("SELECT id FROM workers WHERE id <> ?", (worker,))
        return self._free([id_ for (id_,) in rows], now)

    def _free(self, workers: Sequence[WorkerId], now: UnixMs) -> frozenset[str]:
        """Deleting the worker's row comes first: of two rescuers only one gets it, and a late `renew` finds nothing."""
        endpoints: set[str] = set()
        for worker in workers:
            if self._connection.change("DELETE FROM workers WHERE id = ?", (worker,)) == 1:
                endpoints |= self._free_leases(worker, now)
        return frozenset(endpoints)

    def _free_leases(self, worker: WorkerId, now: UnixMs) -> set[str]:
        freed = self._connection.execute(
            "UPDATE deliveries SET lease = NULL, due_at = ?, outcome = ? WHERE status = 'pending' AND lease = ?"
            " RETURNING id, attempts, endpoint_id",
            (now, OutcomeCode.INTERRUPTED.value, worker),
        )
        lost = [
            (id_, Attempt(number, now, OutcomeCode.INTERRUPTED, _INTERRUPTED, (), None, None, None))
            for id_, number, _ in freed
        ]
        self._insert_attempts(lost)
        return {endpoint_id for _, _, endpoint_id in freed}

    def _shared_now(self, now: UnixMs) -> UnixMs:
        """Leases are judged by one clock: on PostgreSQL the database's, because hosts disagree about the time."""
        if self._connection.dialect == "sqlite":
            return now
        [(shared,)] = self._connection.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
        return int(shared)

    # -- deliveries --------------------------------------------------------------------------------------------------

    def survey(self, now: UnixMs) -> Survey:
        """One index probe for each enabled endpoint: when its next unleased delivery is due."""
        rows = self._connection.execute(
            "SELECT e.id, (SELECT MIN(d.due_at) FROM deliveries d WHERE d.endpoint_id = e.id AND d.status = 'pending'"
            " AND d.lease IS NULL) FROM endpoints e WHERE e.status = 'enabled' AND e.deleted_at IS NULL"
        )
        owing = [(id_, due_at) for id_, due_at in rows if due_at is not None]
        return Survey(
            due=tuple(id_ for id_, due_at in owing if due_at <= now),
            next_due_at=min((due_at for _, due_at in owing if due_at > now), default=None),
        )

    def claim(self, worker: WorkerId, lanes: Sequence[LaneRequest], now: UnixMs) -> list[Claimed]:
        """Lease due deliveries of enabled endpoints, oldest first within a lane."""
        targets = self._targets([lane.endpoint_id for lane in lanes], now)
        lock = " FOR UPDATE SKIP LOCKED" if self._connection.dialect == "postgres" else ""
        leased: list[Row] = []
        for lane in lanes:
            if lane.endpoint_id in targets:
                rows = self._connection.execute(
                    _CLAIM.format(lock=lock), (worker, now, lane.endpoint_id, now, lane.room)
                )
                leased.extend(sorted(rows, key=lambda row: str(row[0])))
        return self._with_bodies(leased, targets)

    def _with_bodies(self, leased: Sequence[Row], targets: dict[str, Target]) -> list[Claimed]:
        if not leased:
            return []
        event_ids = list({row[1] for row in leased})
        events = {
            id_: (type_, body)
            for id_, type_, body in self._connection.execute(
                f"SELECT id, type, body FROM events WHERE id IN ({_marks(event_ids)})", event_ids
            )
        }
        return [
            Claimed(id_, event_id, *events[event_id], attempts, first_attempt_at, targets[endpoint_id])
            for id_, event_id, attempts, first_attempt_at, endpoint_id in leased
        ]

    def _targets(self, endpoint_ids: Sequence[str], now: UnixMs) -> dict[str, Target]:
        """The enabled ones among these endpoints, with every secret that is valid now, newest first."""
        rows = self._connection.execute(
            "SELECT e.id, e.account_id, e.url, e.headers, e.rate_limit, e.ordering, s.sealed FROM endpoints e"
            " JOIN endpoint_secrets s ON s.endpoint_id = e.id AND (s.expires_at IS NULL OR s.expires_at > ?)"
            f" WHERE e.id IN ({_marks(endpoint_ids)}) AND e.status = 'enabled' AND e.deleted_at IS NULL"
            " ORDER BY e.id, s.version DESC",
            (now, *endpoint_ids),
        )
        targets: dict[str, Target] = {}
        for id_, account_id, url, headers, rate_limit, ordering, sealed in rows:
            secret = self._vault.open(sealed, owner=sealed_owner(account_id, id_))
            known = targets[id_].secrets if id_ in targets else ()
            extra = tuple(json.loads(headers).items())
            targets[id_] = Target(id_, url, extra, (*known, secret), rate_limit, ordering == "customer")
        return targets

    def settle(self, worker: WorkerId, settlements: Sequence[Settlement], now: UnixMs) -> frozenset[str]:
        """Write what became of deliveries that the worker still holds; the ids of those."""
        params: list[object] = []
        for each in settlements:
            finished_at = None if each.status is DeliveryStatus.PENDING else now
            outcome = each.attempt.outcome.value if each.attempt else None
            params += (each.delivery_id, each.status.value, each.due_at, finished_at, outcome)
        rows = ", ".join([_SETTLE_ROW] * len(settlements))
        held = {id_ for (id_,) in self._connection.execute(_SETTLE.format(rows=rows), (*params, worker))}
        kept = [each for each in settlements if each.delivery_id in held]
        self._insert_attempts([(each.delivery_id, each.attempt) for each in kept if each.attempt])
        for endpoint_id in {each.endpoint_id for each in kept if each.disable_endpoint}:
            self._disable(endpoint_id, now)
        return frozenset(held)

    def _disable(self, endpoint_id: str, now: UnixMs) -> None:
        self._connection.execute(
            "UPDATE endpoints SET status = 'disabled', status_reason = 'gone', updated_at = ?"
            " WHERE id = ? AND status = 'enabled' AND deleted_at IS NULL",
            (now, endpoint_id),
        )

    def _insert_attempts(self, attempts: Sequence[tuple[str, Attempt]]) -> None:
        if attempts:
            self._connection.execute_many(_INSERT_ATTEMPT, [_attempt_values(id_, each) for id_, each in attempts])


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _attempt_values(delivery_id: str, attempt: Attempt) -> tuple[object, ...]:
    response, timings = attempt.response, attempt.timings
    return (
        delivery_id,
        attempt.number,
        attempt.started_at,
        attempt.outcome.value,
        attempt.detail,
        json.dumps(attempt.request_headers),
        response.status if response else None,
        json.dumps(response.headers) if response else None,
        response.body_excerpt if response else None,
        int(response.truncated) if response else None,
        attempt.remote_ip,
        timings.dns_ms if timings else None,
        timings.connect_ms if timings else None,
        timings.tls_ms if timings else None,
        timings.first_byte_ms if timings else None,
        timings.total_ms if timings else None,
    )
