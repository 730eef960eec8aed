"""Any sequence of adjustments, redemptions, their moves and refunds, on both stores: the ledger adds up after every step."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from loyalpro.kernel.clock import MS_PER_DAY, VirtualClock
from loyalpro.kernel.errors import Conflict, InvalidInput
from loyalpro.loyalty.adjustments import AdjustPoints, adjust_points
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.entities import Redemption
from loyalpro.loyalty.expiry import NEVER, day_of
from loyalpro.loyalty.ledger import discrepancies
from loyalpro.loyalty.recording import Purchase, RecordPurchases, record_purchases
from loyalpro.loyalty.redemption_book import (
    PutBack,
    cancel_reservations,
    expire_overdue,
    linked_redemptions,
)
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
    redeem_points,
    reverse_redemption,
)
from loyalpro.loyalty.rewards import NewReward, create_reward
from loyalpro.loyalty.wallet import Cause
from loyalpro.storage.unit_of_work import UnitOfWork
from support.customers import enroll, open_account, purchase
from support.databases import Databases
from support.history import ACCOUNT, keeping_connections, transaction, undone
from support.units import tools

T = TypeVar("T")
_seeds = itertools.count(100)
STOCK = 5
CUSTOMERS = 2

points = st.integers(1, 60)


class Redemptions(RuleBasedStateMachine):
    """One example: two customers, a reward with a stock, and a clock of their own."""

    url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock(1_900_000_000_000)
        self.tools = tools(next(_seeds), clock=self.clock)
        self.customers = [enroll(self.url, None).id for _ in range(CUSTOMERS)]
        self.purchases: dict[str, str] = {}
        self.made: list[str] = []
        self.reward = self.commit(lambda unit: create_reward(unit, _reward())).id

    def commit(self, work: Callable[[UnitOfWork], T]) -> T:
        with transaction(self.url) as connection:
            unit = UnitOfWork(connection, self.tools, actor="key:key_1")
            result = work(unit)
            unit.outbox.flush()
            return result

    def peek(self, work: Callable[[UnitOfWork], T]) -> T:
        """The result of a unit of work that is undone."""
        with undone(self.url) as connection:
            return work(UnitOfWork(connection, self.tools))

    def available(self, customer: str) -> int:
        """What the customer can spend now, when everything that is due is settled."""

        def work(unit: UnitOfWork) -> int:
            book = Book(unit, ACCOUNT, ids=[customer], with_lots=True)
            expire_overdue(unit, book)
            wallet = book.wallet(customer)
            assert wallet is not None
            return wallet.balance.available

        return self.peek(work)

    def read(self, redemption: str) -> Redemption:
        found = self.peek(lambda unit: unit.redemptions.get(ACCOUNT, redemption))
        assert found is not None
        return found

    # -- commands ----------------------------------------------------------------------------------------------------

    @rule(hours=st.integers(1, 24 * 20))
    def time_passes(self, hours: int) -> None:
        self.clock.advance(hours * 3_600)

    @rule(data=st.data(), given=points, days=st.integers(1, 40), lasts=st.booleans())
    def give(self, data: st.DataObject, given: int, days: int, *, lasts: bool) -> None:
        until = None if lasts else self.clock.now_ms() + days * MS_PER_DAY
        command = AdjustPoints(ACCOUNT, self.pick(data), given, "test", None, until, False, False, None)
        self.commit(lambda unit: adjust_points(unit, command))

    @rule(data=st.data(), taken=points, owing=st.booleans())
    def take(self, data: st.DataObject, taken: int, *, owing: bool) -> None:
        customer = self.pick(data)
        available = self.available(customer)
        command = AdjustPoints(ACCOUNT, customer, -taken, "test", None, None, False, owing, None)
        succeeds = self.succeeds(lambda unit: adjust_points(unit, command))
        assert succeeds == (owing or taken <= available)

    @rule(data=st.data())
    def buy(self, data: st.DataObject) -> None:
        customer = self.pick(data)
        [made] = self.commit(
            lambda unit: record_purchases(unit, RecordPurchases(ACCOUNT, [purchase(customer_id=customer, amount=99)]))
        )
        assert isinstance(made, Purchase)
        self.purchases[made.transaction.id] = customer

    @rule(data=st.data(), wanted=points, reserve_h=st.none() | st.integers(1, 30), linked=st.booleans())
    def redeem(self, data: st.DataObject, wanted: int, reserve_h: int | None, *, linked: bool) -> None:
        """It succeeds exactly when the points are there."""
        customer = self.pick(data)
        mine = [id_ for id_, owner in self.purchases.items() if owner == customer]
        transaction_id = data.draw(st.sampled_from(mine)) if linked and mine else None
        command = self.command(customer, reserve_h, points=wanted, transaction_id=transaction_id)
        available = self.available(customer)
        assert self.redeems(command) == (wanted <= available)
        if wanted <= available:
            assert self.available(customer) == available - wanted

    @rule(data=st.data(), reserve_h=st.none() | st.integers(1, 30))
    def redeem_a_reward(self, data: st.DataObject, reserve_h: int | None) -> None:
        customer = self.pick(data)
        self.redeems(self.command(customer, reserve_h, reward_id=self.reward))

    @precondition(lambda self: self.made)
    @rule(data=st.data(), name=st.sampled_from(("capture", "cancel", "reverse")), part=st.none() | points)
    def move(self, data: st.DataObject, name: str, part: int | None) -> None:
        """A move that was made changes nothing when it is repeated, but the return of a part."""
        id_ = data.draw(st.sampled_from(self.made))
        before = self.read(id_)
        work: dict[str, Callable[[UnitOfWork], Redemption]] = {
            "capture": lambda unit: capture_redemption(unit, CaptureRedemption(ACCOUNT, id_, None)),
            "cancel": lambda unit: cancel_redemption(unit, RedemptionRef(ACCOUNT, id_)),
            "reverse": lambda unit: reverse_redemption(unit, ReverseRedemption(ACCOUNT, id_, part)),
        }
        if not self.succeeds(work[name]):
            assert self.read(id_) == before
        elif name != "reverse" or part is None:
            after = self.read(id_)
            assert self.commit(work[name]) == after
            assert self.read(id_) == after

    @precondition(lambda self: self.made)
    @rule()
    def sweep(self) -> None:
        command = ExpireReservations(ACCOUNT, self.made)
        overdue = {id_ for _, id_, _ in self.peek(lambda unit: unit.redemptions.overdue(unit.now, None, 1_000))}
        assert self.commit(lambda unit: expire_reservations(unit, command)) == len(overdue & set(self.made))
        assert self.commit(lambda unit: expire_reservations(unit, command)) == 0

    @precondition(lambda self: self.purchases)
    @rule(data=st.data(), part=points)
    def refund(self, data: st.DataObject, part: int) -> None:
        """The points that paid for a purchase come back, the oldest first."""
        id_ = data.draw(st.sampled_from(sorted(self.purchases)))

        def work(unit: UnitOfWork) -> tuple[int, int]:
            book = Book(unit, ACCOUNT, ids=[self.purchases[id_]])
            linked = linked_redemptions(unit, book, [id_])
            left = sum(each.points - each.points_returned for each in linked.of_transaction(id_))
            restored = linked.restore_for_refund(id_, part, PutBack("refund", "key:key_1", "ref_1"))
            linked.write()
            book.write()
            return left, restored

        left, restored = self.commit(work)
        assert restored == min(left, part)

    @rule(data=st.data(), days=st.integers(-5, 40))
    def redate_a_lot(self, data: st.DataObject, days: int) -> None:
        """A lot gets another date, so that the order of expiry changes, also for lots that are empty now."""
        customer = self.pick(data)
        lots = self.peek(lambda unit: unit.ledger.list_lots(customer, None, 1_000))
        if lots:
            lot = data.draw(st.sampled_from(lots))
            dated = replace(lot, expires_at=self.clock.now_ms() + days * MS_PER_DAY)

            def work(unit: UnitOfWork) -> None:
                unit.ledger.update_lots([dated])
                unit.connection.execute("UPDATE customers SET next_due_at = 1 WHERE id = ?", (customer,))

            self.commit(work)

    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        """The other customer gets the lots, the purchases, the redemptions and the days."""
        customer = self.pick(data)
        other = next(each for each in self.customers if each != customer)

        def cancel(unit: UnitOfWork) -> int:
            book = Book(unit, ACCOUNT, ids=[customer, other], with_lots=True)
            cancel_reservations(unit, book, customer, "customer_merged")
            book.write()
            wallet = book.wallet(customer)
            assert wallet is not None
            return wallet.balance.net

        def work(unit: UnitOfWork) -> None:
            book = Book(unit, ACCOUNT, ids=[customer, other], with_lots=True)
            source, target = book.wallet(customer), book.wallet(other)
            assert source is not None
            assert target is not None
            cause = Cause("customer", f"{customer}-{unit.ids.new('imp')}", "key:key_1", unit.now)
            target.move_in(source.move_out(cause), cause)
            book.write()
            for table in ("redemptions", "transactions", "lots"):
                unit.connection.execute(f"UPDATE {table} SET customer_id = ? WHERE customer_id = ?", (other, customer))
            days = unit.days.list_days(customer, 0, 10**6)
            unit.days.add([replace(each, customer_id=other) for each in days])
            unit.connection.execute("DELETE FROM customer_days WHERE customer_id = ?", (customer,))

        if not self.commit(cancel):
            return
        self.commit(work)
        self.purchases = {id_: other if owner == customer else owner for id_, owner in self.purchases.items()}

    # -- invariants --------------------------------------------------------------------------------------------------

    @invariant()
    def everything_adds_up(self) -> None:
        self.peek(self.check)

    def check(self, unit: UnitOfWork) -> None:
        found = [
            each
            for id_ in self.customers
            for each in unit.redemptions.list_newest(ACCOUNT, None, 1_000, customer_id=id_)
        ]
        assert {each.id for each in found} == set(self.made)
        for id_ in self.customers:
            customer = unit.customers.get(ACCOUNT, id_)
            assert customer is not None
            entries = sorted(unit.ledger.list_entries(id_, None, 1_000), key=lambda entry: entry.sequence)
            lots, allocations = unit.ledger.list_lots(id_, None, 1_000), unit.ledger.list_allocations(id_)
            assert discrepancies(customer.balance, entries, lots, allocations) == []
            self.check_days(unit, id_, [each for each in found if each.customer_id == id_])
        for each in found:
            moved = unit.ledger.entries_of_source(each.id)
            assert [entry.points for entry in moved if entry.type == "redeem"] == [-each.points]
            returned = [entry for entry in moved if entry.type == "redeem_reversal"]
            assert [entry.part for entry in returned] == list(range(len(returned)))
            assert sum(entry.points for entry in returned) == each.points_returned
            assert (each.status in ("canceled", "expired", "reversed")) == (each.points_returned == each.points)
            assert (each.ended_at is not None) == (each.points_returned == each.points)
        reward = unit.rewards.get(ACCOUNT, self.reward)
        assert reward is not None
        held = [each for each in found if each.reward_id == self.reward and each.status in ("reserved", "redeemed")]
        assert reward.stock == STOCK - len(held)

    def check_days(self, unit: UnitOfWork, customer: str, redemptions: list[Redemption]) -> None:
        """The days are what the redemptions add up to, each on the day on which it was made."""
        expected: dict[int, list[int]] = {}
        for each in redemptions:
            totals = expected.setdefault(day_of(each.created_at, "UTC"), [0, 0])
            totals[0] += each.status in ("reserved", "redeemed")
            totals[1] += each.points - each.points_returned
        stored = {
            each.day: [each.redemptions, each.points_redeemed] for each in unit.days.list_days(customer, 0, 10**6)
        }
        zero = [0, 0]
        assert {day: each for day, each in stored.items() if each != zero} == {
            day: each for day, each in expected.items() if each != zero
        }

    # -- the steps that rules share ----------------------------------------------------------------------------------

    def pick(self, data: st.DataObject) -> str:
        return str(data.draw(st.sampled_from(self.customers)))

    def command(self, customer: str, reserve_h: int | None, **fields: Any) -> RedeemPoints:
        reserve_ms = None if reserve_h is None else reserve_h * 3_600_000
        empty = dict.fromkeys(("points", "reward_id", "transaction_id", "external_id", "amount", "currency"))
        return RedeemPoints(ACCOUNT, customer, None, reserve_ms=reserve_ms, **empty | fields)

    def redeems(self, command: RedeemPoints) -> bool:
        def work(unit: UnitOfWork) -> None:
            outcome = redeem_points(unit, command)
            assert isinstance(outcome, MadeRedemption)
            made.append(outcome.redemption.id)

        made: list[str] = []
        succeeds = self.succeeds(work)
        self.made += made if succeeds else []
        return succeeds

    def succeeds(self, work: Callable[[UnitOfWork], object]) -> bool:
        try:
            self.commit(work)
        except (InvalidInput, Conflict):
            return False
        return True


def _reward() -> NewReward:
    return NewReward(
        account_id=ACCOUNT,
        name="A coffee",
        type="free_item",
        amount=None,
        currency=None,
        percent=None,
        sku="COFFEE",
        cost_points=10,
        min_spend=None,
        tier_ids=(),
        tags=(),
        stock=STOCK,
        limit_per_customer=3,
        starts_at=None,
        ends_at=NEVER,
        status="active",
    )


def test_the_ledger_adds_up_after_any_sequence_of_redemptions(databases: Databases, store: str) -> None:
    Redemptions.url = databases.fresh(store)
    open_account(Redemptions.url)
    with keeping_connections(Redemptions.url):
        run_state_machine_as_test(
            Redemptions,
            settings=settings(max_examples=12, stateful_step_count=30, deadline=None, phases=[Phase.generate]),
        )
