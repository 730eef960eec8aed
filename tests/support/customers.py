"""An account with customers, and units of work that commit."""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from loyalpro.events.transaction import Item
from loyalpro.loyalty.customers import EnrollCustomer, enroll_customer
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.program import default_program
from loyalpro.loyalty.recording import NewPurchase
from loyalpro.storage.unit_of_work import UnitOfWork
from support.history import ACCOUNT, transaction
from support.units import tools

T = TypeVar("T")

_TOOLS: Final = tools()
"""One for all units: ids that are made in the same millisecond differ."""


def commit(url: str, work: Callable[[UnitOfWork], T]) -> T:
    """What `work` returns, in one transaction with its events."""
    with transaction(url) as connection:
        unit = UnitOfWork(connection, _TOOLS)
        result = work(unit)
        unit.outbox.flush()
        return result


def open_account(url: str) -> None:
    """The account `ACCOUNT` with the default program."""

    def work(unit: UnitOfWork) -> None:
        unit.connection.execute("INSERT INTO accounts (id, name, created_at) VALUES (?, 'A', 1)", (ACCOUNT,))
        unit.programs.insert(ACCOUNT, default_program(unit.ids), actor="system:bootstrap", now=unit.now)

    commit(url, work)


def enroll(url: str, external_id: str | None) -> Customer:
    """A new customer."""
    command = EnrollCustomer(ACCOUNT, external_id, None, None, None, {}, source="api")
    return commit(url, lambda unit: enroll_customer(unit, command))


def purchase(
    *,
    customer_id: str | None = None,
    external_id: str | None = None,
    amount: int = 5_600,
    items: Sequence[Item] = (),
) -> NewPurchase:
    """A purchase of a customer who is named by one of the two ids."""
    return NewPurchase(
        customer_id=customer_id,
        customer_external_id=external_id,
        external_id=None,
        amount=amount,
        currency="EUR",
        occurred_at=None,
        items=list(items),
        channel=None,
        location_id=None,
        employee_id=None,
        metadata={},
    )
