"""What the programme needs of the outside, inside one transaction, and the values that it exchanges with it."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from loyalpro.events.new_event import NewEvent
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.loyalty.ledger import Balance, Entry, Lot
from loyalpro.loyalty.program import Program, Tier

Emit = Callable[[NewEvent], None]
"""Notes an event, which is committed with the transaction."""


@record
class Customer:
    """A customer. The two sequences count ledger entries and events; both are gapless."""

    id: str
    account_id: str
    external_id: str | None
    email: str | None
    phone: str | None
    name: str | None
    metadata: dict[str, Any]
    status: str
    tier: Tier
    balance: Balance
    ledger_sequence: int
    event_sequence: int
    created_at: UnixMs
    updated_at: UnixMs

    def event(self, type_: str, data: dict[str, Any], *, number: int = 1) -> NewEvent:
        """The customer's `number`-th event from here; storing the customer with its new sequence is the caller's part."""
        return NewEvent(self.account_id, type_, self.id, self.event_sequence + number, data)


@record
class Transaction:
    """A purchase as it is stored."""

    id: str
    account_id: str
    customer_id: str
    external_id: str | None
    status: str
    currency: str
    amount: int
    items: list[dict[str, Any]]
    channel: str | None
    location_id: str | None
    employee_id: str | None
    metadata: dict[str, Any]
    points_earned: int
    occurred_at: UnixMs
    created_at: UnixMs


class LoyaltyStore(Protocol):
    """Whoever changes a customer's points holds the customer's lock until the transaction ends."""

    def program(self, account_id: str) -> Program:
        """The rules in force."""
        ...

    def insert_customer(self, customer: Customer) -> bool:
        """False when another customer of the account has this external id."""
        ...

    def lock_customer(self, account_id: str, customer_id: str) -> Customer | None:
        """The customer as it is now; nobody else changes it until this transaction ends."""
        ...

    def lock_customers(self, account_id: str, customer_ids: Collection[str]) -> list[Customer]:
        """Those that there are, locked in the order of their ids, so that no two callers block each other."""
        ...

    def lock_customers_by_external_id(self, account_id: str, external_ids: Collection[str]) -> list[Customer]:
        """The same, by the merchant's own ids."""
        ...

    def update_customer(self, customer: Customer) -> bool:
        """Store details and event sequence. False when another customer of the account has this external id."""
        ...

    def update_balances(self, customers: Sequence[Customer]) -> None:
        """Store points and sequences."""
        ...

    def transactions_by_external_id(self, account_id: str, external_ids: Collection[str]) -> list[Transaction]:
        """The purchases that have these numbers already."""
        ...

    def insert_transactions(self, transactions: Sequence[Transaction]) -> None:
        """Store purchases."""
        ...

    def insert_entries(self, entries: Sequence[Entry]) -> None:
        """Append to the ledger."""
        ...

    def insert_lots(self, lots: Sequence[tuple[Lot, int]]) -> None:
        """Store the lots of credits, each with what of it repaid debt at once."""
        ...

    def empty_lots(self, entry: Entry) -> None:
        """Take everything out of a customer's lots, for an entry: of the pending ones, which it cancels, or of the others."""
        ...

    def forget_customer(self, customer: Customer, *, known_through: int) -> None:
        """Store what is left of a deleted customer, and have erased what its events up to `known_through` say."""
        ...
