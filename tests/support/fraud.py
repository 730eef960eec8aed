"""What fraud rules are judged against, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.expiry import Day
from loyalpro.loyalty.fraud.measure import Credit, Moment, PurchaseFact, SeenCustomer, Sighting, Spending


@dataclass
class Past:
    """Satisfies `Measures`. `asked` names the measures that were used."""

    purchases: list[PurchaseFact] = field(default_factory=list)
    points: dict[tuple[str, Day], int] = field(default_factory=dict)
    sightings: dict[Sighting, list[SeenCustomer]] = field(default_factory=dict)
    redemptions: list[Moment] = field(default_factory=list)
    spending: Spending = field(default_factory=Spending)
    credits: list[Credit] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def purchases_of(self, customer_id: str) -> Sequence[PurchaseFact]:
        self.asked.append("purchases_of")
        return [each for each in reversed(self.purchases) if each.customer_id == customer_id]

    def points_on(self, customer_id: str, day: Day) -> int:
        self.asked.append("points_on")
        return self.points.get((customer_id, day), 0)

    def seen(self, sighting: Sighting, since: UnixMs) -> Sequence[SeenCustomer]:
        self.asked.append("seen")
        return self.sightings.get(sighting, [])

    def redemptions_of(self, customer_id: str, count: int) -> Sequence[Moment]:
        self.asked.append("redemptions_of")
        return list(reversed(self.redemptions))[:count]

    def spending_of(self, customer_id: str, first_day: Day) -> Spending:
        self.asked.append("spending_of")
        return self.spending

    def credits_by(self, actor: str, since: UnixMs, count: int) -> Sequence[Credit]:
        self.asked.append("credits_by")
        return list(reversed(self.credits))[:count]
