"""An endpoint's health, and the breaker that it drives: a failing endpoint is probed, not hammered.

    closed ── OPEN_AFTER failures in a row, or a Retry-After ──► open ── a success ──► recovering ── RAMP_S ──► closed
                                                                 │  ▲
                                                                 └──┘ a probe failed: the next one comes later

While it is open one delivery at a time is sent, the others wait without an attempt of theirs being spent; only what is
sent by hand, or would otherwise run out of its 72 hours, passes. After a recovery the backlog goes out at a rising rate.
Everything here is a value and a function of values; the store keeps the value, and the workers share it.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs

OPEN_AFTER: Final = 5
FIRST_PROBE_S: Final = 0.1
LONGEST_PROBE_S: Final = 300.0
LONGEST_HOLD_S: Final = 3_600.0
"""A `Retry-After` holds the whole lane for at most so long; the delivery that was told waits as long as it was told."""
RAMP_FROM_PER_S: Final = 20.0
RAMP_DOUBLES_S: Final = 2.0
RAMP_S: Final = 30.0
WARN_AFTER_DAYS: Final = (1, 3)
DISABLE_AFTER_DAYS: Final = 5


class HealthState(StrEnum):
    """What the owner of an endpoint sees of its health."""

    HEALTHY = "healthy"
    FAILING = "failing"
    OPEN = "open"
    RECOVERING = "recovering"


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of an endpoint's recent answers. `failures` are in a row; `probe_at` is set while the breaker is open."""

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
        """In one word."""
        if self.is_open:
            return HealthState.OPEN
        if self.failures:
            return HealthState.FAILING
        return HealthState.HEALTHY if self.allowed_per_s(now) is None else HealthState.RECOVERING

    def allowed_per_s(self, now: UnixMs) -> float | None:
        """How many deliveries a second the endpoint may get while it recovers; None: as many as it takes."""
        if self.recovered_at is None:
            return None
        since_s = max(0.0, (now - self.recovered_at) / MS_PER_S)
        return None if since_s >= RAMP_S else float(RAMP_FROM_PER_S * 2 ** (since_s / RAMP_DOUBLES_S))


HEALTHY: Final = Health()


@dataclass(frozen=True, slots=True)
class Verdict:
    """A health after what has just been seen, and what its owner has to be told: a number of days, or that it is disabled."""

    health: Health
    warn_days: int | None = None
    disable: bool = False


def after_success(health: Health, now: UnixMs) -> Health:
    """It answers. If it was held back before, what waits is let out at a rising rate, until it takes all there is."""
    recovering = Health(recovered_at=now if health.is_open else health.recovered_at)
    return HEALTHY if recovering.allowed_per_s(now) is None else recovering


def after_failures(
    health: Health, now: UnixMs, *, count: int, probed: bool, hold_ms: int | None, longest_probe_s: float
) -> Verdict:
    """It failed `count` more times. `hold_ms`: it asked to be left alone for so long."""
    failing_since = now if health.failing_since is None else health.failing_since
    failed = replace(health, failures=health.failures + count, failing_since=failing_since)
    if hold_ms is not None or (not failed.is_open and failed.failures >= OPEN_AFTER) or (failed.is_open and probed):
        failed = _opened(failed, now, hold_ms, longest_probe_s)
    return _told(failed, now)


def _opened(health: Health, now: UnixMs, hold_ms: int | None, longest_probe_s: float) -> Health:
    probes = health.probes + 1
    wait_s = min(FIRST_PROBE_S * 2 ** min(probes - 1, 16), longest_probe_s, LONGEST_PROBE_S)
    wait_ms = max(round(wait_s * MS_PER_S), min(hold_ms or 0, round(LONGEST_HOLD_S * MS_PER_S)))
    return replace(health, probes=probes, probe_at=now + wait_ms, recovered_at=None)


def _told(health: Health, now: UnixMs) -> Verdict:
    """Warnings after one and three days of nothing but failures; disabled after five."""
    days = (now - (health.failing_since or now)) // MS_PER_DAY
    if days >= DISABLE_AFTER_DAYS and health.failures >= OPEN_AFTER:
        return Verdict(HEALTHY, disable=True)
    reached = max((each for each in WARN_AFTER_DAYS if each <= days), default=0)
    if reached > health.warned_days:
        return Verdict(replace(health, warned_days=reached), warn_days=reached)
    return Verdict(health)
