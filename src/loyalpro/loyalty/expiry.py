"""When points expire: after whole months in the calendar of the program's time zone, valid through the last local day."""

import calendar
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from loyalpro.kernel.clock import MS_PER_S, UnixMs, unix_ms


@lru_cache(maxsize=1_024)
def expires_at(earned_at: UnixMs, months: int, time_zone: str) -> UnixMs:
    """The first instant at which points earned at `earned_at` are no longer valid. `time_zone` is an IANA name.

    Jan 31 + 1 month is Feb 28 or 29. Points are valid through that day, so they expire at the start of the next local day.
    """
    zone = ZoneInfo(time_zone)
    earned_on = datetime.fromtimestamp(earned_at / MS_PER_S, zone).date()
    return _start_of_day(_add_months(earned_on, months) + timedelta(days=1), zone)


def _add_months(day: date, months: int) -> date:
    years, month = divmod(day.month - 1 + months, 12)
    year, month = day.year + years, month + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


@lru_cache(maxsize=4_096)
def _start_of_day(day: date, zone: ZoneInfo) -> UnixMs:
    """The first instant of a local day.

    Where clocks go forward at midnight, 00:00 does not exist. Python gives it the offset from before the gap, and that instant
    is exactly the end of the gap, which is the first of the day. Where midnight occurs twice, `fold=0` is the first one.
    """
    return unix_ms(datetime.combine(day, time.min, zone).astimezone(UTC))
