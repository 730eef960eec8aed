"""What a run decides without a database: when the next one is due, which model it needs, and a fit in another process."""

import asyncio
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.errors import InvalidInput
from loyalpro.loyalty.churn.entities import ChurnModel, is_stale, new_model
from loyalpro.loyalty.churn.features import Features, History
from loyalpro.loyalty.churn.fit import fit
from loyalpro.loyalty.churn.fit_process import FitFailed, fit_apart
from loyalpro.loyalty.churn.levels import LevelRules
from loyalpro.loyalty.churn.mbg_nbd import Parameters
from loyalpro.loyalty.churn.settings import require_ordered
from loyalpro.loyalty.expiry import day_of, day_start
from loyalpro.loyalty.sweeps.churn_run import next_run_at

FITTED = Parameters(0.5, 40.0, 0.9, 1.6)
TODAY = date(2026, 11, 28)
HOUR_MS = 3_600_000
ZONES = ["UTC", "Europe/Berlin", "America/Santiago", "Pacific/Apia", "Asia/Kathmandu", "America/New_York"]


def model(parameters: Parameters | None, version: date = TODAY) -> ChurnModel:
    return ChurnModel("acct_1", version.isoformat(), parameters, 30.0, 0, None, 1)


@given(st.integers(0, 4_000_000_000_000), st.sampled_from(ZONES))
def test_the_next_run_is_due_early_on_the_next_day(now: int, zone: str) -> None:
    due = next_run_at(now, zone)
    assert now < due <= now + 27 * HOUR_MS + (24 * HOUR_MS if zone == "Pacific/Apia" else 0)
    assert day_of(due, zone) > day_of(now, zone)
    assert due - day_start(day_of(due, zone), zone) == 2 * HOUR_MS


@given(st.integers(-50, 50))
def test_a_fitted_model_is_stale_after_a_week(days: int) -> None:
    assert is_stale(model(FITTED), TODAY + timedelta(days=days)) == (days >= 7)


def test_without_a_fitted_model_every_run_tries_to_fit_one() -> None:
    assert is_stale(None, TODAY)
    assert is_stale(model(None), TODAY)


def test_a_model_without_a_fit_scores_by_gaps() -> None:
    customers = [Features(1, 40, 100, None), Features(3, 60, 90, 20), Features(0, 0, 50, None)]
    made = new_model("acct_1", TODAY, customers, None, 1)
    assert (made.name, made.version, made.gap_days, made.fitted_customers) == ("recency_gap", "2026-11-28", 30, 0)
    found = made.score(Features(0, 0, 90, None), 90)
    assert found is not None
    assert (found.value, found.typical_gap_days, found.p_alive) == (0.6, 30, None)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_thresholds_are_in_order(enter: float, high: float, exit_: float) -> None:
    rules = LevelRules(enter, high, exit_)
    if exit_ < enter <= high:
        require_ordered(rules)
    else:
        with pytest.raises(InvalidInput) as caught:
            require_ordered(rules)
        assert caught.value.code == "thresholds_not_ordered"


# -- the process of a fit ----------------------------------------------------------------------------------------------


def test_a_process_of_its_own_finds_the_same_fit(published: tuple[History, ...]) -> None:
    some = [History(each.repeats, round(each.recency * 7), round(each.age * 7)) for each in published[::8]]
    assert asyncio.run(fit_apart(some)) == fit(some)


def test_too_few_customers_need_no_process() -> None:
    assert asyncio.run(fit_apart([History(1, 10, 20)] * 199, most_s=0.0)) is None


def test_a_fit_that_takes_too_long_is_ended() -> None:
    with pytest.raises(FitFailed, match=r"longer than 0\.001 seconds"):
        asyncio.run(fit_apart([History(1, 10, 20)] * 300, most_s=0.001))


def test_a_process_that_fails_is_reported() -> None:
    with pytest.raises(FitFailed, match="ended with 1"):
        asyncio.run(fit_apart([History(1, 10.0, float("-inf"))] * 300))
