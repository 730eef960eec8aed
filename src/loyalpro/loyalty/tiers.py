"""Tiers: which one a customer qualifies for, over which days, and when it is reviewed."""

from typing import Literal

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record

Metric = Literal["points_earned", "spend", "transactions"]


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
    downgrade: Literal["to_qualified", "one_level", "never"] = "to_qualified"
    grace_days: int = 0
