"""The churn score: by the model, and by the typical gap where there is no model."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.loyalty.churn.features import Features, features
from loyalpro.loyalty.churn.levels import LevelRules, next_standing
from loyalpro.loyalty.churn.mbg_nbd import Parameters
from loyalpro.loyalty.churn.score import Score, gap_score, model_score

CDNOW = Parameters(0.52484, 6.18299 * 7, 0.89136, 1.61400)
"""The published fit, with alpha in days."""
START = date(2026, 1, 1)


@st.composite
def customers(draw: st.DrawFn) -> Features:
    gaps = draw(st.lists(st.integers(1, 200), max_size=30))
    days = [START + timedelta(days=sum(gaps[:count])) for count in range(len(gaps) + 1)]
    found = features(days, days[-1] + timedelta(days=draw(st.integers(0, 1_000))))
    assert found is not None
    return found


def silent_for(customer: Features, days: int) -> Features:
    """The customer that many days later, without another purchase."""
    return Features(
        customer.repeat_purchases, customer.recency_days, customer.age_days + days, customer.typical_gap_days
    )


@pytest.mark.parametrize(
    ("silent", "score", "level"),
    [
        pytest.param(102, 0.6, "medium", id="33-102"),
        pytest.param(272, 0.8, "high", id="33-272"),
        pytest.param(45, 0.398, "low", id="33-45"),
    ],
)
def test_example_33(silent: int, score: float, level: str) -> None:
    customer = Features(4, 136, 136 + silent, 34)
    found = gap_score(customer, program_gap_days=None)
    assert found is not None
    assert round(found.value, 3) == score
    standing, _ = next_standing(None, customer, found.value, START, LevelRules(), emit=True)
    assert standing.level == level


def test_the_fallback_is_exact_at_the_thresholds() -> None:
    for gap in range(1, 200):
        medium, high = (
            gap_score(Features(2, gap * 2, gap * 5, gap), None),
            gap_score(Features(2, 0, gap * 8, gap), None),
        )
        assert medium is not None
        assert high is not None
        assert (medium.value, high.value) == (0.6, 0.8)


def test_the_fallback_has_no_probabilities_and_names_the_gap_that_it_used() -> None:
    assert gap_score(Features(1, 10, 40, None), 15.0) == Score(0.5, None, None, 15.0)
    assert gap_score(Features(2, 10, 40, 5.0), 15.0) == Score(0.75, None, None, 5.0)


def test_without_any_gap_there_is_no_score() -> None:
    assert gap_score(Features(0, 0, 400, None), None) is None


def first_day(customer: Features, threshold: float) -> int:
    """After how many days of silence the score reaches a threshold, for a customer that buys today."""
    return min(days for days in range(1_000) if model_score(silent_for(customer, days), CDNOW).value >= threshold)


def test_each_customer_is_at_risk_at_its_own_pace() -> None:
    assert first_day(Features(0, 0, 0, None), 0.6) == 95
    assert first_day(Features(30, 39 * 7, 39 * 7, 9), 0.6) == 45
    assert first_day(Features(30, 52 * 7, 52 * 7, 12), 0.6) == 58


def test_the_score_says_what_it_comes_from() -> None:
    found = model_score(Features(0, 0, 272, None), CDNOW, horizon_days=91)
    rounded = (round(found.value, 4), round(found.p_alive or 0, 4), round(found.p_purchase or 0, 4))
    assert rounded == (0.8317, 0.3897, 0.0486)
    assert model_score(Features(2, 60, 70, 30), CDNOW).typical_gap_days == 30


@given(customers(), st.floats(0.5, 400), st.integers(1, 365))
def test_scores_lie_between_0_and_1(customer: Features, program_gap: float, horizon: int) -> None:
    by_model, by_gap = model_score(customer, CDNOW, horizon), gap_score(customer, program_gap)
    assert by_gap is not None
    assert 0 <= by_gap.value < 1
    assert 0 <= by_model.value <= 1
    assert by_model.p_alive is not None
    assert by_model.p_purchase is not None
    assert 0 <= by_model.p_purchase <= by_model.p_alive <= 1


@given(customers(), st.floats(0.5, 400), st.integers(1, 1_000))
def test_scores_never_fall_while_nothing_is_bought(customer: Features, program_gap: float, days: int) -> None:
    later = silent_for(customer, days)
    assert model_score(later, CDNOW).value >= model_score(customer, CDNOW).value
    now, then = gap_score(customer, program_gap), gap_score(later, program_gap)
    assert now is not None
    assert then is not None
    assert then.value > now.value


@given(customers(), st.floats(0.5, 400))
def test_scores_are_0_on_the_day_of_a_purchase(customer: Features, program_gap: float) -> None:
    today = silent_for(customer, -customer.days_since_last_purchase)
    by_gap = gap_score(today, program_gap)
    assert by_gap is not None
    assert (model_score(today, CDNOW).value, by_gap.value) == (0, 0)
