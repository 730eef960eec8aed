"""Durations in ISO 8601: what is read, what is refused, and that what is shown reads back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.loyalty.fraud.durations import DAY, HOUR, MINUTE, SECOND, parse_duration, show_duration


@pytest.mark.parametrize(
    ("text", "duration", "shown"),
    [
        ("PT1H", HOUR, "PT1H"),
        ("PT24H", 24 * HOUR, "PT24H"),
        ("P1D", 24 * HOUR, "PT24H"),
        ("P60D", 60 * DAY, "P60D"),
        ("P2W", 14 * DAY, "P14D"),
        ("PT90M", 90 * MINUTE, "PT1H30M"),
        ("P2DT12H", 60 * HOUR, "P2DT12H"),
        ("PT0S", 0, "PT0S"),
        ("P1DT1H1M1S", 25 * HOUR + 61 * SECOND, "PT25H1M1S"),
    ],
)
def test_a_duration_is_read_and_shown(text: str, duration: int, shown: str) -> None:
    assert (parse_duration(text), show_duration(duration)) == (duration, shown)


@pytest.mark.parametrize(
    "text",
    ["", "P", "PT", "P1DT", "P1Y", "P1M", "PT1.5H", "PT-1H", "-PT1H", "1H", "pt1h", " PT1H", "PT1M1H", "PT\u0661H"],
)
def test_other_texts_are_no_durations(text: str) -> None:
    assert parse_duration(text) is None


@given(st.integers(0, 4_000 * 86_400))
def test_what_is_shown_reads_back(seconds: int) -> None:
    assert parse_duration(show_duration(seconds * SECOND)) == seconds * SECOND
