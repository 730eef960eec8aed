"""Which addresses deliveries may reach, for every form of IPv6 address that holds an IPv4 address."""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loyalpro.transport.address_policy import AddressPolicy

POLICY = AddressPolicy()
PRIVATE = [
    IPv4Network(text)
    for text in "10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 168.63.129.16/32".split()
]
PUBLIC = IPv4Address("93.184.216.34")


def of_prefix(prefix: str, packed: bytes, suffix: int = 0) -> IPv6Address:
    """The prefix, the four octets, and a suffix."""
    network = IPv6Address(prefix.partition("/")[0])
    shift = 128 - int(prefix.partition("/")[2]) - 32
    return IPv6Address(int(network) | int.from_bytes(packed, "big") << shift | suffix)


def nat64(prefix_bytes: int) -> Callable[[IPv4Address], IPv6Address]:
    """The form of RFC 6052, in a network with its own prefix: the octet after the 64th bit is skipped."""

    def form(held: IPv4Address) -> IPv6Address:
        octets = bytes.fromhex("2a0112345678009abcdef011")[:prefix_bytes]
        if prefix_bytes == 12:
            octets = octets[:8] + bytes(4)
        for octet in held.packed:
            octets += bytes([0, octet]) if len(octets) == 8 else bytes([octet])
        return IPv6Address(octets.ljust(16, b"\0"))

    return form


FORMS: dict[str, Callable[[IPv4Address], IPv6Address]] = {
    "mapped": lambda held: of_prefix("::ffff:0:0/96", held.packed),
    "compatible": lambda held: of_prefix("::/96", held.packed),
    "translated": lambda held: of_prefix("::ffff:0:0:0/96", held.packed),
    "NAT64": lambda held: of_prefix("64:ff9b::/96", held.packed),
    "NAT64 in a local prefix": lambda held: of_prefix("64:ff9b:1:fffe::/96", held.packed),
    "6to4": lambda held: of_prefix("2002::/16", held.packed, suffix=1),
    "Teredo server": lambda held: of_prefix("2001::/32", held.packed, suffix=0x8000 << 48),
    "Teredo client": lambda held: of_prefix("2001:0:4136:e378:8000:63bf::/96", bytes(255 - each for each in held.packed)),
    "ISATAP, link-local": lambda held: of_prefix("fe80::5efe:0:0/96", held.packed),
    "ISATAP, global": lambda held: of_prefix("2a01:4f8:1:2:0:5efe::/96", held.packed),
    "ISATAP, unique": lambda held: of_prefix("2a01:4f8:1:2:200:5efe::/96", held.packed),
    **{f"NAT64 in a /{8 * size}": nat64(size) for size in (4, 5, 6, 7, 8, 12)},
}  # fmt: skip

private = st.sampled_from(PRIVATE).flatmap(
    lambda network: st.integers(int(network[0]), int(network[-1])).map(IPv4Address)
)


@pytest.mark.parametrize("form", FORMS)
@given(held=private)
@example(held=IPv4Address("10.0.0.1"))
@example(held=IPv4Address("169.254.169.254"))
def test_no_form_of_a_private_address_is_allowed(form: str, held: IPv4Address) -> None:
    address = FORMS[form](held)
    assert not POLICY.allows(held)
    assert not POLICY.allows(address), address
    assert not POLICY.allows(str(address))
    assert not POLICY.allows(address.exploded)


@pytest.mark.parametrize("form", ["mapped", "compatible", "translated", "NAT64", "6to4", "ISATAP, global"])
def test_forms_that_only_hold_an_address_are_not_allowed_for_a_public_one_either(form: str) -> None:
    assert POLICY.allows(PUBLIC)
    assert not POLICY.allows(FORMS[form](PUBLIC))


@pytest.mark.parametrize(
    "address",
    [
        "2606:2800:220:1:248:1893:25c8:1946", "2a00:1450:4001:81b::200e", "2606:4700::6810:84e5", "2001:4860:4860::8888",
        "2a03:2880:f12f:83:face:b00c:0:25de", "2620:0:2d0:200::7", "2a01:4f8:1:2::1", "2a01:4f8:1:2:42:acff:fe11:2",
        "2a01:1234:5678:9a::5db8:d822",
    ],
)  # fmt: skip
def test_addresses_of_the_public_internet_are_allowed(address: str) -> None:
    assert POLICY.allows(address)


@given(st.integers(0, 2**61 - 1), st.integers(1, 2**16 - 1))
def test_small_interface_ids_are_not_taken_for_held_addresses(prefix: int, interface: int) -> None:
    """Such as ::1 and ::80, which is how servers are numbered by hand."""
    address = IPv6Address((1 << 125) | prefix << 64 | interface)
    blocked = any(
        address in ip_network(each) for each in "2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20".split()
    )
    assert POLICY.allows(address) is not blocked


@pytest.mark.parametrize("form", FORMS)
def test_networks_that_the_operator_allows_do_not_allow_what_other_forms_hold(form: str) -> None:
    """10.0.0.0/8 is allowed for IPv4; no IPv6 form is a way into it."""
    allowing = AddressPolicy([ip_network("10.0.0.0/8")])
    assert allowing.allows("10.0.0.1")
    assert not allowing.allows(FORMS[form](IPv4Address("10.0.0.1")))
