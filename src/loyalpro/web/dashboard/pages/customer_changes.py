"""What support and owners do with one customer: adjust its points, merge it into another one, delete it."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from loyalpro.kernel.errors import InvalidInput, Refused
from loyalpro.kernel.ids import is_id
from loyalpro.kernel.record import record
from loyalpro.loyalty.adjustments import AdjustmentPreview, AdjustPoints, adjust_points, preview_adjustment
from loyalpro.loyalty.customer_search import FindCustomers, find_customers
from loyalpro.loyalty.customers import GetCustomer, get_customer, unknown_customer
from loyalpro.loyalty.deletion import DeleteCustomer, delete_customer
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.expiry import LAST_DAY, NEVER, day_start, number_of
from loyalpro.loyalty.ledger import MAX_POINTS
from loyalpro.loyalty.merging import MergeCustomer, merge_customer, united_details
from loyalpro.loyalty.tier_assignment import status_of
from loyalpro.web.dashboard.formats import NOTHING
from loyalpro.web.dashboard.forms import Form, SentForm, blank, commit, refused
from loyalpro.web.dashboard.masks import Eyes, eyes_of
from loyalpro.web.dashboard.pages.customer import ONE, CustomerId, base_of, customer_of, shown
from loyalpro.web.dashboard.pages.endpoint import known
from loyalpro.web.dashboard.render import fragment, page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.errors import status_of as http_status_of
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.unit import Unit
from loyalpro.webhooks.endpoints import count_subscribed

REASONS: Final = (
    ("goodwill", "Goodwill"),
    ("correction", "Correction"),
    ("complaint", "Complaint"),
    ("promotion", "Promotion"),
    ("other", "Other"),
)
_ADJUST_FIELDS: Final = ("points", "reason", "note", "expires_on", "allow_negative")
_COLUMNS: Final = {"reason_code": "reason", "expires_at": "expires_on"}
"""The fields of the form for parameters that have another name there."""
_LONGEST_NOTE: Final = 1_000
_MOST_FOUND: Final = 10
_MOST_DIGITS: Final = 16

Text = Annotated[str, Query(max_length=255)]

router = APIRouter(route_class=PageRoute)


# -- adjust ------------------------------------------------------------------------------------------------------------


@record
class Effect:
    """What an adjustment would do, and how many endpoints would be told."""

    preview: AdjustmentPreview
    endpoints: int


@router.get(f"{ONE}/adjust", name="customer.adjust")
async def ask_adjust(request: Request, visitor: Visitor, services: ServicesDep, customer_id: CustomerId) -> Response:
    """The form that gives points, or takes them."""
    customer = await _active(visitor, services, customer_id)
    return _adjust_page(request, visitor, customer, blank(request, reason="goodwill"))


@router.post(f"{ONE}/adjust/preview", name="customer.preview_adjustment")
async def preview_adjust(
    request: Request, visitor: Visitor, services: ServicesDep, customer_id: CustomerId, form: SentForm
) -> Response:
    """What the form would do. Nothing is changed."""
    known("cus", customer_id)
    is_part = request.headers.get("hx-request") == "true"

    def look(unit: Unit) -> Effect:
        preview = preview_adjustment(unit, _adjustment(unit, visitor, customer_id, form))
        return Effect(preview, count_subscribed(unit, visitor.account_id, "points.adjusted"))

    try:
        effect = await services.runner.read(look)
    except Refused as error:
        if is_part:
            return fragment(request, "customer/effect.html", effect=None, refusal=error.detail)
        customer = await _active(visitor, services, customer_id)
        return _adjust_page(request, visitor, customer, _refused(request, form, error), status=http_status_of(error))
    if is_part:
        return fragment(request, "customer/effect.html", effect=effect, refusal=None, never=NEVER)
    customer = await _active(visitor, services, customer_id)
    return _adjust_page(request, visitor, customer, form, effect=effect)


@router.post(f"{ONE}/adjust", name="customer.make_adjustment")
async def adjust(
    request: Request, visitor: Visitor, services: ServicesDep, customer_id: CustomerId, form: SentForm
) -> Response:
    """Give the points, or take them."""
    customer = await _active(visitor, services, customer_id)

    def work(unit: Unit) -> Mapping[str, Any]:
        made = adjust_points(unit, _adjustment(unit, visitor, customer_id, form))
        if isinstance(made, Refused):
            return {"refused": made.detail}
        return {"points": made.adjustment.points, "available": made.balance.available}

    try:
        made, _ = await commit(request, form, work)
    except Refused as error:
        return _adjust_page(request, visitor, customer, _refused(request, form, error), status=http_status_of(error))
    if "refused" in made:
        again = _refused(request, form, InvalidInput(made["refused"]))
        return _adjust_page(request, visitor, customer, again, status=422)
    words = f"{abs(made['points']):,} points are {'given' if made['points'] > 0 else 'taken'}."
    return redirect(request, base_of(customer_id), f"{words} {made['available']:,} are available now.")


def _adjustment(unit: Unit, visitor: Visit, customer_id: str, form: Form) -> AdjustPoints:
    """The adjustment that a form describes. Raises `InvalidInput` that names the field."""
    customer = get_customer(unit, GetCustomer(visitor.account_id, customer_id))
    program, _ = status_of(unit, customer)
    reason, note = form.text("reason"), form.text("note")
    if reason not in dict(REASONS):
        raise _invalid("reason", "Choose a reason.")
    if len(note) > _LONGEST_NOTE:
        raise _invalid("note", f"A note has up to {_LONGEST_NOTE:,} characters.")
    return AdjustPoints(
        account_id=visitor.account_id,
        customer_id=customer_id,
        points=_points(form.text("points")),
        reason_code=reason,
        note=note or None,
        expires_at=_end_of(form.text("expires_on"), program.rules.time_zone),
        counts_toward_tier=form.checked("counts_toward_tier"),
        allow_negative=form.checked("allow_negative"),
        external_id=None,
        most_points=visitor.member.membership.points_limit,
    )


def _points(text: str) -> int:
    """A signed whole number, as people write it."""
    plain = text.replace("\u2212", "-").replace(",", "").replace(" ", "")
    digits = plain.removeprefix("-").removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS and int(digits) <= MAX_POINTS):
        raise _invalid("points", "Write a whole number: 50 gives points, -50 takes them.")
    return -int(digits) if plain.startswith("-") else int(digits)


def _end_of(text: str, time_zone: str) -> int | None:
    """The end of a day in the program's time zone; None for no day."""
    if not text:
        return None
    try:
        day = number_of(date.fromisoformat(text))
    except ValueError:
        raise _invalid("expires_on", "Write the day like 2027-12-31, or nothing.") from None
    return day_start(min(day + 1, LAST_DAY), time_zone)


def _invalid(param: str, detail: str) -> InvalidInput:
    return InvalidInput(detail, code="invalid_field", param=param)


def _refused(request: Request, form: Form, error: Refused) -> Form:
    """The form with the refusal at its field."""
    error.param = _COLUMNS.get(error.param or "", error.param)
    return refused(request, form, error, *_ADJUST_FIELDS)


def _adjust_page(
    request: Request, visitor: Visit, customer: Customer, form: Form, *, effect: Effect | None = None, status: int = 200
) -> Response:
    top = shown(request, visitor, customer, "")
    return page(
        request,
        "customer/adjust.html",
        status=status,
        form=form,
        effect=effect,
        refusal=None,
        reasons=REASONS,
        limit=visitor.member.membership.points_limit,
        never=NEVER,
        **top | {"title": f"Adjust the points of {top['name']}"},
    )


# -- merge -------------------------------------------------------------------------------------------------------------


@router.get(f"{ONE}/merge", name="customer.ask_merge")
async def ask_merge(
    request: Request, visitor: Visitor, services: ServicesDep, customer_id: CustomerId, into: Text = ""
) -> Response:
    """Who the other one is, and then both side by side."""
    customer = await _active(visitor, services, customer_id)
    query = FindCustomers(visitor.account_id, into, _MOST_FOUND, by_tag=False)
    listed = await services.runner.read(lambda unit: find_customers(unit, query))
    found = [each for each in listed if each.status == "active" and each.id != customer.id]
    return _merge_page(request, visitor, customer, blank(request), found, into)


@router.post(f"{ONE}/merge", name="customer.merge")
async def merge(
    request: Request, visitor: Visitor, services: ServicesDep, customer_id: CustomerId, form: SentForm
) -> Response:
    """Move everything to the other customer."""
    customer = await _active(visitor, services, customer_id)
    other = await _active(visitor, services, form.text("into"))
    command = MergeCustomer(visitor.account_id, customer.id, other.id)
    try:
        await commit(request, form, lambda unit: {"id": merge_customer(unit, command).id})
    except Refused as error:
        again = refused(request, form, error)
        return _merge_page(request, visitor, customer, again, [other], other.id, status=http_status_of(error))
    eyes = eyes_of(visitor)
    words = f"{eyes.name(customer)} is merged into {eyes.name(other)}."
    return redirect(request, base_of(other.id), words)


def _merge_page(
    request: Request,
    visitor: Visit,
    customer: Customer,
    form: Form,
    found: list[Customer],
    text: str,
    *,
    status: int = 200,
) -> Response:
    top = shown(request, visitor, customer, "")
    other = found[0] if len(found) == 1 else None
    return page(
        request,
        "customer/merge.html",
        status=status,
        form=form,
        found=found,
        other=other,
        text="" if is_id("cus", text) else text,
        asked=bool(text),
        lines=[] if other is None else _side_by_side(customer, other, top["eyes"]),
        **top | {"title": f"Merge {top['name']}"},
    )


def _side_by_side(ended: Customer, into: Customer, eyes: Eyes) -> list[tuple[str, str, str, str]]:
    """Name, the value of the customer that ends, that of the one that stays, and what it has afterwards."""
    try:
        after = united_details(ended, into)
    except Refused:
        after = {}
    names = {"name": "Name", "external_id": "Your id", "email": "E-mail", "phone": "Phone"}
    lines = [
        (
            label,
            eyes.text(getattr(ended, name)) or NOTHING,
            eyes.text(getattr(into, name)) or NOTHING,
            eyes.text(after.get(name, getattr(into, name))) or NOTHING,
        )
        for name, label in names.items()
    ]
    ends, stays, united = (", ".join(each) or NOTHING for each in (ended.tags, into.tags, after.get("tags", into.tags)))
    higher = max(ended.tier, into.tier, key=lambda tier: tier.rank)
    lines += [("Tags", ends, stays, united), ("Tier", ended.tier.name, into.tier.name, f"{higher.name}, or higher")]
    for label, first, second in (
        ("Points", ended.balance.net, into.balance.net),
        ("Pending", ended.balance.pending, into.balance.pending),
    ):
        lines.append((label, f"{first:,}", f"{second:,}", f"{first + second:,}"))
    return lines


# -- delete ------------------------------------------------------------------------------------------------------------


@router.get(f"{ONE}/delete", name="customer.ask_delete")
async def ask_delete(request: Request, visitor: Visitor, services: ServicesDep, customer_id: CustomerId) -> Response:
    """What is erased, and what stays."""
    customer = await _active(visitor, services, customer_id)
    return _delete_page(request, visitor, customer, blank(request))


@router.post(f"{ONE}/delete", name="customer.delete")
async def delete(
    request: Request, visitor: Visitor, services: ServicesDep, customer_id: CustomerId, form: SentForm
) -> Response:
    """Delete the customer whose name was typed."""
    customer = await _active(visitor, services, customer_id)
    name = eyes_of(visitor).name(customer)
    if form.text("confirm") != " ".join(name.split()) and form.text("confirm") != name:
        again = refused(request, form, _invalid("confirm", "This is not its name. Nothing was deleted."), "confirm")
        return _delete_page(request, visitor, customer, again, status=422)
    command = DeleteCustomer(visitor.account_id, customer.id)
    await services.runner.change(lambda unit: delete_customer(unit, command), actor=visitor.actor)
    return redirect(request, "/customers", "The customer is deleted. What is known of it is erased within minutes.")


def _delete_page(request: Request, visitor: Visit, customer: Customer, form: Form, *, status: int = 200) -> Response:
    top = shown(request, visitor, customer, "")
    title = {"title": f"Delete {top['name']}"}
    return page(request, "customer/delete.html", status=status, form=form, **top | title)


async def _active(visitor: Visit, services: Services, customer_id: str) -> Customer:
    """The customer that an address names, if it is neither deleted nor merged."""
    customer = await customer_of(visitor, services, customer_id)
    if customer.status != "active":
        raise unknown_customer(customer_id)
    return customer
