"""The likelihoods and probabilities of MBG/NBD and BG/NBD: against published numbers, and against each other by integration."""

from math import exp, inf, isfinite, lgamma, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.loyalty.churn.features import History
from loyalpro.loyalty.churn.mbg_nbd import (
    Model,
    Parameters,
    bg_nbd,
    log_likelihood,
    lost_chance,
    mbg_nbd,
    p_alive,
    p_buy,
)

MBG = Parameters(0.52484, 6.18299, 0.89136, 1.61400)
BG_PAPER = Parameters(0.243, 4.414, 0.793, 2.426)
BG_FITTED = Parameters(0.24259, 4.41353, 0.79289, 2.42575)
NEW = History(0, 0, 0)
MODELS = pytest.mark.parametrize("model", [mbg_nbd, bg_nbd])

logarithms = st.floats(-12, 12)


@st.composite
def parameters(draw: st.DrawFn) -> Parameters:
    """Everything that a fit may return for histories of at most 10,000 days."""
    r, alpha, a, b = (exp(draw(logarithms)) for _ in range(4))
    return Parameters(r, alpha * draw(st.integers(1, 10_000)), a, b)


@st.composite
def histories(draw: st.DrawFn) -> History:
    age = draw(st.integers(0, 10_000))
    recency = draw(st.integers(0, age))
    repeats = draw(st.integers(1, recency)) if recency else 0
    return History(repeats, recency, age)


@pytest.mark.parametrize(
    ("history", "alive", "buy", "lost"),
    [
        pytest.param(History(0, 0, 38.86), 0.389714, 0.048561, 0.831748, id="31-one-purchase"),
        pytest.param(History(2, 30.43, 38.86), 0.706125, 0.333871, 0.223005, id="31-recent"),
        pytest.param(History(1, 1.71, 38.86), 0.170819, 0.054776, 0.905017, id="31-early"),
        pytest.param(History(10, 20, 38.86), 0.041384, 0.038515, 0.957925, id="31-frequent"),
    ],
)
def test_example_31(history: History, alive: float, buy: float, lost: float) -> None:
    assert round(p_alive(mbg_nbd, MBG, history), 6) == alive
    assert round(p_buy(mbg_nbd, MBG, history, 13), 6) == buy
    assert round(lost_chance(mbg_nbd, MBG, history, 13), 6) == lost


@pytest.mark.parametrize(
    ("history", "alive"),
    [
        (History(2, 30.43, 38.86), 0.726579),
        (History(1, 1.71, 38.86), 0.212101),
        (History(7, 29.43, 38.86), 0.641756),
        (History(23, 39, 39), 0.968555),
        (History(0, 0, 38.86), 1),
    ],
)
def test_bg_nbd_gives_the_published_chances_to_be_alive(history: History, alive: float) -> None:
    assert round(p_alive(bg_nbd, BG_PAPER, history), 6) == alive


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (History(0, 0, 38.86), -0.554713),
        (History(1, 1.71, 38.86), -4.469093),
        (History(2, 30.43, 38.86), -9.458606),
    ],
)
def test_bg_nbd_gives_the_published_log_likelihoods(history: History, expected: float) -> None:
    assert round(log_likelihood(bg_nbd, BG_PAPER, history), 6) == expected


def test_bg_nbd_gives_the_published_chance_of_no_repeat_in_39_weeks() -> None:
    assert round(1 - p_buy(bg_nbd, BG_PAPER, NEW, 39), 6) == 0.573786


def chance_of(model: Model, fitted: Parameters, history: History, horizon: float, purchases: int) -> float:
    """The probability of a number of purchases within a horizon, from nothing but the likelihood: Simpson's rule over the time
    of the last one; those before it fill the time since `history.age` in any order."""
    end = history.age + horizon
    known = log_likelihood(model, fitted, history)
    if not purchases:
        return exp(log_likelihood(model, fitted, History(history.repeats, history.recency, end)) - known)
    steps = 400
    total = 0.0
    for step in range(1, steps + 1):
        since = horizon * step / steps
        order = (purchases - 1) * log(since) - lgamma(purchases)
        repeats = history.repeats + purchases
        density = log_likelihood(model, fitted, History(repeats, history.age + since, end)) - known
        total += exp(density + order) * (1 if step == steps else 4 if step % 2 else 2)
    at_start = History(history.repeats + 1, history.age, end)
    first = exp(log_likelihood(model, fitted, at_start) - known) if purchases == 1 else 0
    return (total + first) * horizon / steps / 3


def test_bg_nbd_gives_the_published_chance_of_ten_repeats_in_two_weeks() -> None:
    assert chance_of(bg_nbd, BG_PAPER, NEW, 2, 10) == pytest.approx(1.07869e-7, rel=1e-5)


@pytest.mark.parametrize(
    ("history", "weeks", "expected"),
    [
        (NEW, 0.1429, "0.0078"),
        (NEW, 1, "0.0532"),
        (NEW, 3, "0.1506"),
        (NEW, 31.8571, "1.0405"),
        (NEW, 32, "1.0437"),
        (NEW, 78, "1.858"),
        (History(2, 30.43, 38.86), 39, "1.226"),
    ],
)
def test_bg_nbd_gives_the_published_expected_purchases(history: History, weeks: float, expected: str) -> None:
    chances = [chance_of(bg_nbd, BG_FITTED, history, weeks, purchases) for purchases in range(1, 250)]
    expectation = sum(purchases * chance for purchases, chance in enumerate(chances, start=1))
    digits = len(expected) - 2
    assert f"{expectation:.{digits}f}" == expected


@MODELS
@pytest.mark.parametrize("history", [NEW, History(0, 0, 12), History(2, 30.43, 38.86), History(6, 11, 30)])
def test_the_chance_to_buy_follows_from_the_likelihood(model: Model, history: History) -> None:
    some = sum(chance_of(model, MBG, history, 13, purchases) for purchases in range(1, 150))
    assert p_buy(model, MBG, history, 13) == pytest.approx(some, rel=1e-6)
    assert chance_of(model, MBG, history, 13, 0) == pytest.approx(1 - some, rel=1e-6)


@MODELS
@given(fitted=parameters(), history=histories(), horizon=st.integers(1, 3_650))
def test_probabilities_and_scores_lie_between_0_and_1(
    model: Model, fitted: Parameters, history: History, horizon: int
) -> None:
    alive, buy = p_alive(model, fitted, history), p_buy(model, fitted, history, horizon)
    assert 0 <= buy <= alive <= 1
    assert 0 <= lost_chance(model, fitted, history, horizon) <= 1
    assert isfinite(log_likelihood(model, fitted, history))


@MODELS
@given(fitted=parameters(), history=histories(), horizon=st.integers(1, 3_650), days=st.integers(1, 1_000))
def test_the_score_never_falls_while_nothing_is_bought(
    model: Model, fitted: Parameters, history: History, horizon: int, days: int
) -> None:
    later = History(history.repeats, history.recency, history.age + days)
    assert lost_chance(model, fitted, later, horizon) >= lost_chance(model, fitted, history, horizon)
    assert p_alive(model, fitted, later) <= p_alive(model, fitted, history)


@MODELS
@given(fitted=parameters(), history=histories(), horizon=st.integers(1, 3_650))
def test_the_score_is_0_on_the_day_of_a_purchase(
    model: Model, fitted: Parameters, history: History, horizon: int
) -> None:
    bought_now = History(history.repeats, history.recency, history.recency)
    assert lost_chance(model, fitted, bought_now, horizon) == 0


@MODELS
@pytest.mark.parametrize("history", [History(1_000, 10, 1_000), History(1_000, 1_000, 1_000), History(0, 0, 1_000)])
def test_a_thousand_purchases_in_a_thousand_weeks_do_not_overflow(model: Model, history: History) -> None:
    assert -inf < log_likelihood(model, MBG, history) < inf
    assert 0 <= p_buy(model, MBG, history, 13) <= p_alive(model, MBG, history) <= 1


def test_a_customer_may_leave_after_its_first_purchase_in_mbg_nbd_only() -> None:
    assert p_alive(mbg_nbd, MBG, NEW) == pytest.approx(MBG.b / (MBG.a + MBG.b))
    assert p_alive(bg_nbd, MBG, History(0, 0, 10_000)) == 1


@given(fitted=parameters(), history=histories(), weeks=st.integers(1, 500))
def test_the_unit_of_time_does_not_matter(fitted: Parameters, history: History, weeks: int) -> None:
    in_weeks = Parameters(fitted.r, fitted.alpha / 7, fitted.a, fitted.b)
    shorter = History(history.repeats, history.recency / 7, history.age / 7)
    scores = lost_chance(mbg_nbd, fitted, history, weeks * 7), lost_chance(mbg_nbd, in_weeks, shorter, weeks)
    assert scores[0] == pytest.approx(scores[1], abs=1e-9)
