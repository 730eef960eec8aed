"""The instant at which points expire: month ends, leap days, and days on which clocks change."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.clock import MS_PER_DAY, rfc3339, unix_ms
from loyalpro.loyalty.expiry import expires_at

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "America/Havana",
    "America/Sao_Paulo",
    "Asia/Beirut",
    "Asia/Tokyo",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Pacific/Apia",
)
FIRST, LAST = (unix_ms(datetime(year, 1, 1, tzinfo=UTC)) for year in (1990, 2090))

instants = st.integers(FIRST, LAST)
months = st.integers(0, 120)
zones = st.sampled_from(ZONES)


@pytest.mark.parametrize(
    ("earned_at", "number", "zone", "expected"),
    [
        ("2026-01-31T12:00:00.000Z", 1, "UTC", "2026-03-01T00:00:00.000Z"),
        ("2024-01-31T12:00:00.000Z", 1, "UTC", "2024-03-01T00:00:00.000Z"),
        ("2024-02-29T12:00:00.000Z", 12, "UTC", "2025-03-01T00:00:00.000Z"),
        ("2024-02-29T12:00:00.000Z", 48, "UTC", "2028-03-01T00:00:00.000Z"),
        ("2026-12-31T23:59:59.999Z", 2, "UTC", "2027-03-01T00:00:00.000Z"),
        ("2026-11-28T10:00:00.000Z", 0, "UTC", "2026-11-29T00:00:00.000Z"),
        ("2027-12-31T23:30:00.000Z", 2, "Asia/Tokyo", "2028-03-01T15:00:00.000Z"),
        ("2027-12-30T23:30:00.000Z", 2, "Asia/Tokyo", "2028-02-29T15:00:00.000Z"),
        ("2026-11-28T23:30:00.000Z", 12, "Europe/Berlin", "2027-11-29T23:00:00.000Z"),
        ("2026-11-28T12:00:00.000Z", 12, "America/New_York", "2027-11-29T05:00:00.000Z"),
        ("2025-09-05T15:00:00.000Z", 12, "America/Santiago", "2026-09-06T04:00:00.000Z"),
        ("2026-09-28T12:00:00.000Z", 6, "Europe/Berlin", "2027-03-28T22:00:00.000Z"),
        ("2026-04-25T12:00:00.000Z", 6, "Europe/Berlin", "2026-10-25T23:00:00.000Z"),
        ("2026-10-31T12:00:00.000Z", 0, "America/Havana", "2026-11-01T04:00:00.000Z"),
    ],
)
def test_points_are_valid_through_the_last_local_day(earned_at: str, number: int, zone: str, expected: str) -> None:
    assert rfc3339(expires_at(unix_ms(datetime.fromisoformat(earned_at)), number, zone)) == expected


@given(instants, st.integers(0, 400 * MS_PER_DAY), months, zones)
def test_points_that_are_earned_later_never_expire_earlier(earned_at: int, later: int, number: int, zone: str) -> None:
    assert expires_at(earned_at, number, zone) <= expires_at(earned_at + later, number, zone)


@given(instants, months, zones)
def test_points_expire_at_the_first_instant_of_a_local_day(earned_at: int, number: int, zone: str) -> None:
    """It is a local midnight, or the end of the gap on a day whose midnight the clocks leave out."""
    end = expires_at(earned_at, number, zone)
    before, at = (datetime.fromtimestamp(instant / 1_000, ZoneInfo(zone)) for instant in (end - 1, end))
    assert before.date() < at.date()
    assert at.hour * 60 + at.minute == 0 or at.replace(hour=0, minute=0).astimezone(UTC) == at.astimezone(UTC)


@given(instants, months, zones)
def test_points_are_valid_on_the_same_day_of_the_last_month_or_on_its_last_day(
    earned_at: int, number: int, zone: str
) -> None:
    first = datetime.fromtimestamp(earned_at / 1_000, ZoneInfo(zone)).date()
    last = datetime.fromtimestamp((expires_at(earned_at, number, zone) - 1) / 1_000, ZoneInfo(zone)).date()
    assert (last.year - first.year) * 12 + last.month - first.month == number
    assert last.day == first.day or (last.day < first.day and (last + timedelta(days=1)).day == 1)
