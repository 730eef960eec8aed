"""The parser of endpoint URLs. Every URL that it accepts has one canonical spelling, and libcurl reads it in the same way."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NewType

import idna

from loyalpro.kernel.errors import InvalidInput
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.resolver import LOOPBACK, Resolution, is_loopback_name

LONGEST: Final = 2_048
_SHAPE: Final = re.compile(r"(?P<host>\[[^\]/?#@]*\]|[^\[\]/?#@:]*)(?::(?P<port>[0-9]*))?(?P<rest>[/?].*)?", re.ASCII)
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f-\xa0\\\"<>^`{|}\u2028\u2029]")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMERIC: Final = re.compile(r"0x[0-9a-f]*|[0-9]+")
_HTTPS_PORT: Final = 443
_FIRST_FREE_PORT: Final = 1_024

Resolve = Callable[[str, str], Awaitable[Resolution]]
"""Looks up the addresses of a host name for an account. Never connects.

Raises `NameNotLookedUp` when there was no time to ask.
"""

PublicUrl = NewType("PublicUrl", str)
"""An endpoint URL in its canonical spelling that `public_url` has accepted."""


@dataclass(frozen=True, slots=True)
class EndpointUrl:
    """A URL in its canonical spelling."""

    url: str
    host: str
    port: int
    address: IPv4Address | IPv6Address | None


async def public_url(text: str, policy: AddressPolicy, resolve: Resolve, account_id: str) -> PublicUrl:
    """The canonical spelling of a URL that deliveries may be sent to. Raises `InvalidInput` with the reason for any other.

    Raises `NameNotLookedUp` when there was no time to look up the host name: no URL is accepted unchecked. It looks up the
    host name, so it must run before the transaction that stores the URL.
    """
    url = canonical_url(text, policy)
    await check_target(url, policy, resolve, account_id)
    return PublicUrl(url.url)


def canonical_url(text: str, policy: AddressPolicy) -> EndpointUrl:
    """The URL in its canonical spelling, or `InvalidInput`. Makes no lookup."""
    if len(text) > LONGEST:
        raise _invalid(f"is longer than {LONGEST} characters")
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() != "https":
        raise InvalidInput("Webhooks are only sent to https:// addresses.", code="https_required", param="url")
    if _FORBIDDEN.search(rest):
        raise _invalid("has a space, a control character or another character that must be percent-encoded")
    if "#" in rest:
        raise _invalid("has a fragment (#...), which is never sent")
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise _invalid("has a user name; put credentials into headers")
    shape = _SHAPE.fullmatch(rest)
    if shape is None or not shape["host"]:
        raise _invalid("has no host, or one that cannot be read")
    host, address = _host(shape["host"], policy)
    port = _port(shape["port"], specially=address is not None and policy.allows_specially(address), name=host)
    return EndpointUrl(_spell(host, address, port, shape["rest"] or "/"), host, port, address)


async def check_target(url: EndpointUrl, policy: AddressPolicy, resolve: Resolve, account_id: str) -> None:
    """Raise `InvalidInput` for a host name that resolves to an address that deliveries may not reach.

    A name without addresses, or whose DNS servers do not answer, may get some later: it is accepted, and every connect
    checks its addresses again. An internal name is accepted when one of its addresses is in a network that the operator
    allows: `localhost` has an IPv4 and an IPv6 address, and a connect uses the allowed ones only.
    """
    if url.address is not None:
        return
    resolution = await look_up(url.host, resolve, account_id)
    if not is_allowed(url.host, resolution.addresses, policy):
        raise _not_allowed()


async def look_up(host: str, resolve: Resolve, account_id: str) -> Resolution:
    """The addresses of a host name. Names of this machine are loopback, whatever the DNS servers say."""
    return LOOPBACK if is_loopback_name(host) else await resolve(host, account_id)


def is_allowed(host: str, addresses: Sequence[str], policy: AddressPolicy) -> bool:
    """Whether an endpoint may have a host name with these addresses: see `check_target`."""
    return any(map(policy.allows_specially, addresses)) if _is_internal(host) else all(map(policy.allows, addresses))


def _is_internal(host: str) -> bool:
    """Whether a name never leads to the public internet: it has a single label, or means this machine."""
    return "." not in host or is_loopback_name(host)


def _host(text: str, policy: AddressPolicy) -> tuple[str, IPv4Address | IPv6Address | None]:
    """A name in lower-case ASCII, or an address in its one canonical spelling."""
    if text.startswith("["):
        return _literal(text[1:-1], policy)
    name = _ascii(text).removesuffix(".")
    labels = name.split(".")
    if _NUMERIC.fullmatch(labels[-1]):
        return _literal(name, policy)  # the system resolver reads such a name as an address, however it is spelled
    if not all(_LABEL.fullmatch(label) for label in labels) or len(name) > 253:
        raise _invalid("has an invalid host name")
    return name, None


def _ascii(text: str) -> str:
    if text.isascii():
        return text.lower()
    try:
        return idna.encode(text, uts46=True).decode().lower()
    except idna.IDNAError:
        raise _invalid("has a host name that is not a valid internationalized domain name") from None


def _literal(text: str, policy: AddressPolicy) -> tuple[str, IPv4Address | IPv6Address]:
    try:
        address = ip_address(text)
    except ValueError:
        raise _not_allowed() from None
    if "%" in text or not policy.allows(address):
        raise _not_allowed()
    return str(address), address


def _port(text: str | None, *, specially: bool, name: str) -> int:
    port = int(text) if text and len(text) <= 5 else _HTTPS_PORT if not text else 0
    free = specially or _is_internal(name)  # such a name is accepted only in the networks of the operator
    if not (0 < port < 65_536 and (free or port == _HTTPS_PORT or port >= _FIRST_FREE_PORT)):
        raise _invalid("has a port that is not allowed; use 443, or 1024 and above")
    return port


def _spell(host: str, address: IPv4Address | IPv6Address | None, port: int, rest: str) -> str:
    shown = f"[{host}]" if isinstance(address, IPv6Address) else host
    path = rest if rest.startswith("/") else f"/{rest}"
    quoted = "".join(c if c.isascii() else "".join(f"%{byte:02X}" for byte in c.encode()) for c in path)
    return f"https://{shown}{'' if port == _HTTPS_PORT else f':{port}'}{quoted}"


def _invalid(reason: str) -> InvalidInput:
    return InvalidInput(f"The URL {reason}.", code="invalid_url", param="url")


def _not_allowed() -> InvalidInput:
    return InvalidInput(
        "The URL leads to an address that is not on the public internet. For development, the operator can allow it "
        "with LOYALPRO_EGRESS_ALLOW.",
        code="target_not_allowed",
        param="url",
    )
