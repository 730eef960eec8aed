from hypothesis import given
from hypothesis import strategies as st

from loyalpro.delivery.lane import Lane
from loyalpro.delivery.ports import Target


def target(rate_limit: int | None) -> Target:
    return Target("we_1", "https://example.com/hook", (), ("whsec_x",), rate_limit, ordered=False)


def test_a_lane_is_as_wide_as_it_is_told() -> None:
    lane = Lane("we_1", width=3)
    lane.started(2, target(None), now=0)
    assert lane.room(0) == 1
    lane.finished()
    assert lane.room(0) == 2


@given(st.integers(1, 50), st.lists(st.integers(0, 400), min_size=1, max_size=60))
def test_no_second_sees_more_than_the_rate_limit_and_what_was_saved(rate_limit: int, waits_ms: list[int]) -> None:
    lane = Lane("we_1", width=10_000)
    lane.started(0, target(rate_limit), now=0)
    now, starts = 0, list[int]()
    for wait_ms in waits_ms:
        now += wait_ms
        count = lane.room(now)
        lane.started(count, target(rate_limit), now)
        starts += [now] * count
    for begin in starts:
        assert sum(begin <= at < begin + 1_000 for at in starts) <= 2 * rate_limit
    assert len(starts) <= rate_limit + rate_limit * now / 1_000 + 1


def test_an_empty_bucket_says_when_it_has_a_token_again() -> None:
    lane = Lane("we_1", width=100)
    lane.started(0, target(4), now=0)
    lane.started(lane.room(0), target(4), now=0)
    assert lane.room(0) == 0
    assert lane.bucket is not None
    again = lane.bucket.refilled_at(0)
    assert lane.room(again - 1) == 0
    assert lane.room(again) == 1
