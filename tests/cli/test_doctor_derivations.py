"""What `loyalpro doctor --ledger` derives: each stored value that is changed is named, and nothing else, on both stores.

The account has had two time zones whose days always differ: the second one since before its first purchase.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from loyalpro.kernel.clock import MS_PER_DAY
from loyalpro.loyalty.adjustments import AdjustPoints, adjust_points
from loyalpro.loyalty.earning import EarnSettings
from loyalpro.loyalty.fraud.resolution import ListCases, ResolveCase, list_cases, resolve_case
from loyalpro.loyalty.fraud.rule_changes import ChangeRules, RuleChange, change_rules
from loyalpro.loyalty.merging import MergeCustomer, merge_customer
from loyalpro.loyalty.opening_balances import OpeningBalance, SetOpeningBalances, set_opening_balances
from loyalpro.loyalty.program_changes import ChangeProgram, ProgramDraft, TierDraft, change_program
from loyalpro.loyalty.recording import Purchase, RecordPurchases, record_purchases
from loyalpro.loyalty.redemptions import (
    MadeRedemption,
    RedeemPoints,
    ReverseRedemption,
    redeem_points,
    reverse_redemption,
)
from loyalpro.loyalty.refunds import NewRefund, RefundPurchase, refund_purchase
from support.customers import purchase
from support.databases import Databases
from support.doctor import damage, found
from support.history import ACCOUNT, query
from support.timeline import Timeline

EAST, WEST = "Pacific/Kiritimati", "Pacific/Pago_Pago"
"""25 hours apart."""


@dataclass(frozen=True)
class World:
    """A database and the ids in it.

    `own`: a customer with enrollment points, adjustments, a balance, a redemption and purchases. `into`: one into which two were
    merged, one after the other. `held`: one whose purchases were held; a case of its purchases was closed, and one is open.
    """

    url: str
    ids: dict[str, str]

    def copy(self, databases: Databases, folder: Path) -> "World":
        """The same in a database of its own."""
        if self.url.startswith("sqlite"):
            shutil.copy(self.url.removeprefix("sqlite:///"), folder / "copy.db")
            return replace(self, url=f"sqlite:///{folder / 'copy.db'}")
        return replace(self, url=databases.cluster.create_database("doctor", template=self.url.rpartition("/")[2]))


class Shop:
    """Makes what happens in the world."""

    def __init__(self, url: str) -> None:
        self.line = Timeline(url, "2026-05-01T10:00Z").open_account()

    def change_program(self, **rules: Any) -> None:
        def draft(version: Any) -> ProgramDraft:
            tiers = tuple(
                TierDraft(each.id, each.name, each.threshold, each.multiplier_permille, each.benefits)
                for each in version.tiers
            )
            return ProgramDraft(replace(version.rules, **rules), tiers, None)

        self.line.commit(lambda unit: change_program(unit, ChangeProgram(ACCOUNT, draft)))

    def give_for_enrolling(self, points: int) -> None:
        earning: EarnSettings = self.line.program().rules.earning
        self.change_program(earning=replace(earning, enrollment_points=points))

    def adjust(self, customer_id: str, points: int, *, counts: bool) -> str:
        command = AdjustPoints(
            account_id=ACCOUNT,
            customer_id=customer_id,
            points=points,
            reason_code="goodwill",
            note=None,
            expires_at=None,
            counts_toward_tier=counts,
            allow_negative=False,
            external_id=None,
        )
        made = self.line.commit(lambda unit: adjust_points(unit, command))
        assert hasattr(made, "adjustment")
        return made.adjustment.entry_id

    def import_balance(self, customer_id: str, points: int, *, days_ago: int, counts: bool) -> None:
        earned_at = self.line.clock.now_ms() - days_ago * MS_PER_DAY
        row = OpeningBalance(customer_id, None, None, points, earned_at, None)
        command = SetOpeningBalances(ACCOUNT, [row], counts_toward_tier=counts)
        assert self.line.commit(lambda unit: set_opening_balances(unit, command)) == ["done"]

    def redeem(self, customer_id: str, points: int) -> str:
        command = RedeemPoints(ACCOUNT, customer_id, None, points, None, None, None, None, None, None)
        made = self.line.commit(lambda unit: redeem_points(unit, command))
        assert isinstance(made, MadeRedemption)
        return made.redemption.id

    def sell(self, customer_id: str, amount: int) -> str:
        sale = purchase(customer_id=customer_id, amount=amount)
        [sold] = self.line.commit(lambda unit: record_purchases(unit, RecordPurchases(ACCOUNT, [sale])))
        assert isinstance(sold, Purchase)
        return sold.transaction.id

    def refund(self, transaction_id: str, amount: int) -> None:
        command = RefundPurchase(ACCOUNT, NewRefund(transaction_id=transaction_id, amount=amount))
        self.line.commit(lambda unit: refund_purchase(unit, command))

    def merge(self, customer_id: str, into_id: str) -> None:
        command = MergeCustomer(ACCOUNT, customer_id, into_id)
        self.line.commit(lambda unit: merge_customer(unit, command))

    def hold(self, *, is_on: bool) -> None:
        change = RuleChange("velocity.earn", action="hold" if is_on else "flag", threshold=2)
        self.line.commit(lambda unit: change_rules(unit, ChangeRules(ACCOUNT, [change])))

    def release(self) -> None:
        [case] = self.line.commit(lambda unit: list_cases(unit, ListCases(ACCOUNT, "open", None, None, None, 9)))
        self.line.commit(lambda unit: resolve_case(unit, ResolveCase(ACCOUNT, case.id, "false_positive")))

    def next_month(self) -> None:
        self.line.clock.advance(31 * MS_PER_DAY / 1_000)


def before_purchases(shop: Shop) -> dict[str, str]:
    """What may happen before the first purchase, in the first time zone."""
    shop.change_program(time_zone=EAST)
    shop.give_for_enrolling(9)
    own = shop.line.enroll("own")
    shop.give_for_enrolling(7)
    first = shop.line.enroll("first")
    counted = shop.adjust(own, 500, counts=True)
    shop.adjust(own, -20, counts=True)
    uncounted = shop.adjust(own, 40, counts=False)
    shop.import_balance(own, 90, days_ago=3, counts=True)
    shop.import_balance(first, 60, days_ago=3, counts=True)
    shop.import_balance(first, 61, days_ago=2, counts=False)
    return {"own": own, "first": first, "counted": counted, "uncounted": uncounted, "red": shop.redeem(own, 30)}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def healthy(request: pytest.FixtureRequest, databases: Databases) -> World:
    shop = Shop(databases.fresh(request.param))
    ids = before_purchases(shop)
    shop.change_program(time_zone=WEST)
    shop.line.commit(lambda unit: reverse_redemption(unit, ReverseRedemption(ACCOUNT, ids["red"], 10)))
    second, into, held = (shop.line.enroll(name) for name in ("second", "into", "held"))
    sale = shop.sell(ids["own"], 12_000)
    shop.refund(sale, 2_000)
    moved = shop.sell(second, 8_000)
    shop.refund(moved, 800)
    shop.redeem(second, 5)
    shop.adjust(second, 11, counts=True)
    for gone, staying in ((ids["first"], second), (second, into)):
        shop.merge(gone, staying)
    shop.refund(moved, 800)
    shop.hold(is_on=True)
    shop.sell(held, 1_000)
    released = shop.sell(held, 3_000)
    shop.refund(released, 1_000)
    shop.release()
    shop.refund(released, 500)
    shop.next_month()
    shop.sell(held, 1_000)
    waiting = shop.sell(held, 6_000)
    shop.refund(waiting, 500)
    return World(
        shop.line.url,
        ids | {"second": second, "into": into, "held": held, "sale": sale, "released": released, "waiting": waiting},
    )


def test_every_day_of_an_account_with_two_time_zones_is_derived(healthy: World) -> None:
    assert found(healthy.url) == []
    assert found(healthy.url, rows_per_page=1) == []
    held = query(healthy.url, "SELECT COUNT(*) FROM lots WHERE hold_case_id IS NOT NULL AND remaining > 0")
    assert held == [(1,)], "points are held still"
    days = "SELECT day, points_qualifying, redemptions, points_redeemed FROM customer_days WHERE customer_id = ? ORDER BY day"
    (imported, points, *_), (west, earned, *_), (east, given, redemptions, redeemed) = query(
        healthy.url, days, healthy.ids["own"]
    )
    assert east - imported == 3
    assert east - west in (1, 2)
    assert (points, earned) == (90, 100)
    assert (given, redemptions, redeemed) == (9 + 500 - 20, 1, 20), "the reversal is on the day of the redemption"


LAST_DAY = "(SELECT MAX(day) FROM customer_days WHERE customer_id = :{})"
OF_ENTRY = "UPDATE ledger_entries SET qualifying_day = {} WHERE customer_id = :{} AND {}"

DAMAGES: dict[str, tuple[str, str, list[str]]] = {
    "enrollment": (OF_ENTRY.format("NULL", "own", "type = 'earn' AND source_type = 'customer'"), "own", ["has 489 points_qualifying, and what happened on it comes to 480"]),
    "adjustment forgotten": (OF_ENTRY.format("NULL", "own", "id = :counted"), "own", ["counts toward the tier, and its entry does not", "points.adjusted, counts toward the tier, and entry", "has 489 points_qualifying, and what happened on it comes to -11"]),
    "adjustment counted": (OF_ENTRY.format("(SELECT qualifying_day FROM ledger_entries WHERE id = :counted)", "own", "id = :uncounted"), "own", ["does not count toward the tier, and its entry counts", "points.adjusted, does not count toward the tier, and entry", "comes to 529"]),
    "adjustment row": ("UPDATE adjustments SET counts_toward_tier = 0 WHERE entry_id = :counted", "own", ["does not count toward the tier, and its entry counts"]),
    "adjusted points": ("UPDATE adjustments SET points = 501 WHERE entry_id = :counted", "own", ["is of 501, and its entry of 500"]),
    "import": (OF_ENTRY.format("NULL", "own", "type = 'import'"), "own", ["points.adjusted, counts toward the tier, and entry", "has 90 points_qualifying, and what happened on it comes to 0"]),
    "day of an entry": (OF_ENTRY.format("qualifying_day + 40", "own", "id = :counted"), "own", ["on which it was not made", "comes to -11", "has 0 points_qualifying, and what happened on it comes to 500"]),
    "day with an adjustment": ("UPDATE customer_days SET points_qualifying = points_qualifying + 1 WHERE customer_id = :own AND redemptions = 1", "own", ["has 490 points_qualifying, and what happened on it comes to 489"]),
    "day of a redemption": ("UPDATE redemptions SET day = day + 40 WHERE id = :red", "own", ["on which it was not made", "has 1 redemptions", "has 20 points_redeemed", "has 0 redemptions", "has 0 points_redeemed"]),
    "redeemed in another zone": ("UPDATE customer_days SET points_redeemed = 30 WHERE customer_id = :own AND redemptions = 1", "own", ["has 30 points_redeemed, and what happened on it comes to 20"]),
    "purchase in another zone": ("UPDATE customer_days SET points_qualifying = 101 WHERE customer_id = :own AND purchases = 1", "own", ["has 101 points_qualifying, and what happened on it comes to 100"]),
    "points of merged customers": ("UPDATE customer_days SET points_qualifying = points_qualifying + 1 WHERE customer_id = :into AND points_qualifying = 60", "into", ["has 61 points_qualifying, and what happened on it comes to 60"]),
    "day of a merged customer": ("UPDATE customer_days SET customer_id = :second WHERE customer_id = :into AND points_qualifying = 60", "", ["into: day 2026-04-29 has 0 points_qualifying, and what happened on it comes to 60", "second: day 2026-04-29 has 60 points_qualifying, and what happened on it comes to 0"]),
    "points that were released": ("UPDATE customer_days SET points_qualifying = points_qualifying + 1 WHERE customer_id = :held AND refunds = 2", "held", ["points_qualifying, and what happened on it comes to"]),
    "points that are held": (f"UPDATE customer_days SET points_qualifying = points_qualifying + 55 WHERE customer_id = :held AND day = {LAST_DAY.format('held')}", "held", ["points_qualifying, and what happened on it comes to"]),
    "a hold that is lost": ("UPDATE lots SET hold_case_id = NULL WHERE transaction_id = :waiting", "held", ["points_qualifying, and what happened on it comes to"]),
    "lifetime earned": ("UPDATE customers SET lifetime_earned = lifetime_earned + 1 WHERE id = :own", "own", ["points were ever credited, and by the entries"]),
    "lifetime redeemed": ("UPDATE customers SET lifetime_redeemed = 30 WHERE id = :own", "own", ["30 points were ever redeemed, and by the entries 20"]),
    "lifetime of merged customers": ("UPDATE customers SET lifetime_redeemed = 0 WHERE id = :into", "into", ["0 points were ever redeemed, and by the entries 5"]),
    "date of a lot": ("UPDATE lots SET earned_at = earned_at + 1 WHERE transaction_id = :sale", "own", ["was earned at"]),
    "purchase of a lot": ("UPDATE lots SET transaction_id = NULL WHERE transaction_id = :sale", "own", ["comes from transaction None, and by its entry from txn_"]),
    "lot of a merged customer": ("UPDATE lots SET original = original + 1, remaining = remaining + 1 WHERE customer_id = :into AND original = 60", "into", ["active lots hold", "import of 60, changes what is available and pending by 60, and what lots hold by 61"]),
    "refund of a merged customer": ("UPDATE ledger_entries SET source_id = 'txn_0' WHERE customer_id = :second AND type = 'clawback'", "into", ["took back 8, and its entries 0"]),
    "redemption of a merged customer": ("UPDATE ledger_entries SET source_id = 'red_0' WHERE customer_id = :second AND type = 'redeem'", "into", ["is of 5, and its entry of 0"]),
    "tier without a change": ("UPDATE customers SET tier_id = (SELECT id FROM tiers WHERE rank = 3) WHERE id = :held", "held", ["the last event of a tier changed it to"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_changed_value_is_named_and_nothing_else(
    healthy: World, databases: Databases, tmp_path: Path, kind: str
) -> None:
    world = healthy.copy(databases, tmp_path)
    sql, customer, expected = DAMAGES[kind]
    params: list[str] = []
    text = ""
    for index, part in enumerate(sql.split(":")):
        name = next((each for each in world.ids if index and part.startswith(each)), None)
        text += part if name is None else "?" + part.removeprefix(name)
        params += [] if name is None else [world.ids[name]]
    damage(world.url, (text, params))
    names = {id_: name for name, id_ in world.ids.items()}
    texts = [f"{names[id_]}: {fault}" for id_, _, fault in (each.partition(": ") for each in found(world.url))]
    assert len(texts) == len(expected), texts
    for each in expected:
        assert any(each in fault and fault.startswith(f"{customer}") for fault in texts), (each, texts)
