"""Any sequence of purchases, redemptions, refunds and days that pass, on both stores: what refunds promise holds after each step."""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.events.transaction import Item
from loyalpro.kernel.clock import MS_PER_DAY, VirtualClock
from loyalpro.kernel.errors import Refused
from loyalpro.loyalty.adjustments import AdjustPoints, adjust_points
from loyalpro.loyalty.earning import EarnRule, EarnSettings, ItemMatch, Rate
from loyalpro.loyalty.entities import Transaction
from loyalpro.loyalty.expiry import ExpiryPolicy
from loyalpro.loyalty.program import RefundPolicy
from loyalpro.loyalty.recording import Purchase, RecordPurchases, record_purchases
from loyalpro.loyalty.redemptions import (
    MadeRedemption,
    RedeemPoints,
    ReverseRedemption,
    redeem_points,
    reverse_redemption,
)
from loyalpro.loyalty.refunds import NewRefund, Refunded, RefundPurchases, refund_purchases
from loyalpro.loyalty.returned_lines import Return
from loyalpro.storage.connection import DriverConnection
from loyalpro.storage.unit_of_work import UnitOfWork
from support.customers import enroll, open_account, purchase
from support.databases import Databases
from support.history import ACCOUNT, connect
from support.ledgers import errors_in
from support.programs import change_rules
from support.units import tools

T = TypeVar("T")

_CLOCK = VirtualClock(1_764_000_000_000)
_TOOLS = tools(2, clock=_CLOCK)
_unique = itertools.count()

TEA_PAYS_MORE = EarnSettings(
    (
        EarnRule("rule_tea", "5 per 1.00 of tea", {"EUR": Rate(5, 100)}, match=ItemMatch(skus=("tea",))),
        EarnRule("rule_1", "1 per 1.00", {"EUR": Rate(1, 100)}),
    ),
    exclude=ItemMatch(skus=("gift",)),
)
amounts = st.sampled_from((0, 99, 1_000, 5_600)) | st.integers(0, 6_000) | st.integers(0, 10**9)
lines = st.builds(
    lambda sku, quantity, amount: Item(sku=sku, quantity=quantity, amount=amount),
    st.sampled_from(("tea", "cups", "gift")),
    st.integers(1, 4),
    st.integers(0, 3_000),
)


@dataclass
class Order:
    """A purchase, how many of its points are accounted for by its refunds, and its redemptions."""

    id: str
    amount: int
    earned: int
    items: list[Item]
    accounted: int = 0
    redemptions: list[str] = field(default_factory=list)


class Refunds(RuleBasedStateMachine):
    """One customer. The database outlives the example."""

    url: ClassVar[str]
    connection: ClassVar[DriverConnection]

    def __init__(self) -> None:
        super().__init__()
        self.orders: list[Order] = []
        self.customer = ""

    @initialize(
        shortfall=st.sampled_from(("allow_negative", "within_balance", "only_pending")),
        restore_expired=st.sampled_from(("extend", "expire_now")),
        expiry=st.sampled_from((ExpiryPolicy("days", 4), ExpiryPolicy(), ExpiryPolicy("inactivity", 1))),
        pending_days=st.sampled_from((0, 0, 2)),
        tier=st.sampled_from(("at_review", "immediate")),
    )
    def begin(self, shortfall: Any, restore_expired: Any, expiry: Any, pending_days: int, tier: Any) -> None:
        change_rules(
            self.url,
            ACCOUNT,
            earning=TEA_PAYS_MORE,
            refunds=RefundPolicy(shortfall, restore_expired, tier),
            expiry=expiry,
            pending_days=pending_days,
        )
        self.customer = enroll(self.url, None).id

    @rule(days=st.sampled_from((1, 3, 5, 40)))
    def time_passes(self, days: int) -> None:
        _CLOCK.advance(days * MS_PER_DAY / 1_000)

    @rule(amount=amounts, items=st.lists(lines, max_size=3), exact=st.booleans())
    def buy(self, amount: int, items: list[Item], *, exact: bool) -> None:
        amount = sum(each["amount"] for each in items) if exact and items else amount
        new = purchase(customer_id=self.customer, amount=amount, items=items)
        [outcome] = self.commit(lambda unit: record_purchases(unit, RecordPurchases(ACCOUNT, [new])))
        assert isinstance(outcome, Purchase)
        bought = outcome.transaction
        self.orders.append(Order(bought.id, amount, bought.points_earned, items))

    @rule(points=st.integers(1, 500))
    def give(self, points: int) -> None:
        command = AdjustPoints(
            account_id=ACCOUNT,
            customer_id=self.customer,
            points=points,
            reason_code="gift",
            note=None,
            expires_at=None,
            counts_toward_tier=False,
            allow_negative=False,
            external_id=None,
        )
        self.commit(lambda unit: adjust_points(unit, command))

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), part=st.integers(1, 4))
    def redeem(self, data: st.DataObject, part: int) -> None:
        """Use a part of what is available on a purchase."""
        order = data.draw(st.sampled_from(self.orders))
        available = self.balance()[0]
        points = -(-available // part)
        if not points:
            return
        command = RedeemPoints(
            account_id=ACCOUNT,
            customer_id=self.customer,
            customer_external_id=None,
            points=points,
            reward_id=None,
            reserve_ms=None,
            transaction_id=order.id,
            external_id=None,
            amount=None,
            currency=None,
        )
        try:
            made = self.commit(lambda unit: redeem_points(unit, command))
        except Refused as refused:  # points expired since the balance was read
            assert refused.code == "insufficient_points"
        else:
            assert isinstance(made, MadeRedemption)
            order.redemptions.append(made.redemption.id)

    @precondition(lambda self: any(each.redemptions for each in self.orders))
    @rule(data=st.data(), points=st.none() | st.integers(1, 50))
    def reverse(self, data: st.DataObject, points: int | None) -> None:
        """By hand, as far as the redemption allows it."""
        id_ = data.draw(st.sampled_from([id_ for each in self.orders for id_ in each.redemptions]))
        try:
            self.commit(lambda unit: reverse_redemption(unit, ReverseRedemption(ACCOUNT, id_, points)))
        except Refused as refused:
            assert points is not None, refused

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), number=st.integers(1, 3), again=st.booleans())
    def refund(self, data: st.DataObject, number: int, *, again: bool) -> None:
        """A batch of refunds, and the same batch once more."""
        chosen = [data.draw(st.sampled_from(self.orders)) for _ in range(number)]
        batch = [self.new_refund(data, order) for order in chosen]
        before = {order.id: self.lost(order) for order in chosen}
        outcomes = self.commit(lambda unit: refund_purchases(unit, RefundPurchases(ACCOUNT, batch)))
        for order, outcome in zip(chosen, outcomes, strict=True):
            if isinstance(outcome, Refunded):
                self.note(order, outcome, before[order.id])
            else:
                assert outcome.code in ("refund_exceeds_transaction", "item_not_in_transaction", "invalid_field")
        if again:
            repeated = self.commit(lambda unit: refund_purchases(unit, RefundPurchases(ACCOUNT, batch)))
            for first, second in zip(outcomes, repeated, strict=True):
                if isinstance(first, Refunded):
                    assert isinstance(second, Refunded)
                    assert (second.replayed, second.refund) == (True, first.refund)

    def new_refund(self, data: st.DataObject, order: Order) -> NewRefund:
        """Money, lines, both or all that is left."""
        items: tuple[Return, ...] = ()
        by_line: bool = data.draw(st.booleans())
        if order.items and by_line:
            quantity = data.draw(st.none() | st.integers(1, 2))
            items = (Return(line=data.draw(st.integers(0, len(order.items) - 1)), quantity=quantity),)
        return NewRefund(
            transaction_id=order.id,
            amount=data.draw(st.none() | st.integers(0, max(1, order.amount))),
            items=items,
            external_id=f"refund-{next(_unique)}",
            restore_points=data.draw(st.booleans()),
        )

    def note(self, order: Order, outcome: Refunded, lost_before: int) -> None:
        """No point is taken twice, and none that had expired before the refund."""
        refund, bought = outcome.refund, outcome.transaction
        taken = refund.points_clawed_back + refund.points_shortfall
        assert min(refund.points_clawed_back, refund.points_shortfall, refund.points_expired_before) >= 0
        assert taken <= max(
            0, order.earned - lost_before - (bought.points_clawed_back + bought.points_shortfall - taken)
        )
        order.accounted += taken + refund.points_expired_before
        assert order.accounted <= order.earned
        if bought.status == "refunded":
            assert order.accounted == order.earned
            assert bought.refunded_amount == bought.amount

    # -- what is read --------------------------------------------------------------------------------------------------

    def commit(self, work: Callable[[UnitOfWork], T]) -> T:
        """What `work` returns, in one transaction with its events, at the time of the test's clock."""
        self.connection.begin()
        try:
            unit = UnitOfWork(self.connection, _TOOLS)
            result = work(unit)
            unit.outbox.flush()
            self.connection.commit()
        finally:
            self.connection.rollback()
        return result

    def balance(self) -> tuple[int, int, int]:
        sql = "SELECT available, pending, debt FROM customers WHERE id = ?"
        [(available, pending, debt)] = self.query(sql, self.customer)
        return available, pending, debt

    def lost(self, order: Order) -> int:
        """The points of a purchase that have expired."""
        sql = (
            "SELECT CAST(COALESCE(SUM(a.points), 0) AS BIGINT) FROM allocations a JOIN lots l ON l.id = a.lot_id"
            " WHERE l.transaction_id = ? AND a.kind = 'expire'"
        )
        [(points,)] = self.query(sql, order.id)
        return int(points)

    def query(self, sql: str, *params: object) -> list[Any]:
        return self.commit(lambda unit: unit.connection.execute(sql, params))

    # -- what holds after every step -----------------------------------------------------------------------------------

    @invariant()
    def the_ledger_adds_up(self) -> None:
        if self.customer:
            assert self.commit(lambda unit: errors_in(unit, self.customer, ACCOUNT)) == []

    @invariant()
    def every_entry_has_its_event(self) -> None:
        events = self.query(
            "SELECT sequence, type, body FROM events WHERE customer_id = ? ORDER BY sequence", self.customer
        )
        data = [(type_, json.loads(body)["data"]) for _, type_, body in events]
        assert [number for number, _, _ in events] == list(range(1, len(events) + 1))
        for type_, each in data:
            assert EVENT_TYPES[type_].read(each).data() == each
        told = [(each["entry_id"], abs(each["points"])) for type_, each in data if type_.startswith("points.")]
        entries = self.query(
            "SELECT id, ABS(points) FROM ledger_entries WHERE customer_id = ? AND type <> 'activate' ORDER BY sequence",
            self.customer,
        )
        assert told == entries
        self.check_order(data)

    def check_order(self, data: list[tuple[str, Any]]) -> None:
        """The events of a refund: the refund, what came back, what was taken; together what the refund says.

        Points that came back may expire at once.
        """
        for number, (type_, each) in enumerate(data):
            if type_ == "transaction.refunded":
                caused = itertools.takewhile(
                    lambda event: event[0] in ("points.adjusted", "points.expired"), data[number + 1 :]
                )
                mine = [event for _, event in caused if event.get("refund_id") == each["refund_id"]]
                kinds = [event["kind"] for event in mine]
                assert kinds == sorted(kinds, key=("redemption_reversal", "clawback").index)
                back = sum(event["points"] for event in mine if event["kind"] == "redemption_reversal")
                taken = -sum(event["points"] for event in mine if event["kind"] == "clawback")
                assert taken == each["points_clawed_back"]
                assert back <= each["points_restored"]

    @invariant()
    def redemptions_return_no_more_than_they_took(self) -> None:
        for order in self.orders:
            rows = self.query(
                "SELECT points, points_returned FROM redemptions WHERE transaction_id = ? AND status <> 'reserved'",
                order.id,
            )
            assert all(0 <= returned <= points for points, returned in rows)

    @invariant()
    def days_are_what_purchases_and_refunds_come_to(self) -> None:
        columns = ("purchases", "spend", "points_qualifying", "refunds", "refunded")
        sums = ", ".join(f"CAST(COALESCE(SUM({each}), 0) AS BIGINT)" for each in columns)
        [days] = self.query(f"SELECT {sums} FROM customer_days WHERE customer_id = ?", self.customer)
        bought = self.purchases()
        number = self.query("SELECT COUNT(*) FROM refunds WHERE customer_id = ?", self.customer)[0][0]
        refunded = sum(each.refunded_amount for each in bought)
        assert days == (
            sum(each.status != "refunded" for each in bought),
            sum(each.amount for each in bought) - refunded,
            sum(order.earned - order.accounted for order in self.orders),
            number,
            refunded,
        )

    def purchases(self) -> list[Transaction]:
        ids = [each.id for each in self.orders]
        return self.commit(lambda unit: unit.transactions.by_ids(ACCOUNT, ids)) if ids else []

    def refund_rest(self, order: Order) -> Refunded | Refused:
        command = RefundPurchases(ACCOUNT, [NewRefund(transaction_id=order.id)])
        [outcome] = self.commit(lambda unit: refund_purchases(unit, command))
        return outcome

    def teardown(self) -> None:
        """Refund all that is left: all points that the purchases earned are accounted for."""
        for order, bought in zip(self.orders, sorted(self.purchases(), key=lambda each: each.id), strict=True):
            if bought.status != "refunded":
                before = self.lost(order)
                outcome = self.refund_rest(order)
                assert isinstance(outcome, Refunded)
                self.note(order, outcome, before)
            assert order.accounted == order.earned
        self.the_ledger_adds_up()


def test_refunds_keep_their_promises_after_any_sequence_of_commands(databases: Databases, store: str) -> None:
    Refunds.url = databases.fresh(store)
    open_account(Refunds.url)
    Refunds.connection = connect(Refunds.url)
    run_state_machine_as_test(
        Refunds, settings=settings(max_examples=25, stateful_step_count=20, deadline=None, phases=[Phase.generate])
    )
    Refunds.connection.close()
