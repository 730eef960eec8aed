"""What the churn models know of a customer: counts and spans of the local days with purchases."""

from collections.abc import Iterable
from datetime import date
from itertools import pairwise
from statistics import median
from typing import Final

from loyalpro.kernel.record import record

_LEAST_GAPS: Final = 2
"""With fewer gaps between purchases, a customer has no typical gap of its own."""


@record
class History:
    """The purchases of a customer: `repeats` after the first, the last of them `recency` after it, seen at `age` after it.

    `recency` and `age` are in one unit of time, days or weeks: that of the model's `alpha`.
    """

    repeats: int
    recency: float
    age: float


@record
class Features:
    """A customer as of a day. `typical_gap_days`: the median of the customer's own gaps, None with fewer than two."""

    repeat_purchases: int
    recency_days: int
    age_days: int
    typical_gap_days: float | None

    @property
    def days_since_last_purchase(self) -> int:
        """How long the customer has been silent."""
        return self.age_days - self.recency_days

    @property
    def history(self) -> History:
        """The purchases as the models take them, in days."""
        return History(self.repeat_purchases, self.recency_days, self.age_days)


def features(purchase_days: Iterable[date], as_of: date) -> Features | None:
    """The features of a customer from its days with net purchases, in any order. None without a purchase up to `as_of`.

    Purchases of one day count as one, and a day after `as_of` does not count.
    """
    days = sorted({day for day in purchase_days if day <= as_of})
    if not days:
        return None
    gaps = [(later - earlier).days for earlier, later in pairwise(days)]
    return Features(
        repeat_purchases=len(gaps),
        recency_days=sum(gaps),
        age_days=(as_of - days[0]).days,
        typical_gap_days=median(gaps) if len(gaps) >= _LEAST_GAPS else None,
    )


def program_gap_days(customers: Iterable[Features]) -> float | None:
    """The typical gap of a program: the median over its repeat customers, each with the median of its own gaps.

    A customer counts once, however often it buys. None without a repeat customer.
    """
    gaps = [_own_gap_days(each) for each in customers if each.repeat_purchases]
    return median(gaps) if gaps else None


def _own_gap_days(customer: Features) -> float:
    """The median of one gap or more."""
    return customer.recency_days if customer.typical_gap_days is None else customer.typical_gap_days
