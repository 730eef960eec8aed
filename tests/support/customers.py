"""An account with customers, and units of work on a connection of the test."""

import random
from collections.abc import Callable
from typing import TypeVar

from loyalpro.kernel.clock import SystemClock
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.customers import EnrollCustomer, enroll_customer
from loyalpro.loyalty.program import default_program
from loyalpro.loyalty.records import Customer
from loyalpro.loyalty.transactions import NewPurchase
from loyalpro.storage.connection import Connection
from loyalpro.storage.unit_of_work import Tools, UnitOfWork
from support.history import ACCOUNT, VAULT, transaction

T = TypeVar("T")

_IDS = IdFactory(SystemClock(), random.Random(7))


def unit_on(connection: Connection) -> UnitOfWork:
    """A unit of work on this connection; its events are written by `unit.outbox.flush()`."""
    return UnitOfWork(connection, Tools(SystemClock(), _IDS, VAULT))


def commit(url: str, work: Callable[[UnitOfWork], T]) -> T:
    """What `work` returns, in one transaction with its events."""
    with transaction(url) as connection:
        unit = unit_on(connection)
        result = work(unit)
        unit.outbox.flush()
        return result


def open_account(url: str) -> None:
    """The account `ACCOUNT` with the default program."""

    def work(unit: UnitOfWork) -> None:
        unit.connection.execute("INSERT INTO accounts (id, name, created_at) VALUES (?, 'A', 1)", (ACCOUNT,))
        unit.programs.insert(ACCOUNT, default_program(unit.ids))

    commit(url, work)


def enroll(url: str, external_id: str | None) -> Customer:
    """A new customer."""
    command = EnrollCustomer(ACCOUNT, external_id, None, None, None, {}, source="api")
    return commit(url, lambda unit: enroll_customer(unit, command))


def purchase(*, customer_id: str | None = None, external_id: str | None = None, amount: int = 5_600) -> NewPurchase:
    """A purchase of a customer who is named by one of the two ids."""
    return NewPurchase(
        customer_id=customer_id,
        customer_external_id=external_id,
        external_id=None,
        amount=amount,
        currency="EUR",
        occurred_at=None,
        items=[],
        channel=None,
        location_id=None,
        employee_id=None,
        metadata={},
    )
