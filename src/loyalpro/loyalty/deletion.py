"""Deletes a customer: its points are forfeited, its details are removed, and its past is marked for erasure."""

from typing import Final

from loyalpro.events.customer import CustomerDeleted
from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.record import record
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.customers import NO_DETAILS, NO_STATE, unknown_customer
from loyalpro.loyalty.erasure import begin_erasure
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.redemption_book import cancel_reservations
from loyalpro.loyalty.wallet import Cause

_REASON: Final = "customer_deleted"


@record
class DeleteCustomer:
    """A customer to delete."""

    account_id: str
    customer_id: str


def delete_customer(unit: LoyaltyUnit, command: DeleteCustomer) -> None:
    """Delete an active customer. Emits `points.adjusted` for points or a debt, and for pending points; `customer.deleted`.

    The row stays without a name, because the ledger and the purchases belong to it. Its external id is free again. What the
    events and the ledgers of customers say that were merged into it is erased, too. Raises `NotFound` `customer_not_found`.
    """
    book = Book(unit, command.account_id, ids=[command.customer_id], with_lots=True)
    wallet = book.wallet(command.customer_id)
    if wallet is None:
        raise unknown_customer(command.customer_id)
    before = wallet.customer
    cancel_reservations(unit, book, wallet.id, _REASON)
    forfeited = wallet.forfeit(Cause("customer", before.id, unit.actor, unit.now, _REASON))
    wallet.change_details(**NO_DETAILS, status="deleted")
    wallet.change_state(**NO_STATE)
    wallet.emit(
        CustomerDeleted(
            customer_id=before.id,
            customer_external_id=before.external_id,
            external_id=before.external_id,  # receivers need it to find the customer; the event expires like all others
            deleted_at=rfc3339(unit.now),
            reason="merchant_request",
            erased=True,
            points_forfeited=forfeited,
            merged_into=None,
        )
    )
    book.write()
    unit.customer_moves.remove_derived(before.id)
    begin_erasure(unit, before)
    for merged_id in unit.customers.merged_into(before.id):
        if (merged := unit.customers.get(before.account_id, merged_id)) is not None:
            begin_erasure(unit, merged)
    unit.audit(before.account_id, "customer.deleted", before.id)
