"""The days of a program and the instants at which points expire: month ends, leap days, and days on which clocks change."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loyalpro.kernel.clock import MS_PER_DAY, rfc3339, unix_ms
from loyalpro.loyalty.expiry import (
    FIRST_DAY,
    LAST_DAY,
    NEVER,
    ExpiryPolicy,
    activates_at,
    add_months,
    date_of,
    day_of,
    day_start,
    expires_at,
    inactive_at,
    number_of,
)

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "America/Havana",
    "America/Sao_Paulo",
    "America/St_Johns",
    "America/Toronto",
    "Asia/Beirut",
    "Asia/Tokyo",
    "Asia/Kathmandu",
    "Asia/Gaza",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Africa/Monrovia",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
)


def instant(text: str) -> int:
    return unix_ms(datetime.fromisoformat(text))


def shown_date(at: int, zone: str) -> date:
    """What a wall clock shows."""
    return datetime.fromtimestamp(at // 1_000, ZoneInfo(zone)).date()


FIRST, LAST = instant("1970-01-02T00:00Z"), instant("2090-01-01T00:00Z")
LAST_INSTANT = instant("9999-12-31T23:59:59.999Z")

instants = st.integers(FIRST, LAST)
all_instants = st.integers(0, LAST_INSTANT)
days = st.integers(FIRST // MS_PER_DAY, LAST // MS_PER_DAY)
zones = st.sampled_from(ZONES)
untils = st.sampled_from(["day", "month", "quarter", "year"])
by_months = st.builds(ExpiryPolicy, st.just("months"), st.integers(0, 120), untils)
by_days = st.builds(ExpiryPolicy, st.just("days"), st.integers(0, 4_000), untils)
month_days = st.dates(date(2024, 1, 1), date(2024, 12, 31)).map(lambda day: day.isoformat()[5:])
by_date = st.builds(ExpiryPolicy, st.just("date"), month_day=month_days)
policies = by_months | by_days | by_date


# -- when points expire ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("earned_at", "policy", "zone", "expected"),
    [
        pytest.param("2026-01-31T12:00Z", ExpiryPolicy("months", 1), "UTC", "2026-03-01T00:00Z", id="20a"),
        pytest.param("2024-02-29T12:00Z", ExpiryPolicy("months", 12), "UTC", "2025-03-01T00:00Z", id="20b"),
        pytest.param("2026-11-28T12:00Z", ExpiryPolicy("months", 12, "month"), "UTC", "2027-12-01T00:00Z", id="20c"),
        pytest.param("2026-11-28T12:00Z", ExpiryPolicy("months", 12, "year"), "UTC", "2028-01-01T00:00Z", id="20d"),
        pytest.param("2027-12-31T23:30Z", ExpiryPolicy("months", 2), "Asia/Tokyo", "2028-03-01T15:00Z", id="20e"),
        pytest.param("2026-11-28T23:30Z", ExpiryPolicy(), "Europe/Berlin", "2027-11-29T23:00Z", id="21a"),
        pytest.param("2026-11-28T12:00Z", ExpiryPolicy(), "America/New_York", "2027-11-29T05:00Z", id="21b"),
        pytest.param("2025-09-05T15:00Z", ExpiryPolicy(), "America/Santiago", "2026-09-06T04:00Z", id="22"),
        pytest.param("2025-10-01T12:00Z", ExpiryPolicy(), "UTC", "2026-10-02T00:00Z", id="23"),
        ("2024-01-31T12:00Z", ExpiryPolicy("months", 1), "UTC", "2024-03-01T00:00Z"),
        ("2024-02-29T12:00Z", ExpiryPolicy("months", 48), "UTC", "2028-03-01T00:00Z"),
        ("2026-12-31T23:59:59.999Z", ExpiryPolicy("months", 2), "UTC", "2027-03-01T00:00Z"),
        ("2026-11-28T10:00Z", ExpiryPolicy("months", 0), "UTC", "2026-11-29T00:00Z"),
        ("2026-11-28T10:00Z", ExpiryPolicy("days", 0), "UTC", "2026-11-29T00:00Z"),
        ("2026-11-28T10:00Z", ExpiryPolicy("days", 30), "UTC", "2026-12-29T00:00Z"),
        ("2026-11-28T10:00Z", ExpiryPolicy("days", 30, "quarter"), "UTC", "2027-01-01T00:00Z"),
        ("2026-11-28T10:00Z", ExpiryPolicy("months", 3, "quarter"), "UTC", "2027-04-01T00:00Z"),
        ("2027-12-30T23:30Z", ExpiryPolicy("months", 2), "Asia/Tokyo", "2028-02-29T15:00Z"),
        ("2026-09-28T12:00Z", ExpiryPolicy("months", 6), "Europe/Berlin", "2027-03-28T22:00Z"),
        ("2026-04-25T12:00Z", ExpiryPolicy("months", 6), "Europe/Berlin", "2026-10-25T23:00Z"),
        ("2026-10-31T12:00Z", ExpiryPolicy("months", 0), "America/Havana", "2026-11-01T04:00Z"),
        ("2026-11-28T10:00Z", ExpiryPolicy("date"), "UTC", "2027-01-01T00:00Z"),
        ("2026-12-31T10:00Z", ExpiryPolicy("date"), "UTC", "2027-01-01T00:00Z"),
        ("2027-01-01T00:00Z", ExpiryPolicy("date"), "UTC", "2028-01-01T00:00Z"),
        ("2026-11-28T10:00Z", ExpiryPolicy("date", month_day="03-31"), "Asia/Tokyo", "2027-03-31T15:00Z"),
        ("2026-11-28T10:00Z", ExpiryPolicy("date", month_day="02-29"), "UTC", "2027-03-01T00:00Z"),
        ("2027-11-28T10:00Z", ExpiryPolicy("date", month_day="02-29"), "UTC", "2028-03-01T00:00Z"),
        ("9998-12-30T10:00Z", ExpiryPolicy(), "UTC", "9999-12-31T00:00Z"),
    ],
)
def test_points_are_valid_through_the_last_local_day(
    earned_at: str, policy: ExpiryPolicy, zone: str, expected: str
) -> None:
    assert rfc3339(expires_at(policy, instant(earned_at), zone)) == rfc3339(instant(expected))


@given(instants, st.integers(0, 400 * MS_PER_DAY), policies, zones)
@example(instant("2010-11-07T02:30Z"), 60_000, ExpiryPolicy("months", 0), "America/St_Johns")
def test_points_that_are_earned_later_never_expire_earlier(
    earned_at: int, later: int, policy: ExpiryPolicy, zone: str
) -> None:
    assert expires_at(policy, earned_at, zone) <= expires_at(policy, earned_at + later, zone)


@given(instants, policies, zones)
def test_points_expire_after_they_are_earned_at_the_start_of_a_day(
    earned_at: int, policy: ExpiryPolicy, zone: str
) -> None:
    end = expires_at(policy, earned_at, zone)
    assert end > earned_at
    assert end == day_start(day_of(end, zone), zone)


@given(instants, st.integers(0, 120), zones)
def test_points_are_valid_on_the_same_day_of_the_last_month_or_on_its_last_day(
    earned_at: int, number: int, zone: str
) -> None:
    policy = ExpiryPolicy("months", number)
    first = date_of(day_of(earned_at, zone))
    last = date_of(day_of(expires_at(policy, earned_at, zone) - 1, zone))
    skipped = zone in ("Pacific/Apia", "Pacific/Kwajalein", "Pacific/Kiritimati")  # They once left out a day.
    assert skipped or (last.year - first.year) * 12 + last.month - first.month == number
    assert skipped or last.day == first.day or (last.day < first.day and (last + timedelta(days=1)).day == 1)


@given(instants, st.integers(0, 120), st.sampled_from(["month", "quarter", "year"]))
def test_points_are_valid_through_the_end_of_the_period(earned_at: int, number: int, until: str) -> None:
    exact = ExpiryPolicy("months", number)
    rounded = ExpiryPolicy("months", number, until)  # type: ignore[arg-type]
    end = date_of(day_of(expires_at(rounded, earned_at, "UTC"), "UTC"))
    step = {"month": 1, "quarter": 3, "year": 12}[until]
    assert end.day == 1
    assert (end.month - 1) % step == 0
    before = number_of(end) - 1
    start = add_months(before + 1, -step)
    assert start <= day_of(expires_at(exact, earned_at, "UTC") - 1, "UTC") <= before


@given(all_instants, zones, st.sampled_from(["never", "inactivity"]))
def test_points_do_not_expire_by_themselves(earned_at: int, zone: str, kind: str) -> None:
    assert expires_at(ExpiryPolicy(kind), earned_at, zone) == NEVER  # type: ignore[arg-type]


@given(
    all_instants | st.integers(LAST_INSTANT - 500 * MS_PER_DAY, LAST_INSTANT),
    policies | st.builds(ExpiryPolicy, st.sampled_from(["months", "days", "inactivity"]), st.integers(0, 10**7)),
    zones,
)
@example(LAST_INSTANT, ExpiryPolicy("date"), "Asia/Tokyo")
@example(LAST_INSTANT, ExpiryPolicy("months", 0, "year"), "Pacific/Kiritimati")
@example(0, ExpiryPolicy("months", 0), "America/New_York")
def test_every_instant_has_an_expiry_until_the_end_of_the_calendar(
    earned_at: int, policy: ExpiryPolicy, zone: str
) -> None:
    assert earned_at < expires_at(policy, earned_at, zone) <= NEVER
    inactive = inactive_at(policy, earned_at, zone)
    assert inactive is None or earned_at < inactive <= NEVER


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        (ExpiryPolicy(), "months_12_day"),
        (ExpiryPolicy("days", 30, "year"), "days_30_year"),
        (ExpiryPolicy("date", month_day="12-31"), "date_12-31"),
        (ExpiryPolicy("date"), "date_12-31"),
        (ExpiryPolicy("inactivity", 6), "inactivity_6"),
        (ExpiryPolicy("never"), "never"),
    ],
)
def test_a_policy_has_a_name(policy: ExpiryPolicy, name: str) -> None:
    assert policy.name == name


# -- when points become active, and when a customer becomes inactive ---------------------------------------------------


@pytest.mark.parametrize(
    ("number", "zone", "expected"),
    [
        pytest.param(14, "UTC", "2026-12-12T00:00Z", id="19"),
        (1, "UTC", "2026-11-29T00:00Z"),
        (1, "Asia/Tokyo", "2026-11-28T15:00Z"),
    ],
)
def test_pending_points_become_active_at_the_start_of_a_local_day(number: int, zone: str, expected: str) -> None:
    assert activates_at(number, instant("2026-11-28T10:00Z"), zone) == instant(expected)


def test_points_without_pending_days_are_active_at_once() -> None:
    assert activates_at(0, instant("2026-11-28T10:00Z"), "UTC") is None


@pytest.mark.parametrize(
    ("active_at", "number", "zone", "expected"),
    [
        ("2026-11-28T10:00Z", 6, "UTC", "2027-05-29T00:00Z"),
        ("2026-08-31T10:00Z", 6, "UTC", "2027-03-01T00:00Z"),
        ("2026-11-28T23:30Z", 1, "Europe/Berlin", "2026-12-29T23:00Z"),
    ],
)
def test_an_inactive_customer_keeps_points_through_a_local_day(
    active_at: str, number: int, zone: str, expected: str
) -> None:
    assert inactive_at(ExpiryPolicy("inactivity", number), instant(active_at), zone) == instant(expected)


@given(all_instants, policies, zones)
def test_only_a_policy_of_inactivity_looks_at_activity(active_at: int, policy: ExpiryPolicy, zone: str) -> None:
    assert inactive_at(policy, active_at, zone) is None


# -- days --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "zone", "expected"),
    [
        pytest.param("2026-09-06", "America/Santiago", "2026-09-06T04:00Z", id="gap from 00:00 to 01:00"),
        pytest.param("2026-11-01", "America/Havana", "2026-11-01T04:00Z", id="01:00 back to 00:00"),
        pytest.param("2018-02-18", "America/Sao_Paulo", "2018-02-18T03:00Z", id="00:00 back to 23:00"),
        pytest.param("2010-11-07", "America/St_Johns", "2010-11-07T02:30Z", id="00:01 back to 23:01"),
        pytest.param("1919-03-31", "America/Toronto", "1919-03-31T04:30Z", id="gap from 23:30 to 00:30"),
        pytest.param("2011-12-30", "Pacific/Apia", "2011-12-30T10:00Z", id="a day that was left out"),
        pytest.param("2011-12-31", "Pacific/Apia", "2011-12-30T10:00Z", id="the day after it"),
        pytest.param("1972-01-07", "Africa/Monrovia", "1972-01-07T00:44:30Z", id="gap of 44 minutes 30 seconds"),
        pytest.param("9999-12-31", "Pacific/Kiritimati", "9999-12-30T10:00Z", id="the last day"),
    ],
)
def test_a_day_starts_at_its_first_instant(day: str, zone: str, expected: str) -> None:
    assert rfc3339(day_start(number_of(date.fromisoformat(day)), zone)) == rfc3339(instant(expected))


@given(days, st.integers(1, 40 * 3_600), zones)
@example(number_of(date(1919, 3, 31)), 1, "America/Toronto")
@example(number_of(date(2010, 11, 7)), 1, "America/St_Johns")
def test_no_clock_shows_a_day_before_it_starts(day: int, seconds: int, zone: str) -> None:
    start = day_start(day, zone)
    assert shown_date(start, zone) >= date_of(day)
    assert shown_date(start - seconds * 1_000, zone) < date_of(day)


@given(all_instants, zones)
def test_an_instant_lies_between_the_start_of_its_day_and_of_the_next(at: int, zone: str) -> None:
    day = day_of(at, zone)
    assert day_start(day, zone) <= at < day_start(day + 1, zone)


@given(instants, zones)
def test_the_day_of_an_instant_is_what_a_clock_shows_or_has_shown(at: int, zone: str) -> None:
    """They differ only while a wall clock shows the end of a day again."""
    shown = number_of(shown_date(at, zone))
    again = zone == "America/St_Johns" and shown_date(at - 3_600_000, zone) > shown_date(at, zone)
    assert day_of(at, zone) == shown + again


def test_a_day_goes_on_where_a_clock_shows_the_end_of_the_one_before_again() -> None:
    """In St. John's, clocks went from 00:01 back to 23:01."""
    at = [instant(f"2010-11-07T{time}Z") for time in ("02:29:59", "02:30", "02:31", "03:29:59", "03:30")]
    shown = [shown_date(each, "America/St_Johns").day for each in at]
    counted = [date_of(day_of(each, "America/St_Johns")).day for each in at]
    assert (shown, counted) == ([6, 7, 6, 6, 7], [6, 7, 7, 7, 7])


@given(st.integers(FIRST_DAY, LAST_DAY), st.integers(0, 2_000), st.integers(-30_000, 200_000))
def test_months_keep_the_order_of_days(day: int, later: int, number: int) -> None:
    end = min(day + later, LAST_DAY)
    assert FIRST_DAY <= add_months(day, number) <= add_months(end, number) <= LAST_DAY


@given(days, st.integers(-600, 600))
def test_months_are_added_to_the_month(day: int, number: int) -> None:
    start, end = date_of(day), date_of(add_months(day, number))
    assert (end.year - start.year) * 12 + end.month - start.month == number
    assert end.day == start.day or (end.day < start.day and (end + timedelta(days=1)).day == 1)
