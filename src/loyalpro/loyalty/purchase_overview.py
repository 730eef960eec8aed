"""One purchase: its customer, the rules that gave its points, its refunds, and what they did to points."""

from collections.abc import Sequence
from dataclasses import field
from typing import Final

from loyalpro.kernel.record import record
from loyalpro.loyalty.customers import GetCustomer, get_customer
from loyalpro.loyalty.entities import Customer, Refund, Transaction
from loyalpro.loyalty.ledger import Entry
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.transactions import GetTransaction, get_transaction

MOST_REFUNDS: Final = 100


@record
class PurchaseOverview:
    """One purchase. `entries`: those that the purchase itself made, oldest first. `refunds`: the newest ones, newest first."""

    transaction: Transaction
    customer: Customer
    entries: Sequence[Entry] = field(hash=False)
    refunds: Sequence[Refund] = field(hash=False)

    @property
    def remaining(self) -> int:
        """What can still be refunded, in minor units."""
        return self.transaction.amount - self.transaction.refunded_amount


def get_purchase_overview(unit: LoyaltyUnit, query: GetTransaction) -> PurchaseOverview:
    """One purchase with its customer, points and refunds. Raises `NotFound`."""
    transaction = get_transaction(unit, query)
    return PurchaseOverview(
        transaction,
        get_customer(unit, GetCustomer(query.account_id, transaction.customer_id)),
        unit.ledger.entries_of_source(transaction.id),
        unit.refunds.list_newest(transaction.id, None, MOST_REFUNDS),
    )
