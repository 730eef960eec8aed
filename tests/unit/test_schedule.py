import random

from hypothesis import given
from hypothesis import strategies as st

from loyalpro.delivery.schedule import FIRST_DELAY_S, JITTER, LAST_MARGIN_S, WINDOW_S, RetrySchedule

FIRST = 1_763_980_200_000
DEADLINE = FIRST + WINDOW_S * 1_000


def attempts_of(seed: int, lateness_ms: list[int]) -> list[int]:
    """Return the start of each attempt of a delivery that always fails; each attempt ends late by the next of `lateness_ms`."""
    rng, schedule, started = random.Random(seed), RetrySchedule(), [FIRST]
    while True:
        now = started[-1] + lateness_ms[len(started) % len(lateness_ms)]
        due = schedule.next_attempt_at(
            attempts=len(started),
            first_attempt_at=FIRST,
            started_at=started[-1],
            now=now,
            retry_after_ms=None,
            rng=rng,
        )
        if due is None:
            return started
        started.append(due)


@given(st.integers())
def test_the_attempts_of_a_delivery_span_72_hours_and_never_more(seed: int) -> None:
    started = attempts_of(seed, [0])
    assert 15 <= len(started) <= 40
    assert abs(started[1] - FIRST - FIRST_DELAY_S * 1_000) <= FIRST_DELAY_S * 1_000 * JITTER
    assert DEADLINE - LAST_MARGIN_S * 1_000 <= started[-1] <= DEADLINE


@given(st.integers(), st.lists(st.integers(0, 30_000), min_size=1, max_size=8))
def test_slow_attempts_do_not_start_after_the_window(seed: int, lateness_ms: list[int]) -> None:
    started = attempts_of(seed, lateness_ms)
    assert started == sorted(started)
    assert started[-1] <= DEADLINE


@given(st.integers(0, 30_000), st.integers(0, 10**12), st.integers(0, WINDOW_S * 1_000))
def test_retry_after_lengthens_the_wait_up_to_the_end_of_the_window(
    took_ms: int, retry_after_ms: int, elapsed_ms: int
) -> None:
    now = FIRST + elapsed_ms
    plain, asked = (
        RetrySchedule().next_attempt_at(
            attempts=1,
            first_attempt_at=FIRST,
            started_at=max(FIRST, now - took_ms),
            now=now,
            retry_after_ms=wait,
            rng=random.Random(7),
        )
        for wait in (None, retry_after_ms)
    )
    if plain is None:
        assert asked is None
        return
    assert asked is not None
    assert plain <= asked <= DEADLINE
    assert asked >= min(now + retry_after_ms, DEADLINE - LAST_MARGIN_S * 1_000)


def test_a_fixed_schedule_has_exactly_its_waits() -> None:
    schedule = RetrySchedule(fixed_s=(1.0, 2.5))
    due = [
        schedule.next_attempt_at(
            attempts=n,
            first_attempt_at=FIRST,
            started_at=FIRST,
            now=FIRST,
            retry_after_ms=None,
            rng=random.Random(0),
        )
        for n in (1, 2, 3)
    ]
    assert due == [FIRST + 1_000, FIRST + 2_500, None]


def test_the_window_is_open_up_to_its_end() -> None:
    assert not RetrySchedule().is_over(FIRST, DEADLINE)
    assert RetrySchedule().is_over(FIRST, DEADLINE + 1)


def test_what_is_to_come_is_what_would_be_made_without_jitter() -> None:
    schedule = RetrySchedule()
    found = schedule.coming(attempts=1, first_attempt_at=0, due_at=0, most=100)
    assert found[:4] == [5_000, 20_000, 65_000, 200_000]
    assert found == sorted(found)
    assert found[-1] == (WINDOW_S - 15) * 1_000
    assert schedule.coming(attempts=1, first_attempt_at=0, due_at=0, most=3) == found[:3]
    assert RetrySchedule((1, 2)).coming(attempts=1, first_attempt_at=0, due_at=0, most=9) == [1_000, 3_000]
    assert schedule.coming(attempts=9, first_attempt_at=0, due_at=found[-1], most=9) == []
