"""The health of an endpoint, and its circuit breaker: an endpoint that fails gets single probes and no bursts.

    closed ── OPEN_AFTER failures in a row, or a Retry-After ──► open ── a success ──► recovering ── RAMP_S ──► closed
                                                                 │  ▲
                                                                 └──┘ a probe failed: the next one comes later

While the breaker is open, one delivery at a time is sent as a probe, and the others wait without using up attempts. Only
manual attempts and last attempts before the end of the retry window pass an open breaker. After a recovery the backlog is
sent at a rising rate. This module has values and pure functions; the database keeps the values for all workers.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs

OPEN_AFTER: Final = 5
FIRST_PROBE_S: Final = 0.1
LONGEST_PROBE_S: Final = 300.0
LONGEST_HOLD_S: Final = 3_600.0
"""A `Retry-After` pauses all deliveries to the endpoint for at most so long; the delivery itself waits as long as asked."""
RAMP_FROM_PER_S: Final = 20.0
RAMP_DOUBLES_S: Final = 2.0
RAMP_S: Final = 30.0
WARN_AFTER_DAYS: Final = (1, 3)
DISABLE_AFTER_DAYS: Final = 5


class HealthState(StrEnum):
    """The health of an endpoint as the API shows it."""

    HEALTHY = "healthy"
    FAILING = "failing"
    OPEN = "open"
    RECOVERING = "recovering"


@dataclass(frozen=True, slots=True)
class Health:
    """The recent results of an endpoint.

    `failures`: in a row. `failing_since`: the first of them. `probes`: since the breaker opened. `probe_at`: when the next
    probe may start; set while the breaker is open. `warned_days`: the days of the last warning to the owner.
    """

    failures: int = 0
    failing_since: UnixMs | None = None
    probes: int = 0
    probe_at: UnixMs | None = None
    recovered_at: UnixMs | None = None
    warned_days: int = 0

    @property
    def is_open(self) -> bool:
        """Whether only probes may be sent."""
        return self.probe_at is not None

    def state(self, now: UnixMs) -> HealthState:
        """Return the state that the API shows."""
        if self.is_open:
            return HealthState.OPEN
        if self.failures:
            return HealthState.FAILING
        return HealthState.HEALTHY if self.allowed_per_s(now) is None else HealthState.RECOVERING

    def allowed_per_s(self, now: UnixMs) -> float | None:
        """Return how many deliveries may start each second while the endpoint recovers; None without such a limit."""
        if self.recovered_at is None:
            return None
        since_s = max(0.0, (now - self.recovered_at) / MS_PER_S)
        return None if since_s >= RAMP_S else float(RAMP_FROM_PER_S * 2 ** (since_s / RAMP_DOUBLES_S))


HEALTHY: Final = Health()


@dataclass(frozen=True, slots=True)
class HealthUpdate:
    """The health after new failures, and what follows for the owner.

    `warn_days`: send a warning after so many days of failures. `disable`: disable the endpoint.
    """

    health: Health
    warn_days: int | None = None
    disable: bool = False


def after_success(health: Health, now: UnixMs) -> Health:
    """Return the health after a success. If the breaker was open, the recovery begins now."""
    recovering = Health(recovered_at=now if health.is_open else health.recovered_at)
    return HEALTHY if recovering.allowed_per_s(now) is None else recovering


def after_failures(
    health: Health, now: UnixMs, *, count: int, probed: bool, hold_ms: int | None, longest_probe_s: float
) -> HealthUpdate:
    """Return the health after `count` more failures.

    `probed`: one of them was a probe. `hold_ms`: the pause that the endpoint asked for. `longest_probe_s`: the longest wait
    between two probes.
    """
    failing_since = now if health.failing_since is None else health.failing_since
    failed = replace(health, failures=health.failures + count, failing_since=failing_since)
    if hold_ms is not None or (not failed.is_open and failed.failures >= OPEN_AFTER) or (failed.is_open and probed):
        failed = _opened(failed, now, hold_ms, longest_probe_s)
    return _with_consequences(failed, now)


def _opened(health: Health, now: UnixMs, hold_ms: int | None, longest_probe_s: float) -> Health:
    probes = health.probes + 1
    wait_s = min(FIRST_PROBE_S * 2 ** min(probes - 1, 16), longest_probe_s, LONGEST_PROBE_S)
    wait_ms = max(round(wait_s * MS_PER_S), min(hold_ms or 0, round(LONGEST_HOLD_S * MS_PER_S)))
    return replace(health, probes=probes, probe_at=now + wait_ms, recovered_at=None)


def _with_consequences(health: Health, now: UnixMs) -> HealthUpdate:
    """Warn the owner after one and after three days of failures only; disable the endpoint after five."""
    days = (now - (health.failing_since or now)) // MS_PER_DAY
    if days >= DISABLE_AFTER_DAYS and health.failures >= OPEN_AFTER:
        return HealthUpdate(HEALTHY, disable=True)
    reached = max((each for each in WARN_AFTER_DAYS if each <= days), default=0)
    if reached > health.warned_days:
        return HealthUpdate(replace(health, warned_days=reached), warn_days=reached)
    return HealthUpdate(health)
