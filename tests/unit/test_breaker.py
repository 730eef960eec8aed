"""The circuit breaker over simulated days, with every mixture and pace of results."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from loyalpro.delivery.breaker import (
    DISABLE_AFTER_DAYS,
    FIRST_PROBE_S,
    HEALTHY,
    LONGEST_HOLD_S,
    LONGEST_PROBE_S,
    OPEN_AFTER,
    RAMP_S,
    WARN_AFTER_DAYS,
    Health,
    HealthState,
    HealthUpdate,
    after_failures,
    after_success,
)
from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S

NOW = 1_763_980_200_000
HOUR_MS = 3_600_000


def fail(
    health: Health,
    now: int = NOW,
    *,
    count: int = 1,
    probed: bool = False,
    hold_ms: int | None = None,
    longest_probe_s: float = LONGEST_PROBE_S,
) -> HealthUpdate:
    return after_failures(health, now, count=count, probed=probed, hold_ms=hold_ms, longest_probe_s=longest_probe_s)


def opened(now: int = NOW) -> Health:
    health = fail(HEALTHY, now, count=OPEN_AFTER).health
    assert health.is_open
    return health


def probes_until(end: int, longest_probe_s: float) -> list[int]:
    """Return the times at which an endpoint that never answers is probed, each probe as early as allowed."""
    health, times = opened(), list[int]()
    while health.probe_at is not None and health.probe_at <= end:
        times.append(health.probe_at)
        health = fail(health, health.probe_at, probed=True, longest_probe_s=longest_probe_s).health
    return times


def test_the_breaker_opens_at_the_fifth_failure_in_a_row() -> None:
    health = HEALTHY
    for number in range(1, OPEN_AFTER + 1):
        health = fail(health, NOW + number).health
        assert health.is_open == (number == OPEN_AFTER)
        assert health.failing_since == NOW + 1
    assert health.probe_at == NOW + OPEN_AFTER + round(FIRST_PROBE_S * MS_PER_S)


@given(st.integers(0, 6 * MS_PER_DAY // MS_PER_S), st.floats(0, 20_000))
def test_an_endpoint_that_only_fails_gets_few_attempts(for_s: int, longest_s: float) -> None:
    times = probes_until(NOW + min(for_s, 4 * 24 * 3600) * MS_PER_S, max(longest_s, 1.0))
    longest_ms = min(max(longest_s, 1.0), LONGEST_PROBE_S) * MS_PER_S
    doublings = 13
    assert len(times) <= doublings + for_s * MS_PER_S / longest_ms


@given(st.floats(0.05, 20_000))
def test_the_gaps_between_probes_grow_up_to_the_longest_wait(longest_s: float) -> None:
    times = probes_until(NOW + HOUR_MS, longest_s)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(gap <= min(longest_s, LONGEST_PROBE_S) * MS_PER_S + 1 for gap in gaps)
    assert gaps == sorted(gaps)
    assert times


def test_a_failure_of_another_attempt_does_not_delay_the_next_probe() -> None:
    health = opened()
    failed = fail(health, NOW + 50, count=3).health
    assert (failed.probe_at, failed.probes) == (health.probe_at, health.probes)
    assert failed.failures == OPEN_AFTER + 3


@given(hold_ms=st.integers(0, 10**10), probed=st.booleans(), count=st.integers(1, 50))
def test_a_retry_after_pauses_an_endpoint_for_an_hour_at_most(*, hold_ms: int, probed: bool, count: int) -> None:
    for before in (HEALTHY, opened()):
        health = fail(before, count=count, probed=probed, hold_ms=hold_ms).health
        assert health.probe_at is not None
        assert health.probe_at >= NOW + min(hold_ms, LONGEST_HOLD_S * MS_PER_S)
        assert health.probe_at <= NOW + max(LONGEST_HOLD_S, LONGEST_PROBE_S) * MS_PER_S


@given(st.lists(st.integers(1, 12 * HOUR_MS), min_size=60, max_size=200))
def test_the_owner_is_warned_once_after_one_and_three_days_and_the_endpoint_is_disabled_after_five(
    gaps: list[int],
) -> None:
    health, now, warned = HEALTHY, NOW, list[int]()
    for gap in gaps:
        update = fail(health, now, probed=health.is_open)
        days = (now - NOW) / MS_PER_DAY
        if update.warn_days is not None:
            warned.append(update.warn_days)
            assert days >= update.warn_days
        assert warned == [each for each in WARN_AFTER_DAYS if each <= days]
        assert update.disable == (days >= DISABLE_AFTER_DAYS)
        if update.disable:
            assert update.health == HEALTHY
            return
        health, now = update.health, now + gap


def test_two_failures_five_days_apart_disable_nothing() -> None:
    first = fail(HEALTHY).health
    update = fail(first, NOW + 6 * MS_PER_DAY)
    assert not update.disable


@given(failures=st.integers(0, 100), later=st.integers(0, 5 * MS_PER_DAY), held=st.booleans())
def test_a_success_resets_all_failures(*, failures: int, later: int, held: bool) -> None:
    health = HEALTHY
    for number in range(failures):
        health = fail(health, NOW + number, hold_ms=5 if held else None).health
    recovered = after_success(health, NOW + later)
    assert recovered == Health(recovered_at=NOW + later if health.is_open else None)
    again = fail(recovered, NOW + later + 1).health
    assert (again.failures, again.failing_since, again.warned_days) == (1, NOW + later + 1, 0)


def test_a_recovery_ends_after_its_ramp_and_a_success_does_not_restart_it() -> None:
    back = after_success(opened(), NOW)
    assert after_success(back, NOW + 5_000) == back
    rates = [back.allowed_per_s(NOW + second * MS_PER_S) for second in range(round(RAMP_S))]
    known = [each for each in rates if each is not None]
    assert known == rates == sorted(known)
    assert back.allowed_per_s(NOW + round(RAMP_S * MS_PER_S)) is None
    assert after_success(back, NOW + round(RAMP_S * MS_PER_S)) == HEALTHY
    assert back.allowed_per_s(NOW - HOUR_MS) == rates[0], "a clock that is set back does not stop the recovery"


def test_the_state_follows_from_the_health() -> None:
    back = after_success(opened(), NOW)
    assert HEALTHY.state(NOW) is HealthState.HEALTHY
    assert fail(HEALTHY).health.state(NOW) is HealthState.FAILING
    assert opened().state(NOW) is HealthState.OPEN
    assert back.state(NOW) is HealthState.RECOVERING
    assert fail(back).health.state(NOW) is HealthState.FAILING
    assert back.state(NOW + round(RAMP_S * MS_PER_S)) is HealthState.HEALTHY
