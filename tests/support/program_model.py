"""Every command of the loyalty program on a few customers, in any order, and what must hold after each of them.

A `Chooser` draws what happens: Hypothesis does in the state machine, a seeded generator does for mutants. Small numbers are
drawn most of the time, because rounding shows with them.
"""

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeVar

from loyalpro.kernel.clock import MS_PER_DAY, VirtualClock
from loyalpro.kernel.errors import Conflict, InvalidInput, LoyalProError, NotFound, Refused
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.adjustments import AdjustPoints, adjust_points
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.customers import (
    EnrollCustomer,
    GetCustomer,
    UpdateCustomer,
    enroll_customer,
    get_customer,
    update_customer,
)
from loyalpro.loyalty.deletion import DeleteCustomer, delete_customer
from loyalpro.loyalty.details import BLOCKS
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.expiry import ExpiryPolicy
from loyalpro.loyalty.fraud.resolution import ListCases, ResolveCase, list_cases, resolve_case
from loyalpro.loyalty.fraud.rule_changes import ChangeRules, RuleChange, change_rules
from loyalpro.loyalty.ledger_check import faults
from loyalpro.loyalty.merging import MergeCustomer, merge_customer
from loyalpro.loyalty.pending_lots import ChangeLot, activate_lot, cancel_lot
from loyalpro.loyalty.program import RefundPolicy, Rules
from loyalpro.loyalty.program_changes import ChangeProgram, ProgramDraft, TierDraft, change_program
from loyalpro.loyalty.recording import NewPurchase, Purchase, RecordPurchases, record_purchases
from loyalpro.loyalty.redemption_book import expire_overdue
from loyalpro.loyalty.redemptions import (
    CaptureRedemption,
    ExpireReservations,
    MadeRedemption,
    RedeemPoints,
    RedemptionRef,
    ReverseRedemption,
    cancel_redemption,
    capture_redemption,
    expire_reservations,
    get_redemption,
    redeem_points,
    reverse_redemption,
)
from loyalpro.loyalty.refunds import NewRefund, RefundPurchase, refund_purchase
from loyalpro.loyalty.returned_lines import Return
from loyalpro.loyalty.transactions import GetTransaction, get_transaction
from loyalpro.storage.tables.ledger_check import LedgerReader
from loyalpro.storage.unit_of_work import Tools, UnitOfWork
from support.history import ACCOUNT, VAULT, connect

T = TypeVar("T")
START_MS = 1_763_980_200_000
MOST_CUSTOMERS = 5


class Chooser(Protocol):
    """Draws what happens."""

    def integer(self, low: int, high: int) -> int:
        """A number from `low` to `high`, small ones more often."""
        ...

    def one_of(self, options: Sequence[T]) -> T:
        """One of these, of which there is at least one."""
        ...


class SeededChooser:
    """Draws from a seeded generator."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self._rng.randint(low, min(high, low + 60)) if self._rng.random() < 0.6 else self._rng.randint(low, high)

    def one_of(self, options: Sequence[T]) -> T:
        return self._rng.choice(options)


@dataclass
class Expected:
    """What the model remembers of the account."""

    customers: list[str] = field(default_factory=list)
    purchases: list[str] = field(default_factory=list)
    redemptions: list[str] = field(default_factory=list)
    returned: dict[str, int] = field(default_factory=dict)


class ProgramModel:
    """One account in a database, and the commands that a test runs in it."""

    def __init__(self, url: str, choose: Chooser) -> None:
        self._connection = connect(url)
        self._clock = VirtualClock(START_MS)
        rng = random.Random(1)
        self._tools = Tools(self._clock, IdFactory(self._clock, rng), VAULT, rng.randbytes)
        self._numbers = iter(range(10**9))
        self._choose = choose
        self.expected = Expected()
        self.commit(_open_account)
        self.enroll()

    def close(self) -> None:
        self._connection.close()

    def commit(self, work: Callable[[UnitOfWork], T]) -> T:
        """What `work` returns, in one transaction with its events; nothing is changed when it raises."""
        self._connection.begin()
        try:
            unit = UnitOfWork(self._connection, self._tools, actor="key:model")
            result = work(unit)
            unit.outbox.flush()
            self._connection.commit()
        except BaseException:
            self._connection.rollback()
            raise
        return result

    def act(self) -> str:
        """Run one command that the chooser draws; its name."""
        action = self._choose.one_of(ACTIONS)
        getattr(self, action)()
        return action

    # -- commands ----------------------------------------------------------------------------------------------------

    def enroll(self) -> None:
        if len(self.expected.customers) < MOST_CUSTOMERS:
            command = EnrollCustomer(ACCOUNT, f"shop-{next(self._numbers)}", None, None, None, {}, source="api")
            self.expected.customers.append(self.commit(lambda unit: enroll_customer(unit, command)).id)

    def record(self) -> None:
        """A batch of purchases, some of them old, and the same batch again: the repetition changes nothing."""
        batch = [self._purchase() for _ in range(self._choose.integer(1, 3))]
        for replayed in (False, True):
            found = self.commit(lambda unit: record_purchases(unit, RecordPurchases(ACCOUNT, batch)))
            for outcome in found:
                assert isinstance(outcome, Purchase | NotFound), outcome
                if isinstance(outcome, Purchase):
                    assert outcome.replayed == replayed
                    if not replayed:
                        self.expected.purchases.append(outcome.transaction.id)
                        self._check_earning(outcome.transaction.id)

    def refund(self) -> None:
        if not self.expected.purchases:
            return
        id_ = self._choose.one_of(self.expected.purchases)
        before = self.commit(lambda unit: get_transaction(unit, GetTransaction(ACCOUNT, id_)))
        left = before.amount - before.refunded_amount
        how = self._choose.one_of(("all", "part", "items", "too much"))
        fields: dict[str, Any] = {"external_id": f"refund-{next(self._numbers)}"}
        if how == "part":
            fields["amount"] = min(left, self._choose.integer(1, 3_000))
        elif how == "too much":
            fields["amount"] = left + 1
        elif how == "items" and before.items:
            fields["items"] = (Return(line=self._choose.integer(0, len(before.items) - 1)),)
        new = NewRefund(transaction_id=id_, restore_points=self._choose.one_of((True, True, False)), **fields)
        made = self._tried(lambda unit: refund_purchase(unit, RefundPurchase(ACCOUNT, new)))
        if how == "too much":
            assert made is None
        if made is not None:
            again = self.commit(lambda unit: refund_purchase(unit, RefundPurchase(ACCOUNT, new)))
            assert again.replayed
            assert again.refund.id == made.refund.id

    def redeem(self) -> None:
        """It succeeds exactly when the points are available; what is reserved is gone as well."""
        customer = self._customer()
        if customer is None:
            return
        available = self._available(customer.id)
        points = self._choose.one_of((1, max(1, available), available + 1, self._choose.integer(1, 3_000)))
        reserve_ms = self._choose.one_of((None, 900_000, MS_PER_DAY))
        external_id = f"redemption-{next(self._numbers)}"
        command = RedeemPoints(ACCOUNT, customer.id, None, points, None, reserve_ms, None, external_id, None, None)
        made = self._tried(lambda unit: _redeemed(unit, command))
        assert (made is not None) == (points <= available and not customer.redeeming_blocked), (points, available)
        if made is not None:
            assert self._available(customer.id) == available - points
            self.expected.redemptions.append(made.redemption.id)
            self._check_spending(customer.id, made.redemption.id)
            assert self.commit(lambda unit: _redeemed(unit, command)).replayed

    def end_a_redemption(self) -> None:
        """Capture, cancel or reverse one, twice: the second time changes nothing."""
        if not self.expected.redemptions:
            return
        id_ = self._choose.one_of(self.expected.redemptions)
        move = self._choose.one_of(("capture", "cancel", "reverse", "part"))
        if move == "part":
            points = self._choose.integer(1, 60)
            self._tried(lambda unit: reverse_redemption(unit, ReverseRedemption(ACCOUNT, id_, points)))
            return
        moves: dict[str, Callable[[UnitOfWork], object]] = {
            "capture": lambda unit: capture_redemption(unit, CaptureRedemption(ACCOUNT, id_, None)),
            "cancel": lambda unit: cancel_redemption(unit, RedemptionRef(ACCOUNT, id_)),
            "reverse": lambda unit: reverse_redemption(unit, ReverseRedemption(ACCOUNT, id_, None)),
        }
        if self._tried(moves[move]) is not None:
            before = self._counters()
            self.commit(moves[move])
            assert self._counters() == before

    def adjust(self) -> None:
        customer = self._customer()
        if customer is None:
            return
        points = self._choose.integer(1, 5_000) * self._choose.one_of((1, -1))
        command = AdjustPoints(
            account_id=ACCOUNT,
            customer_id=customer.id,
            points=points,
            reason_code="goodwill",
            note=None,
            expires_at=self._choose.one_of((None, self._clock.now_ms() + self._choose.integer(1, 90) * MS_PER_DAY)),
            counts_toward_tier=self._choose.one_of((True, False)),
            allow_negative=self._choose.one_of((True, False)),
            external_id=f"adjustment-{next(self._numbers)}",
        )
        if points < 0:
            command = replace(command, expires_at=None)
        self._tried(lambda unit: adjust_points(unit, command))

    def merge(self) -> None:
        """What two customers have together is what the one that stays has."""
        active = [each for each in map(self._read, self.expected.customers) if each.status == "active"]
        if len(active) < 2:
            return
        gone = self._choose.one_of(active)
        into = self._choose.one_of([each for each in active if each.id != gone.id])
        self._tried(lambda unit: merge_customer(unit, MergeCustomer(ACCOUNT, gone.id, into.id)))

    def delete(self) -> None:
        customer = self._customer()
        if customer is not None and self._choose.integer(0, 9) == 0:
            self.commit(lambda unit: delete_customer(unit, DeleteCustomer(ACCOUNT, customer.id)))
            balance = self._read(customer.id).balance
            assert (balance.available, balance.pending, balance.debt) == (0, 0, 0)

    def block_or_unblock(self) -> None:
        """A block stands until it is taken back."""
        customer = self._customer()
        if customer is not None:
            changes = {name: self._choose.integer(0, 3) == 0 for name in BLOCKS}
            self.commit(lambda unit: update_customer(unit, UpdateCustomer(ACCOUNT, customer.id, dict(changes))))
            after = self._read(customer.id)
            assert {name: getattr(after, name) for name in BLOCKS} == changes

    def change_a_pending_lot(self) -> None:
        customer = self._customer()
        if customer is None:
            return
        lots = self.commit(lambda unit: unit.ledger.lots_with_points([customer.id]))
        pending = [lot for lot in lots if lot.status == "pending"]
        if pending:
            lot, change = self._choose.one_of(pending), self._choose.one_of((activate_lot, cancel_lot))
            self._tried(lambda unit: change(unit, ChangeLot(ACCOUNT, lot.id)))

    def resolve_a_case(self) -> None:
        """Held points are released or canceled."""
        cases = self.commit(lambda unit: list_cases(unit, ListCases(ACCOUNT, "open", None, None, None, 100)))
        resolutions: tuple[Literal["confirmed", "false_positive"], ...] = ("confirmed", "false_positive")
        if cases:
            case, resolution = self._choose.one_of(cases), self._choose.one_of(resolutions)
            held = self._query("SELECT lot_id FROM held_lots WHERE case_id = ?", case.id)
            self._tried(lambda unit: resolve_case(unit, ResolveCase(ACCOUNT, case.id, resolution)))
            for (lot_id,) in held if resolution == "confirmed" else ():
                assert self._query("SELECT remaining FROM lots WHERE id = ?", lot_id) == [(0,)], "held points are lost"

    def pass_time(self) -> None:
        self._clock.advance(self._choose.integer(1, 60) * MS_PER_DAY / 1_000)

    def sweep(self) -> None:
        """Settle every customer and end the reservations whose time has passed, twice: the second time changes nothing."""
        for repeated in (False, True):
            before = self._counters()
            self.commit(self._settle_all)
            assert not repeated or self._counters() == before
        now = self._clock.now_ms()
        late = self._query("SELECT id FROM lots WHERE remaining > 0 AND status = 'active' AND expires_at <= ?", now)
        assert late == [], "nothing that has expired is left"
        overdue = self._query("SELECT id FROM redemptions WHERE status = 'reserved' AND reserved_until <= ?", now)
        assert overdue == [], "no reservation outlives its time"

    def change_the_program(self) -> None:
        """Other expiry, pending days, refund policy and thresholds; tiers stay."""
        expiry = self._choose.one_of(
            (
                ExpiryPolicy(),
                ExpiryPolicy(kind="days", n=20),
                ExpiryPolicy(kind="months", n=1, until="month"),
                ExpiryPolicy(kind="inactivity", n=1),
                ExpiryPolicy(kind="never"),
            )
        )
        refunds = RefundPolicy(
            shortfall=self._choose.one_of(("allow_negative", "within_balance", "only_pending")),
            restore_expired=self._choose.one_of(("extend", "expire_now")),
            tier=self._choose.one_of(("at_review", "immediate")),
        )
        pending_days = self._choose.one_of((0, 0, 3, 14))
        silver = self._choose.one_of((1_000, 100, 3_000))

        def changed(rules: Rules) -> Rules:
            return replace(rules, expiry=expiry, refunds=refunds, pending_days=pending_days)

        def draft(version: Any) -> ProgramDraft:
            tiers = tuple(
                TierDraft(each.id, each.name, silver if each.name == "Silver" else each.threshold, 1_500, each.benefits)
                if each.rank > 1
                else TierDraft(each.id, each.name, each.threshold, each.multiplier_permille, each.benefits)
                for each in version.tiers
            )
            return ProgramDraft(changed(version.rules), tiers, None)

        self._tried(lambda unit: change_program(unit, ChangeProgram(ACCOUNT, draft)))

    def hold_what_is_earned_often(self) -> None:
        """The rule against many purchases in an hour holds points from then on, or only flags."""
        actions: tuple[Literal["hold", "flag"], ...] = ("hold", "flag")
        action = self._choose.one_of(actions)
        change = RuleChange("velocity.earn", action=action, threshold=2)
        self._tried(lambda unit: change_rules(unit, ChangeRules(ACCOUNT, [change])))

    # -- what must hold ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Everything that is stored follows from the log, and every redemption returned at most what it took."""
        reader = LedgerReader(self._connection)
        found = [(log.customer.id, text) for page in reader.pages() for log in page for text in faults(log, START_MS)]
        assert found == [], found
        self._connection.begin()
        assert reader.double_cases() == []
        self._connection.rollback()
        silent = self._query(
            "SELECT c.id FROM customers c JOIN tiers t ON t.id = c.tier_id WHERE t.rank > 1 AND c.status = 'active'"
            " AND NOT EXISTS (SELECT 1 FROM events e WHERE e.customer_id = c.id AND e.type = 'customer.tier_changed')"
        )
        assert silent == [], "a customer that has risen has an event of it"
        for id_ in self.expected.redemptions:
            redemption = self.commit(lambda unit, id_=id_: get_redemption(unit, RedemptionRef(ACCOUNT, id_)))  # type: ignore[misc]
            assert self.expected.returned.get(id_, 0) <= redemption.points_returned <= redemption.points
            self.expected.returned[id_] = redemption.points_returned
        for id_ in self.expected.purchases:
            purchase = self.commit(lambda unit, id_=id_: get_transaction(unit, GetTransaction(ACCOUNT, id_)))  # type: ignore[misc]
            assert 0 <= purchase.points_clawed_back + purchase.points_shortfall <= purchase.points_earned

    # -- steps -------------------------------------------------------------------------------------------------------

    def _purchase(self) -> NewPurchase:
        id_ = self._choose.one_of(self.expected.customers)
        amounts = [self._choose.integer(0, 60_000) for _ in range(self._choose.integer(0, 3))]
        old = self._choose.one_of((0, 0, 0, 1, 40, 400))
        return NewPurchase(
            customer_id=id_,
            customer_external_id=None,
            external_id=f"order-{next(self._numbers)}",
            amount=sum(amounts) if amounts else self._choose.integer(0, 60_000),
            currency="EUR",
            occurred_at=self._clock.now_ms() - old * MS_PER_DAY,
            items=[{"sku": f"sku-{n}", "quantity": 1, "amount": amount} for n, amount in enumerate(amounts)],
            channel=None,
            location_id=None,
            employee_id=None,
            metadata={},
        )

    def _settle_all(self, unit: UnitOfWork) -> None:
        book = Book(unit, ACCOUNT, ids=self.expected.customers, with_lots=True)
        book.write()
        if self.expected.redemptions:
            expire_reservations(unit, ExpireReservations(ACCOUNT, self.expected.redemptions))

    def _check_earning(self, transaction_id: str) -> None:
        """The points of an old purchase have expired with it."""
        now = self._clock.now_ms()
        active = "SELECT remaining FROM lots WHERE transaction_id = ? AND status = 'active' AND expires_at <= ?"
        assert self._query(active, transaction_id, now) in ([], [(0,)])
        blocked = (
            "SELECT t.points_earned FROM transactions t JOIN customers c ON c.id = t.customer_id"
            " WHERE t.id = ? AND c.earning_blocked = 1"
        )
        assert self._query(blocked, transaction_id) in ([], [(0,)]), "a blocked customer earns nothing"

    def _check_spending(self, customer_id: str, redemption_id: str) -> None:
        """The redemption took points that were valid, and those first that expire first."""
        spent = self._query(
            "SELECT l.expires_at, l.earned_at, l.id FROM allocations a JOIN lots l ON l.id = a.lot_id"
            " JOIN ledger_entries e ON e.id = a.entry_id WHERE e.source_id = ? AND e.type = 'redeem'",
            redemption_id,
        )
        left = self._query(
            "SELECT expires_at, earned_at, id FROM lots WHERE customer_id = ? AND remaining > 0 AND status = 'active'",
            customer_id,
        )
        assert min(spent)[0] > self._clock.now_ms(), "expired points are never spent"
        assert not left or max(spent) <= min(left), "what expires first is spent first"

    def _query(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        return self.commit(lambda unit: unit.connection.execute(sql, params))

    def _tried(self, work: Callable[[UnitOfWork], T]) -> T | None:
        """The result of a command; None when it was refused, and then nothing has changed."""
        before = self._counters()
        try:
            return self.commit(work)
        except (Conflict, InvalidInput, NotFound) as refused:
            assert isinstance(refused, Refused | LoyalProError)
            assert self._counters() == before
            return None

    def _counters(self) -> list[tuple[Any, ...]]:
        """The numbers of the last entry and the last event of every customer."""
        return self.commit(
            lambda unit: unit.connection.execute(
                "SELECT id, ledger_sequence, event_sequence FROM customers ORDER BY id"
            )
        )

    def _customer(self) -> Customer | None:
        """An active customer."""
        found = [each for each in map(self._read, self.expected.customers) if each.status == "active"]
        return self._choose.one_of(found) if found else None

    def _read(self, id_: str) -> Customer:
        return self.commit(lambda unit: get_customer(unit, GetCustomer(ACCOUNT, id_)))

    def _available(self, id_: str) -> int:
        """What is available once everything that is due is settled, without settling it."""

        class _Undone(Exception):
            pass

        found: list[int] = []

        def look(unit: UnitOfWork) -> None:
            book = Book(unit, ACCOUNT, ids=[id_], with_lots=True)
            expire_overdue(unit, book)
            wallet = book.wallet(id_)
            assert wallet is not None
            found.append(wallet.balance.available)
            raise _Undone

        with suppress(_Undone):
            self.commit(look)
        return found[0]


ACTIONS = (
    *("record", "record", "record", "refund", "refund", "redeem", "redeem", "end_a_redemption", "adjust"),
    *("pass_time", "pass_time", "sweep", "change_the_program", "merge", "delete", "enroll"),
    *("change_a_pending_lot", "resolve_a_case", "hold_what_is_earned_often", "block_or_unblock"),
)


def _redeemed(unit: UnitOfWork, command: RedeemPoints) -> MadeRedemption:
    """A redemption that no fraud rule stops."""
    made = redeem_points(unit, command)
    assert isinstance(made, MadeRedemption)
    return made


def _open_account(unit: UnitOfWork) -> None:
    from loyalpro.loyalty.program import default_program

    unit.connection.execute("INSERT INTO accounts (id, name, created_at) VALUES (?, 'A', 1)", (ACCOUNT,))
    unit.programs.insert(ACCOUNT, default_program(unit.ids), actor="system:bootstrap", now=unit.now)
