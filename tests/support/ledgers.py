"""The whole ledger of a customer in a database, and whether it adds up."""

from loyalpro.loyalty.ledger import discrepancies
from loyalpro.storage.unit_of_work import UnitOfWork
from support.history import transaction
from support.units import unit_on


def ledger_errors(url: str, customer_id: str) -> list[str]:
    """What does not add up in the ledger of a customer, in words."""
    with transaction(url) as connection:
        [(account_id,)] = connection.execute("SELECT account_id FROM customers WHERE id = ?", (customer_id,))
        return errors_in(unit_on(connection), customer_id, account_id)


def errors_in(unit: UnitOfWork, customer_id: str, account_id: str) -> list[str]:
    """The same, in a transaction that is open."""
    customer = unit.customers.get(account_id, customer_id)
    assert customer is not None
    entries = sorted(unit.ledger.list_entries(customer_id, None, 10_000), key=lambda entry: entry.sequence)
    lots, allocations = unit.ledger.list_lots(customer_id, None, 10_000), unit.ledger.list_allocations(customer_id)
    return discrepancies(customer.balance, entries, lots, allocations)
