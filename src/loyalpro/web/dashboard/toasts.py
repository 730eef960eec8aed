"""Toasts: one line about what has just been done, which survives the way to the next page."""

import base64
import hmac
from typing import Final

import msgspec
from fastapi import Request, Response

from loyalpro.kernel.record import record
from loyalpro.web.dashboard.site import cookie, set_cookie
from loyalpro.web.dashboard.visits import Visit

_COOKIE: Final = "loyalpro-toast"
_KEPT_S: Final = 60
_LONGEST: Final = 500


@record
class Toast:
    """A line. `undo`: the path to which a `POST` takes back what was done; None when that is not possible."""

    text: str
    undo: str | None = None


def leave(response: Response, visit: Visit, toast: Toast) -> None:
    """Show the toast on the next page. Its seal belongs to the web session, so nobody else can make one up."""
    content = msgspec.json.encode([toast.text[:_LONGEST], toast.undo])
    packed = base64.urlsafe_b64encode(content).decode()
    set_cookie(response, visit.site, _COOKIE, f"{packed}.{visit.seal(f'toast {packed}')}", max_age_s=_KEPT_S)


def waiting(request: Request, visit: Visit) -> Toast | None:
    """The toast that waits for this page."""
    packed, _, seal = (cookie(request, visit.site, _COOKIE) or "").rpartition(".")
    if not packed or not hmac.compare_digest(seal.encode(), visit.seal(f"toast {packed}").encode()):
        return None
    text, undo = msgspec.json.decode(base64.urlsafe_b64decode(packed), type=tuple[str, str | None])
    return Toast(text, undo)


def shown(response: Response, visit: Visit) -> None:
    """Forget the toast: it has been seen."""
    set_cookie(response, visit.site, _COOKIE, "", max_age_s=0)
