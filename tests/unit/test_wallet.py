"""A customer's points under any sequence of operations: the invariants of the ledger hold after each of them."""

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.events.new_event import NewEvent
from loyalpro.kernel.clock import UnixMs, VirtualClock
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.ledger import MAX_POINTS, Allocation, Balance, Entry, Lot, discrepancies
from loyalpro.loyalty.program import Tier
from loyalpro.loyalty.wallet import Cause, Earning, Wallet

NOW = 1_763_980_200_000


@dataclass
class Unit:
    """Collects the events."""

    ids: IdFactory = field(default_factory=lambda: IdFactory(VirtualClock(NOW), random.Random(1)))
    now: UnixMs = NOW
    events: list[NewEvent] = field(default_factory=list)

    def emit(self, event: NewEvent) -> None:
        self.events.append(event)


@dataclass
class Stored:
    """A customer with its whole ledger, as a store would have it; each operation reads a wallet and writes it back."""

    customer: Customer
    entries: list[Entry] = field(default_factory=list)
    lots: dict[str, Lot] = field(default_factory=dict)
    allocations: list[Allocation] = field(default_factory=list)
    unit: Unit = field(default_factory=Unit)

    def wallet(self) -> Wallet:
        return Wallet(self.customer, self.unit, lots=[lot for lot in self.lots.values() if lot.remaining])

    def write(self, wallet: Wallet) -> None:
        self.customer = wallet.customer
        self.entries += wallet.entries
        self.allocations += wallet.allocations
        self.lots |= {lot.id: lot for lot in [*wallet.new_lots, *wallet.changed_lots]}

    def check(self) -> None:
        """Everything adds up, every event follows the one before, and each entry has one `points.*` event."""
        assert discrepancies(self.customer.balance, self.entries, list(self.lots.values()), self.allocations) == []
        sequences = [event.sequence for event in self.unit.events]
        last = self.customer.event_sequence
        assert sequences == list(range(last - len(sequences) + 1, last + 1))
        assert self.customer.ledger_sequence == len(self.entries)
        points = [event for event in self.unit.events if event.type.startswith("points.")]
        told = [entry for entry in self.entries if entry.source_type != "setup"]
        assert [(each.data["entry_id"], each.data["points"]) for each in points] == [(e.id, e.points) for e in told]
        for event in self.unit.events:
            assert EVENT_TYPES[event.type].read(event.data).data() == event.data


def customer(balance: Balance, *, entries: int = 0) -> Customer:
    return Customer(
        id="cus_1",
        account_id="acct_1",
        external_id="ann",
        email=None,
        phone=None,
        name=None,
        metadata={},
        status="active",
        tier=Tier("tier_1", "Bronze", 0, 1),
        balance=balance,
        ledger_sequence=entries,
        event_sequence=7,
        created_at=1,
        updated_at=1,
    )


def stored(*, debt: int = 0, pending: int = 0) -> Stored:
    """A customer with debt or pending points; no operation makes either yet."""
    start = Stored(customer(Balance()))
    changes = [("clawback", -debt, -debt, 0)] * bool(debt) + [("earn", pending, -debt, pending)] * bool(pending)
    for number, (type_, points, net, held) in enumerate(changes, 1):
        start.entries.append(setup_entry(number, type_, points, net, held))
    if pending:
        lot = Lot("lot_0", "cus_1", start.entries[-1].id, pending, pending, 1, NOW + 1, None, "pending", 1)
        start.lots[lot.id] = lot
    start.customer = customer(Balance(debt=debt, pending=pending), entries=len(start.entries))
    return start


def setup_entry(number: int, type_: Any, points: int, net: int, pending: int) -> Entry:
    return Entry(f"led_{number}", "cus_1", number, type_, points, net, pending, "setup", "s", "api", (), 1, 1)


def cause(at: UnixMs = NOW, reason: str | None = None) -> Cause:
    return Cause("customer" if reason else "transaction", "src_1", "api", at, reason)


def earning(points: int, expires_at: UnixMs | None = None) -> Earning:
    return Earning(points, ({"id": "rule_1", "name": "r", "points": points},), expires_at)


amounts = st.integers(1, 50) | st.integers(1, MAX_POINTS)
instants = st.none() | st.integers(NOW, NOW + 10**11)
earnings = st.builds(earning, amounts, instants)
balances = st.just(0) | amounts
starts = st.builds(lambda debt, pending: stored(debt=debt, pending=pending), balances, balances)
commands = st.lists(st.lists(st.none() | earnings, min_size=1, max_size=4), max_size=6)
"""Commands, each a list of operations on one wallet: earn, or for None forfeit."""


def run(wallet: Wallet, operation: Earning | None) -> None:
    if operation is None:
        wallet.forfeit(cause(reason="customer_deleted"))
    else:
        wallet.earn(operation, cause())


@given(starts, commands)
def test_the_ledger_adds_up_after_any_sequence_of_commands(start: Stored, sequence: Any) -> None:
    for operations in sequence:
        wallet = start.wallet()
        for operation in operations:
            if operation is None or wallet.balance.lifetime_earned + operation.points <= MAX_POINTS:
                run(wallet, operation)
        start.write(wallet)
        start.check()


@given(starts, commands)
def test_the_balance_is_what_the_events_add_up_to(start: Stored, sequence: Any) -> None:
    before = start.customer.balance
    for operations in sequence:
        wallet = start.wallet()
        for operation in operations:
            if operation is None or wallet.balance.lifetime_earned + operation.points <= MAX_POINTS:
                run(wallet, operation)
        start.write(wallet)
    after = start.customer.balance
    total = sum(event.data["points"] for event in start.unit.events)
    assert total == after.net + after.pending - before.net - before.pending
    for event in start.unit.events:
        shown = event.data["balance"]
        assert min(shown.values()) >= 0
        assert not (shown["after"] and shown["debt"])


@given(starts, commands)
def test_commands_on_one_wallet_do_what_they_do_on_wallets_of_their_own(start: Stored, sequence: Any) -> None:
    apart = Stored(start.customer, list(start.entries), dict(start.lots), list(start.allocations))
    operations = [operation for command in sequence for operation in command]
    together = start.wallet()
    for operation in operations:
        if operation is None or together.balance.lifetime_earned + operation.points <= MAX_POINTS:
            run(together, operation)
            alone = apart.wallet()
            run(alone, operation)
            apart.write(alone)
    start.write(together)
    assert start.customer == apart.customer
    assert [replace(each, id="") for each in start.entries] == [replace(each, id="") for each in apart.entries]
    assert [replace(each, id="", entry_id="") for each in start.lots.values()] == [
        replace(each, id="", entry_id="") for each in apart.lots.values()
    ]


@given(balances, amounts)
@example(80, 56)
@example(24, 30)
def test_earned_points_repay_debt_first(debt: int, points: int) -> None:
    start = stored(debt=debt)
    wallet = start.wallet()
    wallet.earn(earning(points), cause())
    start.write(wallet)
    repaid = min(debt, points)
    balance = start.customer.balance
    assert (balance.available, balance.debt, balance.lifetime_earned) == (points - repaid, debt - repaid, points)
    shown = {"before": 0, "after": points - repaid, "pending_before": 0, "pending": 0}
    shown |= {"debt_before": debt, "debt": debt - repaid}
    assert [event.data["balance"] for event in start.unit.events] == [shown]
    [lot] = start.lots.values()
    assert (lot.original, lot.remaining) == (points, points - repaid)
    assert start.allocations == ([Allocation(lot.entry_id, lot.id, repaid)] if repaid else [])


@given(starts, st.lists(earnings, max_size=5))
def test_a_forfeit_leaves_nothing_and_a_second_one_changes_nothing(start: Stored, earned: list[Earning]) -> None:
    assume(sum(each.points for each in earned) <= MAX_POINTS)
    wallet = start.wallet()
    for each in earned:
        run(wallet, each)
    before = wallet.balance
    assert wallet.forfeit(cause(reason="customer_deleted")) == before.available + before.pending
    after = wallet.balance
    assert (after.available, after.pending, after.debt) == (0, 0, 0)
    assert (after.lifetime_earned, after.lifetime_redeemed) == (before.lifetime_earned, before.lifetime_redeemed)
    entries = len(wallet.entries)
    assert wallet.forfeit(cause(reason="customer_deleted")) == 0
    assert len(wallet.entries) == entries
    start.write(wallet)
    assert {lot.remaining for lot in start.lots.values()} <= {0}
    assert {lot.status for lot in start.lots.values()} <= {"active", "canceled"}
    start.check()


def test_points_are_taken_out_of_lots_in_spending_order() -> None:
    start = Stored(customer(Balance()))
    wallet = start.wallet()
    for points, at, expires in ((50, 3, NOW + 60), (30, 2, NOW + 30), (20, 1, None), (10, 1, NOW + 60)):
        wallet.earn(earning(points, expires), cause(at))
    wallet.forfeit(cause(reason="customer_deleted"))
    assert [each.points for each in wallet.allocations] == [30, 10, 50, 20]


def test_nothing_can_be_taken_when_the_lots_were_not_read() -> None:
    wallet = Wallet(customer(Balance(available=5)), Unit())
    with pytest.raises(RuntimeError, match="without lots"):
        wallet.forfeit(cause(reason="customer_deleted"))


@given(st.integers(0, MAX_POINTS), amounts)
@example(MAX_POINTS, 1)
@example(MAX_POINTS - 1, 1)
def test_a_customer_never_earns_more_than_json_can_count(earned: int, points: int) -> None:
    wallet = Wallet(customer(Balance(lifetime_earned=earned)), Unit())
    if earned + points <= MAX_POINTS:
        wallet.earn(earning(points), cause())
        return
    with pytest.raises(InvalidInput) as refused:
        wallet.earn(earning(points), cause())
    assert refused.value.code == "points_limit"
    assert not wallet.is_changed


def test_a_wallet_numbers_every_event_of_its_customer() -> None:
    unit = Unit()
    wallet = Wallet(customer(Balance()), unit)
    wallet.change_details(name="Ann")
    wallet.earn(earning(5), cause())
    assert wallet.customer.updated_at == NOW
    wallet.earn(earning(6), cause())
    assert [(event.type, event.sequence) for event in unit.events] == [("points.earned", 8), ("points.earned", 9)]
    assert (wallet.customer.name, wallet.customer.event_sequence, wallet.customer.ledger_sequence) == ("Ann", 9, 2)


@pytest.mark.parametrize(
    "change",
    [
        {"balance": Balance(available=11)},
        {"balance": Balance(available=10, pending=1)},
        {"balance": Balance(available=12, debt=2)},
        {"entries": []},
        {"entries": [setup_entry(2, "earn", 10, 10, 0)]},
        {"entries": [setup_entry(1, "redeem", 10, 0, 10)]},
        {"lots": [Lot("lot_1", "cus_1", "led_1", 10, 9, 1, None, None, "active", 1)]},
        {"lots": [Lot("lot_1", "cus_1", "led_1", 11, 10, 1, None, None, "active", 1)]},
        {"lots": [Lot("lot_1", "cus_1", "led_1", 10, 10, 1, None, None, "canceled", 1)]},
        {"allocations": [Allocation("led_1", "lot_1", 1)]},
    ],
)
def test_the_checker_finds_what_does_not_add_up(change: dict[str, Any]) -> None:
    sound: dict[str, Any] = {
        "balance": Balance(available=10),
        "entries": [setup_entry(1, "earn", 10, 10, 0)],
        "lots": [Lot("lot_1", "cus_1", "led_1", 10, 10, 1, None, None, "active", 1)],
        "allocations": [],
    }
    assert discrepancies(**sound) == []
    assert discrepancies(**sound | change) != []
