"""Customers: who they are, what they have, and the events that their changes cause."""

from dataclasses import dataclass, field, replace
from typing import Any

from loyalpro.events.stable_json import encode
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import Conflict, NotFound
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.ledger import Balance
from loyalpro.loyalty.ports import Customer, Emit, LoyaltyStore


@dataclass(frozen=True, slots=True)
class EnrolCustomer:
    """A customer to enrol. `source` is the path it came by: api, dashboard or import."""

    account_id: str
    external_id: str | None
    email: str | None
    phone: str | None
    name: str | None
    metadata: dict[str, Any] = field(repr=False)
    source: str


def enrol_customer(store: LoyaltyStore, emit: Emit, command: EnrolCustomer, *, now: UnixMs, ids: IdFactory) -> Customer:
    """Store a new customer in the lowest tier. Causes `customer.created`."""
    program = store.program(command.account_id)
    customer = Customer(
        id=ids.new("cus"),
        account_id=command.account_id,
        external_id=command.external_id,
        email=command.email,
        phone=command.phone,
        name=command.name,
        metadata=command.metadata,
        status="active",
        tier=program.tiers[0],
        balance=Balance(),
        ledger_sequence=0,
        event_sequence=1,
        created_at=now,
        updated_at=now,
    )
    if not store.insert_customer(customer):
        raise _taken(command.external_id)
    emit(replace(customer, event_sequence=0).event("customer.created", {**_data(customer), "source": command.source}))
    return customer


def update_customer(
    store: LoyaltyStore, emit: Emit, account_id: str, customer_id: str, changes: dict[str, Any], *, now: UnixMs
) -> Customer:
    """Change details. Causes `customer.updated` with what they were before; nothing when nothing changes.

    Compared is what would be sent: `1` and `true` are equal in Python.
    """
    before = store.lock_customer(account_id, customer_id)
    if before is None:
        raise NotFound(f"There is no customer {customer_id}.", code="customer_not_found", param="id")
    changed = [name for name, value in changes.items() if encode(getattr(before, name)) != encode(value)]
    if not changed:
        return before
    wanted = {name: changes[name] for name in changed}
    after = replace(before, **wanted, event_sequence=before.event_sequence + 1, updated_at=now)
    if not store.update_customer(after):
        raise _taken(after.external_id)
    previous = {name: getattr(before, name) for name in changed}
    emit(before.event("customer.updated", {**_data(after), "previous_attributes": previous, "changed": changed}))
    return after


def customer_view(customer: Customer) -> dict[str, Any]:
    """A customer as the API shows it."""
    return {
        "id": customer.id,
        "external_id": customer.external_id,
        "email": customer.email,
        "phone": customer.phone,
        "name": customer.name,
        "metadata": customer.metadata,
        "status": customer.status,
        "points": _points(customer.balance),
        "tier": {"id": customer.tier.id, "name": customer.tier.name},
        "created_at": rfc3339(customer.created_at),
        "updated_at": rfc3339(customer.updated_at),
    }


def _data(customer: Customer) -> dict[str, Any]:
    """A customer as events show it."""
    return {
        "customer": {
            "id": customer.id,
            "external_id": customer.external_id,
            "email": customer.email,
            "phone": customer.phone,
            "name": customer.name,
            "status": customer.status,
            "tier": {"id": customer.tier.id, "name": customer.tier.name},
            "balance": _points(customer.balance),
            "metadata": customer.metadata,
            "enrolled_at": rfc3339(customer.created_at),
        }
    }


def _points(balance: Balance) -> dict[str, int]:
    return {"available": balance.available, "pending": balance.pending, "debt": balance.debt}


def _taken(external_id: str | None) -> Conflict:
    return Conflict(
        f"Another customer has external_id {external_id!r}; GET /v1/customers?external_id= finds it.",
        code="customer_exists",
        param="external_id",
    )
