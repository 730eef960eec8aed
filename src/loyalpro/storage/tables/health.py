"""The endpoint_health table: the state of the breakers, which all workers share, and the notices that follow from it.

Satisfies `webhooks.ports.HealthStore`.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from loyalpro.delivery.breaker import HEALTHY, Health, after_failures, after_success
from loyalpro.delivery.settlement import Notice, Settlement
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.rows import RowMapper
from loyalpro.storage.sql import marks
from loyalpro.storage.tables.endpoints import EndpointTables
from loyalpro.storage.tables.notices import NoticeTables

HEALTH: Final = RowMapper(Health, "endpoint_health")
"""The columns of an endpoint's health. A healthy endpoint has no row."""
_PROBE_GUARD_MS = 35_000
"""No other probe starts for this long after one: longer than an attempt can take."""

# The row is created if there is none, because a row that does not exist cannot be locked.
_LOCK = f"""
INSERT INTO endpoint_health (endpoint_id, failures, probes, warned_days) VALUES (?, 0, 0, 0)
ON CONFLICT (endpoint_id) DO UPDATE SET endpoint_id = excluded.endpoint_id
RETURNING {HEALTH.columns()}
"""
_STORE = f"""
INSERT INTO endpoint_health (endpoint_id, {HEALTH.columns()}) VALUES ({marks(HEALTH.width + 1)})
ON CONFLICT (endpoint_id) DO UPDATE SET failures = excluded.failures, failing_since = excluded.failing_since,
    probes = excluded.probes, probe_at = excluded.probe_at, recovered_at = excluded.recovered_at,
    warned_days = excluded.warned_days
"""

_DISABLED = {
    "gone": "The endpoint answered 410 Gone, so it was disabled. Its deliveries wait until it is enabled again.",
    "failing": "All attempts failed for 5 days, so the endpoint was disabled. Its deliveries wait until it is enabled again.",
}


def joined_health(row: Row) -> Health:
    """Return the health from the columns of a LEFT JOIN, which are NULL when the endpoint has no row."""
    return HEALTHY if all(value is None for value in row) else HEALTH.record(row)


def begin_probe(connection: Connection, endpoint_id: str, now: UnixMs) -> bool:
    """Take the probe that is due, so that no other worker takes it; False when another worker has taken it."""
    return (
        connection.change(
            "UPDATE endpoint_health SET probe_at = ? WHERE endpoint_id = ? AND probe_at <= ?",
            (now + _PROBE_GUARD_MS, endpoint_id, now),
        )
        == 1
    )


class HealthTables:
    """The health of endpoints, inside one database transaction."""

    def __init__(self, connection: Connection, ids: IdFactory) -> None:
        self._connection = connection
        self._ids = ids
        self._endpoints = EndpointTables(connection)
        self._notices = NoticeTables(connection)

    def observe(
        self, settlements: Sequence[Settlement], now: UnixMs, *, longest_probe_s: float
    ) -> tuple[Mapping[str, Health], list[Notice]]:
        """Update the health of endpoints from settled attempts; return the health that was written, and the notices.

        Endpoints are handled in the order of their ids, as in claims: two workers must not wait for each other in a cycle.
        """
        health: dict[str, Health] = {}
        notices: list[Notice] = []
        for endpoint_id, mine in sorted(_by_endpoint(settlements).items()):
            if any(_may_change_health(each, now) for each in mine):
                health[endpoint_id], written = self._update(mine, now, longest_probe_s)
                notices += written
        return health, notices

    def forget(self, endpoint_id: str, now: UnixMs, *, recovering: bool) -> None:
        """Reset the health of an endpoint whose owner has changed its URL or enabled it.

        `recovering`: its backlog is sent at a rising rate.
        """
        self._lock(endpoint_id)
        self._store(endpoint_id, Health(recovered_at=now if recovering else None))

    def of(self, endpoint_ids: Sequence[str]) -> dict[str, Health]:
        """The health of each of these endpoints."""
        found = dict.fromkeys(endpoint_ids, HEALTHY)
        if endpoint_ids:
            rows = self._connection.execute(
                f"SELECT {HEALTH.columns()}, endpoint_id FROM endpoint_health"
                f" WHERE endpoint_id IN ({marks(len(endpoint_ids))})",
                endpoint_ids,
            )
            found.update({endpoint_id: health for health, (endpoint_id,) in map(HEALTH.split, rows)})
        return found

    def _update(self, mine: Sequence[Settlement], now: UnixMs, longest_probe_s: float) -> tuple[Health, list[Notice]]:
        """Update the health of one endpoint from its settlements.

        A success ends the series of failures, and failures beside it in the same batch begin a new one. Attempts that were
        sent to an earlier URL do not count.
        """
        endpoint_id = mine[0].claimed.target.endpoint_id
        health, url = self._lock(endpoint_id)
        mine = [each for each in mine if each.claimed.target.url == url]
        gone = [each for each in mine if each.gone]
        if gone:
            return HEALTHY, self._disable(gone[0], "gone", now)
        if any(each.succeeded for each in mine):
            health = after_success(health, now)
        failed = [each for each in mine if not each.succeeded]
        notices: list[Notice] = []
        if failed:
            update = after_failures(
                health,
                now,
                count=len(failed),
                probed=any(each.claimed.probe for each in failed),
                hold_ms=max((each.hold_ms for each in failed if each.hold_ms is not None), default=None),
                longest_probe_s=longest_probe_s,
            )
            health = update.health
            if update.disable:
                notices = self._disable(failed[0], "failing", now)
            elif update.warn_days is not None:
                notices = [self._notify(failed[0], "endpoint_failing", _warning(update.warn_days), now)]
        self._store(endpoint_id, health)
        return health, notices

    def _lock(self, endpoint_id: str) -> tuple[Health, str]:
        """Lock the health of the endpoint until the transaction ends; return it, and the URL of the endpoint.

        The URL is read after the lock is taken: a transaction that changes the URL takes the same lock.
        """
        [row], [(url,)] = self._connection.execute_all(
            [(_LOCK, (endpoint_id,)), ("SELECT url FROM endpoints WHERE id = ?", (endpoint_id,))]
        )
        return HEALTH.record(row), url

    def _store(self, endpoint_id: str, health: Health) -> None:
        if health == HEALTHY:
            self._connection.execute("DELETE FROM endpoint_health WHERE endpoint_id = ?", (endpoint_id,))
            return
        self._connection.execute(_STORE, (endpoint_id, *HEALTH.values(health)))

    def _disable(self, settlement: Settlement, reason: str, now: UnixMs) -> list[Notice]:
        """Disable the endpoint if it is still enabled; return the notice, unless another transaction has disabled it."""
        endpoint_id = settlement.claimed.target.endpoint_id
        changed = self._endpoints.disable(endpoint_id, reason, now)
        self._store(endpoint_id, HEALTHY)
        return [self._notify(settlement, "endpoint_disabled", _DISABLED[reason], now)] if changed else []

    def _notify(self, settlement: Settlement, kind: str, detail: str, now: UnixMs) -> Notice:
        target = settlement.claimed.target
        notice = Notice(target.account_id, target.endpoint_id, kind, detail)
        self._notices.insert(notice, now, self._ids)
        return notice


def _by_endpoint(settlements: Sequence[Settlement]) -> dict[str, list[Settlement]]:
    found: dict[str, list[Settlement]] = {}
    for each in settlements:
        if each.attempt is not None and not each.claimed.forged:
            found.setdefault(each.claimed.target.endpoint_id, []).append(each)
    return found


def _may_change_health(settlement: Settlement, now: UnixMs) -> bool:
    """Return whether the health of the endpoint may differ from what it was when the delivery was claimed."""
    health = settlement.claimed.target.health
    return not settlement.succeeded or after_success(health, now) != health


def _warning(days: int) -> str:
    period = "a day" if days == 1 else f"{days} days"
    return f"Every attempt has failed for {period}. After 5 days of failures only, the endpoint is disabled."
