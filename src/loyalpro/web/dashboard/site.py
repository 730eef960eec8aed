"""The address at which a browser reached the dashboard, and what may be done there."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request, Response

from loyalpro.kernel.errors import Forbidden, MalformedRequest
from loyalpro.kernel.record import record
from loyalpro.web.client_address import Network
from loyalpro.web.services import services_of

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LOOPBACK_NAME: Final = "localhost"
_HOST: Final = re.compile(r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>[a-z0-9.-]+))(?::[0-9]{1,5})?")
_OWN_PATH: Final = re.compile(r"/(?![/\\])[!-\[\]-~]{0,2000}")
"""A path, with a query perhaps. Browsers take `//` and `/\\` for the beginning of another host."""


@record
class Site:
    """One address of the dashboard. `origin`: scheme, host and port, as `Origin` states them."""

    origin: str
    is_https: bool
    is_loopback: bool

    @property
    def cookie_prefix(self) -> str:
        """What the names of cookies start with. Browsers keep `__Host-` cookies to one host, and to HTTPS."""
        return "__Host-" if self.is_https else ""


def site_of(request: Request) -> Site:
    """The address of a request. `MalformedRequest` for a host that is not ours.

    Another host leads here when somebody lets its name resolve to our address, so that a foreign page counts as one of ours.
    """
    services = services_of(request)
    host = request.headers.get("host", "").lower()
    public = urlsplit(services.public_url or "")
    is_public = bool(public.hostname) and _same_host(host, public.netloc.lower(), public.scheme)
    is_loopback = _is_loopback(_name(host))
    if not (is_public or is_loopback):
        raise MalformedRequest(
            "This address is not one of LoyalPro's. Use the address that LOYALPRO_PUBLIC_URL names, or set it to this one."
        )
    scheme = _scheme(request, services.trusted_proxies) or (public.scheme if is_public else "http")
    return Site(f"{scheme}://{host}", scheme == "https", is_loopback)


def require_private(site: Site) -> None:
    """`Forbidden` at an address where others can read what is sent: a password is not asked for there."""
    if not (site.is_https or site.is_loopback):
        raise Forbidden(
            "This connection is not encrypted, so nobody can sign in here. Use https://; a proxy that serves it passes "
            "X-Forwarded-Proto on, and LOYALPRO_TRUSTED_PROXIES names it."
        )


def set_cookie(response: Response, site: Site, name: str, value: str, *, max_age_s: int | None = None) -> None:
    """Set a cookie that no script can read. It is bound to HTTPS and to one host, except on this machine."""
    response.set_cookie(
        f"{site.cookie_prefix}{name}",
        value,
        max_age=max_age_s,
        path="/",
        secure=site.is_https,
        httponly=True,
        samesite="lax",
    )


def cookie(request: Request, site: Site, name: str) -> str | None:
    """The value of a cookie that `set_cookie` has set."""
    return request.cookies.get(f"{site.cookie_prefix}{name}")


def own_path(text: str | None) -> str:
    """Where to go next, as a form or an address states it; the first page unless it is a path of ours."""
    return text if text is not None and _OWN_PATH.fullmatch(text) else "/"


def _scheme(request: Request, trusted: Sequence[Network]) -> str | None:
    """The scheme that the browser used, if it is known: our own, or what a trusted proxy states."""
    if request.url.scheme == "https":
        return "https"
    stated = request.headers.getlist("x-forwarded-proto")
    if not stated or not _is_trusted(request, trusted):
        return None if not stated else "http"
    last = stated[-1].rpartition(",")[2].strip().lower()
    return "https" if last == "https" else "http"


def _is_trusted(request: Request, trusted: Sequence[Network]) -> bool:
    try:
        peer = ipaddress.ip_address(request.client.host if request.client else "")
    except ValueError:
        return False
    return any(peer in network for network in trusted)


def _same_host(host: str, other: str, scheme: str) -> bool:
    return _with_port(host, scheme) == _with_port(other, scheme)


def _with_port(host: str, scheme: str) -> str:
    has_port = host.rpartition(":")[2].isdigit() and not host.endswith("]")
    return host if has_port else f"{host}:{_DEFAULT_PORTS.get(scheme, 0)}"


def _name(host: str) -> str:
    """The host without its port; empty for what is not the name of a host."""
    found = _HOST.fullmatch(host)
    return "" if found is None else found["address"] or found["name"]


def _is_loopback(name: str) -> bool:
    if name == _LOOPBACK_NAME or name.endswith(f".{_LOOPBACK_NAME}"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
