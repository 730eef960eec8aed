"""`/v1/find`: what an id, the end of an id, a number, an e-mail address, a phone number or the start of a name stands for."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field
from typing_extensions import TypedDict

from loyalpro.web.answers import Page
from loyalpro.web.auth import AccountId
from loyalpro.web.fields import SearchText
from loyalpro.web.find import Find, find
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute

router = APIRouter(prefix="/v1/find", tags=["find"], route_class=StrictRoute.needing(write="read"))


class HitView(TypedDict):
    """An object that was found. `name`: the name of a customer, or the merchant's number of a purchase."""

    type: Literal["customer", "transaction", "event", "delivery", "endpoint"]
    id: Annotated[str, Field(examples=["cus_01m8793ctx2zrb94rghckj4mw4"])]
    name: Annotated[str | None, Field(examples=["Ada"])]


@router.get("", summary="Find an object by one text")
async def find_objects(account_id: AccountId, services: ServicesDep, q: SearchText = None) -> Page[HitView]:
    """At most 20 objects: those that an exact value names first, then by the start of a name, then by the end of an id."""
    hits = await services.runner.read(lambda unit: find(unit, Find(account_id, q or "")))
    found: list[HitView] = [
        {
            "type": each.kind,
            "id": each.id,
            "name": each.customer.name
            if each.customer is not None
            else each.transaction.external_id
            if each.transaction is not None
            else None,
        }
        for each in hits
    ]
    return {"data": found, "next_cursor": None}
