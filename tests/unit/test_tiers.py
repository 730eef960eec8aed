"""Tiers: the days that count, when a tier is reviewed, and which tier a customer has then."""

from dataclasses import replace
from datetime import date, datetime

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from loyalpro.kernel.clock import MS_PER_DAY, rfc3339, unix_ms
from loyalpro.loyalty.expiry import FIRST_DAY, LAST_DAY, NEVER, add_months, date_of, day_start, number_of
from loyalpro.loyalty.tiers import (
    ALL_DAYS,
    Tier,
    TierPolicy,
    TierWindow,
    is_locked,
    judged_day,
    next_review_at,
    qualified,
    raised,
    review_at,
    review_deadline,
    reviewed,
    window_days,
)

BRONZE, SILVER, GOLD = (
    Tier("tier_b", "Bronze", 1, 0),
    Tier("tier_s", "Silver", 2, 1_000),
    Tier("tier_g", "Gold", 3, 5_000),
)
TIERS = (BRONZE, SILVER, GOLD)
MONTHS_12 = TierWindow()
YEAR = TierWindow("calendar")
FISCAL_YEAR = TierWindow("calendar", starts_month=4)
QUARTER = TierWindow("calendar", period="quarter")
FISCAL_QUARTER = TierWindow("calendar", period="quarter", starts_month=2)
MONTH = TierWindow("calendar", period="month")
ANNIVERSARY = TierWindow("anniversary")
LIFETIME = TierWindow("lifetime")


def day(text: str) -> int:
    return number_of(date.fromisoformat(text))


def instant(text: str) -> int:
    return unix_ms(datetime.fromisoformat(text))


days = st.integers(day("1980-01-01"), day("2090-12-31"))
zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/Santiago", "Asia/Tokyo", "America/Havana", "Pacific/Auckland"]
)
rolling = st.builds(TierWindow, st.just("rolling"), st.integers(1, 36), st.just("months")) | st.builds(
    TierWindow, st.just("rolling"), st.integers(1, 1_000), st.just("days")
)
calendar_periods = st.builds(
    TierWindow,
    st.just("calendar"),
    period=st.sampled_from(["year", "quarter", "month"]),
    starts_month=st.integers(1, 12),
)
periods = calendar_periods | st.just(ANNIVERSARY)
windows = rolling | periods | st.just(LIFETIME)
policies = st.builds(TierPolicy, window=windows, grace_days=st.integers(0, 60))


# -- the days that count -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "today", "enrolled_on", "first", "last"),
    [
        pytest.param(MONTHS_12, "2026-11-28", "2020-01-01", "2025-11-29", "2026-11-28", id="24a"),
        pytest.param(MONTHS_12, "2028-02-29", "2020-01-01", "2027-03-01", "2028-02-29", id="24b"),
        (TierWindow("rolling", 1), "2026-03-31", "2020-01-01", "2026-03-01", "2026-03-31"),
        (TierWindow("rolling", 30, "days"), "2026-11-28", "2020-01-01", "2026-10-30", "2026-11-28"),
        (TierWindow("rolling", 1, "days"), "2026-11-28", "2020-01-01", "2026-11-28", "2026-11-28"),
        (YEAR, "2026-11-28", "2020-01-01", "2026-01-01", "2026-12-31"),
        (FISCAL_YEAR, "2026-11-28", "2020-01-01", "2026-04-01", "2027-03-31"),
        (FISCAL_YEAR, "2026-03-31", "2020-01-01", "2025-04-01", "2026-03-31"),
        (QUARTER, "2026-11-28", "2020-01-01", "2026-10-01", "2026-12-31"),
        (FISCAL_QUARTER, "2026-11-28", "2020-01-01", "2026-11-01", "2027-01-31"),
        (FISCAL_QUARTER, "2026-01-31", "2020-01-01", "2025-11-01", "2026-01-31"),
        (MONTH, "2028-02-29", "2020-01-01", "2028-02-01", "2028-02-29"),
        (ANNIVERSARY, "2026-11-28", "2024-11-28", "2026-11-28", "2027-11-27"),
        (ANNIVERSARY, "2026-11-27", "2024-11-28", "2025-11-28", "2026-11-27"),
        (ANNIVERSARY, "2025-02-28", "2024-02-29", "2025-02-28", "2026-02-27"),
        (ANNIVERSARY, "2028-02-28", "2024-02-29", "2027-02-28", "2028-02-28"),
        (ANNIVERSARY, "2028-02-29", "2024-02-29", "2028-02-29", "2029-02-27"),
    ],
)
def test_a_window_has_a_first_and_a_last_day(
    window: TierWindow, today: str, enrolled_on: str, first: str, last: str
) -> None:
    found = window_days(window, day(today), day(enrolled_on))
    assert tuple(date_of(each).isoformat() for each in found) == (first, last)


def test_a_lifetime_has_all_days() -> None:
    assert window_days(LIFETIME, day("2026-11-28"), day("2020-01-01")) == ALL_DAYS == (FIRST_DAY, LAST_DAY)


@given(windows, days, days)
def test_today_is_in_the_window(window: TierWindow, today: int, enrolled_on: int) -> None:
    first, last = window_days(window, today, enrolled_on)
    assert first <= today <= last


@given(periods, days, days)
def test_periods_follow_each_other_without_a_gap(window: TierWindow, today: int, enrolled_on: int) -> None:
    first, last = window_days(window, today, enrolled_on)
    assert window_days(window, first, enrolled_on) == (first, last) == window_days(window, last, enrolled_on)
    assert window_days(window, last + 1, enrolled_on)[0] == last + 1
    assert window_days(window, first - 1, enrolled_on)[1] == first - 1


@given(rolling, days, st.integers(0, 500), days)
def test_a_rolling_window_only_moves_forward(window: TierWindow, today: int, later: int, enrolled_on: int) -> None:
    assert window_days(window, today, enrolled_on)[0] <= window_days(window, today + later, enrolled_on)[0]


@given(st.integers(1, 36), days)
def test_a_day_is_in_a_window_of_months_for_so_many_months(number: int, today: int) -> None:
    """Through the day before the same day of the month, which is when the window of `today - n < d` leaves it."""
    window = TierWindow("rolling", number)
    end = add_months(today, number)
    assert window_days(window, end - 1, today)[0] <= today
    assert window_days(window, end + 3, today)[0] > today


@given(rolling, st.integers(FIRST_DAY + 1, FIRST_DAY + 2_000))
def test_a_window_does_not_begin_before_the_calendar(window: TierWindow, today: int) -> None:
    first, last = window_days(window, today, today)
    assert FIRST_DAY <= first <= last == today


# -- when a tier is reviewed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "today", "expected"),
    [
        pytest.param(MONTHS_12, "2026-11-28", "2027-11-29T00:00Z", id="25"),
        (MONTHS_12, "2024-02-29", "2025-03-01T00:00Z"),
        (TierWindow("rolling", 30, "days"), "2026-11-28", "2026-12-29T00:00Z"),
        (YEAR, "2026-11-28", "2028-01-01T00:00Z"),
        (YEAR, "2026-01-01", "2028-01-01T00:00Z"),
        (FISCAL_YEAR, "2026-11-28", "2028-04-01T00:00Z"),
        (QUARTER, "2026-11-28", "2027-04-01T00:00Z"),
        (MONTH, "2026-11-28", "2027-01-01T00:00Z"),
        (ANNIVERSARY, "2026-11-28", "2028-06-15T00:00Z"),
    ],
)
def test_a_tier_lasts_for_the_window_or_through_the_next_period(window: TierWindow, today: str, expected: str) -> None:
    found = review_at(TierPolicy(window=window), day(today), day("2020-06-15"), "UTC")
    assert found is not None
    assert rfc3339(found) == rfc3339(instant(expected))


def test_a_tier_for_life_is_never_reviewed() -> None:
    assert review_at(TierPolicy(window=LIFETIME), day("2026-11-28"), day("2020-06-15"), "UTC") is None


def test_a_review_starts_with_a_local_day() -> None:
    policy = TierPolicy()
    assert review_at(policy, day("2026-11-28"), 0, "Europe/Berlin") == instant("2027-11-28T23:00Z")
    assert review_at(policy, day("2025-09-05"), 0, "America/Santiago") == instant("2026-09-06T04:00Z")


@given(policies, st.integers(LAST_DAY - 40_000, LAST_DAY), zones)
@example(TierPolicy(), LAST_DAY, "Asia/Tokyo")
def test_a_review_after_the_end_of_the_calendar_never_comes(policy: TierPolicy, today: int, zone: str) -> None:
    found = review_at(policy, today, today, zone)
    assert found is None or day_start(today, zone) < found < NEVER


@given(policies, days, days, zones)
def test_a_review_judges_the_days_after_the_one_that_qualified(
    policy: TierPolicy, today: int, enrolled_on: int, zone: str
) -> None:
    """A rolling window: those that follow it; a period: the whole next one."""
    found = review_at(policy, today, enrolled_on, zone)
    if found is None:
        assert policy.window.kind == "lifetime"
        return
    end = judged_day(found, zone)
    first, last = window_days(policy.window, end, enrolled_on)
    assert last == end
    if policy.window.kind == "rolling":
        assert today - 3 <= first <= today + 1  # A month that is shorter than the others moves it by days.
    else:
        assert first == window_days(policy.window, today, enrolled_on)[1] + 1


@given(policies, days, days, zones)
def test_the_next_review_judges_the_days_after_the_judged_ones(
    policy: TierPolicy, today: int, enrolled_on: int, zone: str
) -> None:
    policy = replace(policy, grace_days=0)
    review = review_at(policy, today, enrolled_on, zone)
    assume(review is not None)
    assert review is not None
    second = next_review_at(policy, review, review, enrolled_on, zone)
    assert second is not None
    first, last = window_days(policy.window, judged_day(second, zone), enrolled_on)
    assert last == judged_day(second, zone)
    shift = 3 if policy.window.kind == "rolling" and policy.window.unit == "months" else 0
    assert first - shift <= judged_day(review, zone) + 1 <= first + shift  # Months differ in length.


@given(policies, st.integers(0, 40_000 * MS_PER_DAY), st.integers(0, 20_000 * MS_PER_DAY), days, zones)
def test_the_next_review_is_not_due_yet(
    policy: TierPolicy, reviewed_at: int, late: int, enrolled_on: int, zone: str
) -> None:
    """However late a review is, one is enough: a customer is not reviewed again and again."""
    now = reviewed_at + late + policy.grace_days * MS_PER_DAY
    following = next_review_at(policy, reviewed_at, now, enrolled_on, zone)
    assert following is None or following > review_deadline(policy, now, zone)


def test_a_review_in_the_grace_period_does_not_move_the_next_one() -> None:
    policy = TierPolicy(window=YEAR, grace_days=30)
    now = instant("2028-01-31T00:00Z")
    assert next_review_at(policy, instant("2028-01-01T00:00Z"), now, 0, "UTC") == instant("2029-01-01T00:00Z")


def test_a_customer_without_a_date_of_review_is_reviewed_from_today_on() -> None:
    """The migration has customers reviewed at once by the instant 0."""
    now = instant("2026-11-28T10:00Z")
    assert next_review_at(TierPolicy(), 0, now, 0, "UTC") == instant("2027-11-29T00:00Z")


@pytest.mark.parametrize(
    ("grace_days", "now", "due"),
    [
        (0, "2027-11-27T22:59:59.999Z", False),
        (0, "2027-11-27T23:00Z", True),
        (1, "2027-11-28T22:59:59.999Z", False),
        (1, "2027-11-28T23:00Z", True),
        (30, "2027-12-27T22:59:59.999Z", False),
        (30, "2027-12-27T23:00Z", True),
    ],
)
def test_a_review_takes_place_after_the_days_of_grace(grace_days: int, now: str, *, due: bool) -> None:
    deadline = review_deadline(TierPolicy(grace_days=grace_days), instant(now), "Europe/Berlin")
    assert (instant("2027-11-27T23:00Z") <= deadline) is due


@given(st.integers(0, 90), st.integers(0, 40_000 * MS_PER_DAY), days, zones)
def test_the_days_of_grace_are_local_days(grace_days: int, now: int, start: int, zone: str) -> None:
    policy = TierPolicy(grace_days=grace_days)
    due = day_start(start, zone) <= review_deadline(policy, now, zone)
    assert due == (day_start(start + grace_days, zone) <= now)


# -- which tier a customer has -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "tier"),
    [(0, BRONZE), (999, BRONZE), (1_000, SILVER), (4_999, SILVER), (5_000, GOLD), (10**9, GOLD), (-5, BRONZE)],
)
def test_a_value_qualifies_for_the_highest_tier_that_it_reaches(value: int, tier: Tier) -> None:
    assert qualified(TIERS, value) == tier


def test_the_lowest_tier_needs_nothing() -> None:
    assert qualified((replace(BRONZE, threshold=10), SILVER), 5).id == BRONZE.id


def test_example_25_an_upgrade_is_at_once_and_a_refund_waits_for_the_review() -> None:
    assert raised(TIERS, BRONZE, 940) == BRONZE
    assert raised(TIERS, BRONZE, 940 + 112) == SILVER
    assert GOLD.threshold - (940 + 112) == 3_948
    assert raised(TIERS, SILVER, 996) == SILVER
    assert reviewed(TIERS, SILVER, 996, "to_qualified") == BRONZE


def test_example_26_an_upgrade_may_skip_a_tier() -> None:
    assert raised(TIERS, BRONZE, 900 + 4_200) == GOLD


@pytest.mark.parametrize(
    ("downgrade", "tier"),
    [
        pytest.param("to_qualified", BRONZE, id="26a"),
        pytest.param("one_level", SILVER, id="26b"),
        pytest.param("never", GOLD, id="26c"),
    ],
)
def test_a_review_moves_down_by_the_policy(downgrade: str, tier: Tier) -> None:
    assert reviewed(TIERS, GOLD, 200, downgrade) == tier  # type: ignore[arg-type]


@st.composite
def ladders(draw: st.DrawFn) -> tuple[Tier, ...]:
    """Tiers with rising thresholds."""
    steps = sorted(draw(st.lists(st.integers(1, 10_000), max_size=6, unique=True)))
    return tuple(Tier(f"tier_{rank}", str(rank), rank, threshold) for rank, threshold in enumerate([0, *steps], 1))


values = st.integers(-100, 12_000)
downgrades = st.sampled_from(["to_qualified", "one_level", "never"])


@given(ladders(), st.data(), values, downgrades)
def test_a_review_is_never_below_what_is_qualified(
    tiers: tuple[Tier, ...], data: st.DataObject, value: int, downgrade: str
) -> None:
    current = data.draw(st.sampled_from(tiers))
    best = qualified(tiers, value)
    after = reviewed(tiers, current, value, downgrade)  # type: ignore[arg-type]
    assert after.rank >= best.rank
    if best.rank >= current.rank:
        assert after == best
    else:
        expected = {"to_qualified": best.rank, "one_level": current.rank - 1, "never": current.rank}[downgrade]
        assert after.rank == expected


@given(ladders(), st.data(), values, values, downgrades)
def test_a_higher_value_never_gives_a_lower_tier(
    tiers: tuple[Tier, ...], data: st.DataObject, value: int, other: int, downgrade: str
) -> None:
    current = data.draw(st.sampled_from(tiers))
    low, high = sorted((value, other))
    assert reviewed(tiers, current, low, downgrade).rank <= reviewed(tiers, current, high, downgrade).rank  # type: ignore[arg-type]
    assert raised(tiers, current, low).rank <= raised(tiers, current, high).rank


@given(ladders(), st.data(), values)
def test_only_a_review_moves_down(tiers: tuple[Tier, ...], data: st.DataObject, value: int) -> None:
    current = data.draw(st.sampled_from(tiers))
    after = raised(tiers, current, value)
    assert after.rank >= current.rank
    assert after.rank >= qualified(tiers, value).rank
    assert raised(tiers, after, value) == after


@given(ladders(), values, st.integers(1, 8), downgrades)
def test_a_retired_tier_is_left_for_the_qualified_one(
    tiers: tuple[Tier, ...], value: int, rank: int, downgrade: str
) -> None:
    retired = Tier("tier_old", "Old", rank, 50, retired_at=1)
    best = qualified(tiers, value)
    assert raised(tiers, retired, value) == best == reviewed(tiers, retired, value, downgrade)  # type: ignore[arg-type]


def test_a_lock_ends_at_its_instant() -> None:
    assert [is_locked(locked_until, 10) for locked_until in (None, 9, 10, 11)] == [False, False, False, True]
