"""`/v1/reports`: what the program owes, and which points expire soon."""

from typing import Annotated, cast

from fastapi import APIRouter, Query
from pydantic import Field
from typing_extensions import TypedDict

from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.errors import InvalidInput
from loyalpro.loyalty import reports
from loyalpro.loyalty.bulk.exports import expiring_line
from loyalpro.web.answers import CurrencyCode, CustomerId, ExternalId, Page, PointCount, Time
from loyalpro.web.auth import AccountId
from loyalpro.web.fields import Cursor, Instant, Limit, known_id
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute

router = APIRouter(prefix="/v1/reports", tags=["reports"], route_class=StrictRoute.needing(write="read"))


class MonthView(TypedDict):
    """Points that expire in a month; null: never."""

    month: Annotated[str | None, Field(examples=["2026-11"])]
    points: PointCount


class LiabilityView(TypedDict):
    """What the program owes."""

    as_of: Time
    issued: PointCount
    redeemed: PointCount
    expired: PointCount
    clawed_back: PointCount
    adjusted: PointCount
    outstanding: PointCount
    available: PointCount
    pending: PointCount
    debt: PointCount
    by_expiry_month: list[MonthView]
    currency: CurrencyCode
    point_value: Annotated[str | None, Field(examples=["0.01"])]
    value: Annotated[str | None, Field(examples=["0.56"])]


class ExpiringView(TypedDict):
    """A customer with points that expire."""

    customer_id: CustomerId
    customer_external_id: ExternalId | None
    points: PointCount
    first_expires_at: Time


@router.get("/liability", summary="What the program owes, as of any time")
async def get_liability(
    account_id: AccountId,
    services: ServicesDep,
    as_of: Annotated[Instant | None, Query(description="A past time; now by default.")] = None,
) -> LiabilityView:
    """Added up from the ledger of every customer. `value` is exact, in major units of the program's currency."""
    found = await reports.report_liability(services.runner, account_id, as_of)
    return {
        "as_of": rfc3339(found.as_of),
        "issued": found.issued,
        "redeemed": found.redeemed,
        "expired": found.expired,
        "clawed_back": found.clawed_back,
        "adjusted": found.adjusted,
        "outstanding": found.outstanding,
        "available": found.available,
        "pending": found.pending,
        "debt": found.debt,
        "by_expiry_month": [{"month": month, "points": points} for month, points in found.by_month],
        "currency": found.currency,
        "point_value": found.point_value,
        "value": found.value,
    }


@router.get("/expiring", summary="List customers with points that expire soon, those that expire first")
async def list_expiring(
    account_id: AccountId,
    services: ServicesDep,
    days: Annotated[int, Query(ge=1, le=3_660, description="Within so many days.")] = 30,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[ExpiringView]:
    """One page. It may have fewer customers than `limit`, or none, while `next_cursor` says that the list goes on."""
    query = reports.ListExpiring(account_id, days, _place(cursor), limit)
    found = await services.runner.read(lambda unit: reports.list_expiring(unit, query))
    place = found.place
    return {
        "data": [cast("ExpiringView", expiring_line(each)) for each in found.customers],
        "next_cursor": None if place is None else f"{place[0]}-{place[1]}",
    }


def _place(cursor: str | None) -> tuple[int, str] | None:
    if not cursor:
        return None
    instant, _, customer_id = cursor.partition("-")
    if not (instant.isascii() and instant.isdigit()):
        raise InvalidInput(
            "This is no cursor of these pages; send next_cursor of a page.", code="invalid_field", param="cursor"
        )
    return int(instant), known_id("cus", customer_id, param="cursor")
