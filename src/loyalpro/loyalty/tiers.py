"""Tiers: which one a customer qualifies for, over which days, and when it is reviewed."""

from collections.abc import Sequence
from datetime import date
from typing import Final, Literal

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.loyalty.expiry import FIRST_DAY, LAST_DAY, NEVER, Day, add_months, date_of, day_of, day_start, number_of

ALL_DAYS: Final = (FIRST_DAY, LAST_DAY)
"""The window `lifetime`."""

Metric = Literal["points_earned", "spend", "transactions"]
Downgrade = Literal["to_qualified", "one_level", "never"]


@record
class Benefit:
    """What a tier gives: a code for programs, and a text for people."""

    code: str
    text: str


@record
class Tier:
    """A tier. `rank` 1 is the lowest. A customer reaches it when its metric is at least `threshold` in the window.

    `multiplier_permille`: what purchases earn in this tier; 1000 is once. A retired tier is still read, and never reached.
    """

    id: str
    name: str
    rank: int
    threshold: int
    multiplier_permille: int = 1_000
    benefits: tuple[Benefit, ...] = ()
    retired_at: UnixMs | None = None


@record
class TierWindow:
    """The days that count: the last `n` months or days, a period of the calendar, a year from enrollment, or all of them."""

    kind: Literal["rolling", "calendar", "anniversary", "lifetime"] = "rolling"
    n: int = 12
    unit: Literal["months", "days"] = "months"
    period: Literal["year", "quarter", "month"] = "year"
    starts_month: int = 1


@record
class TierPolicy:
    """How customers move between tiers."""

    metric: Metric = "points_earned"
    window: TierWindow = TierWindow()
    downgrade: Downgrade = "to_qualified"
    grace_days: int = 0


def window_days(window: TierWindow, today: Day, enrolled_on: Day) -> tuple[Day, Day]:
    """The first and the last day of the window that contains today: a rolling one ends today, a period may end later."""
    if window.kind == "lifetime":
        return ALL_DAYS
    if window.kind == "rolling":
        return _roll(window, today, -1) + 1, today
    number = _period_of(window, today, enrolled_on)
    return _period_start(window, enrolled_on, number), _period_start(window, enrolled_on, number + 1) - 1


def review_at(policy: TierPolicy, today: Day, enrolled_on: Day, time_zone: str) -> UnixMs | None:
    """When a tier is reviewed that a customer qualified for today; None for never.

    A rolling window: after as many days or months as the window has. A period: at the end of the one after today's.
    """
    window = policy.window
    if window.kind == "lifetime":
        return None
    if window.kind == "rolling":
        day = _roll(window, today, 1) + 1
    else:
        day = _period_start(window, enrolled_on, _period_of(window, today, enrolled_on) + 2)
    instant = day_start(day, time_zone)
    return None if instant >= NEVER else instant


def review_deadline(policy: TierPolicy, now: UnixMs, time_zone: str) -> UnixMs:
    """Reviews whose time is not after this instant take place now: their days of grace are over, counted in local days."""
    if not policy.grace_days:
        return now
    return min(now, day_start(day_of(now, time_zone) - policy.grace_days + 1, time_zone) - 1)


def judged_day(reviewed_at: UnixMs, time_zone: str) -> Day:
    """The last day of the window that a review judges, however late it takes place."""
    return day_of(reviewed_at - 1, time_zone)


def next_review_at(
    policy: TierPolicy, reviewed_at: UnixMs, now: UnixMs, enrolled_on: Day, time_zone: str
) -> UnixMs | None:
    """When a tier is reviewed after the review of `reviewed_at`; None for never.

    The next window begins where the judged one ended, so that no day counts in neither. A review that is so late that the next
    one is due as well makes up for both.
    """
    following = review_at(policy, judged_day(reviewed_at, time_zone), enrolled_on, time_zone)
    if following is None or following > review_deadline(policy, now, time_zone):
        return following
    return review_at(policy, day_of(now, time_zone), enrolled_on, time_zone)


def qualified(tiers: Sequence[Tier], value: int) -> Tier:
    """The highest of these tiers whose threshold a value reaches; the lowest one if it reaches none."""
    reached = [tier for tier in tiers if tier.threshold <= value]
    return max(reached, key=_rank) if reached else min(tiers, key=_rank)


def raised(tiers: Sequence[Tier], current: Tier, value: int) -> Tier:
    """The tier that a customer has at once: the qualified one if it is higher, or if the current one is retired."""
    best = qualified(tiers, value)
    return best if current.retired_at is not None or best.rank > current.rank else current


def reviewed(tiers: Sequence[Tier], current: Tier, value: int, downgrade: Downgrade) -> Tier:
    """The tier of a customer after a review. `value`: the better one of the judged window and of today's."""
    best = qualified(tiers, value)
    if current.retired_at is not None or best.rank >= current.rank:
        return best
    if downgrade == "never":
        return current
    if downgrade == "to_qualified":
        return best
    return max((tier for tier in tiers if tier.rank < current.rank), key=_rank)


def is_locked(locked_until: UnixMs | None, now: UnixMs) -> bool:
    """Whether a lock keeps a customer in its tier."""
    return locked_until is not None and now < locked_until


def _rank(tier: Tier) -> int:
    return tier.rank


def _roll(window: TierWindow, day: Day, direction: int) -> Day:
    """The day that is a rolling window later, or earlier for -1."""
    if window.unit == "months":
        return add_months(day, direction * window.n)
    return min(max(day + direction * window.n, FIRST_DAY), LAST_DAY)


def _months(window: TierWindow) -> int:
    """How many months a period has."""
    return 12 if window.kind == "anniversary" else {"year": 12, "quarter": 3, "month": 1}[window.period]


def _period_start(window: TierWindow, enrolled_on: Day, number: int) -> Day:
    """The first day of a period. Periods are numbered from one that starts in 1970, or on the day of enrollment."""
    first = enrolled_on if window.kind == "anniversary" else number_of(date(1970, window.starts_month, 1))
    return add_months(first, number * _months(window))


def _period_of(window: TierWindow, day: Day, enrolled_on: Day) -> int:
    """The number of the period that contains a day."""
    first, given = date_of(_period_start(window, enrolled_on, 0)), date_of(day)
    number = ((given.year - first.year) * 12 + given.month - first.month) // _months(window)
    return number if _period_start(window, enrolled_on, number) <= day else number - 1
