"""Program > Transactions: find a purchase by its number, see what it gave, and refund it."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response

from loyalpro.accounts.actor_names import names_of
from loyalpro.accounts.roles import ROLES
from loyalpro.kernel.errors import InvalidInput, NotFound, Refused
from loyalpro.kernel.ids import is_id
from loyalpro.loyalty.entities import Transaction
from loyalpro.loyalty.money import MINOR_DIGITS, minor_units
from loyalpro.loyalty.purchase_overview import PurchaseOverview, get_purchase_overview
from loyalpro.loyalty.refunds import NewRefund, Refunded, RefundPurchase, preview_refund, refund_purchase
from loyalpro.loyalty.transactions import GetTransaction, ListTransactions, get_transaction, list_transactions
from loyalpro.web.dashboard.formats import money
from loyalpro.web.dashboard.forms import Form, SentForm, blank, commit, refused
from loyalpro.web.dashboard.links import page_of
from loyalpro.web.dashboard.masks import eyes_of
from loyalpro.web.dashboard.pages.customer import WORDS
from loyalpro.web.dashboard.pages.endpoint import known
from loyalpro.web.dashboard.render import fragment, page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.errors import status_of
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.unit import Unit
from loyalpro.webhooks.entry_events import EntryEvents, events_of_entries
from loyalpro.webhooks.reached import Reached, reached

LIST: Final = "/transactions"
ONE: Final = "/transactions/{transaction_id}"
_ROWS: Final = 50
_FIELDS: Final = ("amount", "reason")
_LONGEST_REASON: Final = 255
_AMOUNT: Final = re.compile(r"(?P<whole>[0-9]{1,15})(?:[.](?P<part>[0-9]{1,3}))?")

Text = Annotated[str, Query(max_length=255)]
Before = Annotated[str | None, Query(max_length=64)]
TransactionId = Annotated[str, Path(max_length=64)]

router = APIRouter(route_class=PageRoute)


@router.get(LIST, name="transactions")
async def show(
    request: Request, visitor: Visitor, services: ServicesDep, q: Text = "", before: Before = None
) -> Response:
    """The newest purchases; with a number, the one that has it."""
    text = q.strip()
    cursor = before if before and is_id("txn", before) else None
    query = ListTransactions(visitor.account_id, None, text or None, cursor, _ROWS + 1)

    def look(unit: Unit) -> Sequence[Transaction]:
        if is_id("txn", text):
            try:
                return [get_transaction(unit, GetTransaction(visitor.account_id, text))]
            except NotFound:
                return []
        return list_transactions(unit, query)

    listed = await services.runner.read(look)
    return page(
        request,
        "transactions/list.html",
        title="Transactions",
        found=listed[:_ROWS],
        text=text,
        eyes=eyes_of(visitor),
        link=lambda id_: page_of(request, id_),
        newer=LIST if cursor else None,
        older=f"{LIST}?before={listed[_ROWS - 1].id}" if len(listed) > _ROWS else None,
    )


@router.get(ONE, name="transaction")
async def one(request: Request, visitor: Visitor, services: ServicesDep, transaction_id: TransactionId) -> Response:
    """One purchase with the rules that gave its points, its refunds, and who was told."""
    query = GetTransaction(visitor.account_id, known("txn", transaction_id))

    def look(unit: Unit) -> tuple[PurchaseOverview, Mapping[str, str], Mapping[str, tuple[str, Reached]]]:
        found = get_purchase_overview(unit, query)
        names = names_of(unit, visitor.account_id, {each.actor for each in found.refunds})
        return found, names, _told(unit, found)

    found, names, told = await services.runner.read(look)
    return page(
        request,
        "transactions/one.html",
        **_shown(request, visitor, found),
        names=names,
        told=told,
        words=WORDS,
        has_rules=any(each.rules for each in found.entries),
    )


@router.get(f"{ONE}/refund", name="transaction.ask_refund")
async def ask_refund(
    request: Request, visitor: Visitor, services: ServicesDep, transaction_id: TransactionId
) -> Response:
    """The form that refunds a purchase."""
    found = await _purchase(visitor, services, transaction_id)
    form = blank(request, amount=_plain(found.remaining, found.transaction.currency), restore="on")
    return _refund_page(request, visitor, found, form)


@router.post(f"{ONE}/refund/preview", name="transaction.preview_refund")
async def preview(
    request: Request, visitor: Visitor, services: ServicesDep, transaction_id: TransactionId, form: SentForm
) -> Response:
    """What the refund would do to points. Nothing is changed."""
    found = await _purchase(visitor, services, transaction_id)
    is_part = request.headers.get("hx-request") == "true"
    try:
        command = _refund(visitor, found, form)
        effect = await services.runner.read(lambda unit: preview_refund(unit, command))
    except Refused as error:
        if is_part:
            return fragment(request, "transactions/effect.html", effect=None, refusal=error.detail)
        again = refused(request, form, error, *_FIELDS)
        return _refund_page(request, visitor, found, again, status=status_of(error))
    if is_part:
        return fragment(request, "transactions/effect.html", effect=effect, refusal=None)
    return _refund_page(request, visitor, found, form, effect=effect)


@router.post(f"{ONE}/refund", name="transaction.refund")
async def refund(
    request: Request, visitor: Visitor, services: ServicesDep, transaction_id: TransactionId, form: SentForm
) -> Response:
    """Record the refund."""
    found = await _purchase(visitor, services, transaction_id)
    try:
        command = _refund(visitor, found, form)
        made, _ = await commit(request, form, lambda unit: _made(refund_purchase(unit, command)))
    except Refused as error:
        again = refused(request, form, error, *_FIELDS)
        return _refund_page(request, visitor, found, again, status=status_of(error))
    words = f"{money(made['amount'], found.transaction.currency)} are refunded."
    taken = f" {made['taken']:,} points are taken back." if made["taken"] else ""
    given = f" {made['restored']:,} points are given back." if made["restored"] else ""
    return redirect(request, f"{LIST}/{transaction_id}", words + taken + given)


def _made(outcome: Refunded) -> Mapping[str, Any]:
    refund = outcome.refund
    return {"amount": refund.amount, "taken": refund.points_clawed_back, "restored": refund.points_restored}


def _refund(visitor: Visit, found: PurchaseOverview, form: Form) -> RefundPurchase:
    """The refund that a form describes. Raises `InvalidInput` that names the field."""
    reason = form.text("reason")
    if len(reason) > _LONGEST_REASON:
        raise _invalid("reason", f"A reason has up to {_LONGEST_REASON} characters.")
    new = NewRefund(
        transaction_id=found.transaction.id,
        amount=_amount(form.text("amount"), found.transaction.currency),
        reason=reason or None,
        restore_points=form.checked("restore"),
    )
    return RefundPurchase(visitor.account_id, new)


def _amount(text: str, currency: str) -> int:
    """Minor units of what people write, such as `1,914.20`."""
    digits, units = MINOR_DIGITS[currency], minor_units(currency)
    found = _AMOUNT.fullmatch(text.replace(",", "").replace(" ", ""))
    part = (found["part"] or "") if found else ""
    if found is None or len(part) > digits:
        raise _invalid("amount", f"Write the amount in {currency}, such as {_plain(37 * units // 2, currency)}.")
    return int(found["whole"]) * units + int(part.ljust(digits, "0") or 0)


def _plain(amount: int, currency: str) -> str:
    """`1800`, `EUR` -> `18.00`."""
    return money(amount, currency).removesuffix(f" {currency}").replace(",", "")


def _invalid(param: str, detail: str) -> InvalidInput:
    return InvalidInput(detail, code="invalid_field", param=param)


async def _purchase(visitor: Visit, services: Services, transaction_id: str) -> PurchaseOverview:
    query = GetTransaction(visitor.account_id, known("txn", transaction_id))
    return await services.runner.read(lambda unit: get_purchase_overview(unit, query))


def _refund_page(
    request: Request,
    visitor: Visit,
    found: PurchaseOverview,
    form: Form,
    *,
    effect: Refunded | None = None,
    status: int = 200,
) -> Response:
    shown = _shown(request, visitor, found)
    title = {"title": f"Refund {shown['number']}"}
    return page(
        request, "transactions/refund.html", status=status, form=form, effect=effect, refusal=None, **shown | title
    )


def _told(unit: Unit, found: PurchaseOverview) -> Mapping[str, tuple[str, Reached]]:
    """The event of each entry of the purchase, and how many endpoints it has reached."""
    entries, transaction = found.entries, found.transaction
    if not entries:
        return {}
    times = [each.created_at for each in entries]
    query = EntryEvents(
        transaction.account_id, entries[0].customer_id, [each.id for each in entries], min(times), max(times)
    )
    events = events_of_entries(unit, query)
    counts = reached(unit, transaction.account_id, list(events.values())) if events else {}
    return {entry_id: (event_id, counts[event_id]) for entry_id, event_id in events.items()}


def _shown(request: Request, visitor: Visit, found: PurchaseOverview) -> dict[str, Any]:
    eyes = eyes_of(visitor)
    number = found.transaction.external_id or found.transaction.id
    return {
        "title": number,
        "number": number,
        "base": f"{LIST}/{found.transaction.id}",
        "found": found,
        "purchase": found.transaction,
        "eyes": eyes,
        "who": eyes.name(found.customer),
        "may_refund": found.transaction.status != "refunded"
        and "customers.change" in ROLES[visitor.member.membership.role],
        "link": lambda id_: page_of(request, id_),
    }
