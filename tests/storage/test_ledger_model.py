"""Any sequence of the program's commands, on both stores: the invariants of each customer's ledger hold after every step."""

import itertools
import json
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.kernel.errors import Conflict, NotFound
from loyalpro.loyalty.customers import GetCustomer, UpdateCustomer, get_customer, update_customer
from loyalpro.loyalty.deletion import DeleteCustomer, delete_customer
from loyalpro.loyalty.ledger import MAX_POINTS, discrepancies
from loyalpro.loyalty.merging import MergeCustomer, merge_customer
from loyalpro.loyalty.recording import NewPurchase, Purchase, RecordPurchases, record_purchases
from support.customers import commit, enroll, open_account, purchase
from support.databases import Databases
from support.history import ACCOUNT, keeping_connections, transaction

_unique = itertools.count()

amounts = st.sampled_from((0, 99, 100, 5_600)) | st.integers(0, 10**12 - 1)


@dataclass
class Expected:
    """What the model knows of a customer. `debt` is set up by the test, because no command makes any yet."""

    external_id: str | None
    earned: int = 0
    debt: int = 0
    deleted: bool = False


@dataclass
class Model:
    """Every customer of one example, by id."""

    customers: dict[str, Expected] = field(default_factory=dict)

    def active(self) -> list[str]:
        return [id_ for id_, each in self.customers.items() if not each.deleted]


class Commands(RuleBasedStateMachine):
    """One example. The database outlives it; its customers are its own."""

    url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()

    @rule(named=st.booleans())
    def enroll(self, *, named: bool) -> None:
        external_id = f"shop-{next(_unique)}" if named else None
        self.model.customers[enroll(self.url, external_id).id] = Expected(external_id)

    @precondition(lambda self: self.model.customers)
    @rule(data=st.data(), sizes=st.lists(amounts, min_size=1, max_size=8))
    def record(self, data: st.DataObject, sizes: list[int]) -> None:
        """A batch of purchases of customers, some deleted, named by either id, and the same batch again."""
        chosen = [data.draw(st.sampled_from(sorted(self.model.customers))) for _ in sizes]
        batch = [self.named(data, id_, amount) for id_, amount in zip(chosen, sizes, strict=True)]
        numbered = [_with_number(each) for each in batch]
        for expected_replay in (False, True):
            outcomes = commit(self.url, lambda unit: record_purchases(unit, RecordPurchases(ACCOUNT, numbered)))
            for id_, outcome in zip(chosen, outcomes, strict=True):
                if self.model.customers[id_].deleted:
                    assert isinstance(outcome, NotFound)
                else:
                    assert isinstance(outcome, Purchase)
                    assert (outcome.replayed, outcome.transaction.customer_id) == (expected_replay, id_)
        for id_, amount in zip(chosen, sizes, strict=True):
            if not self.model.customers[id_].deleted:
                self.model.customers[id_].earned += amount // 100

    @precondition(lambda self: self.model.active())
    @rule(data=st.data(), named=st.booleans())
    def rename(self, data: st.DataObject, *, named: bool) -> None:
        id_ = self.draw_active(data)
        external_id = f"shop-{next(_unique)}" if named else None
        command = UpdateCustomer(ACCOUNT, id_, {"external_id": external_id, "name": f"Customer {next(_unique)}"})
        commit(self.url, lambda unit: update_customer(unit, command))
        self.model.customers[id_].external_id = external_id

    @precondition(lambda self: len(self.model.active()) > 1)
    @rule(data=st.data())
    def take_the_external_id_of_another(self, data: st.DataObject) -> None:
        id_, other = self.draw_active(data), self.draw_active(data)
        external_id = self.model.customers[other].external_id
        if id_ == other or external_id is None:
            return
        command = UpdateCustomer(ACCOUNT, id_, {"external_id": external_id})
        try:
            commit(self.url, lambda unit: update_customer(unit, command))
        except Conflict as refused:
            assert refused.code == "customer_exists"
        else:
            raise AssertionError("two customers have one external id")

    @precondition(lambda self: self.model.active())
    @rule(data=st.data(), debt=st.integers(1, 10**6))
    def lend(self, data: st.DataObject, debt: int) -> None:
        """Debt for a customer that has no points."""
        id_ = self.draw_active(data)
        before = commit(self.url, lambda unit: get_customer(unit, GetCustomer(ACCOUNT, id_)))
        if before.balance.available:
            return
        number, total = before.ledger_sequence + 1, before.balance.debt + debt
        with transaction(self.url) as connection:
            connection.execute(
                "INSERT INTO ledger_entries (id, account_id, customer_id, sequence, type, points, balance_after, pending_after,"
                " source_type, source_id, actor, rules, occurred_at, created_at)"
                " VALUES (?, ?, ?, ?, 'clawback', ?, ?, 0, 'setup', ?, 'api', '[]', 1, 1)",
                (f"led_{next(_unique)}", ACCOUNT, id_, number, -debt, -total, f"setup-{next(_unique)}"),
            )
            connection.execute("UPDATE customers SET debt = ?, ledger_sequence = ? WHERE id = ?", (total, number, id_))
        self.model.customers[id_].debt += debt

    @precondition(lambda self: self.model.active())
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        id_ = self.draw_active(data)
        commit(self.url, lambda unit: delete_customer(unit, DeleteCustomer(ACCOUNT, id_)))
        self.model.customers[id_].deleted = True

    @precondition(lambda self: len(self.model.active()) > 1)
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        """Everything of one customer moves to another one; a customer without an external id takes over the other's."""
        id_, into = self.draw_active(data), self.draw_active(data)
        if id_ == into:
            return
        gone, stays = self.model.customers[id_], self.model.customers[into]
        if gone.earned + stays.earned > MAX_POINTS:
            return
        commit(self.url, lambda unit: merge_customer(unit, MergeCustomer(ACCOUNT, id_, into)))
        stays.earned, stays.debt = stays.earned + gone.earned, stays.debt + gone.debt
        stays.external_id = stays.external_id or gone.external_id
        self.model.customers[id_] = Expected(None, deleted=True)

    @invariant()
    def ledgers_add_up(self) -> None:
        for id_, expected in self.model.customers.items():
            self.check(id_, expected)

    def check(self, id_: str, expected: Expected) -> None:
        def work(unit: Any) -> None:
            customer = get_customer(unit, GetCustomer(ACCOUNT, id_))
            entries = unit.ledger.list_entries(id_, None, 1_000)
            entries.sort(key=lambda entry: entry.sequence)
            lots, allocations = unit.ledger.list_lots(id_, None, 1_000), unit.ledger.list_allocations(id_)
            assert discrepancies(customer.balance, entries, lots, allocations) == []
            assert customer.balance.net == (0 if expected.deleted else expected.earned - expected.debt)
            assert customer.balance.lifetime_earned == expected.earned
            sql = "SELECT sequence, type, body FROM events WHERE customer_id = ? ORDER BY sequence"
            events = [(number, type_, json.loads(body)) for number, type_, body in unit.connection.execute(sql, (id_,))]
            assert [number for number, _, _ in events] == list(range(1, customer.event_sequence + 1))
            told = [
                (body["data"]["entry_id"], body["data"]["points"]) for _, type_, body in events if "points." in type_
            ]
            assert told == [(each.id, each.points) for each in entries if each.source_type != "setup"]
            for _, type_, body in events:
                assert EVENT_TYPES[type_].read(body["data"]).data() == body["data"]

        commit(self.url, work)

    def named(self, data: st.DataObject, id_: str, amount: int) -> NewPurchase:
        external_id = self.model.customers[id_].external_id
        if external_id is not None and data.draw(st.booleans()):
            return purchase(external_id=external_id, amount=amount)
        return purchase(customer_id=id_, amount=amount)

    def draw_active(self, data: st.DataObject) -> str:
        return str(data.draw(st.sampled_from(sorted(self.model.active()))))


def _with_number(each: NewPurchase) -> NewPurchase:
    return replace(each, external_id=f"order-{next(_unique)}")


def test_the_ledger_adds_up_after_any_sequence_of_commands(databases: Databases, store: str) -> None:
    Commands.url = databases.fresh(store)
    open_account(Commands.url)
    with keeping_connections(Commands.url):
        run_state_machine_as_test(
            Commands,
            settings=settings(max_examples=8, stateful_step_count=15, deadline=None, phases=[Phase.generate]),
        )
