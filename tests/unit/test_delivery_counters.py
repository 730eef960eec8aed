"""What attempts are counted as, and percentiles from counted durations."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.delivery.attempt import OutcomeCode, Response, Timings
from loyalpro.delivery.counters import NO_BUCKET, CountedAs, bucket_of, counted_as, percentile_ms
from loyalpro.delivery.settlement import Attempt

_DURATIONS = st.lists(st.floats(0.1, 120_000), min_size=1, max_size=200)


@given(_DURATIONS, st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_a_percentile_from_buckets_is_within_10_percent_of_the_exact_one(durations: list[float], share: float) -> None:
    exact = sorted(durations)[math.ceil(share * len(durations)) - 1]
    found = percentile_ms(Counter(map(bucket_of, durations)), share)
    assert found == pytest.approx(exact, rel=0.1)


@given(st.floats(0, 10**12), st.floats(0, 10**12))
def test_a_longer_duration_is_in_no_earlier_bucket(one: float, other: float) -> None:
    assert NO_BUCKET < bucket_of(min(one, other)) <= bucket_of(max(one, other))


def test_nothing_has_no_percentile() -> None:
    assert percentile_ms({}, 0.5) is None
    assert percentile_ms({NO_BUCKET: 7}, 0.5) is None


def test_only_what_was_delivered_counts_its_duration_and_only_other_answers_their_status() -> None:
    def attempt(outcome: OutcomeCode, status: int | None) -> Attempt:
        response = None if status is None else Response(status, (), b"", truncated=False)
        return Attempt(1, 0, outcome, "", (), response, None, Timings(None, None, None, None, 84.0))

    assert counted_as("we_1", attempt(OutcomeCode.SUCCEEDED, 204)) == CountedAs("we_1", "succeeded", 0, bucket_of(84))
    assert counted_as("we_1", attempt(OutcomeCode.HTTP_5XX, 503)) == CountedAs("we_1", "http_5xx", 503, NO_BUCKET)
    assert counted_as("we_1", attempt(OutcomeCode.TIMEOUT, None)) == CountedAs("we_1", "timeout", 0, NO_BUCKET)
