"""Program > Customers: a field to search by, and the customers that were enrolled last."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from loyalpro.kernel.ids import is_id
from loyalpro.loyalty.customer_search import FindCustomers, find_customers
from loyalpro.loyalty.customers import ListCustomers, list_customers
from loyalpro.loyalty.entities import Customer, CustomerFilter
from loyalpro.web.dashboard.masks import eyes_of
from loyalpro.web.dashboard.render import page
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visitor
from loyalpro.web.services import ServicesDep
from loyalpro.web.unit import Unit

LIST: Final = "/customers"
_ROWS: Final = 50

Text = Annotated[str, Query(max_length=255)]
Before = Annotated[str | None, Query(max_length=64)]

router = APIRouter(route_class=PageRoute)


@router.get(LIST, name="customers")
async def show(
    request: Request, visitor: Visitor, services: ServicesDep, q: Text = "", before: Before = None
) -> Response:
    """The customers that a text finds; without a text the newest ones."""
    eyes = eyes_of(visitor)
    text = q.strip()
    since = before if before and is_id("cus", before) else None

    def look(unit: Unit) -> tuple[list[Customer], str | None]:
        if text:
            query = FindCustomers(visitor.account_id, text, _ROWS, by_name=eyes.in_full)
            return find_customers(unit, query), None
        found = list_customers(unit, ListCustomers(visitor.account_id, CustomerFilter(), since, _ROWS))
        return found.customers, found.next_before_id

    found, next_before = await services.runner.read(look)
    return page(
        request,
        "customers/list.html",
        title="Customers",
        found=found,
        text=text,
        eyes=eyes,
        newer=LIST if since else None,
        older=f"{LIST}?before={next_before}" if next_before else None,
        rows=_ROWS,
    )
