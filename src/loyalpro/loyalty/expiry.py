"""Days of the program's calendar, and when points become active and expire.

A day is counted from 1970-01-01 and belongs to the IANA time zone of the program. Points are valid through their last local
day.
"""

import calendar
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

from loyalpro.kernel.clock import MS_PER_S, UnixMs, unix_ms
from loyalpro.kernel.record import record

NEVER: Final = 253_402_300_800_000
"""The `expires_at` of points that do not expire: 10000-01-01T00:00:00Z. It sorts after every instant on both databases."""

Day = int
"""A local day, counted from 1970-01-01."""

_EPOCH: Final = date(1970, 1, 1).toordinal()


@record
class ExpiryPolicy:
    """How long points last. `n`: months or days; `until`: the end of the period of which day the points last.

    `months` and `days` count from the local day on which the points were earned. `date`: through the next `month_day`, such as
    `12-31`. `inactivity`: all points expire `n` months after the customer last earned or redeemed any. `never`: no expiry.
    """

    kind: Literal["months", "days", "date", "inactivity", "never"] = "months"
    n: int = 12
    until: Literal["day", "month", "quarter", "year"] = "day"
    month_day: str | None = None

    @property
    def name(self) -> str:
        """The policy in a word, as events show it: `months_12_day`."""
        if self.kind == "never":
            return "never"
        return f"date_{self.month_day}" if self.kind == "date" else f"{self.kind}_{self.n}_{self.until}"


@lru_cache(maxsize=4_096)
def expires_at(policy: ExpiryPolicy, earned_at: UnixMs, time_zone: str) -> UnixMs:
    """The first instant at which points that were earned at `earned_at` are not valid any more; `NEVER` if they stay valid."""
    if policy.kind in ("never", "inactivity"):
        return NEVER
    return day_start(_last_day(policy, day_of(earned_at, time_zone)) + 1, time_zone)


def activates_at(days: int, earned_at: UnixMs, time_zone: str) -> UnixMs | None:
    """The first instant of the local day after `days` days: when points that are pending so long become active."""
    return day_start(day_of(earned_at, time_zone) + days + 1, time_zone) if days else None


def inactive_at(policy: ExpiryPolicy, active_at: UnixMs, time_zone: str) -> UnixMs | None:
    """When the points of a customer expire that was last active at `active_at`; None without a policy of inactivity."""
    if policy.kind != "inactivity":
        return None
    last = _add_months(_date(day_of(active_at, time_zone)), policy.n)
    return day_start(_day(last) + 1, time_zone)


@lru_cache(maxsize=4_096)
def day_of(instant: UnixMs, time_zone: str) -> Day:
    """The local day of an instant."""
    return _day(datetime.fromtimestamp(instant / MS_PER_S, ZoneInfo(time_zone)).date())


@lru_cache(maxsize=4_096)
def day_start(day: Day, time_zone: str) -> UnixMs:
    """The first instant of a local day.

    Where clocks go forward at midnight, 00:00 does not exist. Python gives it the offset from before the gap, and that instant
    is exactly the end of the gap, which is the first of the day. Where midnight occurs twice, `fold=0` is the first one.
    """
    return unix_ms(datetime.combine(_date(day), time.min, ZoneInfo(time_zone)).astimezone(UTC))


def local_day(text: str) -> Day | None:
    """The day of a date such as `2026-11-28`; None for a date that does not exist, or is before 1970."""
    try:
        day = _day(date.fromisoformat(text))
    except ValueError:
        return None
    return day if day >= 1 else None


def month_of(day: Day) -> str:
    """The month of a day, such as `2026-11`."""
    return f"{_date(day):%Y-%m}"


def _last_day(policy: ExpiryPolicy, earned_on: Day) -> Day:
    """The last local day on which points are valid that were earned on a day."""
    start = _date(earned_on)
    if policy.kind == "date":
        return _day(_next_month_day(start, policy.month_day or "12-31"))
    last = start + timedelta(days=policy.n) if policy.kind == "days" else _add_months(start, policy.n)
    return _day(_end_of_period(last, policy.until))


def _next_month_day(start: date, month_day: str) -> date:
    month, day = int(month_day[:2]), int(month_day[3:])
    for year in (start.year, start.year + 1):
        found = date(year, month, min(day, calendar.monthrange(year, month)[1]))
        if found >= start:
            return found
    raise AssertionError("the month and day of the next year are after every day of this one")


def _end_of_period(day: date, until: str) -> date:
    """The last day of the month, quarter or year of a day."""
    month = {"day": None, "month": day.month, "quarter": (day.month + 2) // 3 * 3, "year": 12}[until]
    return day if month is None else date(day.year, month, calendar.monthrange(day.year, month)[1])


def _add_months(day: date, months: int) -> date:
    years, month = divmod(day.month - 1 + months, 12)
    year, month = day.year + years, month + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def _day(day: date) -> Day:
    return day.toordinal() - _EPOCH


def _date(day: Day) -> date:
    return date.fromordinal(day + _EPOCH)
