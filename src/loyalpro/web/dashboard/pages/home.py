"""Overview: what needs a person, what is owed, how today is beside a week ago, and which points expire soon."""

from datetime import datetime, timedelta
from typing import Any, Final

from fastapi import APIRouter, Request, Response

from loyalpro.accounts.roles import ROLES
from loyalpro.kernel.clock import MS_PER_DAY, MS_PER_S, UnixMs, unix_ms
from loyalpro.kernel.record import record
from loyalpro.loyalty.activity import MOST_COUNTED, CompareDays, compare_days
from loyalpro.loyalty.customers import ListCustomers, list_customers
from loyalpro.loyalty.entities import Activity, CustomerFilter
from loyalpro.loyalty.fraud.resolution import ListCases, list_cases
from loyalpro.loyalty.reports import Expiring, ListExpiring, list_expiring
from loyalpro.web.dashboard.links import customer_names
from loyalpro.web.dashboard.render import page
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.services import ServicesDep
from loyalpro.web.unit import Unit
from loyalpro.webhooks.health import DayOfAll, get_day
from loyalpro.webhooks.overview import AccountOverview, get_account_overview

EXPIRE_DAYS: Final = 30
MOST_CASES: Final = 100
_SHOWN_EXPIRING: Final = 5
_MOST_EXPIRING: Final = 100

router = APIRouter(route_class=PageRoute)


@record
class _Found:
    """What the page shows. `is_empty`: the account has no customer and no endpoint yet."""

    webhooks: AccountOverview
    day: DayOfAll
    open_cases: int
    today: Activity
    earlier: Activity
    expiring: Expiring
    is_empty: bool


@router.get("/", name="home")
async def home(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """What a member sees first."""
    found = await services.runner.read(lambda unit: _found(unit, visitor))
    rights = ROLES[visitor.member.membership.role]
    if found.is_empty:
        return page(request, "home/empty.html", title="Overview", rights=rights)
    names = customer_names(visitor, {each.customer.id: each.customer for each in found.expiring.customers})
    return page(
        request, "home/overview.html", title="Overview", rights=rights, **_shown(found, visitor.now), name_of=names
    )


def _found(unit: Unit, visitor: Visit) -> _Found:
    account_id = visitor.account_id
    webhooks = get_account_overview(unit, account_id)
    today, earlier = compare_days(unit, days_compared(visitor, account_id))
    any_customer = list_customers(unit, ListCustomers(account_id, CustomerFilter(), None, 1)).customers
    return _Found(
        webhooks,
        get_day(unit, [each.details.endpoint.id for each in webhooks.endpoints]),
        len(list_cases(unit, ListCases(account_id, "open", None, None, None, MOST_CASES + 1))),
        today,
        earlier,
        list_expiring(unit, ListExpiring(account_id, EXPIRE_DAYS, None, _MOST_EXPIRING)),
        is_empty=not webhooks.endpoints and not any_customer,
    )


def days_compared(visitor: Visit, account_id: str) -> CompareDays:
    """Today since midnight where the reader is, and the same day a week ago up to the same time of its clocks."""
    now = datetime.fromtimestamp(visitor.now / MS_PER_S, visitor.zone)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    week = timedelta(days=7)
    return CompareDays(account_id, unix_ms(midnight), unix_ms(midnight - week), unix_ms(now - week))


def _shown(found: _Found, now: UnixMs) -> dict[str, Any]:
    endpoints = found.webhooks.endpoints
    return {
        "broken": [each for each in endpoints if each.state in ("probing", "failing", "disabled")],
        "rotating": [each for each in endpoints if _ends_within_a_day(each.details.rotation_ends_at, now)],
        "exhausted": found.webhooks.exhausted,
        "open_cases": found.open_cases,
        "most_cases": MOST_CASES,
        "owed": [each for each in endpoints if each.waiting],
        "today": found.today,
        "earlier": found.earlier,
        "most": MOST_COUNTED,
        "delivered": found.day.delivered,
        "attempts": found.day.delivered + found.day.failed,
        "p95_ms": found.day.latency.p95_ms,
        "expiring": found.expiring.customers[:_SHOWN_EXPIRING],
        "expiring_customers": len(found.expiring.customers),
        "expiring_points": sum(each.points for each in found.expiring.customers),
        "more_expire": found.expiring.place is not None,
        "expire_days": EXPIRE_DAYS,
    }


def _ends_within_a_day(ends_at: UnixMs | None, now: UnixMs) -> bool:
    """Whether an old secret stops to be valid so soon that the receiver should have the new one."""
    return ends_at is not None and now <= ends_at <= now + MS_PER_DAY
