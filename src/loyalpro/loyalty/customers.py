"""Commands about customers: enroll one, change its details, and read customers, entries and lots."""

from dataclasses import field
from typing import Any

from loyalpro.events.customer import Balance as BalanceShown
from loyalpro.events.customer import Customer as CustomerShown
from loyalpro.events.customer import CustomerCreated, CustomerUpdated
from loyalpro.events.customer import Tier as TierShown
from loyalpro.events.payload import Source
from loyalpro.events.stable_json import encode
from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.errors import Conflict, NotFound
from loyalpro.kernel.record import record
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.ledger import Entry, Lot
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.tiers import Tier
from loyalpro.loyalty.wallet import Wallet


@record
class EnrollCustomer:
    """A customer to enroll."""

    account_id: str
    external_id: str | None
    email: str | None
    phone: str | None
    name: str | None
    metadata: dict[str, Any] = field(repr=False)
    source: Source


@record
class UpdateCustomer:
    """The details to change: `external_id`, `email`, `phone`, `name` or `metadata`, each with its new value."""

    account_id: str
    customer_id: str
    changes: dict[str, Any] = field(repr=False)


@record
class GetCustomer:
    """A customer to read."""

    account_id: str
    customer_id: str


@record
class ListCustomers:
    """Active customers to read, newest first: those before `before_id`, with this external id, with this email."""

    account_id: str
    external_id: str | None
    email: str | None
    before_id: str | None
    limit: int


@record
class ListOfCustomer:
    """Entries or lots of a customer to read, newest first, before `before_id`."""

    account_id: str
    customer_id: str
    before_id: str | None
    limit: int


def enroll_customer(unit: LoyaltyUnit, command: EnrollCustomer) -> Customer:
    """Store a new customer in the lowest tier. Emits `customer.created`.

    Raises `Conflict` `customer_exists` when another customer of the account has the external id.
    """
    program = unit.programs.get(command.account_id)
    wallet = Wallet(_new_customer(unit, command, program.tiers[0]), unit, program, lots=())
    wallet.emit(CustomerCreated(customer=_shown(wallet.customer), source=command.source))
    if not unit.customers.insert(wallet.customer):
        raise _taken(command.external_id)
    unit.audit(command.account_id, "customer.created", wallet.id)
    return wallet.customer


def update_customer(unit: LoyaltyUnit, command: UpdateCustomer) -> Customer:
    """Change details. Emits `customer.updated` with the values before; emits and changes nothing when all are equal.

    Values are compared as JSON, because `1` and `true` are equal in Python and differ in JSON. Raises `NotFound`
    `customer_not_found`, and `Conflict` `customer_exists` when another customer of the account has the external id.
    """
    book = Book(unit, command.account_id, ids=[command.customer_id])
    wallet = book.wallet(command.customer_id)
    if wallet is None:
        raise unknown_customer(command.customer_id)
    before = wallet.customer
    changed = [name for name, value in command.changes.items() if encode(getattr(before, name)) != encode(value)]
    if not changed:
        return before
    wallet.change_details(**{name: command.changes[name] for name in changed})
    previous = {name: getattr(before, name) for name in changed}
    wallet.emit(
        CustomerUpdated(customer=_shown(wallet.customer), previous_attributes=previous, changed=changed, source="api")
    )
    if not book.write():
        raise _taken(wallet.customer.external_id)
    unit.audit(command.account_id, "customer.updated", wallet.id)
    return wallet.customer


def get_customer(unit: LoyaltyUnit, command: GetCustomer) -> Customer:
    """One customer, also a deleted one. Raises `NotFound` `customer_not_found`."""
    customer = unit.customers.get(command.account_id, command.customer_id)
    if customer is None:
        raise unknown_customer(command.customer_id)
    return customer


def list_customers(unit: LoyaltyUnit, command: ListCustomers) -> list[Customer]:
    """Active customers, newest first."""
    return unit.customers.list_newest(
        command.account_id, command.external_id, command.email, command.before_id, command.limit
    )


def list_entries(unit: LoyaltyUnit, command: ListOfCustomer) -> list[Entry]:
    """A customer's ledger entries, newest first. Raises `NotFound` `customer_not_found`."""
    customer = get_customer(unit, GetCustomer(command.account_id, command.customer_id))
    return unit.ledger.list_entries(customer.id, command.before_id, command.limit)


def list_lots(unit: LoyaltyUnit, command: ListOfCustomer) -> list[Lot]:
    """A customer's lots, newest first. Raises `NotFound` `customer_not_found`."""
    customer = get_customer(unit, GetCustomer(command.account_id, command.customer_id))
    return unit.ledger.list_lots(customer.id, command.before_id, command.limit)


def unknown_customer(customer_id: str) -> NotFound:
    """The error for a customer that is not there, or is deleted."""
    return NotFound(f"There is no customer {customer_id}.", code="customer_not_found", param="id")


def _new_customer(unit: LoyaltyUnit, command: EnrollCustomer, tier: Tier) -> Customer:
    return Customer(
        id=unit.ids.new("cus"),
        account_id=command.account_id,
        external_id=command.external_id,
        email=command.email,
        phone=command.phone,
        name=command.name,
        metadata=command.metadata,
        tier=tier,
        tier_since=unit.now,
        email_key=command.email and command.email.strip().lower(),
        created_at=unit.now,
        updated_at=unit.now,
    )


def _shown(customer: Customer) -> CustomerShown:
    """A customer as events show it."""
    balance = customer.balance
    return CustomerShown(
        id=customer.id,
        external_id=customer.external_id,
        email=customer.email,
        phone=customer.phone,
        name=customer.name,
        status=customer.status,
        tags=list(customer.tags),
        tier=TierShown(id=customer.tier.id, name=customer.tier.name, rank=customer.tier.rank),
        balance=BalanceShown(available=balance.available, pending=balance.pending, debt=balance.debt),
        metadata=customer.metadata,
        enrolled_at=rfc3339(customer.created_at),
    )


def _taken(external_id: str | None) -> Conflict:
    return Conflict(
        f"Another customer has external_id {external_id!r}; GET /v1/customers?external_id= finds it.",
        code="customer_exists",
        param="external_id",
    )
