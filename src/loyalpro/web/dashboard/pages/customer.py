"""One customer: what it has, from where, and who was told."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response

from loyalpro.accounts.actor_names import names_of
from loyalpro.accounts.roles import ROLES
from loyalpro.kernel.ids import is_id
from loyalpro.kernel.record import record
from loyalpro.loyalty.customer_overview import CustomerOverview, get_customer_overview
from loyalpro.loyalty.customers import GetCustomer, ListOfCustomer, get_customer
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.expiry import NEVER
from loyalpro.loyalty.ledger import Entry, EntryCause
from loyalpro.loyalty.program import Program
from loyalpro.loyalty.transactions import ListTransactions, list_transactions
from loyalpro.web.dashboard.formats import money, number
from loyalpro.web.dashboard.highlight import highlight
from loyalpro.web.dashboard.links import page_of
from loyalpro.web.dashboard.masks import Eyes, eyes_of
from loyalpro.web.dashboard.pages.endpoint import known
from loyalpro.web.dashboard.render import page
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.unit import Unit
from loyalpro.webhooks.entry_events import EntryEvents, events_of_entries
from loyalpro.webhooks.reached import Reached, reached

ONE: Final = "/customers/{customer_id}"
_ENTRIES: Final = 25
_LOTS: Final = 8
_ROWS: Final = 50
_SOON_MS: Final = 45 * 24 * 3600 * 1000
"""Within which time points that expire are marked."""
WORDS: Final[Mapping[str, str]] = {
    "earn": "Earned",
    "redeem": "Redeemed",
    "redeem_reversal": "Given back",
    "clawback": "Taken back",
    "expire": "Expired",
    "adjust": "Adjusted",
    "activate": "Became available",
    "cancel_pending": "Pending points canceled",
    "import": "Opening balance",
    "merge_out": "Moved to another customer",
    "merge_in": "Moved from another customer",
}

CustomerId = Annotated[str, Path(max_length=64)]
Before = Annotated[str | None, Query(max_length=64)]

router = APIRouter(route_class=PageRoute)


@record
class Line:
    """One line of the ledger with what a page says of it. `event_id`: of the event that told it, if it is kept."""

    entry: Entry
    what: str
    cause: EntryCause | None
    pending_until: int | None
    is_pending: bool
    by: str | None
    event_id: str | None
    reached: Reached | None


@router.get(ONE, name="customer")
async def show(
    request: Request, visitor: Visitor, services: ServicesDep, customer_id: CustomerId, before: Before = None
) -> Response:
    """The points of one customer."""
    cursor = before if before and is_id("led", before) else None
    query = ListOfCustomer(visitor.account_id, known("cus", customer_id), cursor, _ENTRIES)

    def look(unit: Unit) -> tuple[CustomerOverview, list[Line]]:
        found = get_customer_overview(unit, query)
        return found, _lines(unit, visitor, found)

    found, lines = await services.runner.read(look)
    base = base_of(customer_id)
    return page(
        request,
        "customer/overview.html",
        **shown(request, visitor, found.customer, "points"),
        found=found,
        lines=lines,
        words=WORDS,
        newer=base if cursor else None,
        older=f"{base}?before={lines[-1].entry.id}" if found.ledger.has_older else None,
        lots=found.lots[:_LOTS],
        more_lots=len(found.lots) > _LOTS,
        never=NEVER,
        soon=visitor.now + _SOON_MS,
        tier=tier_words(found),
        open_cases=[each for each in found.cases if each.status == "open"],
        closed_cases=[each for each in found.cases if each.status != "open"],
        link=lambda id_: page_of(request, id_),
    )


@router.get(f"{ONE}/transactions", name="customer.transactions")
async def transactions(
    request: Request, visitor: Visitor, services: ServicesDep, customer_id: CustomerId, before: Before = None
) -> Response:
    """The purchases of one customer, newest first."""
    cursor = before if before and is_id("txn", before) else None
    query = ListTransactions(visitor.account_id, known("cus", customer_id), None, cursor, _ROWS + 1)

    def look(unit: Unit) -> Any:
        customer = get_customer(unit, GetCustomer(visitor.account_id, customer_id))
        return customer, list_transactions(unit, query)

    customer, listed = await services.runner.read(look)
    base = f"{base_of(customer_id)}/transactions"
    return page(
        request,
        "customer/transactions.html",
        **shown(request, visitor, customer, "transactions"),
        found=listed[:_ROWS],
        newer=base if cursor else None,
        older=f"{base}?before={listed[_ROWS - 1].id}" if len(listed) > _ROWS else None,
        link=lambda id_: page_of(request, id_),
    )


@router.get(f"{ONE}/details", name="customer.details")
async def details(request: Request, visitor: Visitor, services: ServicesDep, customer_id: CustomerId) -> Response:
    """What is known of one customer."""
    customer = await customer_of(visitor, services, customer_id)
    text = msgspec.json.format(msgspec.json.encode(customer.metadata), indent=2).decode()
    return page(
        request,
        "customer/details.html",
        **shown(request, visitor, customer, "details"),
        metadata=highlight(text, "json") if customer.metadata else None,
    )


async def customer_of(visitor: Visit, services: Services, customer_id: str) -> Customer:
    """The customer that an address names."""
    query = GetCustomer(visitor.account_id, known("cus", customer_id))
    return await services.runner.read(lambda unit: get_customer(unit, query))


def shown(request: Request, visitor: Visit, customer: Customer, tab: str) -> dict[str, Any]:
    """What the top of each page about a customer needs."""
    eyes = eyes_of(visitor)
    rights = ROLES[visitor.member.membership.role]
    is_active = customer.status == "active"
    return {
        "title": eyes.name(customer),
        "customer": customer,
        "name": eyes.name(customer),
        "base": base_of(customer.id),
        "eyes": eyes,
        "tab": tab,
        "may_change": is_active and "customers.change" in rights,
        "may_delete": is_active and "customers.delete" in rights,
        "events_path": f"/developers/events?customer={customer.id}"
        if "/developers/events" in request.app.state.page_paths
        else None,
    }


def base_of(customer_id: str) -> str:
    """The address of the page of a customer."""
    return f"/customers/{customer_id}"


def tier_words(found: CustomerOverview) -> dict[str, str | int | None]:
    """The sentences of the tier: how far the customer is, what is missing, and until when the tier is kept."""
    standing, following = found.tier.standing, found.tier.following
    words = f"{_metric(found.program, standing.value, following.threshold if following else None)} {_window(found.program)}."
    more = None if following is None else f"{_amount(found.program, found.tier.remaining)} more to {following.name}"
    return {
        "value": standing.value,
        "threshold": following.threshold if following else None,
        "words": words,
        "more": more,
        "kept_until": found.customer.tier_locked_until or found.customer.tier_review_at,
    }


def _metric(program: Program, value: int, threshold: int | None) -> str:
    of = "" if threshold is None else f" of {_amount(program, threshold)}"
    noun = {"points_earned": " points earned", "spend": " spent", "transactions": " purchases"}
    return f"{_amount(program, value)}{of}{noun[program.rules.tiering.metric]}"


def _amount(program: Program, value: int) -> str:
    return money(value, program.rules.currency) if program.rules.tiering.metric == "spend" else number(value)


def _window(program: Program) -> str:
    window = program.rules.tiering.window
    match window.kind:
        case "lifetime":
            return "in all"
        case "rolling":
            return f"in {window.n} {window.unit if window.n != 1 else window.unit.removesuffix('s')}"
        case "calendar":
            return f"this {window.period}"
        case "anniversary":
            return "in this year of membership"


def _lines(unit: Unit, visitor: Visit, found: CustomerOverview) -> list[Line]:
    """The lines of the ledger, with names and events."""
    entries = found.ledger.entries
    if not entries:
        return []
    pending = {each.entry_id: each for each in found.lots if each.status == "pending"}
    names = names_of(unit, visitor.account_id, {each.actor for each in entries if each.type == "adjust"})
    times = [each.created_at for each in entries]
    query = EntryEvents(visitor.account_id, found.customer.id, [each.id for each in entries], min(times), max(times))
    events = events_of_entries(unit, query)
    told = reached(unit, visitor.account_id, list(events.values())) if events else {}
    eyes = eyes_of(visitor)
    return [
        Line(
            entry=each,
            what=_what(each, eyes, found.ledger.causes.get(each.source_id)),
            cause=found.ledger.causes.get(each.source_id),
            pending_until=pending[each.id].activates_at if each.id in pending else None,
            is_pending=each.id in pending,
            by=names.get(each.actor),
            event_id=events.get(each.id),
            reached=told.get(events.get(each.id, "")),
        )
        for each in entries
    ]


def _what(entry: Entry, eyes: Eyes, cause: EntryCause | None) -> str:
    """What a line says behind the purchase that it is about, if it is about one."""
    if entry.source_type == "redemption" and cause is not None:
        return cause.reward or "points"
    if entry.type == "adjust" and entry.source_type == "adjustment":
        note = entry.note if eyes.in_full else None
        return ": ".join(filter(None, (entry.reason_code, note)))
    if entry.source_type in ("transaction", "customer") and entry.type == "earn":
        names = [each["name"] for each in entry.rules]
        return ", ".join(names[1:] if entry.source_type == "transaction" else names)
    return ""
