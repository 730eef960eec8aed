"""`/v1/customers`: customers, their ledger and their lots."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from loyalpro.kernel.clock import rfc3339
from loyalpro.loyalty import customers, deletion
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.expiry import NEVER
from loyalpro.loyalty.ledger import Entry, Lot
from loyalpro.web.api.fields import (
    Body,
    Cursor,
    Limit,
    LongText,
    Metadata,
    SearchText,
    ShortText,
    check_metadata,
    known_id,
    page,
)
from loyalpro.web.auth import AccountId, Caller
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.web.unit import Unit

router = APIRouter(prefix="/v1/customers", tags=["customers"], route_class=StrictRoute.needing(write="customers"))


def _looks_like_email(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if not (local and at and domain) or " " in text:
        raise PydanticCustomError("email", "Send an e-mail address: a name, an @ and a domain, without blanks")
    return text


Email = Annotated[LongText, AfterValidator(_looks_like_email)]


class CreateCustomer(Body):
    """A customer to enroll."""

    external_id: LongText | None = None
    email: Email | None = None
    phone: ShortText | None = None
    name: LongText | None = None
    metadata: Metadata = Field(default_factory=dict)


class UpdateCustomer(Body):
    """The fields to change; what is left out stays, null clears."""

    external_id: LongText | None = None
    email: Email | None = None
    phone: ShortText | None = None
    name: LongText | None = None
    metadata: Metadata | None = None


def enrollment(account_id: str, body: CreateCustomer) -> customers.EnrollCustomer:
    """The command of a body. Raises `InvalidInput`, which names the field."""
    check_metadata(body.metadata)
    return customers.EnrollCustomer(
        account_id, body.external_id, body.email, body.phone, body.name, body.metadata, source="api"
    )


@router.post("", status_code=201, summary="Enroll a customer")
async def create(request: Request, account_id: AccountId, body: CreateCustomer) -> Response:
    """Causes `customer.created`."""
    command = enrollment(account_id, body)

    def work(unit: Unit) -> Reply:
        return Reply(201, _customer(customers.enroll_customer(unit, command)))

    return await commit(request, account_id, work)


@router.get("", summary="List customers, newest first")
async def list_customers(
    account_id: AccountId,
    services: ServicesDep,
    external_id: SearchText = None,
    email: SearchText = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """One page of customers."""
    before = known_id("cus", cursor, param="cursor") if cursor else None
    command = customers.ListCustomers(account_id, external_id, email, before, limit + 1)
    found = await services.runner.read(lambda unit: customers.list_customers(unit, command))
    return page([_customer(each) for each in found], limit)


@router.get("/{customer_id}", summary="Get a customer")
async def get(account_id: AccountId, services: ServicesDep, customer_id: str) -> dict[str, Any]:
    """One customer, with points and tier; of a deleted one, that it is deleted."""
    command = customers.GetCustomer(account_id, known_id("cus", customer_id))
    customer = await services.runner.read(lambda unit: customers.get_customer(unit, command))
    return _deleted(customer.id) if customer.status == "deleted" else _customer(customer)


@router.patch("/{customer_id}", summary="Change a customer's details")
async def update(
    account_id: AccountId, caller: Caller, services: ServicesDep, customer_id: str, body: UpdateCustomer
) -> dict[str, Any]:
    """Causes `customer.updated` when something did change."""
    changes: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if "metadata" in changes:
        changes["metadata"] = changes["metadata"] or {}
        check_metadata(changes["metadata"])
    command = customers.UpdateCustomer(account_id, known_id("cus", customer_id), changes)
    changed = await services.runner.change(lambda unit: customers.update_customer(unit, command), actor=caller.actor)
    return _customer(changed)


@router.delete("/{customer_id}", summary="Delete a customer and erase what is known of it")
async def delete(account_id: AccountId, caller: Caller, services: ServicesDep, customer_id: str) -> dict[str, Any]:
    """Its points are forfeited and its external id is free again. Causes `points.adjusted` if it had any, `customer.deleted`.

    The data of its earlier events, what receivers answered to them, the items and metadata of its purchases, and the notes
    in its ledger are erased within minutes; pending deliveries of those events are canceled.
    """
    command = deletion.DeleteCustomer(account_id, known_id("cus", customer_id))
    await services.runner.change(lambda unit: deletion.delete_customer(unit, command), actor=caller.actor)
    return _deleted(customer_id)


@router.get("/{customer_id}/ledger", summary="List a customer's ledger entries, newest first")
async def ledger(
    account_id: AccountId, services: ServicesDep, customer_id: str, limit: Limit = 20, cursor: Cursor = None
) -> dict[str, Any]:
    """Every point that came or went, and the balance after it."""
    before = known_id("led", cursor, param="cursor") if cursor else None
    command = customers.ListOfCustomer(account_id, known_id("cus", customer_id), before, limit + 1)
    found = await services.runner.read(lambda unit: customers.list_entries(unit, command))
    return page([_entry(each) for each in found], limit)


@router.get("/{customer_id}/lots", summary="List a customer's lots, newest first")
async def lots(
    account_id: AccountId, services: ServicesDep, customer_id: str, limit: Limit = 20, cursor: Cursor = None
) -> dict[str, Any]:
    """Where the points come from, what is left of each lot, and when it expires."""
    before = known_id("lot", cursor, param="cursor") if cursor else None
    command = customers.ListOfCustomer(account_id, known_id("cus", customer_id), before, limit + 1)
    found = await services.runner.read(lambda unit: customers.list_lots(unit, command))
    return page([_lot(each) for each in found], limit)


def _customer(customer: Customer) -> dict[str, Any]:
    balance = customer.balance
    return {
        "id": customer.id,
        "external_id": customer.external_id,
        "email": customer.email,
        "phone": customer.phone,
        "name": customer.name,
        "metadata": customer.metadata,
        "status": customer.status,
        "points": {"available": balance.available, "pending": balance.pending, "debt": balance.debt},
        "tier": {"id": customer.tier.id, "name": customer.tier.name, "rank": customer.tier.rank},
        "created_at": rfc3339(customer.created_at),
        "updated_at": rfc3339(customer.updated_at),
    }


def _deleted(customer_id: str) -> dict[str, Any]:
    return {"id": customer_id, "deleted": True}


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "sequence": entry.sequence,
        "type": entry.type,
        "points": entry.points,
        "balance_after": entry.balance_after,
        "pending_after": entry.pending_after,
        "source": {"type": entry.source_type, "id": entry.source_id},
        "rules": list(entry.rules),
        "reason_code": entry.reason_code,
        "note": entry.note,
        "actor": entry.actor,
        "occurred_at": rfc3339(entry.occurred_at),
        "created_at": rfc3339(entry.created_at),
    }


def _lot(lot: Lot) -> dict[str, Any]:
    return {
        "id": lot.id,
        "entry_id": lot.entry_id,
        "original": lot.original,
        "remaining": lot.remaining,
        "status": lot.status,
        "earned_at": rfc3339(lot.earned_at),
        "activates_at": None if lot.activates_at is None else rfc3339(lot.activates_at),
        "expires_at": None if lot.expires_at >= NEVER else rfc3339(lot.expires_at),
        "transaction_id": lot.transaction_id,
    }
