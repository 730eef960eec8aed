"""Fraud rules on both databases: how much they read, and what transactions that run at the same time make of one case."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, TypeVar

import pytest

from loyalpro.jobs.periodic_job import BATCH_SIZE
from loyalpro.kernel.clock import MS_PER_DAY
from loyalpro.kernel.errors import ConfigurationError
from loyalpro.loyalty.customers import EnrollCustomer, EnrollCustomers, enroll_customers
from loyalpro.loyalty.deletion import DeleteCustomer, delete_customer
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.fraud.cases import FraudCase
from loyalpro.loyalty.fraud.measure import SeenCustomer, Sighting
from loyalpro.loyalty.fraud.resolution import (
    SEEN_KEPT,
    ListCases,
    ResolveCase,
    forget_seen,
    lapse_cases,
    list_cases,
    resolve_case,
    settle_cases,
)
from loyalpro.loyalty.fraud.rule_changes import ChangeRules, RuleChange, change_rules
from loyalpro.loyalty.ledger import discrepancies
from loyalpro.loyalty.recording import NewPurchase, Purchase, RecordPurchases, record_purchases
from loyalpro.storage.connection import Connection, Row, Statement
from loyalpro.storage.dialect import Dialect
from loyalpro.storage.unit_of_work import UnitOfWork
from loyalpro.storage.vault import Vault
from support.customers import commit, enroll, open_account, purchase
from support.databases import Databases
from support.history import ACCOUNT, query, transaction
from support.rivals import at_once
from support.units import tools

T = TypeVar("T")
_numbers = count()


@pytest.fixture
def url(database_url: str, one_connection: None) -> str:
    open_account(database_url)
    return database_url


def record(unit: UnitOfWork, *purchases: NewPurchase) -> list[Purchase]:
    recorded = record_purchases(unit, RecordPurchases(ACCOUNT, purchases))
    assert all(isinstance(each, Purchase) for each in recorded)
    return [each for each in recorded if isinstance(each, Purchase)]


def buy(url: str, *purchases: NewPurchase) -> list[Purchase]:
    return commit(url, lambda unit: record(unit, *purchases))


def enroll_many(url: str, number: int) -> list[Customer]:
    commands = [
        EnrollCustomer(ACCOUNT, f"c{each}", None, None, None, metadata={}, source="api") for each in range(number)
    ]
    enrolled = commit(url, lambda unit: enroll_customers(unit, EnrollCustomers(ACCOUNT, commands)))
    return [each for each in enrolled if isinstance(each, Customer)]


def change(url: str, *changes: RuleChange) -> None:
    commit(url, lambda unit: change_rules(unit, ChangeRules(ACCOUNT, changes)))


def cases(url: str) -> list[FraudCase]:
    return commit(url, lambda unit: list_cases(unit, ListCases(ACCOUNT, None, None, None, None, 100)))


def balances(url: str) -> list[Row]:
    return query(url, "SELECT available, pending FROM customers ORDER BY id")


def check_ledgers(url: str) -> None:
    """The points of every customer add up."""
    with transaction(url) as connection:
        unit = UnitOfWork(connection, tools())
        for (id_,) in connection.execute("SELECT id FROM customers"):
            found = unit.customers.get(ACCOUNT, id_)
            assert found is not None
            entries = list(reversed(unit.ledger.list_entries(id_, None, 10_000)))
            lots = unit.ledger.list_lots(id_, None, 10_000)
            assert discrepancies(found.balance, entries, lots, unit.ledger.list_allocations(id_)) == []


# -- what is read ----------------------------------------------------------------------------------------------------


@dataclass
class Counting:
    """A connection that notes the statements which it runs."""

    inner: Connection
    statements: list[str] = field(default_factory=list)

    @property
    def dialect(self) -> Dialect:
        return self.inner.dialect

    def execute(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        self.statements.append(sql)
        return self.inner.execute(sql, params)

    def execute_all(self, statements: Sequence[Statement]) -> list[list[Row]]:
        self.statements += [sql for sql, _ in statements]
        return self.inner.execute_all(statements)

    def execute_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        if rows:
            self.statements.append(sql)
        self.inner.execute_many(sql, rows)

    def change(self, sql: str, params: Sequence[object] = ()) -> int:
        self.statements.append(sql)
        return self.inner.change(sql, params)

    def run_script(self, sql: str) -> None:
        self.inner.run_script(sql)


def statements(url: str, *purchases: NewPurchase) -> list[str]:
    """What recording runs, in the order in which it runs it."""
    with transaction(url) as connection:
        counting = Counting(connection)
        unit = UnitOfWork(counting, tools())
        record(unit, *purchases)
        unit.outbox.flush()
        return counting.statements


def all_off(url: str) -> None:
    rules = commit(url, lambda unit: change_rules(unit, ChangeRules(ACCOUNT, [])))
    change(url, *(RuleChange(each.code, enabled=False) for each in rules))


def ordinary(customer: Customer, **fields: Any) -> NewPurchase:
    return replace(purchase(customer_id=customer.id, amount=4_900), location_id="loc_1", employee_id="emp_1", **fields)


def test_ordinary_purchases_cost_one_statement_a_batch_at_most(url: str) -> None:
    """None for customers that bought nothing lately; one for all that did. The rules that were never changed are not read."""
    customers = [enroll(url, f"c{number}") for number in range(4)]
    first = statements(url, *map(ordinary, customers))
    assert not any("fraud" in sql.replace("EXISTS (SELECT 1 FROM fraud_rules", "") for sql in first)
    again = statements(url, *map(ordinary, customers))
    assert len(again) == len(first) + 1
    all_off(url)
    without = statements(url, *map(ordinary, customers))
    assert len(without) == len(first) + 1  # the rules, which were changed
    assert sum("fraud_rules WHERE" in sql for sql in without) == 1


def test_each_measure_is_one_statement_for_the_whole_batch(url: str) -> None:
    """Purchases with every signal, and with amounts above the floor."""
    customers = [enroll(url, f"c{number}") for number in range(6)]

    def suspicious() -> list[NewPurchase]:
        return [
            replace(ordinary(each), amount=60_000, device_id=f"d{number % 3}", payment_fingerprint=f"p{number}")
            for number, each in enumerate(customers)
        ]

    buy(url, *suspicious())
    run = statements(url, *suspicious())
    measures = ("firsts AS MATERIALIZED", "lasts AS MATERIALIZED", "FROM hash_keys", "INTO identity_values")
    assert [sum(measure in sql for sql in run) for measure in measures] == [1, 1, 1, 1]


def test_one_customer_with_very_many_purchases_is_not_read_in_full(url: str) -> None:
    customer = enroll(url, "walk-in")
    for _ in range(3):
        buy(url, *[purchase(customer_id=customer.id, amount=100)] * 100)
    found = commit(url, lambda unit: unit.fraud.newest_purchases({customer.id: 0}, 20, 0))
    newest = query(url, "SELECT id FROM transactions ORDER BY id DESC LIMIT 20")
    assert [each.id for each in found[customer.id]] == [id_ for (id_,) in newest]


# -- transactions at the same time -----------------------------------------------------------------------------------


@pytest.fixture
def postgres(databases: Databases) -> str:
    url = databases.fresh("postgres")
    open_account(url)
    return url


def in_unit(work: Callable[[UnitOfWork], T]) -> Callable[[Connection], None]:
    """`work` in a unit on a connection, which the rivals share with nothing else."""
    used = tools(next(_numbers) + 100)

    def run(connection: Connection) -> None:
        unit = UnitOfWork(connection, used)
        work(unit)
        unit.outbox.flush()

    return run


def with_device(customer: Customer) -> NewPurchase:
    return replace(purchase(customer_id=customer.id), device_id="shared")


def test_two_transactions_that_find_one_thing_make_one_case_and_one_event(postgres: str) -> None:
    """Their customers differ, so no lock of a customer keeps them apart."""
    first, second, third, fourth = (enroll(postgres, f"c{number}") for number in range(4))
    buy(postgres, with_device(first), with_device(second))
    at_once(
        postgres,
        in_unit(lambda unit: record(unit, with_device(third))),
        in_unit(lambda unit: record(unit, with_device(fourth))),
    )
    [case] = cases(postgres)
    assert (case.rule_code, case.hits, case.customer_id) == ("identity.shared", 2, third.id)
    assert query(postgres, "SELECT customer_id FROM events WHERE type = 'fraud.detected'") == [(third.id,)]


def test_points_are_not_held_by_a_case_that_is_closed_at_the_same_time(postgres: str) -> None:
    """A purchase that waits for the resolution finds the case closed, and its points are free."""
    first, second, third = (enroll(postgres, f"c{number}") for number in range(3))
    change(postgres, RuleChange("identity.shared", action="hold", threshold=2))
    buy(postgres, with_device(first), with_device(second))
    [case] = cases(postgres)
    at_once(
        postgres,
        in_unit(lambda unit: resolve_case(unit, ResolveCase(ACCOUNT, case.id, "false_positive"))),
        in_unit(lambda unit: record(unit, with_device(third))),
    )
    assert balances(postgres) == [(56, 0)] * 3
    assert query(postgres, "SELECT COUNT(*) FROM held_lots") == [(0,)]


def test_points_that_are_held_while_a_case_is_being_closed_are_settled_by_the_job(postgres: str) -> None:
    """The resolution waits for the purchase, which it did not see when it locked the customers."""
    first, second, third = (enroll(postgres, f"c{number}") for number in range(3))
    change(postgres, RuleChange("identity.shared", action="hold", threshold=2))
    buy(postgres, with_device(first), with_device(second))
    [case] = cases(postgres)
    at_once(
        postgres,
        in_unit(lambda unit: record(unit, with_device(third))),
        in_unit(lambda unit: resolve_case(unit, ResolveCase(ACCOUNT, case.id, "false_positive"))),
    )
    assert balances(postgres) == [(56, 0), (56, 0), (0, 56)]
    run_job(postgres)
    assert balances(postgres) == [(56, 0)] * 3
    check_ledgers(postgres)


def test_a_case_is_resolved_once(postgres: str) -> None:
    customer = enroll(postgres, "ann")
    change(postgres, RuleChange("points.cap", action="hold", threshold=1))
    buy(postgres, purchase(customer_id=customer.id))
    [case] = cases(postgres)
    confirmed = ResolveCase(ACCOUNT, case.id, "confirmed")
    with pytest.raises(Exception, match="confirmed already"):
        at_once(
            postgres,
            in_unit(lambda unit: resolve_case(unit, confirmed)),
            in_unit(lambda unit: resolve_case(unit, replace(confirmed, resolution="false_positive"))),
        )
    assert balances(postgres) == [(0, 0)]
    check_ledgers(postgres)


# -- the job ---------------------------------------------------------------------------------------------------------


def run_job(url: str) -> int:
    """Settle until nothing is left; how many pieces that took."""
    for pieces in count():
        if not commit(url, settle_cases).more:
            return pieces
    raise AssertionError


@pytest.mark.parametrize("resolution", ["confirmed", "false_positive"])
def test_a_case_that_holds_the_points_of_many_customers_is_settled_in_pieces(url: str, resolution: Any) -> None:
    number = 2 * BATCH_SIZE + 10
    change(url, RuleChange("identity.shared", action="hold", threshold=2))
    buy(url, *map(with_device, enroll_many(url, number)))
    assert sorted(balances(url)) == [(0, 56)] * (number - 1) + [(56, 0)]
    [case] = cases(url)
    assert (case.hits, len(case.evidence)) == (number - 1, 20)
    resolved = commit(url, lambda unit: resolve_case(unit, ResolveCase(ACCOUNT, case.id, resolution)))
    assert resolved.settling
    settled = (0, 0) if resolution == "confirmed" else (56, 0)
    assert balances(url).count(settled) >= BATCH_SIZE
    assert balances(url).count((0, 56)) == number - 1 - BATCH_SIZE
    run_job(url)
    assert sorted(balances(url)) == sorted([(56, 0), *[settled] * (number - 1)])
    assert query(url, "SELECT COUNT(*), MAX(settling) FROM fraud_cases, held_lots") == [(0, None)]
    check_ledgers(url)


def test_a_case_lapses_90_days_after_its_last_hit(url: str) -> None:
    customer = enroll(url, "ann")
    change(url, RuleChange("points.cap", action="hold", threshold=1))
    buy(url, purchase(customer_id=customer.id))
    [case] = cases(url)
    assert commit(url, lapse_cases).items == 0
    query(url, f"UPDATE fraud_cases SET last_at = last_at - {90 * MS_PER_DAY} - 60000")
    assert commit(url, lapse_cases).items == 1
    assert [(each.status, each.resolved_by) for each in cases(url)] == [("lapsed", "system:fraud")]
    assert balances(url) == [(56, 0)]
    entries = query(url, "SELECT type, actor, reason_code FROM ledger_entries ORDER BY id")
    assert entries[-1] == ("activate", "system:fraud", "fraud_lapsed")
    assert case.id


def test_lots_of_a_deleted_customer_stay_canceled(url: str) -> None:
    customer = enroll(url, "ann")
    change(url, RuleChange("points.cap", action="hold", threshold=1))
    buy(url, purchase(customer_id=customer.id))
    [case] = cases(url)
    commit(url, lambda unit: delete_customer(unit, DeleteCustomer(ACCOUNT, customer.id)))
    commit(url, lambda unit: resolve_case(unit, ResolveCase(ACCOUNT, case.id, "false_positive")))
    assert balances(url) == [(0, 0)]
    assert query(url, "SELECT COUNT(*) FROM held_lots") == [(0,)]


def test_what_was_seen_is_forgotten_after_the_longest_window(url: str) -> None:
    sighting = Sighting("device", b"d" * 32)

    def note(unit: UnitOfWork) -> None:
        unit.fraud.note_seen(ACCOUNT, [(sighting, SeenCustomer("cus_old", "txn_1"))], unit.now - SEEN_KEPT - 1)
        unit.fraud.note_seen(ACCOUNT, [(sighting, SeenCustomer("cus_new", "txn_1"))], unit.now - SEEN_KEPT + 60_000)

    commit(url, note)
    assert commit(url, forget_seen).items == 1
    assert query(url, "SELECT customer_id FROM identity_values") == [("cus_new",)]


# -- the key of keyed hashes -----------------------------------------------------------------------------------------


def test_hashes_survive_the_rotation_of_the_secret_key(url: str) -> None:
    def hash_key(*keys: str, then: Callable[[UnitOfWork], T]) -> T:
        used = tools(next(_numbers) + 500, vault=Vault(keys, bytes))
        with transaction(url) as connection:
            return then(UnitOfWork(connection, used))

    old, new = "the old key of the vault", "the new key of the vault"
    made = hash_key(old, then=lambda unit: unit.fraud.hash_key(ACCOUNT))
    assert hash_key(old, then=lambda unit: unit.fraud.hash_key(ACCOUNT)) == made
    with pytest.raises(ConfigurationError):
        hash_key(new, then=lambda unit: unit.fraud.hash_key(ACCOUNT))
    assert hash_key(new, old, then=lambda unit: unit.fraud.hash_key(ACCOUNT)) == made
    hash_key(new, old, then=lambda unit: unit.fraud.seal_hash_keys())
    assert hash_key(new, then=lambda unit: unit.fraud.hash_key(ACCOUNT)) == made
    assert list(hash_key(new, then=lambda unit: unit.fraud.hash_key_owners()).values()) == [ACCOUNT]


def test_no_raw_value_is_stored(url: str) -> None:
    """A canary in every signal, searched in every table."""
    customer = enroll(url, "ann")
    canaries = replace(with_device(customer), device_id="canary-device", payment_fingerprint="canary-payment")
    buy(url, canaries, canaries)
    assert _tables_with(url, "canary") == []
    assert query(
        url, "SELECT COUNT(*) FROM transactions WHERE device_id IS NOT NULL AND payment_fingerprint IS NOT NULL"
    ) == [(2,)]


def _tables_with(url: str, text: str) -> list[str]:
    is_sqlite = url.startswith("sqlite")
    names = (
        "SELECT name FROM sqlite_master WHERE type = 'table'"
        if is_sqlite
        else "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    return [
        name for (name,) in query(url, names) if any(text in str(row) for row in query(url, f"SELECT * FROM {name}"))
    ]
