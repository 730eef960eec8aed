"""Where objects have their pages, as far as these exist, and how customers are called."""

import re
from collections.abc import Callable, Mapping
from typing import Final

from fastapi import Request

from loyalpro.loyalty.entities import Customer
from loyalpro.web.dashboard.formats import NOTHING, tail
from loyalpro.web.dashboard.masks import eyes_of
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
    """What customers are called, by their ids, as the visitor may see it; one that is not `found` by its id."""
    eyes = eyes_of(visitor)

    def name(customer_id: str | None) -> str:
        if customer_id is None:
            return NOTHING
        customer = found.get(customer_id)
        return tail(customer_id) if customer is None else eyes.name(customer)

    return name
