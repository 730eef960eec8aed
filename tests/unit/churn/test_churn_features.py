"""The features of a customer, from its days with purchases."""

from datetime import date, timedelta
from itertools import pairwise
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.loyalty.churn.features import Features, History, features, program_gap_days

AS_OF = date(2026, 11, 28)

days_before = st.lists(st.integers(-30, 400), max_size=20)


def days(*ago: int) -> list[date]:
    return [AS_OF - timedelta(days=each) for each in ago]


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        ((272,), Features(0, 0, 272, None)),
        ((0,), Features(0, 0, 0, None)),
        ((100, 60), Features(1, 40, 100, None)),
        ((100, 60, 50), Features(2, 50, 100, 25)),
        ((100, 60, 50, 45), Features(3, 55, 100, 10)),
    ],
)
def test_features_are_counts_and_spans_of_days(ago: tuple[int, ...], expected: Features) -> None:
    assert features(days(*ago), AS_OF) == expected


def test_purchases_of_one_day_count_as_one() -> None:
    assert features(days(100, 60, 60, 60), AS_OF) == features(days(60, 100), AS_OF) == Features(1, 40, 100, None)


def test_a_later_day_does_not_count() -> None:
    assert features(days(100, 60, -1), AS_OF) == features(days(100, 60), AS_OF)
    assert features(days(-1), AS_OF) is None


def test_without_a_purchase_there_are_no_features() -> None:
    assert features([], AS_OF) is None


def test_silence_runs_from_the_last_purchase() -> None:
    found = features(days(100, 60), AS_OF)
    assert found is not None
    assert found.days_since_last_purchase == 60
    assert found.history == History(1, 40, 100)


@given(days_before)
def test_features_keep_their_order(ago: list[int]) -> None:
    known = sorted({each for each in ago if each >= 0}, reverse=True)
    found = features(days(*ago), AS_OF)
    assert (found is None) == (not known)
    if found is not None:
        assert 0 <= found.recency_days <= found.age_days == known[0]
        assert found.days_since_last_purchase == known[-1]
        gaps = [older - newer for older, newer in pairwise(known)]
        assert found.repeat_purchases == len(gaps)
        assert found.typical_gap_days == (median(gaps) if len(gaps) >= 2 else None)


def test_a_program_has_the_median_of_its_repeat_customers() -> None:
    often = Features(50, 50, 60, 1)
    assert program_gap_days([often, Features(1, 30, 60, None), Features(2, 60, 90, 20)]) == 20
    assert program_gap_days([Features(1, 30, 60, None)]) == 30


def test_a_program_without_a_repeat_customer_has_no_gap() -> None:
    assert program_gap_days([Features(0, 0, 60, None)]) is None
    assert program_gap_days([]) is None
