"""Transactions that change the same customers lock them in one order, so none of them ends in a deadlock."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from loyalpro.kernel.errors import NotFound, Refused
from loyalpro.loyalty.customers import EnrollCustomer, EnrollCustomers, enroll_customer, enroll_customers
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.recording import NewPurchase, Purchase, RecordPurchases, record_purchases
from loyalpro.loyalty.refunds import NewRefund, Refunded, RefundPurchases, refund_purchases
from support.customers import commit, enroll, open_account, purchase
from support.databases import Databases
from support.history import ACCOUNT, query, transaction
from support.units import unit_on


@pytest.fixture
def url(databases: Databases) -> str:
    address = databases.fresh("postgres")
    open_account(address)
    return address


def record(url: str, purchases: Sequence[NewPurchase]) -> list[Purchase | Refused]:
    return commit(url, lambda unit: record_purchases(unit, RecordPurchases(ACCOUNT, purchases)))


def wait_for_waiting(url: str, number: int, batches: Sequence[Future[Any]]) -> None:
    """Until this number of transactions wait for a lock. A lock is granted before the COMMIT of its holder returns."""
    sql = (
        "SELECT COUNT(DISTINCT pid) FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE datname = current_database() AND NOT granted"
    )
    while query(url, sql) != [(number,)]:
        assert not any(batch.done() for batch in batches)


def test_batches_that_name_customers_by_both_kinds_of_ids_do_not_deadlock(url: str) -> None:
    """If each batch locked one customer and then the other, this order of releases would make each wait for the other."""
    first, second = enroll(url, "ann"), enroll(url, "bob")
    crossed = (
        [purchase(customer_id=first.id), purchase(external_id="bob")],
        [purchase(customer_id=second.id), purchase(external_id="ann")],
    )
    lock = "SELECT id FROM customers WHERE id = ? FOR UPDATE"
    with ThreadPoolExecutor(2) as pool:
        with transaction(url) as holder_of_second:
            holder_of_second.execute(lock, (second.id,))
            with transaction(url) as holder_of_first:
                holder_of_first.execute(lock, (first.id,))
                batches = [pool.submit(record, url, each) for each in crossed]
                wait_for_waiting(url, 2, batches)
            wait_for_waiting(url, 2, batches)
        outcomes = [outcome for batch in batches for outcome in batch.result(30)]
    assert all(isinstance(each, Purchase) for each in outcomes)
    assert query(url, "SELECT available, event_sequence FROM customers ORDER BY id") == [(112, 5), (112, 5)]


@pytest.mark.parametrize("change", ["rename", "delete"])
def test_an_external_id_that_changes_before_the_lock_is_taken_names_no_customer(url: str, change: str) -> None:
    customer = enroll(url, "ann")
    with ThreadPoolExecutor(1) as pool:
        with transaction(url) as holder:
            holder.execute("SELECT id FROM customers FOR UPDATE")
            batch = pool.submit(record, url, [purchase(external_id="ann")])
            wait_for_waiting(url, 1, [batch])
            sql = "external_id = 'zoe'" if change == "rename" else "external_id = NULL, status = 'deleted'"
            holder.execute(f"UPDATE customers SET {sql} WHERE id = ?", (customer.id,))
        outcomes = batch.result(30)
    assert [(type(each), getattr(each, "code", None)) for each in outcomes] == [(NotFound, "customer_not_found")]
    assert query(url, "SELECT COUNT(*) FROM transactions") == [(0,)]


def test_batches_that_enroll_the_same_customers_in_opposite_orders_do_not_deadlock(url: str) -> None:
    """If each stored customers in the order of its request, both would wait here, and then for each other."""
    names = ["ann", "mia", "zoe"]

    def enroll_all(order: list[str]) -> list[str]:
        members = [EnrollCustomer(ACCOUNT, name, None, None, None, {}, source="api") for name in order]
        outcomes = commit(url, lambda unit: enroll_customers(unit, EnrollCustomers(ACCOUNT, members)))
        return [name for name, each in zip(order, outcomes, strict=True) if isinstance(each, Customer)]

    with ThreadPoolExecutor(2) as pool:
        with transaction(url) as holder:
            unit = unit_on(holder)
            enroll_customer(unit, EnrollCustomer(ACCOUNT, "mia", None, None, None, {}, source="api"))
            unit.outbox.flush()
            batches = [pool.submit(enroll_all, order) for order in (names, names[::-1])]
            wait_for_waiting(url, 2, batches)
        enrolled = [name for batch in batches for name in batch.result(30)]
    assert sorted(enrolled) == ["ann", "zoe"]
    assert query(url, "SELECT external_id FROM customers ORDER BY external_id") == [("ann",), ("mia",), ("zoe",)]


def refund(url: str, transaction_id: str) -> list[Refunded | Refused]:
    refunds = [NewRefund(transaction_id=transaction_id, amount=1_000)]
    return commit(url, lambda unit: refund_purchases(unit, RefundPurchases(ACCOUNT, refunds)))


def test_a_refund_is_to_be_repeated_when_its_customer_is_merged_before_the_lock_is_taken(url: str) -> None:
    """It has not locked the customer that the purchase belongs to now."""
    gone, into = enroll(url, "ann"), enroll(url, "bob")
    [bought] = record(url, [purchase(customer_id=gone.id)])
    assert isinstance(bought, Purchase)
    with ThreadPoolExecutor(1) as pool:
        with transaction(url) as holder:
            holder.execute("SELECT id FROM customers FOR UPDATE")
            running = pool.submit(refund, url, bought.transaction.id)
            wait_for_waiting(url, 1, [running])
            holder.execute("UPDATE transactions SET customer_id = ?", (into.id,))
            holder.execute(
                "UPDATE customers SET external_id = NULL, status = 'merged', merged_into_id = ? WHERE id = ?",
                (into.id, gone.id),
            )
        [refused] = running.result(30)
    assert isinstance(refused, Refused)
    assert refused.code == "transaction_changed"
    assert query(url, "SELECT COUNT(*) FROM refunds") == [(0,)]
    [repeated] = refund(url, bought.transaction.id)
    assert isinstance(repeated, Refunded)
    assert repeated.refund.customer_id == into.id
