"""What a change of the program would have done to the purchases of the last 30 days: each is priced by both versions.

The work is done in steps, each in a read of its own, so that a preview of a large account holds no connection for long. A
purchase is priced with the tier and the tags that its customer has now, and with the campaigns that are active now. Their
limits, and those of days, count from the beginning of the preview. Purchases that are refunded in full are left out.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from loyalpro.kernel.clock import MS_PER_DAY, UnixMs
from loyalpro.kernel.ids import floor
from loyalpro.kernel.record import record
from loyalpro.loyalty.earning import Campaign
from loyalpro.loyalty.entities import Buyer, PastOrder
from loyalpro.loyalty.expiry import Day, day_of
from loyalpro.loyalty.orders import Order
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.pricing import Earner, Priced, price
from loyalpro.loyalty.program import Program, ProgramVersion, Rules
from loyalpro.loyalty.program_changes import ChangeProgram, GetProgram, get_program, revised
from loyalpro.loyalty.qualifying import counted
from loyalpro.loyalty.tiers import Metric, Tier, qualified, window_days

DAYS: Final = 30
PAGE: Final = 500
"""How many purchases, and then customers, one step reads."""

MAX_PURCHASES: Final = 50_000
"""A preview prices the newest purchases up to this number, which takes a few seconds."""


@record
class MovedTo:
    """How many customers would come to a tier from another one. `tier`: its name."""

    tier: str
    customers: int


@record
class Effect:
    """The result of a preview. `is_truncated`: there may be more purchases than it prices.

    `customers` have these purchases; `customers_up` and `customers_down` of them would qualify for a higher or a lower tier.
    `moved_to`: the tiers that they would come to, lowest first.
    """

    since: UnixMs
    purchases: int
    is_truncated: bool
    points_before: int
    points_after: int
    customers: int
    customers_up: int
    customers_down: int
    moved_to: tuple[MovedTo, ...] = ()


class Preview:
    """A change of the program that is not made. `after`: the version that it would make."""

    def __init__(self, unit: LoyaltyUnit, command: ChangeProgram, *, most: int = MAX_PURCHASES) -> None:
        """`most`: how many purchases are priced at most, in whole pages. Raises what `change_program` raises."""
        program = unit.programs.get(command.account_id)
        current = get_program(unit, GetProgram(command.account_id))
        self.after: ProgramVersion = revised(unit, command, program, current)
        self._account_id = command.account_id
        self._most = most
        self._now = unit.now
        self._since = unit.now - DAYS * MS_PER_DAY
        self._campaigns = unit.campaigns.during(command.account_id, self._since, unit.now)
        self._sides = (_Side.before(program), _Side.after(program, self.after))
        self._purchases = 0
        self._before_id: str | None = None
        self._is_priced = False
        self._is_truncated = False
        self._buyers: dict[str, Buyer] = {}
        self._judged = 0
        self._gains: defaultdict[str, Counter[Day]] = defaultdict(Counter)
        self._moves: Counter[Literal["up", "down"]] = Counter()
        self._arrivals: Counter[str] = Counter()

    def step(self, unit: LoyaltyUnit) -> bool:
        """Price some purchases; when all are priced, judge the tiers of some customers. False when nothing is left."""
        if not self._is_priced:
            self._price_page(unit)
            return True
        chunk = list(self._buyers.values())[self._judged : self._judged + PAGE]
        self._judged += len(chunk)
        if chunk:
            self._judge(unit, chunk)
        return bool(chunk)

    @property
    def effect(self) -> Effect:
        """The result, after the last step."""
        before, after = self._sides
        return Effect(
            since=self._since,
            purchases=self._purchases,
            is_truncated=self._is_truncated,
            points_before=before.points,
            points_after=after.points,
            customers=len(self._buyers),
            customers_up=self._moves["up"],
            customers_down=self._moves["down"],
            moved_to=tuple(
                MovedTo(tier.name, self._arrivals[tier.id]) for tier in self.after.tiers if self._arrivals[tier.id]
            ),
        )

    def _price_page(self, unit: LoyaltyUnit) -> None:
        found = unit.transactions.past_orders(
            self._account_id, floor("txn", self._since), self._since, self._before_id, PAGE
        )
        for past, buyer in found:
            self._price(past, buyer)
        self._purchases += len(found)
        self._is_truncated = self._purchases >= self._most
        self._is_priced = len(found) < PAGE or self._is_truncated

    def _price(self, past: PastOrder, buyer: Buyer) -> None:
        self._before_id = past.id
        self._buyers[buyer.id] = buyer
        before, after = (side.price(past, buyer, self._campaigns) for side in self._sides)
        rules = self.after.rules
        gained = _gained(after, rules.tiering.metric) - _gained(before, rules.tiering.metric)
        if gained:
            self._gains[buyer.id][day_of(past.occurred_at, rules.time_zone)] += gained

    def _judge(self, unit: LoyaltyUnit, buyers: Sequence[Buyer]) -> None:
        """Compare the tiers that customers qualify for today by both versions."""
        old, new = self._sides
        tiers_before = old.tiers_of(unit, buyers, self._now, {})
        for customer_id, tier in new.tiers_of(unit, buyers, self._now, self._gains).items():
            before = tiers_before[customer_id]
            if tier.id != before.id:
                self._moves["up" if tier.threshold > before.threshold else "down"] += 1
                self._arrivals[tier.id] += 1


class _Side:
    """One of the two versions, and what it gives for the purchases. `mapped`: the tier in it, by the id of a tier today."""

    def __init__(self, rules: Rules, tiers: Sequence[Tier], mapped: Mapping[str, Tier]) -> None:
        self.points = 0
        self._rules = rules
        self._tiers = tiers
        self._mapped = mapped
        self._earned: Counter[tuple[str, Day]] = Counter()
        self._uses: defaultdict[str, Counter[str]] = defaultdict(Counter)

    @classmethod
    def before(cls, program: Program) -> "_Side":
        """The program as it is."""
        every = (*program.tiers, *program.retired_tiers)
        return cls(program.rules, program.tiers, {tier.id: tier for tier in every})

    @classmethod
    def after(cls, program: Program, version: ProgramVersion) -> "_Side":
        """The program as it would be. A customer of a retired tier has the highest tier whose threshold is not above it."""
        kept = {tier.id: tier for tier in version.tiers}
        every = (*program.tiers, *program.retired_tiers)
        mapped = {tier.id: kept.get(tier.id) or qualified(version.tiers, tier.threshold) for tier in every}
        return cls(version.rules, version.tiers, mapped)

    def price(self, past: PastOrder, buyer: Buyer, campaigns: Iterable[Campaign]) -> Priced:
        """What a purchase earns, after those before it."""
        key = (buyer.id, day_of(past.occurred_at, self._rules.time_zone))
        tier = self._mapped.get(buyer.tier_id, self._tiers[0])  # one that was added meanwhile is not known
        earner = Earner(tier, buyer.tags, self._uses[buyer.id], self._earned[key])
        priced = price(_order(past), self._rules, earner, campaigns, past.occurred_at)
        self.points += priced.points
        self._earned[key] += priced.points
        self._uses[buyer.id].update(priced.campaign_ids)
        return priced

    def tiers_of(
        self, unit: LoyaltyUnit, buyers: Sequence[Buyer], now: UnixMs, gains: Mapping[str, Counter[Day]]
    ) -> dict[str, Tier]:
        """The tier that each customer qualifies for today, by the id of the customer. `gains`: what its days have besides."""
        policy, zone = self._rules.tiering, self._rules.time_zone
        today = day_of(now, zone)
        windows = {each.id: window_days(policy.window, today, day_of(each.enrolled_at, zone)) for each in buyers}
        stored = {sums.customer_id: counted(policy.metric, sums) for sums in unit.days.sums_in(windows)}
        found = {}
        for id_, (first, last) in windows.items():
            gained = sum(points for day, points in gains.get(id_, {}).items() if first <= day <= last)
            found[id_] = qualified(self._tiers, stored.get(id_, 0) + gained)
        return found


def _gained(priced: Priced, metric: Metric) -> int:
    """What a purchase adds to the metric of tiers, as far as a program decides about it."""
    return {"points_earned": priced.points, "spend": priced.base_amount, "transactions": 0}[metric]


def _order(past: PastOrder) -> Order:
    return Order(
        past.amount,
        past.currency,
        past.tax_amount,
        past.shipping_amount,
        past.tip_amount,
        past.gift_card_amount,
        past.items,
    )
