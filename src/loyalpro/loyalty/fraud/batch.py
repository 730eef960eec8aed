"""What fraud rules are measured with in one database transaction: each measure is read once for all events of the command."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Final

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.expiry import Day, day_of, day_start
from loyalpro.loyalty.fraud.durations import MINUTE, DurationMs
from loyalpro.loyalty.fraud.measure import (
    Credit,
    Moment,
    NewPurchase,
    PurchaseFact,
    SeenCustomer,
    Sighting,
    Spending,
    newest_purchases,
    purchases_since,
)
from loyalpro.loyalty.fraud.ports import FraudUnit
from loyalpro.loyalty.fraud.rules import RefundAbuse, RuleSet

CLOCK_SKEW: Final[DurationMs] = 5 * MINUTE
"""How far the clock of a caller may be ahead of the clock of the server."""

MOST_SEEN: Final = 21
"""How many customers of one value are looked at: more than the highest threshold of a rule."""

Plan = Callable[[], Iterable[NewPurchase]]
"""The purchases that a command is going to record, as far as they are known before their points."""


class BatchMeasures:
    """Satisfies `Measures` for the customers of a book. What the command records is noted here, and counts from then on."""

    def __init__(self, unit: FraudUnit, book: Book, rules: RuleSet, plan: Plan) -> None:
        self._unit = unit
        self._book = book
        self._rules = rules
        self._plan = plan
        self._time_zone = book.program.rules.time_zone
        self._last_purchases = {each.id: each.profile.last_purchase_at for each in book.wallets}
        self._stored_purchases: dict[str, Sequence[PurchaseFact]] | None = None
        self._purchases: dict[str, list[PurchaseFact]] = {}
        self._expected: set[Sighting] = set()
        self._stored_seen: dict[Sighting, Sequence[SeenCustomer]] = {}
        self._seen: dict[Sighting, dict[str, SeenCustomer]] = {}
        self._redemptions: list[tuple[str, Moment]] = []
        self._credits: list[tuple[str, Credit]] = []

    # -- what the command does ---------------------------------------------------------------------------------------

    def last_purchase_at(self, customer_id: str) -> UnixMs | None:
        """The latest purchase of a customer that was stored before this database transaction."""
        return self._last_purchases.get(customer_id)

    def note_purchase(self, purchase: NewPurchase) -> None:
        """A purchase is recorded."""
        fact = purchase.fact
        self._purchases.setdefault(fact.customer_id, []).append(fact)
        self.note_seen(purchase.sightings, SeenCustomer(fact.customer_id, fact.id))

    def note_seen(self, sightings: Iterable[Sighting], customer: SeenCustomer) -> None:
        """Values are seen with a customer."""
        for each in sightings:
            self._seen.setdefault(each, {})[customer.customer_id] = customer

    def note_redemption(self, customer_id: str, redemption: Moment) -> None:
        """A redemption is made."""
        self._redemptions.append((customer_id, redemption))

    def note_credit(self, actor: str, credit: Credit) -> None:
        """Points are credited by hand."""
        self._credits.append((actor, credit))

    def expect(self, sightings: Iterable[Sighting]) -> None:
        """Values that are going to be seen, and are to be read together."""
        self._expected.update(sightings)

    @cached_property
    def planned(self) -> Sequence[NewPurchase]:
        """The purchases that the command is going to record."""
        return list(self._plan())

    @property
    def expected(self) -> set[Sighting]:
        """The values that the command is going to show."""
        return {each for purchase in self.planned for each in purchase.sightings} | self._expected

    @property
    def noted(self) -> list[tuple[Sighting, SeenCustomer]]:
        """What is to be stored: the values that were seen, and with which customers."""
        return [(sighting, each) for sighting, customers in self._seen.items() for each in customers.values()]

    # -- Measures ----------------------------------------------------------------------------------------------------

    def purchases_of(self, customer_id: str) -> Sequence[PurchaseFact]:
        """The customer's newest purchases, newest first."""
        if self._stored_purchases is None:
            self._stored_purchases = self._read_purchases()
        stored = self._stored_purchases.get(customer_id, ())
        recorded = self._purchases.get(customer_id)
        return [*reversed(recorded), *stored] if recorded else stored

    def points_on(self, customer_id: str, day: Day) -> int:
        """The points that a customer's purchases of a local day earned, less what is held or was clawed back."""
        wallet, last = self._book.wallet(customer_id), self._last_purchases.get(customer_id)
        if wallet is None:
            return 0
        if last is None or last < day_start(day, self._time_zone):
            return wallet.days.added(day, day).points_qualifying
        return self._book.day(wallet, day).points_qualifying

    def seen(self, sighting: Sighting, since: UnixMs) -> Sequence[SeenCustomer]:
        """Active customers with whom a value was seen after `since`."""
        if sighting not in self._stored_seen:
            self._read_seen(sighting, since)
        stored, noted = self._stored_seen[sighting], self._seen.get(sighting)
        if noted is None:
            return stored
        return list(({each.customer_id: each for each in stored} | noted).values())

    def redemptions_of(self, customer_id: str, count: int) -> Sequence[Moment]:
        """The customer's newest redemptions, newest first."""
        made = [each for by, each in reversed(self._redemptions) if by == customer_id]
        return [*made, *self._unit.fraud.newest_redemptions(customer_id, count)][:count]

    def spending_of(self, customer_id: str, first_day: Day) -> Spending:
        """What a customer bought from a local day on, and what was returned of it. Purchases are counted up to what matters."""
        today = day_of(self._unit.now, self._time_zone)
        stored = self._unit.days.totals([customer_id], first_day, today).get(customer_id)
        wallet = self._book.wallet(customer_id)
        added = None if wallet is None else wallet.days.added(first_day, today)
        parts = [each for each in (stored, added) if each is not None]
        refunded = sum(each.refunded for each in parts)
        return Spending(
            self._count_purchases(customer_id, first_day), sum(each.spend for each in parts) + refunded, refunded
        )

    def credits_by(self, actor: str, since: UnixMs, count: int) -> Sequence[Credit]:
        """The newest credits by hand of an actor, newest first."""
        made = [each for by, each in reversed(self._credits) if by == actor]
        stored = self._unit.fraud.newest_credits(self._book.account_id, actor, since, count)
        return [*made, *stored][:count]

    # -- what is read ------------------------------------------------------------------------------------------------

    def _read_purchases(self) -> dict[str, Sequence[PurchaseFact]]:
        wanted: dict[str, UnixMs] = {}
        for each in self.planned:
            since = purchases_since(self._rules, each, self._unit.now, self._time_zone)
            if since is not None:
                known = wanted.get(each.fact.customer_id, since)
                wanted[each.fact.customer_id] = min(known, since)
        limit = newest_purchases(self._rules)
        return dict(self._unit.fraud.newest_purchases(wanted, limit, CLOCK_SKEW)) if wanted else {}

    def _read_seen(self, sighting: Sighting, since: UnixMs) -> None:
        wanted = {sighting, *self.expected} - self._stored_seen.keys()
        self._stored_seen |= self._unit.fraud.seen(self._book.account_id, wanted, since, MOST_SEEN)

    def _count_purchases(self, customer_id: str, first_day: Day) -> int:
        rule = self._rules.enabled(RefundAbuse)
        if rule is None:
            return 0
        since = day_start(first_day, self._time_zone)
        return self._unit.fraud.count_purchases(customer_id, since, rule.params.min_purchases, CLOCK_SKEW)
