"""The endpoint_health table: the breakers' state, shared by all workers, and what owners are told about it."""

from collections.abc import Mapping, Sequence
from typing import Any

from loyalpro.delivery.breaker import HEALTHY, Health, after_failures, after_success
from loyalpro.delivery.settlement import Notice, Settlement
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.connection import Connection

_COLUMNS = ("failures", "failing_since", "probes", "probe_at", "recovered_at", "warned_days")
HEALTH_COLUMNS = ", ".join(f"h.{column}" for column in _COLUMNS)
_PROBE_GUARD_MS = 35_000
"""A probe has this long to end before another one may start: longer than an attempt can take."""

_HOLD = f"""
INSERT INTO endpoint_health (endpoint_id, failures, probes, warned_days) VALUES (?, 0, 0, 0)
ON CONFLICT (endpoint_id) DO UPDATE SET endpoint_id = excluded.endpoint_id
RETURNING {", ".join(_COLUMNS)}
"""

_DISABLED = {
    "gone": "The endpoint answered 410 Gone, so it was disabled. What it is owed waits until it is enabled again.",
    "failing": "Nothing but failures for 5 days, so the endpoint was disabled. What it is owed waits until it is enabled.",
}


def health_from(row: Sequence[Any]) -> Health | None:
    """The value of `HEALTH_COLUMNS`; None where there is no row."""
    if row[0] is None:
        return None
    return Health(*row)


def begin_probe(connection: Connection, endpoint_id: str, now: UnixMs) -> bool:
    """Take the probe that is due, so that no other worker does; False when somebody has."""
    return (
        connection.change(
            "UPDATE endpoint_health SET probe_at = ? WHERE endpoint_id = ? AND probe_at <= ?",
            (now + _PROBE_GUARD_MS, endpoint_id, now),
        )
        == 1
    )


class HealthTables:
    """Health and notices, inside one transaction."""

    def __init__(self, connection: Connection, ids: IdFactory) -> None:
        self._connection = connection
        self._ids = ids

    def observe(
        self, settlements: Sequence[Settlement], now: UnixMs, *, longest_probe_s: float
    ) -> tuple[Mapping[str, Health], list[Notice]]:
        """Draw the conclusions from settled attempts; the endpoints whose health is new, and what their owners are told.

        In the order of their ids, as claims do: workers that see the same endpoints must not wait for each other in a ring.
        """
        health: dict[str, Health] = {}
        notices: list[Notice] = []
        for endpoint_id, mine in sorted(_by_endpoint(settlements).items()):
            if any(_says_something(each, now) for each in mine):
                verdict, told = self._judge(mine, now, longest_probe_s)
                health[endpoint_id] = verdict
                notices += told
        return health, notices

    def forget(self, endpoint_id: str, now: UnixMs, *, recovering: bool) -> None:
        """Start afresh: a new address, or an endpoint that its owner has enabled, whose backlog then goes out in time."""
        self._held(endpoint_id)
        self._store(endpoint_id, Health(recovered_at=now if recovering else None))

    def of(self, endpoint_ids: Sequence[str]) -> dict[str, Health]:
        """How each of these endpoints is doing."""
        found = dict.fromkeys(endpoint_ids, HEALTHY)
        if endpoint_ids:
            marks = ", ".join("?" * len(endpoint_ids))
            rows = self._connection.execute(
                f"SELECT h.endpoint_id, {HEALTH_COLUMNS} FROM endpoint_health h WHERE h.endpoint_id IN ({marks})",
                endpoint_ids,
            )
            found.update({row[0]: Health(*row[1:]) for row in rows})
        return found

    def _judge(self, mine: Sequence[Settlement], now: UnixMs, longest_probe_s: float) -> tuple[Health, list[Notice]]:
        """Successes end a row of failures; what failed beside one begins a new row. An old address counts for nothing."""
        endpoint_id = mine[0].claimed.target.endpoint_id
        health, url = self._held(endpoint_id)
        mine = [each for each in mine if each.claimed.target.url == url]
        gone = [each for each in mine if each.gone]
        if gone:
            return HEALTHY, self._disable(gone[0], "gone", now)
        if any(each.succeeded for each in mine):
            health = after_success(health, now)
        failed = [each for each in mine if not each.succeeded]
        told: list[Notice] = []
        if failed:
            verdict = after_failures(
                health,
                now,
                count=len(failed),
                probed=any(each.claimed.probe for each in failed),
                hold_ms=max((each.hold_ms for each in failed if each.hold_ms is not None), default=None),
                longest_probe_s=longest_probe_s,
            )
            health = verdict.health
            if verdict.disable:
                told = self._disable(failed[0], "failing", now)
            elif verdict.warn_days is not None:
                told = [self._notify(failed[0], "endpoint_failing", _warning(verdict.warn_days), now)]
        self._store(endpoint_id, health)
        return health, told

    def _held(self, endpoint_id: str) -> tuple[Health, str]:
        """How the endpoint is doing, and where it is now; nobody else judges it or gives it another address meanwhile.

        Where there is no row yet one is made: what is not there cannot be held. The address is read when it is ours.
        """
        [row], [(url,)] = self._connection.execute_all(
            [(_HOLD, (endpoint_id,)), ("SELECT url FROM endpoints WHERE id = ?", (endpoint_id,))]
        )
        return Health(*row), url

    def _store(self, endpoint_id: str, health: Health) -> None:
        if health == HEALTHY:
            self._connection.execute("DELETE FROM endpoint_health WHERE endpoint_id = ?", (endpoint_id,))
            return
        self._connection.execute(
            "INSERT INTO endpoint_health (endpoint_id, failures, failing_since, probes, probe_at, recovered_at, warned_days)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (endpoint_id) DO UPDATE SET failures = excluded.failures,"
            " failing_since = excluded.failing_since, probes = excluded.probes, probe_at = excluded.probe_at,"
            " recovered_at = excluded.recovered_at, warned_days = excluded.warned_days",
            (
                endpoint_id,
                health.failures,
                health.failing_since,
                health.probes,
                health.probe_at,
                health.recovered_at,
                health.warned_days,
            ),
        )

    def _disable(self, settlement: Settlement, reason: str, now: UnixMs) -> list[Notice]:
        """Disable the endpoint if it is still enabled; its owner is told once."""
        endpoint_id = settlement.claimed.target.endpoint_id
        changed = self._connection.change(
            "UPDATE endpoints SET status = 'disabled', status_reason = ?, updated_at = ?"
            " WHERE id = ? AND status = 'enabled' AND deleted_at IS NULL",
            (reason, now, endpoint_id),
        )
        self._store(endpoint_id, HEALTHY)
        return [self._notify(settlement, "endpoint_disabled", _DISABLED[reason], now)] if changed else []

    def _notify(self, settlement: Settlement, kind: str, detail: str, now: UnixMs) -> Notice:
        target = settlement.claimed.target
        self._connection.execute(
            "INSERT INTO notices (id, account_id, endpoint_id, kind, detail, created_at) VALUES (?, ?, ?, ?, ?, ?)",
            (self._ids.new("ntc"), target.account_id, target.endpoint_id, kind, detail, now),
        )
        return Notice(target.account_id, target.endpoint_id, kind, detail)


def _by_endpoint(settlements: Sequence[Settlement]) -> dict[str, list[Settlement]]:
    found: dict[str, list[Settlement]] = {}
    for each in settlements:
        if each.attempt is not None:
            found.setdefault(each.claimed.target.endpoint_id, []).append(each)
    return found


def _says_something(settlement: Settlement, now: UnixMs) -> bool:
    """Whether the endpoint may be doing otherwise than when this was claimed."""
    health = settlement.claimed.target.health
    return not settlement.succeeded or after_success(health, now) != health


def _warning(days: int) -> str:
    ago = "a day" if days == 1 else f"{days} days"
    return f"Every attempt has failed for {ago}. After 5 days of nothing but failures the endpoint is disabled."
