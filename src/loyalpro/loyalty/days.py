"""What is added to the days of a customer: purchases, spend, points, refunds and redemptions, each on its local day."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from typing import Final

from loyalpro.loyalty.entities import DayTotals
from loyalpro.loyalty.expiry import Day


@dataclass(slots=True)
class _Changes:
    purchases: int = 0
    spend: int = 0
    points_qualifying: int = 0
    refunds: int = 0
    refunded: int = 0
    redemptions: int = 0
    points_redeemed: int = 0


_COUNTED: Final = tuple(each.name for each in fields(_Changes))
_values: Final = attrgetter(*_COUNTED)


class Days:
    """The changes of one customer's days, in memory."""

    def __init__(self, account_id: str, customer_id: str) -> None:
        self._account_id = account_id
        self._customer_id = customer_id
        self._changes: dict[Day, _Changes] = {}

    def add(
        self,
        day: Day,
        *,
        purchases: int = 0,
        spend: int = 0,
        points_qualifying: int = 0,
        refunds: int = 0,
        refunded: int = 0,
        redemptions: int = 0,
        points_redeemed: int = 0,
    ) -> None:
        """Add to a day. A refund subtracts from `spend` and `points_qualifying` of the day of its purchase."""
        changes = self._changes.setdefault(day, _Changes())
        changes.purchases += purchases
        changes.spend += spend
        changes.points_qualifying += points_qualifying
        changes.refunds += refunds
        changes.refunded += refunded
        changes.redemptions += redemptions
        changes.points_redeemed += points_redeemed

    def arrive(self, left: "Days") -> None:
        """Take over the changes of another customer's days, which then has none."""
        for day, each in left.take():
            self.add(day, **asdict(each))

    def take(self) -> list[tuple[Day, _Changes]]:
        """Hand over all changes; none is left."""
        taken, self._changes = list(self._changes.items()), {}
        return taken

    def added(self, first: Day, last: Day) -> DayTotals:
        """The sum of what is added to the days from `first` to `last`."""
        added = [each for each in self.changed() if first <= each.day <= last]
        return DayTotals(
            self._customer_id,
            last,
            self._account_id,
            sum(each.purchases for each in added),
            sum(each.spend for each in added),
            sum(each.points_qualifying for each in added),
            sum(each.refunds for each in added),
            sum(each.refunded for each in added),
            sum(each.redemptions for each in added),
            sum(each.points_redeemed for each in added),
        )

    def changed(self) -> Iterator[DayTotals]:
        """What is to be added to each stored day."""
        return (self._totals(day) for day in self._changes)

    def with_changes(self, day: Day, stored: DayTotals | None) -> DayTotals:
        """A day as it is after these changes. `stored` None: nothing is stored of it."""
        added = self._totals(day)
        if stored is None:
            return added
        sums = {name: getattr(stored, name) + getattr(added, name) for name in _COUNTED}
        return DayTotals(self._customer_id, day, self._account_id, **sums)

    def _totals(self, day: Day) -> DayTotals:
        changes = self._changes.get(day, _Changes())
        return DayTotals(self._customer_id, day, self._account_id, *_values(changes))
