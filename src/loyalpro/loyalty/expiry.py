"""Days of the program's calendar, and when points become active and expire.

A day is counted from 1970-01-01 and belongs to the IANA time zone of the program. It lasts from its first instant to the first
of the next day, also where clocks go back over midnight and show the end of the day again. So later instants never have
earlier days, and points that are earned later never expire earlier. Points are valid through their last local day.
"""

import calendar
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs, unix_ms
from loyalpro.kernel.record import record

NEVER: Final = 253_402_300_800_000
"""The `expires_at` of points that do not expire: 10000-01-01T00:00:00Z. It sorts after every instant on both databases."""

Day = int
"""A local day, counted from 1970-01-01."""

_YEAR_END: Final = "12-31"
_EPOCH: Final = date(1970, 1, 1).toordinal()
FIRST_DAY: Final[Day] = date.min.toordinal() - _EPOCH
"""0001-01-01."""
LAST_DAY: Final[Day] = date.max.toordinal() - _EPOCH
"""9999-12-31."""


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
        if self.kind == "date":
            return f"date_{self.month_day or _YEAR_END}"
        return f"inactivity_{self.n}" if self.kind == "inactivity" else f"{self.kind}_{self.n}_{self.until}"


def expires_at(policy: ExpiryPolicy, earned_at: UnixMs, time_zone: str) -> UnixMs:
    """The first instant at which points that were earned at `earned_at` are not valid; `NEVER` if they stay valid."""
    return _expiry_of_day(policy, day_of(earned_at, time_zone), time_zone)


def activates_at(days: int, earned_at: UnixMs, time_zone: str) -> UnixMs | None:
    """When points become active that were earned at `earned_at`; None for 0 days, with which they are active at once.

    It is the first instant of the local day that comes `days` days after the one on which they were earned.
    """
    return day_start(day_of(earned_at, time_zone) + days, time_zone) if days else None


def inactive_at(policy: ExpiryPolicy, active_at: UnixMs, time_zone: str) -> UnixMs | None:
    """When the points of a customer expire that was last active at `active_at`; None without a policy of inactivity."""
    if policy.kind != "inactivity":
        return None
    return day_start(add_months(day_of(active_at, time_zone), policy.n) + 1, time_zone)


def day_of(instant: UnixMs, time_zone: str) -> Day:
    """The local day of an instant: the last day that has begun by then."""
    in_utc = instant // MS_PER_DAY
    for day in (in_utc + 1, in_utc):
        if day_start(day, time_zone) <= instant:
            return day
    return in_utc - 1


@lru_cache(maxsize=16_384)
def day_start(day: Day, time_zone: str) -> UnixMs:
    """The first instant of a local day: the first at which a wall clock shows this date or a later one.

    Where clocks go forward over midnight, that is the instant of the change; a day that a zone leaves out starts with the next
    one. Where they go back over midnight, which then occurs twice, it is the first one. Outside the dates that Python knows,
    and on the first of them, days are days of UTC.
    """
    if not FIRST_DAY < day <= LAST_DAY:
        return day * MS_PER_DAY
    midnight = datetime.combine(date_of(day), time.min, ZoneInfo(time_zone))
    before, after = (unix_ms(midnight.replace(fold=fold).astimezone(UTC)) for fold in (0, 1))
    # The offset before a gap is the smaller one, so in a gap fold 0 is the later instant of both.
    return before if before <= after else _change_between(after, before, midnight)


def add_months(day: Day, months: int) -> Day:
    """The same day of the month so many months later, or earlier if negative; the last day of the month if it is shorter."""
    start = date_of(day)
    years, month = divmod(start.month - 1 + months, 12)
    year, month = start.year + years, month + 1
    if year < date.min.year:
        return FIRST_DAY
    if year > date.max.year:
        return LAST_DAY
    return number_of(date(year, month, min(start.day, calendar.monthrange(year, month)[1])))


def number_of(day: date) -> Day:
    """A date as a number."""
    return day.toordinal() - _EPOCH


def date_of(day: Day) -> date:
    """The date of a day."""
    return date.fromordinal(day + _EPOCH)


@lru_cache(maxsize=4_096)
def _expiry_of_day(policy: ExpiryPolicy, earned_on: Day, time_zone: str) -> UnixMs:
    """The expiry of points that were earned on a day. Purchases of one day share it."""
    if policy.kind in ("never", "inactivity"):
        return NEVER
    return day_start(_last_day(policy, earned_on) + 1, time_zone)


def local_day(text: str) -> Day | None:
    """The day of a date such as `2026-11-28`; None for a date that does not exist, or is before 1970."""
    try:
        day = number_of(date.fromisoformat(text))
    except ValueError:
        return None
    return day if day >= 1 else None


def month_of(day: Day) -> str:
    """The month of a day, such as `2026-11`."""
    return f"{date_of(day):%Y-%m}"


def _last_day(policy: ExpiryPolicy, earned_on: Day) -> Day:
    """The last local day on which points are valid that were earned on a day."""
    if policy.kind == "date":
        return _next_month_day(earned_on, policy.month_day or _YEAR_END)
    last = min(earned_on + policy.n, LAST_DAY) if policy.kind == "days" else add_months(earned_on, policy.n)
    return _end_of_period(last, policy.until)


def _next_month_day(start: Day, month_day: str) -> Day:
    """The first day from `start` on with this month and day; in a shorter month, its last day."""
    month, day = int(month_day[:2]), int(month_day[3:])
    year = date_of(start).year
    for each in (year, year + 1):
        if each > date.max.year:
            break
        found = number_of(date(each, month, min(day, calendar.monthrange(each, month)[1])))
        if found >= start:
            return found
    return LAST_DAY


def _end_of_period(day: Day, until: str) -> Day:
    """The last day of the month, quarter or year of a day."""
    if until == "day":
        return day
    start = date_of(day)
    month = {"month": start.month, "quarter": (start.month + 2) // 3 * 3, "year": 12}[until]
    return number_of(date(start.year, month, calendar.monthrange(start.year, month)[1]))


def _change_between(low: UnixMs, high: UnixMs, midnight: datetime) -> UnixMs:
    """The instant at which the clocks go forward over a midnight: the first after `low` whose local date is not before it."""
    low_s, high_s = low // MS_PER_S, high // MS_PER_S
    while high_s - low_s > 1:
        middle = (low_s + high_s) // 2
        if datetime.fromtimestamp(middle, midnight.tzinfo).date() < midnight.date():
            low_s = middle
        else:
            high_s = middle
    return high_s * MS_PER_S
