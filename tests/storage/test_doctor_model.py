"""Random commands over months, on both stores: the doctor finds nothing, whatever happened."""

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from loyalpro.kernel.clock import MS_PER_DAY, VirtualClock
from loyalpro.kernel.errors import Refused
from loyalpro.loyalty.adjustments import AdjustPoints, adjust_points
from loyalpro.loyalty.customers import EnrollCustomer, enroll_customer
from loyalpro.loyalty.deletion import DeleteCustomer, delete_customer
from loyalpro.loyalty.ledger_check import faults
from loyalpro.loyalty.merging import MergeCustomer, merge_customer
from loyalpro.loyalty.opening_balances import OpeningBalance, SetOpeningBalances, set_opening_balances
from loyalpro.loyalty.recording import Purchase, RecordPurchases, record_purchases
from loyalpro.loyalty.redemptions import (
    RedeemPoints,
    RedemptionRef,
    ReverseRedemption,
    cancel_redemption,
    redeem_points,
    reverse_redemption,
)
from loyalpro.loyalty.refunds import NewRefund, RefundPurchase, refund_purchase
from loyalpro.storage.open import open_reader
from loyalpro.storage.tables.ledger_check import LedgerReader
from loyalpro.storage.unit_of_work import UnitOfWork
from support.customers import open_account, purchase
from support.databases import Databases
from support.history import ACCOUNT, keeping_connections, query, transaction
from support.units import tools

STEPS = 250
START = 1_700_000_000_000


class Merchant:
    """Makes random commands, each in a transaction of its own. A refused one changes nothing."""

    def __init__(self, url: str, seed: int) -> None:
        self.url = url
        self.rng = random.Random(seed)
        self.clock = VirtualClock(START)
        self.tools = tools(seed, clock=self.clock)
        self.customers: list[str] = []
        self.sales: list[str] = []
        self.redemptions: list[str] = []
        self.numbers = itertools.count()
        self.done: dict[str, int] = {}

    def step(self) -> None:
        if self.rng.random() < 0.3:
            self.clock.advance(self.rng.randrange(1, 40 * MS_PER_DAY) / 1_000)
        act = self.rng.choice(
            [self.sell] * 12
            + [self.redeem] * 10
            + [self.refund] * 6
            + [self.reverse, self.cancel, self.adjust, self.balance] * 3
            + [self.enroll, self.enroll, self.merge, self.delete]
        )
        try:
            act()
        except Refused:
            return
        self.done[act.__name__] = self.done.get(act.__name__, 0) + 1

    def commit(self, work: Callable[[UnitOfWork], Any]) -> Any:
        with transaction(self.url) as connection:
            unit = UnitOfWork(connection, self.tools)
            result = work(unit)
            unit.outbox.flush()
            return result

    def any_customer(self) -> str:
        return self.rng.choice(self.customers)

    def enroll(self) -> None:
        command = EnrollCustomer(ACCOUNT, f"shop-{next(self.numbers)}", None, None, None, {}, source="api")
        self.customers.append(self.commit(lambda unit: enroll_customer(unit, command)).id)

    def sell(self) -> None:
        sale = purchase(
            customer_id=self.any_customer(), amount=self.rng.choice([0, 99, 5_600, 120_000, self.rng.randrange(10**6)])
        )
        days_ago = self.rng.choice([0, 0, 0, 3, 500])
        sale = replace(sale, occurred_at=self.clock.now_ms() - days_ago * MS_PER_DAY)
        [sold] = self.commit(lambda unit: record_purchases(unit, RecordPurchases(ACCOUNT, [sale])))
        if isinstance(sold, Purchase):
            self.sales.append(sold.transaction.id)

    def redeem(self) -> None:
        reserve_ms = self.rng.choice([None, MS_PER_DAY])
        command = RedeemPoints(
            ACCOUNT, self.any_customer(), None, self.rng.randrange(1, 200), None, reserve_ms, None, None, None, None
        )
        self.redemptions.append(self.commit(lambda unit: redeem_points(unit, command)).redemption.id)

    def refund(self) -> None:
        if self.sales:
            new = NewRefund(transaction_id=self.rng.choice(self.sales), amount=self.rng.choice([None, 1, 2_000, 5_600]))
            self.commit(lambda unit: refund_purchase(unit, RefundPurchase(ACCOUNT, new)))

    def reverse(self) -> None:
        if self.redemptions:
            command = ReverseRedemption(ACCOUNT, self.rng.choice(self.redemptions), self.rng.choice([None, 1, 30]))
            self.commit(lambda unit: reverse_redemption(unit, command))

    def cancel(self) -> None:
        if self.redemptions:
            command = RedemptionRef(ACCOUNT, self.rng.choice(self.redemptions))
            self.commit(lambda unit: cancel_redemption(unit, command))

    def adjust(self) -> None:
        points = self.rng.choice([1, 500, -1, -300])
        command = AdjustPoints(
            account_id=ACCOUNT,
            customer_id=self.any_customer(),
            points=points,
            reason_code="goodwill",
            note=None,
            expires_at=None,
            counts_toward_tier=self.rng.random() < 0.5,
            allow_negative=points < 0 and self.rng.random() < 0.5,
            external_id=None,
        )
        self.commit(lambda unit: adjust_points(unit, command))

    def balance(self) -> None:
        now = self.clock.now_ms()
        earned_at = now - self.rng.choice([0, 100, 500]) * MS_PER_DAY
        row = OpeningBalance(self.any_customer(), None, f"b-{next(self.numbers)}", 90, earned_at, None)
        counts = self.rng.random() < 0.5
        command = SetOpeningBalances(ACCOUNT, [row], counts_toward_tier=counts)
        self.commit(lambda unit: set_opening_balances(unit, command))

    def merge(self) -> None:
        command = MergeCustomer(ACCOUNT, self.any_customer(), self.any_customer())
        self.commit(lambda unit: merge_customer(unit, command))
        self.customers.remove(command.customer_id)

    def delete(self) -> None:
        command = DeleteCustomer(ACCOUNT, self.any_customer())
        self.commit(lambda unit: delete_customer(unit, command))
        self.customers.remove(command.customer_id)


@pytest.mark.parametrize("pending_days", [0, 14])
def test_the_doctor_finds_nothing(databases: Databases, store: str, pending_days: int) -> None:
    url = databases.fresh(store)
    open_account(url)
    change = f"replace(rules, '\"pending_days\":0', '\"pending_days\":{pending_days}')"
    query(url, f"UPDATE program_versions SET rules = {change}")
    merchant = Merchant(url, seed=1)
    with keeping_connections(url):
        for _ in range(6):
            merchant.enroll()
        for _ in range(STEPS):
            merchant.step()
    assert len(merchant.done) >= 9, merchant.done  # of ten commands; a canceled reservation is rare
    connection = open_reader(url)
    try:
        logs = [log for page in LedgerReader(connection).pages() for log in page]
    finally:
        connection.close()
    assert [f"{log.customer.id}: {text}" for log in logs for text in faults(log, merchant.clock.now_ms())] == []
    assert sum(len(log.entries) for log in logs) > STEPS // 2
