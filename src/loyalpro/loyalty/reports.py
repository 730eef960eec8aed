"""Reports: what a program owes, as of any instant, and which points expire soon.

A report on liability is added up from the log, which never changes, customer by customer in bounded pages. So a report as of a
past instant is the same whenever it is made.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from decimal import Decimal, localcontext
from functools import partial
from typing import Final

from loyalpro.kernel.clock import MS_PER_DAY, UnixMs
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.record import record
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner
from loyalpro.loyalty.entities import Customer, LiabilityPage
from loyalpro.loyalty.expiry import NEVER, day_of, month_of
from loyalpro.loyalty.ledger import Lot
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.program import Rules

CUSTOMERS_PER_PAGE: Final = 2_000


@record
class Liability:
    """What a program owes, in points. issued - redeemed - expired - clawed_back + adjusted = available + pending - debt.

    `by_month`: what is available or pending, by the month of its last valid day, such as `2027-11`; None for points that do not
    expire. `value`: what these are worth in major units of `currency`, exact; None without a `point_value`.
    """

    as_of: UnixMs
    issued: int
    redeemed: int
    expired: int
    clawed_back: int
    adjusted: int
    available: int
    pending: int
    debt: int
    by_month: Sequence[tuple[str | None, int]]
    currency: str
    point_value: str | None
    value: str | None

    @property
    def outstanding(self) -> int:
        """What customers can spend, now or later."""
        return self.available + self.pending


@record
class ExpiringPoints:
    """A customer, how many of its points expire, and when the first do."""

    customer: Customer
    points: int
    first_expires_at: UnixMs


@record
class ListExpiring:
    """Customers with points that expire within so many days, those that are due first; behind a place of the list."""

    account_id: str
    days: int
    after: tuple[UnixMs, str] | None
    limit: int


@record
class Expiring:
    """A page of customers with points that expire, and the place where the list continues; None at its end."""

    customers: Sequence[ExpiringPoints] = field(default_factory=tuple)
    place: tuple[UnixMs, str] | None = None


async def report_liability(
    runner: UnitOfWorkRunner[LoyaltyUnit],
    account_id: str,
    as_of: UnixMs | None,
    *,
    customers_per_page: int = CUSTOMERS_PER_PAGE,
) -> Liability:
    """Add up the account's log as of an instant, a page of customers in each transaction. `as_of` None: now.

    Raises `InvalidInput` for an instant in the future.
    """
    now, rules = await runner.read(lambda unit: (unit.now, unit.programs.get(account_id).rules))
    instant = now if as_of is None else as_of
    if instant > now:
        raise InvalidInput(
            "as_of is in the future; send a past time, or leave it out.", code="invalid_field", param="as_of"
        )
    pages: list[LiabilityPage] = []
    after: str | None = ""
    while after is not None:
        page = partial(_page, account_id=account_id, as_of=instant, after=after, limit=customers_per_page)
        pages.append(await runner.read(page))
        after = pages[-1].last_id
    return liability(instant, pages, rules)


def _page(unit: LoyaltyUnit, *, account_id: str, as_of: UnixMs, after: str, limit: int) -> LiabilityPage:
    return unit.reports.liability(account_id, as_of, after, limit)


def liability(as_of: UnixMs, pages: Sequence[LiabilityPage], rules: Rules) -> Liability:
    """Add up the pages of a report."""
    totals: dict[str, int] = defaultdict(int)
    held: dict[UnixMs, int] = defaultdict(int)
    for page in pages:
        for type_, points in page.sums.by_type.items():
            totals[type_] += points
        for expires_at, points in page.held.items():
            held[expires_at] += points
    available = sum(page.sums.available for page in pages)
    pending = sum(page.sums.pending for page in pages)
    return Liability(
        as_of=as_of,
        issued=totals["earn"] + totals["import"],
        redeemed=-totals["redeem"] - totals["redeem_reversal"],
        expired=-totals["expire"],
        clawed_back=-totals["clawback"] - totals["cancel_pending"],
        adjusted=totals["adjust"] + totals["merge_in"] + totals["merge_out"],
        available=available,
        pending=pending,
        debt=sum(page.sums.debt for page in pages),
        by_month=_by_month(held, rules.time_zone),
        currency=rules.currency,
        point_value=rules.point_value,
        value=None if rules.point_value is None else _value(available + pending, rules.point_value),
    )


def list_expiring(unit: LoyaltyUnit, query: ListExpiring) -> Expiring:
    """Customers with points that expire. A page may have fewer customers than its limit, and more may follow."""
    until = unit.now + query.days * MS_PER_DAY
    found = unit.reports.due(query.account_id, until, query.after, query.limit + 1)
    shown = found[: query.limit]
    lots = unit.ledger.lots_with_points([each.id for each in shown]) if shown else []
    by_customer: dict[str, list[Lot]] = defaultdict(list)
    for lot in lots:
        by_customer[lot.customer_id].append(lot)
    points = (expiring_points(each, by_customer[each.id], unit.now, until) for each in shown)
    last = shown[-1] if len(found) > query.limit else None
    return Expiring(
        tuple(each for each in points if each is not None),
        None if last is None else (last.next_due_at or 0, last.id),
    )


def expiring_points(customer: Customer, lots: Iterable[Lot], now: UnixMs, until: UnixMs) -> ExpiringPoints | None:
    """What expires of a customer's active lots after `now`, up to `until`; None for nothing.

    Under a policy of inactivity all lots expire together if the customer stays inactive.
    """
    dated = [
        (min(lot.expires_at, customer.points_expire_at or lot.expires_at), lot.remaining)
        for lot in lots
        if lot.status == "active"
    ]
    due = [(at, points) for at, points in dated if now < at <= until]
    if not due:
        return None
    return ExpiringPoints(customer, sum(points for _, points in due), min(at for at, _ in due))


def _by_month(held: Mapping[UnixMs, int], time_zone: str) -> list[tuple[str | None, int]]:
    """What is held, by the month of the last valid day, the earliest first; what does not expire is last."""
    months: dict[str | None, int] = defaultdict(int)
    for expires_at, points in held.items():
        months[None if expires_at >= NEVER else month_of(day_of(expires_at - 1, time_zone))] += points
    return sorted(((month, points) for month, points in months.items() if points), key=lambda each: each[0] or "~")


def _value(points: int, point_value: str) -> str:
    """An exact product, as a decimal without an exponent."""
    with localcontext(prec=60):
        return f"{Decimal(points) * Decimal(point_value):f}"
