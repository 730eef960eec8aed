"""Who looks at a page: what a request of a browser says of the person who makes it."""

import hashlib
import hmac
import re
from dataclasses import field
from datetime import UTC, tzinfo
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Depends, Request

from loyalpro.accounts.entities import SignedIn
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import Unauthenticated
from loyalpro.kernel.record import record
from loyalpro.web.dashboard.site import Site

SESSION_COOKIE: Final = "loyalpro"
FORM_COOKIE: Final = "loyalpro-form"
"""Stands for the web session in the forms of somebody who is not signed in."""
ZONE_COOKIE: Final = "loyalpro-zone"
"""The time zone of the browser, which `app.js` writes."""
_ZONE: Final = re.compile(r"[A-Za-z0-9_+-]{1,32}(/[A-Za-z0-9_+-]{1,32}){0,2}")


@record
class Visit:
    """One request of a browser, at `now`.

    `key`: the secret that forms and toasts are sealed with, which belongs to the web session. `new_form_cookie`: the one to
    set, because somebody who is not signed in has none yet. `halfway`: who has given the password, and not yet the code of the
    second factor. `actor`, `account_id` and `membership` are there when somebody is
    signed in, which only pages for everybody have to ask.
    """

    site: Site
    key: bytes = field(repr=False)
    zone: tzinfo
    zone_name: str
    now: UnixMs
    signed_in: SignedIn | None = None
    halfway: SignedIn | None = None
    new_form_cookie: str | None = field(default=None, repr=False)

    @property
    def member(self) -> SignedIn:
        """Who is signed in. Raises `Unauthenticated` when nobody is."""
        if self.signed_in is None:
            raise Unauthenticated("Sign in first.")
        return self.signed_in

    @property
    def account_id(self) -> str:
        """The id of the account that is looked at."""
        return self.member.membership.account_id

    @property
    def actor(self) -> str:
        """Who makes the changes of this request."""
        return self.member.actor

    @property
    def csrf(self) -> str:
        """The token that each form carries. No other site can know it."""
        return self.seal("form")

    def seal(self, text: str) -> str:
        """The text's seal: 64 digits that only the owner of the key can make."""
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()


def zone_of(name: str | None) -> tuple[tzinfo, str]:
    """A time zone and its name; UTC for a name that does not exist."""
    try:
        if name is not None and _ZONE.fullmatch(name):
            return ZoneInfo(name), name
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    return UTC, "UTC"


def visit_of(request: Request) -> Visit | None:
    """The visit, once the route has found out about it."""
    visit: Visit | None = getattr(request.state, "visit", None)
    return visit


async def _visit(request: Request) -> Visit:
    visit = visit_of(request)
    assert visit is not None, "only a PageRoute knows its visitor"
    return visit


Visitor = Annotated[Visit, Depends(_visit)]
