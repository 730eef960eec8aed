"""`/v1/customers`: who collects points, and every point they ever had."""

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, Field

from loyalpro.kernel.errors import NotFound
from loyalpro.loyalty.customers import EnrolCustomer, customer_view, enrol_customer, update_customer
from loyalpro.loyalty.deletion import ERASURES, delete_customer, deleted_view
from loyalpro.loyalty.ledger import entry_view, lot_view
from loyalpro.loyalty.ports import Customer
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
from loyalpro.web.auth import AccountId
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute
from loyalpro.web.unit import Unit

router = APIRouter(prefix="/v1/customers", tags=["customers"], route_class=StrictRoute)


def _looks_like_email(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if not (local and at and domain) or " " in text:
        raise ValueError("an e-mail address has a name, an @ and a domain")
    return text


Email = Annotated[LongText, AfterValidator(_looks_like_email)]


class CreateCustomer(Body):
    """A customer to enrol."""

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


@router.post("", status_code=201, summary="Enrol a customer")
async def create(request: Request, account_id: AccountId, body: CreateCustomer) -> Response:
    """Causes `customer.created`."""
    check_metadata(body.metadata)
    command = EnrolCustomer(account_id, body.external_id, body.email, body.phone, body.name, body.metadata, "api")

    def work(unit: Unit) -> Reply:
        customer = enrol_customer(unit.loyalty, unit.outbox.emit, command, now=unit.now, ids=unit.ids)
        return Reply(201, customer_view(customer))

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
    found = await services.runner.read(
        lambda unit: unit.loyalty.list_customers(account_id, external_id, email, before, limit + 1)
    )
    return page([customer_view(each) for each in found], limit)


@router.get("/{customer_id}", summary="Get a customer")
async def get(account_id: AccountId, services: ServicesDep, customer_id: str) -> dict[str, Any]:
    """One customer, with points and tier; of a deleted one, that it is deleted."""
    customer = await services.runner.read(lambda unit: _existing(unit, account_id, customer_id))
    return deleted_view(customer.id) if customer.status == "deleted" else customer_view(customer)


@router.patch("/{customer_id}", summary="Change a customer's details")
async def update(
    account_id: AccountId, services: ServicesDep, customer_id: str, body: UpdateCustomer
) -> dict[str, Any]:
    """Causes `customer.updated` when something did change."""
    changes: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if "metadata" in changes:
        changes["metadata"] = changes["metadata"] or {}
        check_metadata(changes["metadata"])
    known_id("cus", customer_id)
    customer = await services.runner.change(
        lambda unit: update_customer(unit.loyalty, unit.outbox.emit, account_id, customer_id, changes, now=unit.now)
    )
    return customer_view(customer)


@router.delete("/{customer_id}", summary="Delete a customer and erase what is known of it")
async def delete(account_id: AccountId, services: ServicesDep, customer_id: str) -> dict[str, Any]:
    """Its points are forfeited and its external id is free again. Causes `points.adjusted` if it had any, `customer.deleted`.

    What its earlier events and the answers to them said, its purchases' items and metadata, and notes in its ledger are
    erased within minutes; deliveries of those events that are still owed are canceled.
    """
    known_id("cus", customer_id)

    def work(unit: Unit) -> None:
        delete_customer(unit.loyalty, unit.outbox.emit, account_id, customer_id, now=unit.now, ids=unit.ids)
        unit.wake_job(ERASURES)

    await services.runner.change(work)
    return deleted_view(customer_id)


@router.get("/{customer_id}/ledger", summary="List a customer's ledger entries, newest first")
async def ledger(
    account_id: AccountId, services: ServicesDep, customer_id: str, limit: Limit = 20, cursor: Cursor = None
) -> dict[str, Any]:
    """Every point that came or went, and the balance after it."""
    before = known_id("led", cursor, param="cursor") if cursor else None

    def work(unit: Unit) -> list[dict[str, Any]]:
        customer = _existing(unit, account_id, customer_id)
        return [entry_view(each) for each in unit.loyalty.list_entries(customer.id, before, limit + 1)]

    return page(await services.runner.read(work), limit)


@router.get("/{customer_id}/lots", summary="List a customer's lots, newest first")
async def lots(
    account_id: AccountId, services: ServicesDep, customer_id: str, limit: Limit = 20, cursor: Cursor = None
) -> dict[str, Any]:
    """Where the points come from, what is left of each lot, and when it expires."""
    before = known_id("lot", cursor, param="cursor") if cursor else None

    def work(unit: Unit) -> list[dict[str, Any]]:
        customer = _existing(unit, account_id, customer_id)
        return [lot_view(each) for each in unit.loyalty.list_lots(customer.id, before, limit + 1)]

    return page(await services.runner.read(work), limit)


def _existing(unit: Unit, account_id: str, customer_id: str) -> Customer:
    customer: Customer | None = unit.loyalty.get_customer(account_id, known_id("cus", customer_id))
    if customer is None:
        raise NotFound(f"There is no customer {customer_id}.", code="customer_not_found", param="id")
    return customer
