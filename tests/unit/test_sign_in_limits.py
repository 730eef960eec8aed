"""How many tries there are in a minute, and how long the waits are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.accounts.entities import Tries
from loyalpro.accounts.sign_in_limits import LONGEST_WAIT_MS, QUIET_MS, WINDOW_MS, after_one_more, forget_at, key_of
from loyalpro.kernel.errors import RateLimited

START = 1_763_980_200_000


def used_up(tries: Tries, most: int, now: int) -> Tries:
    for _ in range(most):
        tries = after_one_more(tries, most, now)
    return tries


def wait_s(tries: Tries, now: int) -> int:
    with pytest.raises(RateLimited) as refused:
        after_one_more(tries, 5, now)
    assert refused.value.code == "too_many_tries"
    assert f"in {refused.value.retry_after_s} seconds" in refused.value.detail
    return refused.value.retry_after_s


@given(most=st.integers(1, 20), gaps_ms=st.lists(st.integers(0, 90_000), max_size=80))
def test_in_no_minute_are_there_more_tries_than_allowed_and_no_wait_is_longer_than_5_minutes(
    most: int, gaps_ms: list[int]
) -> None:
    now, tries, accepted = START, Tries(), list[int]()
    for gap_ms in gaps_ms:
        now += gap_ms
        try:
            tries = after_one_more(tries, most, now)
        except RateLimited as refused:
            assert now < tries.blocked_until <= now + LONGEST_WAIT_MS
            assert refused.retry_after_s * 1_000 >= tries.blocked_until - now
        else:
            accepted.append(now)
        assert sum(now - each < WINDOW_MS for each in accepted) <= most


def test_waits_double_up_to_5_minutes() -> None:
    now, tries, waits = START, Tries(), []
    for _ in range(5):
        tries = used_up(tries, 5, now)
        waits.append(wait_s(tries, now))
        now = tries.blocked_until
    assert waits == [60, 120, 240, 300, 300]


def test_a_try_during_a_wait_does_not_make_it_longer() -> None:
    tries = used_up(Tries(), 5, START)
    assert [wait_s(tries, START + at) for at in (0, 20_000, 59_999)] == [60, 40, 1]
    assert after_one_more(tries, 5, START + 60_000).recent == (START + 60_000,)


def test_after_10_quiet_minutes_the_next_wait_is_a_minute_again() -> None:
    tries = used_up(Tries(), 5, START)
    just_before, after = tries.blocked_until + QUIET_MS - 1, tries.blocked_until + QUIET_MS
    assert wait_s(used_up(tries, 5, just_before), just_before) == 120
    assert wait_s(used_up(tries, 5, after), after) == 60


def test_tries_that_are_forgotten_in_time_make_no_difference() -> None:
    for tries in (after_one_more(Tries(), 5, START), used_up(Tries(), 5, START)):
        at = forget_at(tries)
        later = used_up(tries, 5, at)
        assert wait_s(later, at) == wait_s(used_up(Tries(), 5, at), at) == 60


def test_a_key_does_not_show_what_it_stands_for_and_differs_by_kind() -> None:
    assert key_of("email", "a") != key_of("address", "a")
    assert len(key_of("email", "ada@example.com")) == 32
