"""Tiers of customers under any sequence of purchases, refunds, reviews, locks and changes of the program."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from loyalpro.kernel.clock import MS_PER_DAY
from loyalpro.loyalty.entities import Customer, DayTotals
from loyalpro.loyalty.expiry import Day, day_of, day_start
from loyalpro.loyalty.program import Program, RefundPolicy
from loyalpro.loyalty.tier_moves import TierMoves
from loyalpro.loyalty.tiers import Tier, TierPolicy, TierWindow, is_locked, qualified, window_days
from loyalpro.loyalty.wallet import Wallet
from support.wallets import NOW, PROGRAM, Unit, customer

ZONE = "Europe/Berlin"


@dataclass
class DaysInMemory:
    """The days of customers, and how often they were read."""

    rows: dict[tuple[str, Day], DayTotals] = field(default_factory=dict)
    reads: int = 0

    def add(self, days: Sequence[DayTotals]) -> None:
        for each in days:
            known = self.rows.get(
                (each.customer_id, each.day), replace(each, points_qualifying=0, purchases=0, spend=0)
            )
            self.rows[each.customer_id, each.day] = replace(
                known,
                points_qualifying=known.points_qualifying + each.points_qualifying,
                purchases=known.purchases + each.purchases,
                spend=known.spend + each.spend,
            )

    def totals(self, customer_ids: Any, first: Day, last: Day) -> Any:
        raise NotImplementedError

    def sums_in(self, windows: Mapping[str, tuple[Day, Day]]) -> list[DayTotals]:
        self.reads += 1
        found = []
        for id_, (first, last) in windows.items():
            mine = [row for (of, day), row in self.rows.items() if of == id_ and first <= day <= last]
            if mine:
                sums = {
                    name: sum(getattr(row, name) for row in mine)
                    for name in ("points_qualifying", "purchases", "spend")
                }
                found.append(DayTotals(id_, last, "", **sums))
        return found


@dataclass
class ShopUnit(Unit):
    """A unit of work with days."""

    days: DaysInMemory = field(default_factory=DaysInMemory)


class Shop:
    """Customers, and transactions that open their wallets and write them back."""

    def __init__(self, program: Program, names: Sequence[str] = ("cus_1",)) -> None:
        self.program = program
        self.unit = ShopUnit()
        self.customers = {name: replace(customer(name), tier=program.tiers[0], tier_since=NOW) for name in names}

    def open(self) -> tuple[dict[str, Wallet], TierMoves]:
        """The wallets of one transaction. The tier of a customer is read from the program, as a store does it."""
        wallets = {
            id_: Wallet(replace(each, tier=self.program.tier(each.tier.id)), self.unit, self.program, lots=())
            for id_, each in self.customers.items()
        }
        return wallets, TierMoves(self.unit, self.program, wallets)

    def write(self, wallets: Mapping[str, Wallet]) -> None:
        for id_, wallet in wallets.items():
            self.customers[id_] = wallet.customer
            self.unit.days.add(list(wallet.days.changed()))

    def buy(self, *purchases: tuple[str, int], day: Day | None = None) -> None:
        """Purchases of one batch: each customer with the points that it earns."""
        wallets, tiers = self.open()
        for id_, points in purchases:
            count(wallets[id_], self.today if day is None else day, points)
            tiers.upgrade(wallets[id_])
        self.write(wallets)

    def reads(self) -> int:
        """How often days were read since the last call."""
        reads, self.unit.days.reads = self.unit.days.reads, 0
        return reads

    @property
    def today(self) -> Day:
        return day_of(self.unit.now, ZONE)

    def value(self, id_: str, day: Day | None = None) -> int:
        """What a customer has in its window, by adding up its days."""
        at = self.today if day is None else day
        rules = self.program.rules
        first, last = window_days(rules.tiering.window, at, day_of(self.customers[id_].created_at, ZONE))
        rows = [row for (of, each), row in self.unit.days.rows.items() if of == id_ and first <= each <= last]
        name = {"points_earned": "points_qualifying", "spend": "spend", "transactions": "purchases"}[
            rules.tiering.metric
        ]
        return sum(getattr(row, name) for row in rows)


def count(wallet: Wallet, day: Day, points: int) -> None:
    """What a purchase counts; a spend of as many minor units, so that every metric can be drawn."""
    wallet.days.add(day, purchases=1, spend=points, points_qualifying=points)
    balance = wallet.balance
    wallet.balance = replace(
        balance, available=balance.available + points, lifetime_earned=balance.lifetime_earned + points
    )
    wallet.change_state(last_purchase_at=1)


def program(refunds: str = "at_review", tiers: tuple[Tier, ...] = PROGRAM.tiers, **policy: Any) -> Program:
    """The default program with another tier policy."""
    rules = replace(
        PROGRAM.rules,
        time_zone=ZONE,
        tiering=TierPolicy(**policy),
        refunds=RefundPolicy(tier=refunds),  # type: ignore[arg-type]
    )
    return replace(PROGRAM, rules=rules, tiers=tiers)


# -- what is read ------------------------------------------------------------------------------------------------------


def test_a_customer_that_cannot_qualify_costs_no_statement() -> None:
    shop = Shop(program())
    shop.buy(("cus_1", 999))
    assert shop.reads() == 0
    shop.buy(("cus_1", 1))
    assert (shop.customers["cus_1"].tier.name, shop.reads()) == ("Silver", 1)
    shop.buy(("cus_1", 3_999))
    assert shop.reads() == 0
    shop.buy(("cus_1", 1))
    assert (shop.customers["cus_1"].tier.name, shop.reads()) == ("Gold", 1)
    shop.buy(("cus_1", 10**9))
    assert shop.reads() == 0


def test_a_batch_reads_the_windows_of_all_customers_in_one_statement() -> None:
    names = [f"cus_{number}" for number in range(9)]
    shop = Shop(program(), names)
    shop.buy(*((name, 700) for name in names))
    assert shop.reads() == 0
    shop.buy(*((name, 400) for name in names), *((name, 4_000) for name in names))
    assert shop.reads() == 1
    assert {each.tier.name for each in shop.customers.values()} == {"Gold"}


class CountedWallets(dict[str, Wallet]):
    """Counts how often something goes through all wallets."""

    passes = 0

    def values(self) -> Any:
        self.passes += 1
        return super().values()


def test_a_batch_goes_through_its_customers_once() -> None:
    """If each purchase did, a batch of 1,000 would take a thousand times as long as one of 1."""
    names = [f"cus_{number}" for number in range(9)]
    shop = Shop(program(), names)
    opened, _ = shop.open()
    wallets = CountedWallets(opened)
    tiers = TierMoves(shop.unit, shop.program, wallets)
    for name in [*names, *names]:
        count(wallets[name], shop.today, 1_000)
        tiers.upgrade(wallets[name])
    assert wallets.passes == 1


def test_a_customer_in_the_highest_tier_costs_no_statement_with_any_metric() -> None:
    shop = Shop(program(metric="spend"))
    shop.buy(("cus_1", 6_000))
    shop.reads()
    shop.buy(("cus_1", 6_000))
    assert shop.reads() == 0


def test_a_sweep_reads_the_windows_of_its_customers_in_two_statements() -> None:
    names = [f"cus_{number}" for number in range(9)]
    shop = Shop(program(), names)
    shop.buy(*((name, 1_000) for name in names))
    shop.unit.now = day_start(shop.today + 366, ZONE)
    shop.reads()
    wallets, tiers = shop.open()
    assert tiers.review(list(wallets.values())) == 9
    assert shop.reads() == 2


# -- reviews -----------------------------------------------------------------------------------------------------------


def review(shop: Shop) -> int:
    wallets, tiers = shop.open()
    done = tiers.review(list(wallets.values()))
    shop.write(wallets)
    return done


def move_to_review(shop: Shop, name: str = "cus_1", *, days_later: int = 0) -> None:
    at = shop.customers[name].tier_review_at
    assert at is not None
    shop.unit.now = day_start(day_of(at, ZONE) + days_later, ZONE)


def changes(shop: Shop, name: str = "cus_1") -> list[tuple[str, str, str]]:
    found = [
        each.data for each in shop.unit.events if each.customer_id == name and each.type == "customer.tier_changed"
    ]
    return [(each["previous_tier"]["name"], each["tier"]["name"], each["reason"]) for each in found]


@pytest.mark.parametrize(
    ("downgrade", "tier"),
    [
        pytest.param("to_qualified", "Bronze", id="26a"),
        pytest.param("one_level", "Silver", id="26b"),
        pytest.param("never", "Gold", id="26c"),
    ],
)
def test_a_review_moves_down_by_the_policy(downgrade: str, tier: str) -> None:
    shop = Shop(program(downgrade=downgrade))
    shop.buy(("cus_1", 900))
    shop.buy(("cus_1", 4_200))
    move_to_review(shop)
    shop.buy(("cus_1", 200), day=shop.today - 5)
    assert review(shop) == 1
    assert shop.customers["cus_1"].tier.name == tier
    assert [each[1] for each in changes(shop)] == ["Gold", *[tier] * (tier != "Gold")]
    assert changes(shop)[-1][2] == ("qualified" if tier == "Gold" else "period_review")


def test_example_25_a_review_takes_a_tier_that_a_refund_made_undeserved() -> None:
    """Rolling windows judge the days after the upgrade, a calendar year the year itself."""
    shop = Shop(program(window=TierWindow("calendar")))
    shop.buy(("cus_1", 940))
    shop.buy(("cus_1", 112))
    wallets, _ = shop.open()
    wallets["cus_1"].days.add(shop.today, points_qualifying=-56)
    wallets["cus_1"].change_state(last_purchase_at=2)
    shop.write(wallets)
    assert shop.customers["cus_1"].tier.name == "Silver"
    move_to_review(shop)
    review(shop)
    assert changes(shop) == [("Bronze", "Silver", "qualified"), ("Silver", "Bronze", "period_review")]


def test_a_customer_that_qualifies_again_keeps_its_tier_without_an_event() -> None:
    shop = Shop(program())
    shop.buy(("cus_1", 1_000))
    first = shop.customers["cus_1"].tier_review_at
    assert first is not None
    shop.unit.now += 100 * MS_PER_DAY
    shop.buy(("cus_1", 1_000))
    move_to_review(shop)
    review(shop)
    assert changes(shop) == [("Bronze", "Silver", "qualified")]
    after = shop.customers["cus_1"].tier_review_at
    assert after is not None
    assert 365 <= (after - first) // MS_PER_DAY <= 366
    assert review(shop) == 0


def test_a_late_review_judges_the_window_that_had_ended() -> None:
    """The customer qualified in its year; that it has not bought anything since does not matter until the next review."""
    shop = Shop(program())
    shop.buy(("cus_1", 1_000))
    shop.unit.now += 30 * MS_PER_DAY
    shop.buy(("cus_1", 1_000))
    move_to_review(shop, days_later=200)
    assert shop.value("cus_1") == 0
    review(shop)
    assert shop.customers["cus_1"].tier.name == "Silver"


def test_what_is_bought_in_the_days_of_grace_counts() -> None:
    shop = Shop(program(window=TierWindow("calendar"), grace_days=30))
    shop.buy(("cus_1", 1_000))
    move_to_review(shop)
    assert review(shop) == 0
    shop.buy(("cus_1", 1_000))
    move_to_review(shop, days_later=30)
    assert review(shop) == 1
    assert shop.customers["cus_1"].tier.name == "Silver"


def test_after_the_days_of_grace_the_reason_is_their_end() -> None:
    shop = Shop(program(window=TierWindow("calendar"), grace_days=30))
    shop.buy(("cus_1", 1_000))
    move_to_review(shop, days_later=30)
    review(shop)
    assert changes(shop)[-1] == ("Silver", "Bronze", "grace_ended")
    assert shop.customers["cus_1"].tier_review_at is None


def assign(shop: Shop, tier: str, *, days: int | None) -> None:
    wallets, tiers = shop.open()
    [found] = [each for each in shop.program.tiers if each.name == tier]
    until = None if days is None else shop.unit.now + days * MS_PER_DAY
    tiers.assign(wallets["cus_1"], found, locked_until=until, lock_reason="r")
    shop.write(wallets)


def test_a_tier_is_reviewed_when_its_lock_ends() -> None:
    shop = Shop(program())
    assign(shop, "Gold", days=10)
    shop.unit.now += 10 * MS_PER_DAY - 1
    assert review(shop) == 0
    shop.unit.now += 1
    assert review(shop) == 1
    assert changes(shop)[-1] == ("Gold", "Bronze", "period_review")
    assert shop.customers["cus_1"].tier_locked_until is None


def test_a_customer_that_qualified_while_it_was_locked_moves_up_when_the_lock_ends() -> None:
    shop = Shop(program())
    assign(shop, "Bronze", days=10)
    shop.buy(("cus_1", 1_500))
    shop.unit.now += 10 * MS_PER_DAY
    assert review(shop) == 1
    assert changes(shop) == [("Bronze", "Silver", "qualified")]
    assert shop.customers["cus_1"].tier_review_at is not None


def test_a_review_that_is_due_while_a_lock_holds_is_put_off_to_its_end() -> None:
    shop = Shop(program())
    assign(shop, "Gold", days=10)
    shop.customers["cus_1"] = replace(shop.customers["cus_1"], tier_review_at=0)
    assert review(shop) == 1
    now = shop.customers["cus_1"]
    assert (now.tier.name, now.tier_review_at) == ("Gold", now.tier_locked_until)


# -- changes of the program --------------------------------------------------------------------------------------------


def reevaluate(shop: Shop) -> None:
    wallets, tiers = shop.open()
    tiers.reevaluate(list(wallets.values()))
    shop.write(wallets)


def with_thresholds(*thresholds: int) -> tuple[Tier, ...]:
    return tuple(replace(tier, threshold=each) for tier, each in zip(PROGRAM.tiers, thresholds, strict=True))


def test_lower_thresholds_move_customers_up_at_once() -> None:
    shop = Shop(program(), ["cus_1", "cus_2"])
    shop.buy(("cus_1", 600), ("cus_2", 100))
    shop.program = program(tiers=with_thresholds(0, 500, 5_000))
    reevaluate(shop)
    assert (changes(shop), changes(shop, "cus_2")) == ([("Bronze", "Silver", "program_changed")], [])


def test_higher_thresholds_wait_for_the_review() -> None:
    shop = Shop(program(window=TierWindow("calendar")))
    shop.buy(("cus_1", 1_000))
    shop.program = program(window=TierWindow("calendar"), tiers=with_thresholds(0, 2_000, 5_000))
    reevaluate(shop)
    assert shop.customers["cus_1"].tier.name == "Silver"
    move_to_review(shop)
    review(shop)
    assert changes(shop)[-1] == ("Silver", "Bronze", "period_review")


def test_a_tier_below_the_lowest_gives_its_customers_a_review() -> None:
    shop = Shop(program())
    shop.buy(("cus_1", 10))
    below = Tier("tier_0", "Basic", 0, 0)
    shop.program = program(tiers=(below, *with_thresholds(100, 1_000, 5_000)))
    reevaluate(shop)
    assert changes(shop) == []
    move_to_review(shop)
    review(shop)
    assert changes(shop) == [("Bronze", "Basic", "period_review")]


def test_a_window_for_life_ends_all_reviews() -> None:
    shop = Shop(program())
    shop.buy(("cus_1", 1_000))
    shop.program = program(window=TierWindow("lifetime"))
    reevaluate(shop)
    assert shop.customers["cus_1"].tier_review_at is None


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize(("points", "tier"), [(1_000, "Bronze"), (5_000, "Gold")])
def test_customers_of_a_retired_tier_move_at_once(points: int, tier: str, *, locked: bool) -> None:
    shop = Shop(program())
    shop.buy(("cus_1", points))
    assign(shop, "Silver", days=100 if locked else None)
    bronze, silver, gold = PROGRAM.tiers
    shop.program = replace(program(tiers=(bronze, gold)), retired_tiers=(replace(silver, retired_at=NOW),))
    reevaluate(shop)
    assert changes(shop)[-1] == ("Silver", tier, "program_changed")
    now = shop.customers["cus_1"]
    assert (now.tier_locked_until, now.tier_lock_reason) == (None, None)
    assert (now.tier_review_at is None) == (tier == "Bronze")


def test_a_lock_keeps_a_customer_from_changes_of_the_program() -> None:
    shop = Shop(program())
    shop.buy(("cus_1", 600))
    assign(shop, "Bronze", days=10)
    before = shop.customers["cus_1"]
    shop.program = program(tiers=with_thresholds(0, 500, 5_000))
    reevaluate(shop)
    assert shop.customers["cus_1"] == before


def test_a_merge_keeps_the_higher_tier() -> None:
    shop = Shop(program())
    shop.buy(("cus_1", 1_000))
    for tier in PROGRAM.tiers:
        wallets, tiers = shop.open()
        tiers.keep_higher(wallets["cus_1"], tier)
        shop.write(wallets)
    assert changes(shop)[1:] == [("Silver", "Gold", "merged")]


# -- any sequence ------------------------------------------------------------------------------------------------------

points = st.sampled_from([0, 1, 400, 999, 1_000, 4_000, 5_000]) | st.integers(0, 6_000)
windows = st.sampled_from(
    [
        TierWindow(),
        TierWindow("rolling", 30, "days"),
        TierWindow("calendar"),
        TierWindow("calendar", period="quarter", starts_month=2),
        TierWindow("calendar", period="month"),
        TierWindow("anniversary"),
        TierWindow("lifetime"),
    ]
)
policies = st.fixed_dictionaries(
    {
        "metric": st.sampled_from(["points_earned", "spend"]),
        "window": windows,
        "downgrade": st.sampled_from(["to_qualified", "one_level", "never"]),
        "grace_days": st.sampled_from([0, 0, 1, 30]),
    }
)


@given(policies, st.lists(st.tuples(st.sampled_from(["cus_1", "cus_2", "cus_3"]), points), max_size=20))
def test_purchases_in_one_batch_are_purchases_one_by_one(policy: Any, purchases: list[tuple[str, int]]) -> None:
    names = ["cus_1", "cus_2", "cus_3"]
    together, alone = Shop(program(**policy), names), Shop(program(**policy), names)
    together.buy(*purchases)
    for each in purchases:
        alone.buy(each)
    assert [(each.customer_id, each.data) for each in together.unit.events] == [
        (each.customer_id, each.data) for each in alone.unit.events
    ]
    assert together.unit.days.rows == alone.unit.days.rows
    assert [tier_state(each) for each in together.customers.values()] == [
        tier_state(each) for each in alone.customers.values()
    ]


def tier_state(each: Customer) -> tuple[Any, ...]:
    return each.tier.id, each.tier_since, each.tier_review_at, each.event_sequence, each.balance


class AnyMoves(RuleBasedStateMachine):
    """One customer under any commands. After each, its tier is what adding up its days says."""

    def __init__(self) -> None:
        super().__init__()
        self.shop = Shop(program())
        self.bought: list[Day] = []

    @property
    def customer(self) -> Customer:
        return self.shop.customers["cus_1"]

    @property
    def locked(self) -> bool:
        return is_locked(self.customer.tier_locked_until, self.shop.unit.now)

    @rule(policy=policies, thresholds=st.sampled_from([(0, 1_000, 5_000), (0, 500, 900), (0, 3_000, 9_000)]))
    def change_the_program(self, policy: Any, thresholds: tuple[int, ...]) -> None:
        before = self.customer
        self.shop.program = program("immediate", with_thresholds(*thresholds), **policy)
        reevaluate(self.shop)
        self._has_what_it_qualifies_for()
        self._moved_to_what_it_qualifies_for(before)
        assert self.customer.tier.rank >= before.tier.rank

    @rule(days=st.sampled_from([0, 1, 29, 31, 90, 365, 366, 800]))
    def wait(self, days: int) -> None:
        self.shop.unit.now = max(self.shop.unit.now, day_start(self.shop.today + days, ZONE) + 36_000_000 * bool(days))

    @rule(each=points, ago=st.sampled_from([0, 0, 0, 1, 40, 365]))
    def buy(self, each: int, ago: int) -> None:
        before, locked = self.customer, self.locked
        self.shop.buy(("cus_1", each), day=self.shop.today - ago)
        self.bought.append(self.shop.today - ago)
        assert self.customer.tier.rank >= before.tier.rank
        assert not locked or self.customer.tier.id == before.tier.id
        self._has_what_it_qualifies_for()
        self._moved_to_what_it_qualifies_for(before)

    @rule(data=st.data(), each=st.integers(1, 3_000))
    def refund(self, data: st.DataObject, each: int) -> None:
        if not self.bought:
            return
        before, day = self.customer, data.draw(st.sampled_from(self.bought))
        spent = self.shop.unit.days.rows["cus_1", day].points_qualifying
        wallets, tiers = self.shop.open()
        wallet = wallets["cus_1"]
        was_earned = tiers.is_earned(wallet)
        wallet.days.add(day, points_qualifying=-min(each, spent), spend=-min(each, spent))
        wallet.change_state(last_purchase_at=3)
        if was_earned:
            tiers.lower(wallet)
        self.shop.write(wallets)
        assert self.customer.tier.rank <= before.tier.rank
        if self.customer.tier.id != before.tier.id:
            assert was_earned
            assert self.customer.tier.rank >= qualified(self.shop.program.tiers, self.shop.value("cus_1")).rank

    @rule(tier=st.sampled_from(["Bronze", "Silver", "Gold"]), days=st.none() | st.integers(1, 100))
    def assign(self, tier: str, days: int | None) -> None:
        assign(self.shop, tier, days=days)
        assert self.customer.tier.name == tier
        assert self.locked == (days is not None)

    @rule()
    def review(self) -> None:
        before, locked = self.customer, self.locked
        reviewed = review(self.shop)
        assert review(self.shop) == 0, "one review is enough"
        if not reviewed or locked:
            assert self.customer.tier.id == before.tier.id
            return
        value = self.shop.value("cus_1")
        assert self.customer.tier.rank >= qualified(self.shop.program.tiers, value).rank
        assert self.customer.tier_locked_until is None

    def _has_what_it_qualifies_for(self) -> None:
        if not self.locked:
            best = qualified(self.shop.program.tiers, self.shop.value("cus_1"))
            assert self.customer.tier.rank >= best.rank

    def _moved_to_what_it_qualifies_for(self, before: Customer) -> None:
        if self.customer.tier.id != before.tier.id:
            value = self.shop.value("cus_1")
            assert self.customer.tier == qualified(self.shop.program.tiers, value)
            assert self.shop.unit.events[-1].data["qualification"]["value"] == value

    @invariant()
    def changes_follow_each_other(self) -> None:
        """Invariant 12: each change begins with the tier that the one before ended with, and is a change."""
        tier = PROGRAM.tiers[0].id
        for event in self.shop.unit.events:
            assert event.data["previous_tier"]["id"] == tier != event.data["tier"]["id"]
            tier = event.data["tier"]["id"]
        assert tier == self.customer.tier.id

    @invariant()
    def a_tier_above_the_lowest_is_reviewed_some_day(self) -> None:
        kept = self.shop.program.rules.tiering.window.kind == "lifetime" and not self.customer.tier_locked_until
        lowest = self.customer.tier.id == self.shop.program.tiers[0].id
        assert (self.customer.tier_review_at is not None) or kept or lowest


def test_any_moves() -> None:
    """Without shrinking, which takes minutes: an example has few steps."""
    chosen = settings(max_examples=250, stateful_step_count=20, phases=[Phase.generate])
    run_state_machine_as_test(AnyMoves, settings=chosen)
