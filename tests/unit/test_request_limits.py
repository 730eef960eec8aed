"""The request limit of a key, on a virtual clock."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.accounts import request_limits
from loyalpro.accounts.entities import ApiKey
from loyalpro.accounts.request_limits import RequestLimits
from loyalpro.kernel.clock import VirtualClock
from loyalpro.kernel.errors import RateLimited

KEY = ApiKey("key_1", "acct_1", "till", "abcd", ("read",), 4, 1, "cli", None, None, None)


def is_taken(limits: RequestLimits, key: ApiKey) -> bool:
    try:
        limits.take(key)
    except RateLimited:
        return False
    return True


def test_a_key_without_a_limit_is_never_refused() -> None:
    limits = RequestLimits(VirtualClock())
    assert all(is_taken(limits, replace(KEY, requests_per_minute=None)) for _ in range(10_000))


@given(limit=st.integers(1, 1_000), waits_ms=st.lists(st.integers(0, 200_000), max_size=30))
def test_in_any_time_a_key_makes_at_most_its_limit_and_what_has_come_back(limit: int, waits_ms: list[int]) -> None:
    clock, key = VirtualClock(), replace(KEY, requests_per_minute=limit)
    limits, taken = RequestLimits(clock), 0
    for wait_ms in [0, *waits_ms]:
        clock.advance(wait_ms / 1_000)
        burst = 0
        while is_taken(limits, key):
            burst += 1
        taken += burst
        assert burst <= limit
    elapsed_s = sum(waits_ms) / 1_000
    assert taken <= limit + math.floor(elapsed_s * limit / 60 + 1e-3)


@given(limit=st.integers(1, 100_000), used=st.integers(0, 100), idle_ms=st.integers(0, 100_000))
def test_a_request_after_the_time_that_was_told_is_accepted(limit: int, used: int, idle_ms: int) -> None:
    clock, key = VirtualClock(), replace(KEY, requests_per_minute=limit)
    limits = RequestLimits(clock)
    for _ in range(used):
        is_taken(limits, key)
    clock.advance(idle_ms / 1_000)
    while is_taken(limits, key):
        pass
    with pytest.raises(RateLimited) as refusal:
        limits.take(key)
    assert 1 <= refusal.value.retry_after_s <= math.ceil(60 / limit)
    clock.advance(refusal.value.retry_after_s)
    assert is_taken(limits, key)


def test_keys_do_not_share_their_limit() -> None:
    limits = RequestLimits(VirtualClock())
    for name in ("a", "b"):
        assert [is_taken(limits, replace(KEY, id=name)) for _ in range(5)] == [True] * 4 + [False]


def test_idle_keys_are_forgotten() -> None:
    clock = VirtualClock()
    limits = RequestLimits(clock)
    for n in range(5 * request_limits.MANY):
        limits.take(replace(KEY, id=str(n)))
        clock.advance(0.1)
    assert len(limits) <= 2 * request_limits.MANY
