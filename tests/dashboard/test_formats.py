"""How numbers, times and names are written."""

from zoneinfo import ZoneInfo

import pytest

from loyalpro.kernel.clock import MS_PER_DAY
from loyalpro.web.dashboard.formats import (
    Times,
    count,
    duration,
    event_name,
    masked,
    money,
    number,
    share,
    signed,
    size,
    tail,
)

SATURDAY = 1_795_859_124_123
"""2026-11-28T09:45:24.123Z."""


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1, "1"), (1_284, "1,284"), (-50, "\u221250"), (10_000, "10,000"), (10_001, "10,001")]
)
def test_numbers_have_separators_and_a_true_minus_sign(value: int, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (1, "1"), (10_000, "10,000"), (10_001, "10,000+")])
def test_rows_are_counted_up_to_a_limit(value: int, text: str) -> None:
    assert count(value) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (8_304, 8_890, "93.40 %"),
        (1, 1, "100 %"),
        (999_999, 1_000_000, "99.99 %"),
        (1, 1_000_000, "0.01 %"),
        (0, 5, "0 %"),
        (1, 2, "50 %"),
        (0, 0, "\u2013"),
    ],
)
def test_a_share_is_all_or_nothing_only_when_it_is(part: int, whole: int, text: str) -> None:
    assert share(part, whole) == text


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (None, "\u2013"),
        (0, "0 ms"),
        (3.14, "3.1 ms"),
        (61, "61 ms"),
        (999.4, "999 ms"),
        (999.6, "1.00 s"),
        (1_204, "1.20 s"),
        (9_996, "10.0 s"),
        (30_000, "30.0 s"),
        (59_960, "1 min"),
        (134_000, "2 min 14 s"),
        (3_600_000, "1 h"),
        (71 * 3_600_000 + 40 * 60_000, "71 h 40 min"),
        (5 * MS_PER_DAY, "5 days"),
    ],
)
def test_a_duration_has_the_unit_that_fits(ms: float | None, text: str) -> None:
    assert duration(ms) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 bytes"), (1, "1 byte"), (771, "771 bytes"), (12_600, "12.3 KB"), (1_572_864, "1.5 MB")]
)
def test_a_size_has_the_unit_that_fits(value: int, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ada Brandt", "A… B…dt"),
        ("ada@example.com", "a…om"),
        ("Ada", "A…"),
        ("", ""),
        ("  ", ""),
        ("مريم حسن", "م… ح…سن"),
    ],
)
def test_a_masked_text_keeps_initials_and_two_characters(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_an_id_is_cut_to_its_tail() -> None:
    assert tail("dlv_01m8793d0xn5jh2v2cqxwp5zmg") == "dlv_…wp5zmg"


def test_an_event_type_may_break_behind_its_dot_and_is_escaped() -> None:
    assert event_name("points.earned") == "points.<wbr>earned"
    assert event_name("<b>.x") == "&lt;b&gt;.<wbr>x"


@pytest.mark.parametrize(
    ("zone", "short"),
    [
        ("Europe/Berlin", "today, 10:45:24"),
        ("Asia/Kolkata", "today, 15:15:24"),
        ("America/St_Johns", "today, 06:15:24"),
        ("Pacific/Kiritimati", "today, 23:45:24"),
    ],
)
def test_a_time_is_that_of_the_reader(zone: str, short: str) -> None:
    shown = Times(ZoneInfo(zone), SATURDAY).short(SATURDAY)
    assert f">{short}<" in shown
    assert 'datetime="2026-11-28T09:45:24.123Z"' in shown


def test_the_day_of_a_time_is_that_of_the_reader() -> None:
    times = Times(ZoneInfo("Europe/Berlin"), SATURDAY)
    assert ">tomorrow, 00:30<" in times.short(SATURDAY + 13 * 3_600_000 + 2_676_000)
    assert ">yesterday, 23:45<" in times.short(SATURDAY - 11 * 3_600_000)
    assert ">Tue 1 Dec, 10:45<" in times.short(SATURDAY + 3 * MS_PER_DAY)
    assert ">8 Dec, 10:45<" in times.short(SATURDAY + 10 * MS_PER_DAY)
    assert ">28 Nov 2025, 10:45<" in times.short(SATURDAY - 365 * MS_PER_DAY)


@pytest.mark.parametrize(
    ("zone", "before", "after"),
    [
        ("Europe/Berlin", "29 Mar 2026, 01:59:59.000", "29 Mar 2026, 03:00:00.000"),
        ("America/New_York", "28 Mar 2026, 20:59:59.000", "28 Mar 2026, 21:00:00.000"),
        ("UTC", "29 Mar 2026, 00:59:59.000", "29 Mar 2026, 01:00:00.000"),
        ("Australia/Lord_Howe", "29 Mar 2026, 11:59:59.000", "29 Mar 2026, 12:00:00.000"),
    ],
)
def test_times_are_right_on_both_sides_of_a_change_to_summer_time(zone: str, before: str, after: str) -> None:
    change = 1_774_746_000_000  # 2026-03-29T01:00:00Z, when Berlin goes from 02:00 to 03:00
    times = Times(ZoneInfo(zone), SATURDAY)
    assert f">{before}<" in times.exact(change - 1_000)
    assert f">{after}<" in times.exact(change)


def test_a_day_that_is_23_hours_ago_across_the_change_is_still_yesterday() -> None:
    noon = 1_774_778_400_000  # 2026-03-29T10:00:00Z, 12:00 in Berlin
    assert ">yesterday, 12:00<" in Times(ZoneInfo("Europe/Berlin"), noon).short(noon - 23 * 3_600_000)


@pytest.mark.parametrize(
    ("gone_ms", "text"),
    [
        (0, "now"),
        (999, "now"),
        (5_400, "5 s ago"),
        (59_999, "59 s ago"),
        (240_000, "4 min ago"),
        (3 * 3_600_000, "3 h ago"),
        (2 * MS_PER_DAY, "26 Nov"),
        (400 * MS_PER_DAY, "24 Oct 2025"),
        (-134_000, "in 2 min 14 s"),
    ],
)
def test_how_long_ago_something_was(gone_ms: int, text: str) -> None:
    shown = Times(ZoneInfo("Europe/Berlin"), SATURDAY).ago(SATURDAY - gone_ms)
    assert f" data-relative>{text}<" in shown


def test_what_has_not_happened_has_a_dash() -> None:
    times = Times(ZoneInfo("UTC"), SATURDAY)
    assert {times.ago(None), times.exact(None), times.short(None), times.day(None), times.clock(None)} == {"\u2013"}


def test_a_table_shows_the_time_today_and_else_the_day() -> None:
    times = Times(ZoneInfo("Europe/Berlin"), SATURDAY)
    assert ">10:45:24<" in times.clock(SATURDAY)
    assert ">25 Nov<" in times.clock(SATURDAY - 3 * MS_PER_DAY)


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [
        (191420, "EUR", "1,914.20 EUR"),
        (5, "EUR", "0.05 EUR"),
        (-1800, "EUR", "\u221218.00 EUR"),
        (1200, "JPY", "1,200 JPY"),
        (1234567, "KWD", "1,234.567 KWD"),
    ],
)
def test_money_has_the_digits_of_its_currency(amount: int, currency: str, written: str) -> None:
    assert money(amount, currency) == written


@pytest.mark.parametrize(("value", "written"), [(50, "+50"), (-1300, "\u22121,300"), (0, "0")])
def test_a_change_has_a_sign(value: int, written: str) -> None:
    assert signed(value) == written
