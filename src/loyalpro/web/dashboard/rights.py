"""Who may see and change what: a row for each page and each change of the dashboard."""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from loyalpro.accounts.roles import Right
from loyalpro.kernel.record import record

Audience = Literal["public", "awaiting_code", "signed_in"]
"""Who needs no right: everybody; who has given the password and not yet the code; every member."""
PUBLIC: Final = "public"
AWAITING_CODE: Final = "awaiting_code"
SIGNED_IN: Final = "signed_in"


@record
class Access:
    """What a route needs. `fresh`: that the password or a code was given within the last 10 minutes.

    `noun`: what the address names, in the words of the page that says that it does not exist.
    """

    need: Right | Audience
    fresh: bool = False
    noun: str = "page"

    @property
    def right(self) -> Right | None:
        """The right that a member needs; None where none is needed."""
        match self.need:
            case "public" | "awaiting_code" | "signed_in":
                return None
            case right:
                return right


ROUTES: Final[Mapping[str, Access]] = {
    "webhooks": Access("endpoints.see"),
    "webhooks.rows": Access("endpoints.see"),
    "webhooks.new": Access("endpoints.change"),
    "webhooks.example": Access("endpoints.see"),
    "webhooks.check": Access("endpoints.change"),
    "webhooks.create": Access("endpoints.change"),
    "endpoint": Access("endpoints.see", noun="endpoint"),
    "endpoint.set_up": Access("endpoints.change", noun="endpoint"),
    "endpoint.receiver": Access("endpoints.see", noun="endpoint"),
    "endpoint.test": Access("endpoints.change", noun="endpoint"),
    "endpoint.test_result": Access("endpoints.see", noun="endpoint"),
    "endpoint.pause": Access("endpoints.change", noun="endpoint"),
    "endpoint.enable": Access("endpoints.change", noun="endpoint"),
    "endpoint.ask_delete": Access("endpoints.change", fresh=True, noun="endpoint"),
    "endpoint.delete": Access("endpoints.change", fresh=True, noun="endpoint"),
    "endpoint.settings": Access("endpoints.change", noun="endpoint"),
    "endpoint.change": Access("endpoints.change", noun="endpoint"),
    "endpoint.secret": Access("secrets", noun="endpoint"),
    "endpoint.show_secret": Access("secrets", fresh=True, noun="endpoint"),
    "endpoint.rotate_secret": Access("secrets", fresh=True, noun="endpoint"),
    "endpoint.promote_secret": Access("secrets", noun="endpoint"),
}
"""The access of each route by its name. A route without a row, and a row without a route, refuse the start."""

IN_DEVELOPMENT: Final[Mapping[str, Access]] = {"components": Access(PUBLIC)}
"""The rows of pages that exist in development only."""


def require_complete(names: Iterable[str], rows: Mapping[str, Access]) -> None:
    """Raise `TypeError` unless each route has one row, and each row one route."""
    found = list(names)
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise TypeError(f"These names belong to more than one route of the dashboard: {', '.join(twice)}.")
    if missing := sorted(set(found) - rows.keys()):
        raise TypeError(f"These routes have no row in web/dashboard/rights.py: {', '.join(missing)}.")
    if unused := sorted(rows.keys() - set(found)):
        raise TypeError(f"These rows of web/dashboard/rights.py have no route: {', '.join(unused)}.")
