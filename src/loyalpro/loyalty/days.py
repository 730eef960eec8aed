"""What is added to the days of a customer: purchases, spend, points, refunds and redemptions, each on its local day."""

from collections.abc import Iterator
from dataclasses import dataclass

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
        for day, each in self._changes.items():
            yield DayTotals(
                self._customer_id,
                day,
                self._account_id,
                each.purchases,
                each.spend,
                each.points_qualifying,
                each.refunds,
                each.refunded,
                each.redemptions,
                each.points_redeemed,
            )
