"""`/v1/customers`: customers, their ledger, their lots, and all that is stored about them."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any, Final, Generic, Literal, NotRequired, TypeVar

import msgspec
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from loyalpro.events.points import AppliedRule
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import InvalidInput, Refused
from loyalpro.kernel.iteration import pull
from loyalpro.loyalty import customer_export, customers, deletion, merging, statement, tier_assignment
from loyalpro.loyalty.contact import email_key, phone_key
from loyalpro.loyalty.entities import Customer, CustomerFilter, ExportRows
from loyalpro.loyalty.ledger import Entry, EntryTotal, LedgerPosition
from loyalpro.web.answers import (
    Actor,
    Count,
    CustomerId,
    EntryId,
    ErrorView,
    ExternalId,
    Listed,
    MetadataView,
    Page,
    PointCount,
    PointsView,
    Time,
    answers,
)
from loyalpro.web.api.customer_tiers import TierInFullView, TierView, tier_in_full, tier_shown
from loyalpro.web.api.lots import LotView, lot_view
from loyalpro.web.auth import AccountId, Caller
from loyalpro.web.errors import status_of
from loyalpro.web.field_errors import refusal
from loyalpro.web.fields import (
    Body,
    Cursor,
    Instant,
    Limit,
    LongText,
    Metadata,
    SearchText,
    ShortText,
    Tag,
    check_metadata,
    known_id,
    page,
)
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.strict_route import MAX_BATCH, BatchRoute, StrictRoute
from loyalpro.web.unit import Unit


class _Customers(BatchRoute):
    """Each member becomes a `CreateCustomer`, or the `Refused` that tells why not."""

    field = "customers"

    def convert(self, member: Any) -> Any:
        """The customer of a member."""
        return _parsed(member)


router = APIRouter(prefix="/v1/customers", tags=["customers"], route_class=StrictRoute.needing(write="customers"))
batch_router = APIRouter(prefix="/v1/customers", tags=["customers"], route_class=_Customers.needing(write="customers"))


T = TypeVar("T", bound=TierView)


class CustomerOf(TypedDict, Generic[T]):
    """A customer with points and tier."""

    id: CustomerId
    external_id: ExternalId | None
    email: Annotated[str | None, Field(examples=["ada@example.com"])]
    phone: Annotated[str | None, Field(examples=["+44 7911 123456"])]
    name: Annotated[str | None, Field(examples=["Ada"])]
    tags: Annotated[list[str], Field(examples=[["vip"]])]
    metadata: MetadataView
    status: Annotated[str, Field(examples=["active"])]
    points: PointsView
    tier: T
    earning_blocked: bool
    redeeming_blocked: bool
    first_purchase_at: Time | None
    last_purchase_at: Time | None
    created_at: Time
    updated_at: Time


CustomerView = CustomerOf[TierView]


class GoneView(TypedDict):
    """A customer that was deleted, or merged into another one."""

    id: CustomerId
    deleted: Annotated[bool, Field(examples=[True])]
    merged_into: NotRequired[CustomerId]


class CustomerResult(TypedDict):
    """What the request for this customer alone would return: `customer` or `error`."""

    status: Annotated[int, Field(examples=[201])]
    customer: NotRequired[CustomerView]
    error: NotRequired[ErrorView]


class CustomerMember(CustomerResult):
    """The result of a member of a batch; `index` counts from 0."""

    index: Annotated[int, Field(examples=[0])]


class SourceView(TypedDict):
    """What caused an entry."""

    type: str
    id: str


class EntryView(TypedDict):
    """Points that came or went, and the balance after it."""

    id: EntryId
    sequence: Count
    type: str
    points: PointCount
    balance_after: PointCount
    pending_after: PointCount
    source: SourceView
    rules: list[AppliedRule]
    reason_code: str | None
    note: str | None
    actor: Actor
    occurred_at: Time
    created_at: Time


class TotalView(TypedDict):
    """The entries of a type."""

    type: str
    entries: Count
    points: PointCount


StatementView = TypedDict(
    "StatementView",
    {
        "customer_id": CustomerId,
        "from": Time | None,
        "to": Time | None,
        "opening": PointsView,
        "totals": list[TotalView],
        "closing": PointsView,
    },
)
"""The points before and after a time, and what came and went meanwhile."""

CustomerExport = dict[str, list[dict[str, Any]]]
"""A list of rows for each part of what is stored."""

_EXAMPLE: Final[JsonDict] = {
    "external_id": "shop-77",
    "email": "ada@example.com",
    "phone": "+44 7911 123456",
    "name": "Ada",
    "tags": ["vip"],
    "metadata": {"newsletter": True},
}


def _looks_like_email(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if not (local and at and domain) or " " in text:
        raise PydanticCustomError("email", "Send an e-mail address: a name, an @ and a domain, without blanks")
    return text


Email = Annotated[LongText, AfterValidator(_looks_like_email)]
Tags = Annotated[list[Tag], Field(max_length=customers.MAX_TAGS)]
Block = Annotated[bool, Field(description="Whether later purchases earn nothing, or later redemptions are refused.")]


class CreateCustomer(Body):
    """A customer to enroll."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    external_id: LongText | None = None
    email: Email | None = None
    phone: ShortText | None = None
    name: LongText | None = None
    tags: Tags = Field(default_factory=list)
    metadata: Metadata = Field(default_factory=dict)


class CreateCustomers(Body):
    """Up to 1,000 customers. A refused one does not stop the others."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"customers": [_EXAMPLE, {"external_id": "shop-78"}]}]})

    customers: Annotated[list[Any], Field(min_length=1, max_length=MAX_BATCH)]


class UpdateCustomer(Body):
    """The fields to change; what is left out stays, null clears. A block is true or false."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"phone": None, "tags": ["vip", "berlin"]}, {"redeeming_blocked": False}]}
    )

    external_id: LongText | None = None
    email: Email | None = None
    phone: ShortText | None = None
    name: LongText | None = None
    tags: Tags | None = None
    metadata: Metadata | None = None
    earning_blocked: Block = False
    redeeming_blocked: Block = False


class MergeCustomer(Body):
    """The customer that stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"into": "cus_01m8793ctx2zrb94rghckj4mw4"}]})

    into: Annotated[ShortText, Field(description="The id of the customer that everything moves to.")]


@router.post("", status_code=201, summary="Enroll a customer", responses=answers(CustomerView, 201))
async def create(request: Request, account_id: AccountId, body: CreateCustomer) -> Response:
    """Causes `customer.created`, and `points.earned` if the program gives points for enrolling."""
    command = enrollment(account_id, checked_customer(body))

    def work(unit: Unit) -> Reply:
        return Reply(201, _customer(customers.enroll_customer(unit, command)))

    return await commit(request, account_id, work)


@batch_router.post("/batch", summary="Enroll up to 1,000 customers", responses=answers(Listed[CustomerMember]))
async def create_batch(request: Request, account_id: AccountId, body: CreateCustomers) -> Response:
    """The response has a result for each customer, in their order: what the request for this customer alone would return."""
    parsed = body.customers
    valid = [enrollment(account_id, each) for each in parsed if isinstance(each, CreateCustomer)]

    def work(unit: Unit) -> Reply:
        command = customers.EnrollCustomers(account_id, valid)
        enrolled = customers.enroll_customers(unit, command) if valid else []
        new = [each.id for each in enrolled if not isinstance(each, Refused)]
        if new:
            unit.audit(account_id, "customers.created", new[0], {"enrolled": len(new)})
        rest = iter(enrolled)
        outcomes = [each if isinstance(each, Refused) else pull(rest) for each in parsed]
        return Reply(200, {"data": [{"index": index, **_result(each)} for index, each in enumerate(outcomes)]})

    return await commit(request, account_id, work)


@router.get("", summary="List customers, newest first")
async def list_customers(
    account_id: AccountId,
    services: ServicesDep,
    external_id: SearchText = None,
    email: SearchText = None,
    phone: SearchText = None,
    tag: SearchText = None,
    tier_id: SearchText = None,
    updated_since: Annotated[Instant | None, Query(description="Only those that changed then or later.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[CustomerView]:
    """One page of customers that match every filter. A page may have fewer than `limit` and still a `next_cursor`."""
    before = known_id("cus", cursor, param="cursor") if cursor else None
    keys = _key(email, email_key, "email"), _key(phone, phone_key, "phone")
    wanted = CustomerFilter(external_id, *keys, tag, tier_id, updated_since)
    command = customers.ListCustomers(account_id, wanted, before, limit)
    found = await services.runner.read(lambda unit: customers.list_customers(unit, command))
    return {"data": [_customer(each) for each in found.customers], "next_cursor": found.next_before_id}


@router.get("/{customer_id}", summary="Get a customer")
async def get(account_id: AccountId, services: ServicesDep, customer_id: str) -> CustomerOf[TierInFullView] | GoneView:
    """One customer, with points and tier; of a deleted or merged one, that it is gone, and where to."""
    command = customers.GetCustomer(account_id, known_id("cus", customer_id))

    def work(unit: Unit) -> CustomerOf[TierInFullView] | GoneView:
        customer = customers.get_customer(unit, command)
        if customer.status != "active":
            return _gone(customer.id, customer.merged_into_id)
        return _with_tier(customer, tier_in_full(customer, *tier_assignment.status_of(unit, customer)))

    return await services.runner.read(work)


@router.patch("/{customer_id}", summary="Change a customer's details")
async def update(
    account_id: AccountId, caller: Caller, services: ServicesDep, customer_id: str, body: UpdateCustomer
) -> CustomerView:
    """Causes `customer.updated` when something did change."""
    changes: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if "metadata" in changes:
        changes["metadata"] = changes["metadata"] or {}
        check_metadata(changes["metadata"])
    if "tags" in changes:
        changes["tags"] = _tags(changes["tags"] or [])
    command = customers.UpdateCustomer(account_id, known_id("cus", customer_id), changes)
    changed = await services.runner.change(lambda unit: customers.update_customer(unit, command), actor=caller.actor)
    return _customer(changed)


@router.post("/{customer_id}/merge", summary="Merge a customer into another one", responses=answers(CustomerView))
async def merge(request: Request, account_id: AccountId, customer_id: str, body: MergeCustomer) -> Response:
    """Points, purchases, days and what the other customer lacks move to it, which is returned.

    Causes `points.adjusted` for both if points or a debt move, `customer.deleted` with `merged_into`, `customer.updated` if the
    other customer takes over details, and `customer.tier_changed` if its tier rises.
    """
    command = merging.MergeCustomer(account_id, known_id("cus", customer_id), known_id("cus", body.into, param="into"))

    def work(unit: Unit) -> Reply:
        return Reply(200, _customer(merging.merge_customer(unit, command)))

    return await commit(request, account_id, work)


@router.delete("/{customer_id}", summary="Delete a customer and erase what is known of it")
async def delete(account_id: AccountId, caller: Caller, services: ServicesDep, customer_id: str) -> GoneView:
    """Its points are forfeited and its external id is free again. Causes `points.adjusted` if it had any, `customer.deleted`.

    The data of its earlier events, what receivers answered to them, the items and metadata of its purchases, the reasons of
    its refunds, and notes are erased within minutes; pending deliveries of those events are canceled.
    """
    command = deletion.DeleteCustomer(account_id, known_id("cus", customer_id))
    await services.runner.change(lambda unit: deletion.delete_customer(unit, command), actor=caller.actor)
    return _gone(customer_id, None)


@router.get("/{customer_id}/ledger", summary="List a customer's ledger entries, newest first")
async def ledger(
    account_id: AccountId, services: ServicesDep, customer_id: str, limit: Limit = 20, cursor: Cursor = None
) -> Page[EntryView]:
    """Every point that came or went, and the balance after it."""
    before = known_id("led", cursor, param="cursor") if cursor else None
    command = customers.ListOfCustomer(account_id, known_id("cus", customer_id), before, limit + 1)
    found = await services.runner.read(lambda unit: customers.list_entries(unit, command))
    return page([_entry(each) for each in found], limit)


@router.get("/{customer_id}/lots", summary="List a customer's lots, newest first")
async def lots(
    account_id: AccountId,
    services: ServicesDep,
    customer_id: str,
    status: Annotated[Literal["open"] | None, Query(description="`open`: only lots that hold points.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[LotView]:
    """Where the points come from, what is left of each lot, and when it expires."""
    before = known_id("lot", cursor, param="cursor") if cursor else None
    command = customers.ListOfCustomer(
        account_id, known_id("cus", customer_id), before, limit + 1, only_open=status is not None
    )
    found = await services.runner.read(lambda unit: customers.list_lots(unit, command))
    return page([lot_view(each) for each in found], limit)


@router.get("/{customer_id}/statement", summary="Get a customer's statement")
async def get_statement(
    account_id: AccountId,
    services: ServicesDep,
    customer_id: str,
    from_: Annotated[Instant | None, Query(alias="from", description="Default: the first entry.")] = None,
    to: Annotated[Instant | None, Query(description="Not itself included. Default: through the last entry.")] = None,
) -> StatementView:
    """The balance before and after, and the sum of the entries of each type between."""
    command = statement.GetStatement(account_id, known_id("cus", customer_id), from_, to)
    found = await services.runner.read(lambda unit: statement.get_statement(unit, command))
    return {
        "customer_id": customer_id,
        "from": _time(from_),
        "to": _time(to),
        "opening": _position(found.opening),
        "totals": [_total(each) for each in found.totals],
        "closing": _position(found.closing),
    }


@router.get(
    "/{customer_id}/export", summary="Export all that is stored about a customer", responses=answers(CustomerExport)
)
async def export(account_id: AccountId, services: ServicesDep, customer_id: str) -> StreamingResponse:
    """One JSON object with a list of rows for each part, which is read piece by piece while it is sent."""
    command = customers.GetCustomer(account_id, known_id("cus", customer_id))
    ids = await services.runner.read(lambda unit: customer_export.exported_customers(unit, command))
    return StreamingResponse(_exported(services, account_id, ids), media_type="application/json")


async def _exported(services: Services, account_id: str, customer_ids: list[str]) -> AsyncIterator[bytes]:
    """The object, in pieces of a bounded size."""
    for number, section in enumerate(customer_export.SECTIONS):
        yield (b"," if number else b"{") + msgspec.json.encode(section) + b":["
        is_first = True
        for customer_id in customer_ids:
            async for rows in _section(services, account_id, customer_id, section):
                listed = b",".join(msgspec.json.encode(row) for row in rows)
                yield listed if is_first else b"," + listed
                is_first = False
        yield b"]"
    yield b"}"


async def _section(
    services: Services, account_id: str, customer_id: str, section: str
) -> AsyncIterator[list[dict[str, Any]]]:
    """The rows of a section, some at a time; no empty list."""
    after = None
    while True:
        command = customer_export.ReadExport(account_id, customer_id, section, after)
        found = await services.runner.read(partial(_read, command))
        if found.rows:
            yield found.rows
        if found.last_key is None:
            return
        after = found.last_key


def _read(command: customer_export.ReadExport, unit: Unit) -> ExportRows:
    return customer_export.read_export(unit, command)


def enrollment(account_id: str, body: CreateCustomer) -> customers.EnrollCustomer:
    """The command of a body."""
    return customers.EnrollCustomer(
        account_id,
        body.external_id,
        body.email,
        body.phone,
        body.name,
        body.metadata,
        source="api",
        tags=_tags(body.tags),
    )


def checked_customer(body: CreateCustomer) -> CreateCustomer:
    """The same body. Raises `InvalidInput` for metadata that JavaScript would change."""
    check_metadata(body.metadata)
    return body


def _parsed(raw: Any) -> CreateCustomer | Refused:
    try:
        return checked_customer(CreateCustomer.model_validate(raw, from_attributes=True))
    except ValidationError as error:
        return refusal(error)
    except Refused as refused:
        return refused


def _tags(tags: list[str]) -> tuple[str, ...]:
    """Each tag once, in the order in which they were sent."""
    return tuple(dict.fromkeys(tags))


def _key(text: str | None, key_of: Any, param: str) -> str | None:
    """The search key of a filter. A filter without a key would list everything."""
    key: str | None = key_of(text)
    if text is not None and key is None:
        raise InvalidInput("Send a value, or leave the parameter out.", code="invalid_field", param=param)
    return key


def _result(outcome: Customer | Refused) -> CustomerResult:
    if isinstance(outcome, Refused):
        error: ErrorView = {"code": outcome.code, "detail": outcome.detail, "param": outcome.param}
        return {"status": status_of(outcome), "error": error}
    return {"status": 201, "customer": _customer(outcome)}


def _customer(customer: Customer) -> CustomerView:
    return _with_tier(customer, tier_shown(customer))


def _with_tier(customer: Customer, tier: T) -> CustomerOf[T]:
    balance = customer.balance
    return {
        "id": customer.id,
        "external_id": customer.external_id,
        "email": customer.email,
        "phone": customer.phone,
        "name": customer.name,
        "tags": list(customer.tags),
        "metadata": customer.metadata,
        "status": customer.status,
        "points": {"available": balance.available, "pending": balance.pending, "debt": balance.debt},
        "tier": tier,
        "earning_blocked": customer.earning_blocked,
        "redeeming_blocked": customer.redeeming_blocked,
        "first_purchase_at": _time(customer.first_purchase_at),
        "last_purchase_at": _time(customer.last_purchase_at),
        "created_at": rfc3339(customer.created_at),
        "updated_at": rfc3339(customer.updated_at),
    }


def _gone(customer_id: str, merged_into_id: str | None) -> GoneView:
    if merged_into_id is None:
        return {"id": customer_id, "deleted": True}
    return {"id": customer_id, "deleted": True, "merged_into": merged_into_id}


def _time(instant: UnixMs | None) -> str | None:
    return None if instant is None else rfc3339(instant)


def _position(position: LedgerPosition) -> PointsView:
    net = position.balance_after
    return {"available": max(net, 0), "pending": position.pending_after, "debt": max(-net, 0)}


def _total(total: EntryTotal) -> TotalView:
    return {"type": total.type, "entries": total.entries, "points": total.points}


def _entry(entry: Entry) -> EntryView:
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
