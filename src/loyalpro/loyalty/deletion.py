"""Deletes a customer: its points are forfeited, its details are removed, and its past is marked for erasure."""

from typing import Final

from loyalpro.events.customer import CustomerDeleted
from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.record import record
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.customers import unknown_customer
from loyalpro.loyalty.erasure import begin_erasure
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.wallet import Cause

_REASON: Final = "customer_deleted"


@record
class DeleteCustomer:
    """A customer to delete."""

    account_id: str
    customer_id: str


def delete_customer(unit: LoyaltyUnit, command: DeleteCustomer) -> None:
    """Delete an active customer. Emits `points.adjusted` for points or a debt, and for pending points; `customer.deleted`.

    The row stays without a name, because the ledger and the purchases belong to it. Its external id is free again. Raises
    `NotFound` `customer_not_found`.
    """
    book = Book(unit, command.account_id, ids=[command.customer_id], with_lots=True)
    wallet = book.wallet(command.customer_id)
    if wallet is None:
        raise unknown_customer(command.customer_id)
    before = wallet.customer
    forfeited = wallet.forfeit(Cause("customer", before.id, unit.actor, unit.now, _REASON))
    wallet.change_details(
        external_id=None,
        email=None,
        email_key=None,
        phone=None,
        phone_key=None,
        name=None,
        tags=(),
        metadata={},
        status="deleted",
    )
    wallet.change_state(tier_review_at=None, tier_locked_until=None, tier_lock_reason=None, points_expire_at=None)
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
    begin_erasure(unit, before)
    unit.audit(before.account_id, "customer.deleted", before.id)
