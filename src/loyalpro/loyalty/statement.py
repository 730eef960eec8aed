"""The statement of a customer: the balance at the beginning of a time, what changed it, and the balance at its end."""

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.record import record
from loyalpro.loyalty.customers import GetCustomer, get_customer
from loyalpro.loyalty.ledger import EntryTotal, LedgerPosition
from loyalpro.loyalty.ports import LoyaltyUnit


@record
class GetStatement:
    """The statement of a customer to read, of the entries that were made from `since` to just before `until`.

    `since` None: from the first entry. `until` None: through the last entry.
    """

    account_id: str
    customer_id: str
    since: UnixMs | None
    until: UnixMs | None


@record
class Statement:
    """Where the ledger stood before and after, and the sum of the entries of each type between.

    The sums of all types but `activate`, which moves points from pending to available, add up to the change of both balances.
    """

    opening: LedgerPosition
    totals: list[EntryTotal]
    closing: LedgerPosition


def get_statement(unit: LoyaltyUnit, command: GetStatement) -> Statement:
    """A customer's statement. Raises `NotFound` `customer_not_found`, and `InvalidInput` when the time ends before it begins.

    Entries count when they were made: that is their order in the ledger, which each balance follows.
    """
    since, until = command.since, command.until
    if since is not None and until is not None and until < since:
        raise InvalidInput("`to` is before `from`; exchange them.", code="invalid_range", param="to")
    customer = get_customer(unit, GetCustomer(command.account_id, command.customer_id))
    opening = LedgerPosition() if since is None else unit.ledger.position(customer.id, since)
    closing = unit.ledger.position(customer.id, until)
    return Statement(opening, unit.ledger.totals(customer.id, opening.sequence, closing.sequence), closing)
