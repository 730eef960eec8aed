"""A customer's points under any sequence of operations: the invariants of the ledger hold after each of them."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from loyalpro.kernel.errors import InvalidInput
from loyalpro.loyalty.expiry import NEVER
from loyalpro.loyalty.ledger import MAX_POINTS, Allocation, Balance, Entry, Lot, discrepancies
from loyalpro.loyalty.wallet import Clawed, Wallet, returns
from support.wallets import (
    CANCELED,
    CLAWBACK,
    MANUAL,
    NOW,
    PROGRAM,
    REVERSAL,
    Stored,
    Unit,
    cause,
    credit,
    customer,
    earning,
    redeemed,
    with_policy,
)

DAY = 86_400_000
POLICIES = ("allow_negative", "within_balance", "only_pending")
amounts = st.integers(1, 60) | st.integers(1, 10**12)
expiries = st.just(NEVER) | st.integers(-5, 40).map(lambda days: NOW + days * DAY)


@dataclass
class Spent:
    """A redemption: its customer, its entry, and how much of it was returned."""

    owner: Stored
    entry_id: str
    points: int
    returned: int = 0


class Wallets(RuleBasedStateMachine):
    """Two customers under every operation, with time passing between them."""

    def __init__(self) -> None:
        super().__init__()
        self.unit = Unit()
        self.customers: list[Stored] = []
        self.orders: dict[str, tuple[Stored, int]] = {}
        self.spent: list[Spent] = []

    @initialize(inactive=st.booleans())
    def begin(self, *, inactive: bool) -> None:
        program = with_policy(kind="inactivity", n=1) if inactive else PROGRAM
        self.customers = [Stored(customer(f"cus_{n}"), self.unit, program) for n in (1, 2)]

    def pick(self, data: st.DataObject) -> Stored:
        return data.draw(st.sampled_from(self.customers))

    @rule(days=st.integers(1, 20))
    def time_passes(self, days: int) -> None:
        self.unit.now += days * DAY

    @rule(data=st.data(), points=amounts, expires_at=expiries, pending=st.sampled_from(("no", "dated", "held")))
    def earn(self, data: st.DataObject, points: int, expires_at: int, pending: str) -> None:
        stored, order = self.pick(data), f"txn_{len(self.orders)}"
        wallet = stored.wallet()
        given = credit(
            points,
            expires_at,
            is_pending=pending != "no",
            activates_at=self.unit.now + 3 * DAY if pending == "dated" else None,
            transaction_id=order,
        )
        before = wallet.balance
        wallet.earn(given, earning(points), cause("transaction", order, at=self.unit.now))
        assert wallet.balance.lifetime_earned == before.lifetime_earned + points
        self.orders[order] = (stored, points)
        stored.write(wallet)

    @rule(data=st.data(), points=amounts, expires_at=expiries)
    def give(self, data: st.DataObject, points: int, expires_at: int) -> None:
        stored = self.pick(data)
        wallet = stored.wallet()
        wallet.give(credit(points, expires_at), MANUAL, cause("adjustment"))
        stored.write(wallet)

    @rule(data=st.data(), points=amounts, allow_negative=st.booleans())
    def deduct(self, data: st.DataObject, points: int, *, allow_negative: bool) -> None:
        stored = self.pick(data)
        wallet = stored.wallet()
        before = wallet.balance
        if not allow_negative and points > before.available:
            with pytest.raises(InvalidInput):
                wallet.deduct(points, MANUAL, cause("adjustment"), allow_negative=False)
        else:
            wallet.deduct(points, MANUAL, cause("adjustment"), allow_negative=allow_negative)
            assert wallet.balance.net == before.net - points
        stored.write(wallet)

    @rule(data=st.data(), points=amounts, whole=st.booleans())
    def redeem(self, data: st.DataObject, points: int, *, whole: bool) -> None:
        """A redemption succeeds exactly when the points are available, and takes no others."""
        stored = self.pick(data)
        wallet = stored.wallet()
        before = wallet.balance
        points = before.available if whole and before.available else points
        assert before.available == sum(
            lot.remaining for lot in wallet.lots.holding("active") if lot.expires_at > self.unit.now
        )
        if points > before.available:
            with pytest.raises(InvalidInput) as refused:
                wallet.redeem(points, redeemed("red_x"), cause("redemption"))
            assert refused.value.code == "insufficient_points"
            assert wallet.balance == before
        else:
            entry = wallet.redeem(points, redeemed("red_x"), cause("redemption"))
            assert wallet.balance.available == before.available - points
            self.spent.append(Spent(stored, entry.id, points))
        stored.write(wallet)

    @precondition(lambda self: self.spent)
    @rule(data=st.data(), part=st.integers(1, 60))
    def put_back(self, data: st.DataObject, part: int) -> None:
        one = data.draw(st.sampled_from(self.spent))
        points = min(part, one.points - one.returned)
        if not points:
            return
        wallet = one.owner.wallet()
        lots = [(wallet.lots.get(lot.id) or lot, share) for lot, share in one.owner.spent(one.entry_id)]
        wallet.lots.know([lot for lot, _ in lots])
        back = returns(lots, one.returned, points)
        assert sum(share for _, share in back) == points
        before = wallet.balance
        wallet.put_back(points, back, cause("redemption"), REVERSAL, self.unit.now + 30 * DAY)
        assert wallet.balance.net == before.net + points
        one.returned += points
        one.owner.write(wallet)

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), part=amounts, policy=st.sampled_from(POLICIES))
    def claw_back(self, data: st.DataObject, part: int, policy: Any) -> None:
        order = data.draw(st.sampled_from(sorted(self.orders)))
        stored, left = self.orders[order]
        points = min(part, left)
        own = [lot for each in self.customers for lot in each.lots.values() if lot.transaction_id == order]
        if not points or any(lot.customer_id != stored.customer.id for lot in own):
            return
        wallet = stored.wallet()
        wallet.lots.know(own)
        before = wallet.balance
        clawed = wallet.claw_back(points, order, cause("refund"), CLAWBACK, policy)
        assert clawed.clawed_back + clawed.shortfall == points
        assert wallet.balance.net + wallet.balance.pending == before.net + before.pending - clawed.clawed_back
        assert policy == "allow_negative" or wallet.balance.debt == before.debt
        assert policy != "allow_negative" or not clawed.shortfall
        self.orders[order] = (stored, left - points)
        stored.write(wallet)

    @rule(data=st.data(), activate=st.booleans())
    def release_or_cancel_a_pending_lot(self, data: st.DataObject, *, activate: bool) -> None:
        stored = self.pick(data)
        wallet = stored.wallet()
        pending = wallet.lots.holding("pending")
        if pending:
            lot = data.draw(st.sampled_from(pending))
            if activate:
                wallet.activate(lot, cause("lot", lot.id))
            else:
                wallet.cancel(lot, cause("lot", lot.id), CANCELED)
        stored.write(wallet)

    @rule(data=st.data())
    def forfeit(self, data: st.DataObject) -> None:
        """A forfeit leaves nothing, and a second one changes nothing."""
        stored = self.pick(data)
        wallet = stored.wallet()
        before = wallet.balance
        assert wallet.forfeit(cause("customer")) == before.available + before.pending
        after = wallet.balance
        assert (after.available, after.pending, after.debt) == (0, 0, 0)
        assert after.lifetime_earned == before.lifetime_earned
        entries = len(wallet.entries)
        assert wallet.forfeit(cause("customer")) == 0
        assert len(wallet.entries) == entries
        stored.write(wallet)

    @rule()
    def merge(self) -> None:
        """Everything of one customer goes to the other: the sum of both stays."""
        one, other = self.customers
        left, right = one.wallet(), other.wallet()
        net = left.balance.net + right.balance.net
        pending = left.balance.pending + right.balance.pending
        estate = left.move_out(cause("customer", one.customer.id))
        right.move_in(estate, cause("customer", one.customer.id))
        assert left.balance == Balance()
        assert (right.balance.net, right.balance.pending) == (net, pending)
        one.write(left)
        other.write(right)
        self._hand_over(one, other)

    def _hand_over(self, one: Stored, other: Stored) -> None:
        """What a store does: all lots of a merged customer, also empty ones, belong to the other one after it."""
        for id_ in list(one.lots):
            lot = one.lots.pop(id_)
            other.lots.setdefault(id_, replace(lot, customer_id=other.customer.id))
        other.allocations += one.allocations
        one.allocations.clear()
        self.orders = {key: (other, left) for key, (_, left) in self.orders.items()}
        self.spent = [replace(each, owner=other) for each in self.spent]

    @invariant()
    def everything_adds_up(self) -> None:
        for stored in self.customers:
            stored.check()


Wallets.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestWallets = Wallets.TestCase


@given(st.just(0) | amounts, amounts)
@example(80, 56)
@example(24, 30)
def test_example_14_earned_points_repay_debt_first(debt: int, points: int) -> None:
    stored = Stored(customer())
    wallet = stored.wallet()
    if debt:
        wallet.deduct(debt, MANUAL, cause("adjustment"), allow_negative=True)
    wallet.earn(credit(points), earning(points), cause())
    stored.write(wallet)
    repaid = min(debt, points)
    balance = stored.customer.balance
    assert (balance.available, balance.debt, balance.lifetime_earned) == (points - repaid, debt - repaid, points)
    [lot] = stored.lots.values()
    assert (lot.original, lot.remaining) == (points, points - repaid)
    absorbed = [each for each in stored.allocations if each.kind == "absorb"]
    assert absorbed == ([Allocation(lot.entry_id, lot.id, "absorb", repaid)] if repaid else [])
    stored.check()


def test_example_16_points_that_expire_first_are_spent_first() -> None:
    stored = _with_lots((50, NOW + 60), (30, NOW + 30), (20, NEVER))
    wallet = stored.wallet()
    entry = wallet.redeem(60, redeemed("red_1"), cause("redemption"))
    stored.write(wallet)
    assert [(lot.original, share) for lot, share in stored.spent(entry.id)] == [(30, 30), (50, 30)]


@pytest.mark.parametrize(
    ("policy", "expected", "available", "debt"),
    [
        ("allow_negative", Clawed(0, 100, 0), 0, 80),
        ("within_balance", Clawed(0, 20, 80), 0, 0),
        ("only_pending", Clawed(0, 0, 100), 20, 0),
    ],
    ids=["12", "13 within_balance", "13 only_pending"],
)
def test_examples_12_and_13_a_refund_of_spent_points(policy: Any, expected: Clawed, available: int, debt: int) -> None:
    stored = Stored(customer())
    wallet = stored.wallet()
    wallet.earn(credit(100, transaction_id="txn_1"), earning(100), cause("transaction", "txn_1"))
    wallet.redeem(80, redeemed("red_1"), cause("redemption"))
    clawed = wallet.claw_back(100, "txn_1", cause("refund"), CLAWBACK, policy)
    stored.write(wallet)
    assert clawed == expected
    balance = stored.customer.balance
    assert (balance.available, balance.debt) == (available, debt)
    if policy == "allow_negative":
        assert (stored.entries[-1].points, stored.entries[-1].balance_after) == (-100, -80)
    stored.check()


@pytest.mark.parametrize("first", [20, 60], ids=["17 part", "17 whole"])
def test_example_17_returned_points_go_back_to_their_lots(first: int) -> None:
    """50 of May and 30 of March: 60 are spent. Points that are returned in April cannot go to the lot of March."""
    may, march, april = NOW + 90 * DAY, NOW + 30 * DAY, NOW + 60 * DAY
    stored = _with_lots((50, may), (30, march))
    wallet = stored.wallet()
    entry = wallet.redeem(60, redeemed("red_1"), cause("redemption"))
    stored.write(wallet)
    stored.unit.now = april
    wallet = stored.wallet()
    spent = stored.spent(entry.id)
    wallet.lots.know([lot for lot, _ in spent])
    wallet.put_back(first, returns(spent, 0, first), cause("redemption"), REVERSAL, april + 30 * DAY)
    stored.write(wallet)
    by_expiry = {lot.expires_at: lot.remaining for lot in stored.lots.values()}
    expected = {may: 40} if first == 20 else {may: 50, april + 30 * DAY: 30}
    assert by_expiry == {march: 0, **expected}
    stored.check()


def test_example_19_a_pending_lot_is_canceled_in_part_and_activated_without_an_event() -> None:
    stored = Stored(customer())
    wallet = stored.wallet()
    pending = credit(112, is_pending=True, activates_at=NOW + 14 * DAY, transaction_id="txn_1")
    wallet.earn(pending, earning(112), cause("transaction", "txn_1"))
    stored.write(wallet)
    stored.unit.now = NOW + 3 * DAY
    wallet = stored.wallet()
    assert wallet.claw_back(56, "txn_1", cause("refund"), CLAWBACK, "allow_negative") == Clawed(56, 0, 0)
    stored.write(wallet)
    stored.unit.now = NOW + 14 * DAY
    stored.write(stored.wallet())
    assert [(each.type, each.points) for each in stored.entries] == [
        ("earn", 112),
        ("cancel_pending", -56),
        ("activate", 56),
    ]
    assert (stored.customer.balance.available, stored.customer.balance.pending) == (56, 0)
    assert sum(event.data["points"] for event in stored.events("points.")) == 56
    stored.check()


def test_example_23_an_old_purchase_is_earned_and_expired_at_once() -> None:
    stored = Stored(customer())
    wallet = stored.wallet()
    wallet.earn(credit(56, NOW - DAY), earning(56), cause(at=NOW - 400 * DAY))
    stored.write(wallet)
    assert [(each.type, each.points) for each in stored.entries] == [("earn", 56), ("expire", -56)]
    assert [each.type for each in stored.events()] == ["points.earned", "points.expired"]
    assert stored.customer.balance.available == 0
    stored.check()


def test_an_old_purchase_repays_debt_before_the_rest_expires() -> None:
    stored = Stored(customer())
    wallet = stored.wallet()
    wallet.deduct(50, MANUAL, cause("adjustment"), allow_negative=True)
    wallet.earn(credit(56, NOW - DAY), earning(56), cause(at=NOW - 400 * DAY))
    stored.write(wallet)
    assert [each.points for each in stored.entries] == [-50, 56, -6]
    assert stored.customer.balance.net == 0
    stored.check()


@pytest.mark.parametrize(("lots", "entries"), [(1, [1]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50])])
def test_an_entry_expires_at_most_100_lots(lots: int, entries: list[int]) -> None:
    stored = _with_lots(*[(2, NOW + n + 1) for n in range(lots)])
    stored.unit.now = NOW + DAY
    stored.write(stored.wallet())
    assert [-each.points for each in stored.entries if each.type == "expire"] == [2 * each for each in entries]
    assert [len(event.data["lots"]) for event in stored.events("points.expired")] == entries
    assert stored.customer.balance.available == 0
    stored.check()


def test_a_customer_without_activity_loses_all_points_and_activity_keeps_them() -> None:
    stored = Stored(customer(), program=with_policy(kind="inactivity", n=1))
    wallet = stored.wallet()
    wallet.earn(credit(10), earning(10), cause())
    stored.write(wallet)
    stored.unit.now = NOW + 25 * DAY
    wallet = stored.wallet()
    wallet.redeem(1, redeemed("red_1"), cause("redemption"))
    stored.write(wallet)
    stored.unit.now = NOW + 50 * DAY
    stored.write(stored.wallet())
    assert stored.customer.balance.available == 9
    stored.unit.now = NOW + 60 * DAY
    stored.write(stored.wallet())
    assert stored.customer.balance.available == 0
    assert stored.events()[-1].type == "points.expired"
    stored.check()


def test_points_of_a_changed_policy_keep_their_own_dates() -> None:
    """After a policy of inactivity, only points without a date expire for lack of activity."""
    stored = Stored(customer(), program=with_policy(kind="inactivity", n=1))
    wallet = stored.wallet()
    wallet.earn(credit(10), earning(10), cause())
    stored.write(wallet)
    stored.program = PROGRAM
    wallet = stored.wallet()
    wallet.earn(credit(7, NOW + 300 * DAY), earning(7), cause())
    stored.write(wallet)
    stored.unit.now = NOW + 60 * DAY
    stored.write(stored.wallet())
    assert stored.customer.balance.available == 7
    stored.check()


def test_example_29_a_merge_repays_the_debt_of_the_other_customer() -> None:
    unit = Unit()
    one, other = Stored(customer("cus_1"), unit), Stored(customer("cus_2"), unit)
    left, right = one.wallet(), other.wallet()
    left.earn(credit(30), earning(30), cause())
    right.deduct(50, MANUAL, cause("adjustment"), allow_negative=True)
    estate = left.move_out(cause("customer", "cus_1"))
    right.move_in(estate, cause("customer", "cus_1"))
    assert (left.entries[-1].type, left.entries[-1].points) == ("merge_out", -30)
    assert (right.entries[-1].type, right.entries[-1].points) == ("merge_in", 30)
    assert (right.balance.available, right.balance.debt) == (0, 20)


def test_nothing_can_be_taken_when_the_lots_were_not_read() -> None:
    wallet = Wallet(customer(balance=Balance(available=5)), Unit(), PROGRAM)
    with pytest.raises(RuntimeError, match="without lots"):
        wallet.redeem(5, redeemed("red_1"), cause("redemption"))


@given(st.integers(0, MAX_POINTS), st.integers(1, MAX_POINTS))
@example(MAX_POINTS, 1)
@example(MAX_POINTS - 1, 1)
def test_a_customer_is_never_credited_more_than_json_can_count(earned: int, points: int) -> None:
    wallet = Wallet(customer(balance=Balance(lifetime_earned=earned)), Unit(), PROGRAM)
    if earned + points <= MAX_POINTS:
        wallet.earn(credit(points), earning(points), cause())
        return
    with pytest.raises(InvalidInput) as refused:
        wallet.earn(credit(points), earning(points), cause())
    assert refused.value.code == "points_limit"
    assert not wallet.is_changed


def test_a_wallet_numbers_every_event_of_its_customer() -> None:
    unit = Unit()
    wallet = Wallet(replace(customer(), event_sequence=7), unit, PROGRAM)
    wallet.change_details(name="Ann")
    wallet.earn(credit(5), earning(5), cause())
    assert wallet.customer.updated_at == NOW
    wallet.earn(credit(6), earning(6), cause())
    assert [(event.type, event.sequence) for event in unit.events] == [("points.earned", 8), ("points.earned", 9)]
    assert (wallet.customer.name, wallet.customer.event_sequence, wallet.customer.ledger_sequence) == ("Ann", 9, 2)


spent_lots = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 40)), min_size=1, max_size=6)


@given(spent_lots, st.data())
def test_returns_in_parts_are_the_return_of_the_whole(shares: list[tuple[int, int]], data: st.DataObject) -> None:
    spent = [(_lot(f"lot_{n}", expires_at=expires), share) for n, (share, expires) in enumerate(shares)]
    total = sum(share for _, share in spent)
    whole = dict.fromkeys((lot.id for lot, _ in spent), 0)
    returned = 0
    while returned < total:
        part = data.draw(st.integers(1, total - returned))
        for lot, share in returns(spent, returned, part):
            whole[lot.id] += share
        returned += part
    assert whole == {lot.id: share for lot, share in spent}


@pytest.mark.parametrize(
    "change",
    [
        {"balance": Balance(available=11)},
        {"balance": Balance(available=10, pending=1)},
        {"balance": Balance(available=12, debt=2)},
        {"entries": []},
        {"entries": ["sequence"]},
        {"entries": ["type"]},
        {"lots": [{"remaining": 9}]},
        {"lots": [{"original": 11}]},
        {"lots": [{"status": "canceled"}]},
        {"allocations": [Allocation("led_1", "lot_1", "spend", 1)]},
    ],
)
def test_the_checker_finds_what_does_not_add_up(change: dict[str, Any]) -> None:
    entry = Entry("led_1", "acct_1", "cus_1", 1, "earn", 10, 10, 0, "transaction", "txn_1", "key:key_1", (), 1, 1)
    sound: dict[str, Any] = {
        "balance": Balance(available=10),
        "entries": [entry],
        "lots": [_lot("lot_1", original=10)],
        "allocations": [],
    }
    assert discrepancies(**sound) == []
    damaged = {"sequence": replace(entry, sequence=2), "type": replace(entry, type="redeem", balance_after=0)}
    if "lots" in change:
        change = {"lots": [replace(_lot("lot_1", original=10), **each) for each in change["lots"]]}
    if change.get("entries"):
        change = {"entries": [damaged[each] for each in change["entries"]]}
    assert discrepancies(**sound | change) != []


def _lot(id_: str, *, original: int = 1, expires_at: int = NEVER) -> Lot:
    return Lot(id_, "acct_1", "cus_1", "led_1", None, None, original, original, 1, None, expires_at, "active", 1)


def _with_lots(*lots: tuple[int, int]) -> Stored:
    """A customer that earned these points, each with its expiry."""
    stored = Stored(customer())
    wallet = stored.wallet()
    for points, expires_at in lots:
        wallet.earn(credit(points, expires_at), earning(points), cause())
    stored.write(wallet)
    return stored
