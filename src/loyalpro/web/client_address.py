"""The address that a request came from, also behind proxies that the operator trusts."""

import ipaddress
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address(peer: str | None, forwarded: Sequence[str], trusted: Sequence[Network]) -> str | None:
    """The last address of the way of a request that is not a trusted proxy; None when it is not known.

    `peer`: the other end of the connection. `forwarded`: the values of `X-Forwarded-For`, to which each proxy appends the
    address that its request came from. What an untrusted sender wrote there does not count.
    """
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    address = _parsed(peer)
    while hops and address is not None and any(address in network for network in trusted):
        address = _parsed(hops.pop())
    return None if address is None else str(address)


def _parsed(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address; one that is mapped into IPv6 as IPv4. None for anything else, such as the path of a socket."""
    try:
        address = ipaddress.ip_address(text or "")
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
