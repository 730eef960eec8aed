"""What is added to the days of a customer: purchases, spend, points, refunds and redemptions, each on its local day."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

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

    def arrive(self, left: "Days") -> None:
        """Take over the changes of another customer's days, which then has none."""
        for day, each in left.take():
            self.add(day, **asdict(each))

    def take(self) -> list[tuple[Day, _Changes]]:
        """Hand over all changes; none is left."""
        taken, self._changes = list(self._changes.items()), {}
        return taken

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
