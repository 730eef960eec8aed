"""Charts of attempts: what stands where, for any numbers, and times in zones with summer time."""

import re
from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs
from loyalpro.web.dashboard.charts import chart, nice_top, sparkline
from loyalpro.webhooks.health import STEPS, Period, Span, starts_of

_HOUR_MS = 3600 * MS_PER_S
_BOTTOM, _TOP, _RIGHT = 160, 20, 720
_COUNTS = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=60)
_ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago"]


def at(year: int, month: int, day: int, hour: int = 0) -> UnixMs:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * MS_PER_S


def hours(*counts: tuple[int, int]) -> list[Span]:
    return [Span(n * _HOUR_MS, *each) for n, each in enumerate(counts)]


@given(_COUNTS)
def test_bars_are_within_the_chart_and_their_heights_are_as_their_numbers(counts: list[tuple[int, int]]) -> None:
    spans = hours(*counts)
    made = chart(spans, "hour", UTC)
    top = nice_top(max((sum(each) for each in counts), default=0))
    assert len(made.bars) == len(spans)
    for bar, span in zip(made.bars, spans, strict=True):
        assert bar.delivered_height + bar.failed_height == pytest.approx((span.delivered + span.failed) / top * 140)
        assert _TOP - 1e-6 <= bar.failed_y <= bar.delivered_y <= _BOTTOM
        assert bar.failed_y + bar.failed_height == pytest.approx(bar.delivered_y)
        assert bar.x + bar.width <= _RIGHT
    assert [y for y, _ in made.lines] == sorted((y for y, _ in made.lines), reverse=True)
    assert [made.lines[0], made.lines[-1][0]] == [(_BOTTOM, "0"), _TOP]


@given(st.integers(0, 10**12))
def test_the_top_is_a_round_number_that_everything_fits_below(most: int) -> None:
    top = nice_top(most)
    assert most <= top <= max(4, 2.5 * most)
    assert str(top // 4).rstrip("0") in ("1", "2", "3", "5")


def test_a_chart_says_each_number_and_a_summary() -> None:
    made = chart(hours((366, 0), (39, 1351)), "hour", UTC)
    assert [bar.says for bar in made.bars] == [
        "1 Jan, 00:00: 366 delivered, 0 failed",
        "1 Jan, 01:00: 39 delivered, 1,351 failed",
    ]
    expected = "Attempts by the hour: 405 delivered, 1,351 failed. Most failed in one hour: 1,351."
    assert made.summary == expected
    assert chart([], "day", UTC).summary == "Attempts by the day: 0 delivered, 0 failed."


@given(_COUNTS)
def test_a_sparkline_has_a_mark_for_each_span_and_nothing_outside(counts: list[tuple[int, int]]) -> None:
    svg = sparkline(hours(*counts))
    kinds = re.findall(r"f-(\w+)", svg)
    assert kinds.count("track") == sum(not any(each) for each in counts)
    assert kinds.count("ok") <= sum(each[0] > 0 for each in counts)
    assert kinds.count("bad") <= sum(each[1] > 0 for each in counts)
    for y, height in re.findall(r' y="([\d.]+)"[^>]* height="([\d.]+)"', svg):
        assert 0 <= float(y) <= float(y) + float(height) <= 26.11


@pytest.mark.parametrize("zone", _ZONES)
@pytest.mark.parametrize("period", STEPS)
@given(now=st.integers(at(2026, 1, 1), at(2027, 12, 31)))
def test_spans_follow_one_another_and_the_last_one_holds_now(zone: str, period: Period, now: UnixMs) -> None:
    starts = starts_of(period, now, ZoneInfo(zone))
    lengths = [after - before for before, after in pairwise(starts)]
    assert starts[-1] <= now < starts[-1] + MS_PER_DAY + _HOUR_MS
    assert all(0 < each <= MS_PER_DAY + _HOUR_MS for each in lengths)
    if period == "30d":
        local = [datetime.fromtimestamp(each / MS_PER_S, ZoneInfo(zone)) for each in starts]
        assert len({each.date() for each in local}) == len(starts)
        assert all(each.hour in (0, 1) for each in local)
        assert {each for each in lengths if each != MS_PER_DAY} <= {
            MS_PER_DAY + n * _HOUR_MS // 2 for n in (-2, -1, 1, 2)
        }
    else:
        assert len(set(lengths)) == 1


def test_the_hours_of_a_change_of_summer_time_are_labeled_once() -> None:
    zone = ZoneInfo("Europe/Berlin")
    starts = starts_of("24h", at(2026, 10, 25, 12), zone)
    labels = [bar.label for bar in chart([Span(each, 1, 0) for each in starts], "hour", zone).bars]
    assert [each for each in labels if each] == ["15", "18", "21", "00", "03", "06", "09", "12"]
    twice = ZoneInfo("America/Havana")  # its clocks go from one o'clock back to midnight
    spans = [Span(each, 1, 0) for each in starts_of("24h", at(2026, 11, 1, 17), twice)]
    assert [bar.label for bar in chart(spans, "hour", twice).bars].count("00") == 1
    week = starts_of("7d", at(2026, 10, 26, 12), zone)
    days = [bar.label for bar in chart([Span(each, 1, 0) for each in week], "hour", zone).bars]
    assert [each for each in days if each] == [f"{n} Oct" for n in range(20, 27)]
