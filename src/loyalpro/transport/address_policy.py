"""Which addresses deliveries may reach: the public internet, and the networks that the operator allows.

The table is explicit, because `ipaddress.is_global` is true for cloud metadata services, for translated and embedded private
addresses and for multicast. IPv6 addresses outside 2000::/3 are refused, and with them mapped, compatible, translated and
NAT64 addresses; so are 6to4, Teredo and ISATAP, whatever IPv4 address they hold. A network may also have a NAT64 prefix of its
own inside 2000::/3, so an address that has the form of RFC 6052 and holds a private IPv4 address is refused.
"""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_BLOCKED_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 "
        "192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 "
        "198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4"
    ).split()
)
_PUBLIC_V6: Final = IPv6Network("2000::/3")
_BLOCKED_V6: Final = tuple(
    IPv6Network(text) for text in "2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20".split()
)
_PRIVATE_V4: Final = tuple(
    IPv4Network(text)
    for text in (
        "10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.168.0.0/16"
    ).split()
)
_ISATAP: Final = (bytes.fromhex("00005efe"), bytes.fromhex("02005efe"))
_NAT64_PREFIX_BYTES: Final = (4, 5, 6, 7, 8, 12)


class AddressPolicy:
    """Allows public addresses, and the networks in `allow`, which the operator has configured."""

    def __init__(self, allow: Sequence[Network] = ()) -> None:
        self.allow = tuple(allow)

    def allows(self, address: str | Address) -> bool:
        """Return whether deliveries may connect to the address; False for text that is not an address."""
        try:
            found = ip_address(address.partition("%")[0]) if isinstance(address, str) else address
        except ValueError:
            return False
        return self.allows_specially(found) or _is_public(found)

    def allows_specially(self, address: str | Address) -> bool:
        """Return whether the address is in a network of the operator: then any port and any host name are allowed."""
        try:
            found = ip_address(address.partition("%")[0]) if isinstance(address, str) else address
        except ValueError:
            return False
        if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
            return False  # no legitimate endpoint has an IPv4-mapped address
        return any(found in network for network in self.allow if network.version == found.version)


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _BLOCKED_V4)
    if address not in _PUBLIC_V6 or any(address in network for network in _BLOCKED_V6):
        return False
    if address.packed[8:12] in _ISATAP:
        return False
    return not any(held in network for held in _held_by_nat64(address.packed) for network in _PRIVATE_V4)


def _held_by_nat64(packed: bytes) -> Iterator[IPv4Address]:
    """The IPv4 addresses that an IPv6 address may hold: RFC 6052, section 2.2, for every length of a prefix.

    The octet after the 64th bit is zero and belongs to neither; the rest of the address is zero. For the longest prefix, the
    octets before the IPv4 address are expected to be zero as well: random interface ids would match otherwise.
    """
    octets = packed[:8] + packed[9:]
    for prefix in _NAT64_PREFIX_BYTES:
        start = prefix - (prefix > 8)
        rest = octets[start + 4 :] if prefix <= 8 else packed[9:12]
        if packed[8] == 0 and not any(rest):
            yield IPv4Address(octets[start : start + 4])


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Parse networks in CIDR notation. Raises ValueError."""
    return tuple(ip_network(text) for text in texts)
