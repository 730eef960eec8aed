"""Prices the orders of one command: reads for all of them what prices depend on, and counts what earlier ones used up.

A batch of orders is priced as if each came alone: the uses of campaigns and the points of a day grow from one to the next.
"""

from collections import Counter
from collections.abc import Collection

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.expiry import Day, day_of
from loyalpro.loyalty.orders import Order
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.pricing import Earner, Priced, price
from loyalpro.loyalty.program import Rules


class Pricer:
    """Prices orders of these customers, which happened at these times.

    It reads the campaigns of the account; how often each was used, if one has a limit; and the points of days, if the program
    limits them.
    """

    def __init__(
        self,
        unit: LoyaltyUnit,
        account_id: str,
        rules: Rules,
        customer_ids: Collection[str],
        times: Collection[UnixMs],
    ) -> None:
        self._unit = unit
        self._rules = rules
        self._campaigns = unit.campaigns.during(account_id, min(times), max(times)) if times else ()
        self._limited = {each.id for each in self._campaigns if each.limit_per_customer is not None}
        self._uses: Counter[tuple[str, str]] = Counter()
        self._new_uses: Counter[tuple[str, str]] = Counter()
        self._earned: Counter[tuple[str, Day]] = Counter()
        if customer_ids and self._limited:
            self._uses.update(unit.campaigns.uses(self._limited, customer_ids))
        if customer_ids and rules.earning.max_points_per_day is not None:
            self._read_days(customer_ids, {day_of(each, rules.time_zone) for each in times})

    def price(self, customer: Customer, order: Order, occurred_at: UnixMs) -> Priced:
        """What an order of a customer earns, after those that were noted. It changes nothing."""
        uses = {id_: self._uses[id_, customer.id] for id_ in self._limited} if self._limited else {}
        earned = self._earned[customer.id, day_of(occurred_at, self._rules.time_zone)] if self._earned else 0
        earner = Earner(customer.tier, customer.tags, uses, earned)
        priced = price(order, self._rules, earner, self._campaigns, occurred_at)
        if customer.earning_blocked:
            return Priced(0, priced.eligible_amount, priced.base_amount, ())
        return priced

    def note(self, customer_id: str, priced: Priced, occurred_at: UnixMs) -> None:
        """Count an order that takes place."""
        for campaign_id in priced.campaign_ids:
            if campaign_id in self._limited:
                self._uses[campaign_id, customer_id] += 1
                self._new_uses[campaign_id, customer_id] += 1
        if self._rules.earning.max_points_per_day is not None:
            self._earned[customer_id, day_of(occurred_at, self._rules.time_zone)] += priced.points

    def write(self) -> None:
        """Store how often campaigns were used."""
        if self._new_uses:
            self._unit.campaigns.add_uses(self._new_uses)

    def _read_days(self, customer_ids: Collection[str], days: Collection[Day]) -> None:
        for day in days:
            for customer_id, totals in self._unit.days.totals(customer_ids, day, day).items():
                self._earned[customer_id, day] = max(0, totals.points_qualifying)
