"""Where objects have their pages, as far as these exist, and how customers are called."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from fastapi import Request

from loyalpro.accounts.roles import ROLES
from loyalpro.loyalty.entities import Customer
from loyalpro.web.dashboard.formats import NOTHING, masked, tail
from loyalpro.web.dashboard.visits import Visit

_PAGES: Final[Mapping[str, str]] = {
    "cus": "/customers/{}",
    "txn": "/transactions/{}",
    "evt": "/developers/events/{}",
    "dlv": "/developers/deliveries/{}",
    "we": "/developers/webhooks/{}",
    "rew": "/rewards/{}",
    "red": "/redemptions/{}",
    "frd": "/fraud/cases/{}",
    "imp": "/imports/{}",
}
_ID: Final = re.compile(r"[a-z]{2,5}_[0-9a-z]{26,36}")
_PARAMETER: Final = re.compile(r"\{\w+\}")


def page_of(request: Request, id_: str) -> str | None:
    """The address of the page about the object with this id; None when there is no such page."""
    pattern = _PAGES.get(id_.partition("_")[0]) if _ID.fullmatch(id_) else None
    exist = {_PARAMETER.sub("{}", path) for path in request.app.state.page_paths}
    return pattern.format(id_) if pattern in exist and pattern is not None else None


def customer_names(visitor: Visit, found: Mapping[str, Customer]) -> Callable[[str | None], str]:
    """What a customer is called, by its id: by name, e-mail or own id, masked for who may not see these; else the id."""
    in_full = "customers.see_full" in ROLES[visitor.member.membership.role]

    def name(customer_id: str | None) -> str:
        if customer_id is None:
            return NOTHING
        customer = found.get(customer_id)
        text = customer and (customer.name or customer.email)
        if text:
            return text if in_full else masked(text)
        return (customer.external_id if customer else None) or tail(customer_id)

    return name
