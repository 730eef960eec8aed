"""Durations of fixed length in the notation of ISO 8601: weeks, days, hours, minutes and seconds."""

import re
from typing import Final

from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S

DurationMs = int
"""A length of time in milliseconds."""

SECOND: Final[DurationMs] = MS_PER_S
MINUTE: Final[DurationMs] = 60 * SECOND
HOUR: Final[DurationMs] = 60 * MINUTE
DAY: Final[DurationMs] = MS_PER_DAY

_WEEK: Final[DurationMs] = 7 * DAY
_SHAPE: Final = re.compile(
    r"P(?!$)(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?=\d)(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,6})S)?)?", re.ASCII
)
_UNITS: Final = (_WEEK, DAY, HOUR, MINUTE, SECOND)
_SHORTEST_IN_DAYS: Final = 2 * DAY


def parse_duration(text: str) -> DurationMs | None:
    """`PT1H`, `P30D` or `P1DT12H` in milliseconds; None for anything else, months and years included: they differ in length."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        return None
    return sum(int(count or 0) * unit for count, unit in zip(match.groups(), _UNITS, strict=True))


def show_duration(duration: DurationMs) -> str:
    """The shortest form of a duration of whole seconds. One of less than two days has no days: `PT24H`."""
    days, rest = divmod(duration, DAY) if duration >= _SHORTEST_IN_DAYS else (0, duration)
    hours, rest = divmod(rest, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    parts = ((hours, "H"), (minutes, "M"), (rest // SECOND, "S"))
    time = "".join(f"{count}{unit}" for count, unit in parts if count)
    if not days:
        return f"PT{time or '0S'}"
    return f"P{days}D{'T' if time else ''}{time}"
