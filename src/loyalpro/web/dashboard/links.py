"""Where the page of an object is: its address by the prefix of its id, if that page exists."""

import re
from collections.abc import Mapping
from typing import Final

from fastapi import Request

_PAGES: Final[Mapping[str, str]] = {
    "cus": "/customers/{}",
    "txn": "/transactions/{}",
    "evt": "/developers/events/{}",
    "dlv": "/developers/deliveries/{}",
    "we": "/developers/webhooks/{}",
    "rew": "/rewards/{}",
    "red": "/redemptions/{}",
    "frd": "/fraud/{}",
    "imp": "/imports/{}",
}
_PARAMETER: Final = re.compile(r"\{\w+\}")


def page_of(request: Request, id_: str) -> str | None:
    """The address of the page about the object with this id; None when there is no such page."""
    pattern = _PAGES.get(id_.partition("_")[0])
    exist = {_PARAMETER.sub("{}", path) for path in request.app.state.page_paths}
    return pattern.format(id_) if pattern in exist and pattern is not None else None
