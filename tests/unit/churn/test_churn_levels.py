"""Risk levels from run to run: they rise with the score, fall to low only, and announce a rise once."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.loyalty.churn.features import Features
from loyalpro.loyalty.churn.levels import (
    Announcement,
    LastRun,
    Level,
    LevelRules,
    NextRun,
    Rise,
    Standing,
    announcement,
    moved,
    next_standing,
)
from loyalpro.loyalty.churn.mbg_nbd import Parameters

RULES = LevelRules()
TODAY = date(2026, 11, 28)
RANKS = {"low": 0, "medium": 1, "high": 2}
FITTED = Parameters(0.5, 40.0, 0.9, 1.6)

scores = st.one_of(st.floats(0, 1), st.sampled_from([0.39, 0.4, 0.41, 0.59, 0.6, 0.61, 0.79, 0.8, 0.81]))


def on(days: int) -> date:
    return TODAY + timedelta(days=days)


def customer(silence: int, age: int = 400) -> Features:
    return Features(5, age - silence, age, 30)


class Runs:
    """Scoring runs of one customer that bought on a day, day by day."""

    def __init__(self, standing: Standing | None = None) -> None:
        self.standing = standing
        self.last_purchase_on = on(-100)
        self.rises: list[tuple[date, Rise]] = []

    def buy(self, day: int) -> None:
        self.last_purchase_on = on(day)

    def run(self, day: int, score: float, *, emit: bool = True, age: int = 400) -> Level:
        seen = customer((on(day) - self.last_purchase_on).days, age)
        self.standing, rise = next_standing(self.standing, seen, score, on(day), RULES, emit=emit)
        if rise:
            self.rises.append((on(day), rise))
        return self.standing.level


def levels(*run_scores: float) -> list[Level]:
    runs = Runs()
    return [runs.run(day, score) for day, score in enumerate(run_scores)]


def test_levels_are_entered_at_their_thresholds() -> None:
    assert levels(0.59, 0.6, 0.79, 0.8, 1) == ["low", "medium", "medium", "high", "high"]
    assert levels(0.8) == ["high"]


def test_a_level_is_left_for_low_only_at_the_exit() -> None:
    assert levels(0.8, 0.79, 0.6, 0.41, 0.4) == ["high", "high", "high", "high", "low"]
    assert levels(0.6, 0.41, 0.4) == ["medium", "medium", "low"]
    assert levels(0.41, 0.59) == ["low", "low"]


def test_each_rise_is_announced_with_the_level_before() -> None:
    runs = Runs()
    for day, score in enumerate([0.5, 0.7, 0.75, 0.9, 0.95]):
        runs.run(day, score)
    assert runs.rises == [(on(1), Rise("medium", "low")), (on(3), Rise("high", "medium"))]


def test_two_levels_at_once_are_one_event() -> None:
    runs = Runs()
    runs.run(0, 0.9)
    assert runs.rises == [(on(0), Rise("high", "low"))]


def test_a_purchase_resets_the_level_although_the_score_has_not_fallen_to_the_exit() -> None:
    runs = Runs()
    runs.run(0, 0.9)
    runs.buy(1)
    assert runs.run(2, 0.5) == "low"


def test_a_purchase_between_two_distant_runs_makes_the_next_rise_one_from_low() -> None:
    runs = Runs()
    runs.run(0, 0.7)
    runs.buy(1)
    runs.run(60, 0.85)
    assert runs.rises == [(on(0), Rise("medium", "low")), (on(60), Rise("high", "low"))]


def test_a_purchase_that_arrives_late_resets_the_level_too() -> None:
    runs = Runs()
    runs.run(0, 0.9)
    runs.buy(-5)
    assert runs.run(1, 0.5) == "low"


def test_a_refunded_purchase_does_not_reset_the_level() -> None:
    runs = Runs()
    runs.run(0, 0.9)
    runs.buy(-200)
    assert runs.run(1, 0.95) == "high"
    assert len(runs.rises) == 1


def test_a_level_is_announced_once_in_30_days() -> None:
    runs = Runs()
    runs.run(0, 0.7)
    runs.run(1, 0.3)
    assert runs.run(29, 0.7) == "medium"
    runs.run(30, 0.3)
    runs.run(31, 0.7)
    assert [day for day, _ in runs.rises] == [on(0), on(31)]


def test_the_cooldown_ends_after_exactly_30_days() -> None:
    runs = Runs()
    runs.run(0, 0.7)
    runs.run(1, 0.3)
    runs.run(30, 0.7)
    assert [day for day, _ in runs.rises] == [on(0), on(30)]


def test_each_level_has_a_cooldown_of_its_own() -> None:
    runs = Runs()
    runs.run(0, 0.7)
    runs.run(1, 0.9)
    runs.run(2, 0.3)
    runs.run(3, 0.7)
    runs.run(4, 0.9)
    assert runs.rises == [(on(0), Rise("medium", "low")), (on(1), Rise("high", "medium"))]


def test_a_level_that_rose_within_the_cooldown_is_not_announced_when_the_cooldown_ends() -> None:
    runs = Runs()
    runs.run(0, 0.7)
    runs.run(1, 0.3)
    for day in range(10, 60):
        runs.run(day, 0.7)
    assert [day for day, _ in runs.rises] == [on(0)]


@pytest.mark.parametrize(
    ("silence", "age", "level"),
    [(14, 30, "high"), (13, 30, "low"), (14, 29, "low"), (0, 400, "low"), (29, 29, "low"), (30, 30, "high")],
)
def test_a_young_or_recent_customer_does_not_rise(silence: int, age: int, level: str) -> None:
    standing, rise = next_standing(None, customer(silence, age), 1, TODAY, RULES, emit=True)
    assert (standing.level, rise is not None) == (level, level != "low")


def test_a_silent_run_sets_levels_without_an_event() -> None:
    runs = Runs()
    assert runs.run(0, 0.9, emit=False) == "high"
    assert runs.run(1, 0.95) == "high"
    assert runs.rises == []


def test_a_silent_rise_starts_no_cooldown() -> None:
    runs = Runs()
    runs.run(0, 0.7, emit=False)
    runs.run(1, 0.3)
    runs.run(2, 0.7)
    assert [day for day, _ in runs.rises] == [on(2)]


def test_a_standing_says_since_when() -> None:
    runs = Runs()
    for day, score in enumerate([0.1, 0.7, 0.7, 0.9]):
        runs.run(day, score)
    assert runs.standing == Standing("high", on(3), on(-100), on(1), on(3))
    runs.run(4, 0.9)
    assert runs.standing.since == on(3)


def test_the_rules_can_be_set() -> None:
    strict = LevelRules(enter=0.3, high=0.5, exit=0.1, cooldown_days=5, least_age_days=0, least_silence_days=0)
    assert next_standing(None, customer(0, 0), 0.5, TODAY, strict, emit=True)[1] == Rise("high", "low")
    known = Standing("low", on(-4), on(0), medium_event_on=on(-5), high_event_on=on(-4))
    assert next_standing(known, customer(0, 0), 0.3, TODAY, strict, emit=True)[1] == Rise("medium", "low")
    assert next_standing(known, customer(0, 0), 0.5, TODAY, strict, emit=True)[1] is None


steps = st.lists(st.tuples(st.integers(1, 40), scores, st.booleans(), st.booleans()), max_size=40)
"""Days until the next run, its score, whether the customer bought before it, whether the run emits."""


def played(drawn: Sequence[tuple[int, float, bool, bool]]) -> list[tuple[int, float, bool, bool, Level, Rise | None]]:
    """The runs, with the level after each and what it announced."""
    runs, day, seen = Runs(), 0, []
    for wait, score, bought, emit in drawn:
        day += wait
        if bought:
            runs.buy(day - wait + 1)
        before = len(runs.rises)
        level = runs.run(day, score, emit=emit)
        seen.append((day, score, bought, emit, level, runs.rises[-1][1] if len(runs.rises) > before else None))
    return seen


@given(steps)
def test_a_level_falls_only_at_the_exit_or_after_a_purchase(drawn: list[tuple[int, float, bool, bool]]) -> None:
    before = "low"
    for _, score, bought, _, level, _ in played(drawn):
        if RANKS[level] < RANKS[before]:
            assert score <= 0.4 or bought
        if score <= 0.4:
            assert level == "low"
        before = level


@given(steps)
def test_there_is_no_event_without_a_rise_and_none_in_a_silent_run(
    drawn: list[tuple[int, float, bool, bool]],
) -> None:
    before = "low"
    for _, score, bought, emit, level, rise in played(drawn):
        start = "low" if bought else before
        if rise is not None:
            assert emit
            assert rise == Rise(rise.level, rise.previous_level)
            assert (rise.level, rise.previous_level) == (level, start)
            assert RANKS[level] > RANKS[start]
            assert score >= (0.8 if level == "high" else 0.6)
        before = level


@given(steps)
def test_events_of_a_level_are_30_days_apart(drawn: list[tuple[int, float, bool, bool]]) -> None:
    last: dict[str, int] = {}
    for day, _, _, _, _, rise in played(drawn):
        if rise is not None:
            assert day - last.get(rise.level, -1_000) >= 30
            last[rise.level] = day


@given(st.lists(st.floats(0.41, 1), max_size=60))
def test_a_score_that_wavers_above_the_exit_announces_each_level_at_most_once(wavering: list[float]) -> None:
    runs = Runs()
    for day, score in enumerate(wavering):
        runs.run(day * 40, score)
    assert len(runs.rises) <= 2
    assert [RANKS[rise.level] for _, rise in runs.rises] == sorted({RANKS[rise.level] for _, rise in runs.rises})


@given(steps)
def test_running_twice_on_a_day_changes_nothing(drawn: list[tuple[int, float, bool, bool]]) -> None:
    runs, day = Runs(), 0
    for wait, score, _, emit in drawn:
        day += wait
        runs.run(day, score, emit=emit)
        assert runs.standing is not None
        again = next_standing(
            runs.standing, customer((on(day) - runs.last_purchase_on).days), score, on(day), RULES, emit=True
        )
        assert again == (runs.standing, None)


LAST = LastRun(on(-1), FITTED)
SCHEDULED = NextRun(TODAY, FITTED)


@pytest.mark.parametrize(
    ("run", "last", "scheduled_before", "imported", "expected"),
    [
        pytest.param(SCHEDULED, LAST, True, False, "emit", id="every day"),
        pytest.param(SCHEDULED, None, False, False, "silent", id="the first of all"),
        pytest.param(SCHEDULED, LAST, False, False, "silent", id="the first scheduled one"),
        pytest.param(SCHEDULED, LAST, True, True, "silent", id="after an import"),
        pytest.param(NextRun(TODAY, replace(FITTED, a=2.0)), LAST, True, False, "silent", id="after a move"),
        pytest.param(NextRun(TODAY, None), LAST, True, False, "silent", id="the fallback after a model"),
        pytest.param(SCHEDULED, LastRun(on(-1), None), True, False, "silent", id="a model after the fallback"),
        pytest.param(NextRun(TODAY, None), LastRun(on(-1), None), True, False, "emit", id="the fallback every day"),
        pytest.param(NextRun(TODAY, FITTED, requested=True), None, False, True, "emit", id="requested"),
        pytest.param(NextRun(TODAY, None, requested=True), LAST, True, True, "emit", id="requested after a move"),
        pytest.param(NextRun(TODAY, FITTED, requested=True, baseline=True), LAST, True, False, "silent", id="baseline"),
        pytest.param(NextRun(on(-2), FITTED, requested=True), LAST, True, False, "report", id="the past"),
        pytest.param(NextRun(on(-2), FITTED, True, True), LAST, True, False, "report", id="the past as baseline"),
        pytest.param(NextRun(on(-1), FITTED, requested=True), LAST, True, False, "emit", id="the same day"),
    ],
)
def test_a_run_announces_rises_only_where_its_scores_are_comparable(
    run: NextRun, last: LastRun | None, *, scheduled_before: bool, imported: bool, expected: Announcement
) -> None:
    assert announcement(run, last, scheduled_before=scheduled_before, imported=imported) == expected


@pytest.mark.parametrize("name", ["r", "alpha", "a", "b"])
@pytest.mark.parametrize(("factor", "expected"), [(1.5, False), (1.51, True), (0.5, False), (0.49, True), (1, False)])
def test_a_parameter_has_moved_beyond_half_of_itself(name: str, factor: float, *, expected: bool) -> None:
    ones = Parameters(1.0, 1.0, 1.0, 1.0)
    assert moved(ones, Parameters(**({"r": 1.0, "alpha": 1.0, "a": 1.0, "b": 1.0} | {name: factor}))) == expected
