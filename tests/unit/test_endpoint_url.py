"""Which hosts and ports an endpoint may have, by how they are spelled and by the addresses that they resolve to."""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.errors import InvalidInput, NameNotLookedUp
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.resolver import NO_ADDRESS, Resolution, ResolutionStatus
from loyalpro.webhooks.endpoint_url import canonical_url, check_target, public_url

POLICY = AddressPolicy([ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8")])
PUBLIC = "93.184.216.34"


def check(host: str, addresses: Sequence[str]) -> None:
    async def resolve(_name: str, _account_id: str) -> Resolution:
        return Resolution(ResolutionStatus.FOUND, tuple(addresses)) if addresses else NO_ADDRESS

    asyncio.run(check_target(canonical_url(f"https://{host}/hook", POLICY), POLICY, resolve, "acct_1"))


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("localhost", ["127.0.0.1"]),
        ("localhost", ["::1", "127.0.0.1"]),
        ("intranet", [PUBLIC, "10.1.2.3"]),
        ("shop.example", [PUBLIC, "10.1.2.3"]),
        ("shop.example", []),
        ("b.localhost", [PUBLIC]),
    ],
)
def test_a_name_that_resolves_to_an_allowed_address_is_accepted(host: str, addresses: Sequence[str]) -> None:
    check(host, addresses)


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("intranet", ["::1"]),
        ("intranet", []),
        ("intranet", [PUBLIC, "192.168.1.1"]),
        ("shop.example", [PUBLIC, "192.168.1.1"]),
        ("shop.example", ["10.1.2.3", "::1"]),
    ],
)
def test_a_name_that_resolves_to_no_allowed_address_is_refused(host: str, addresses: Sequence[str]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check(host, addresses)
    assert refusal.value.code == "target_not_allowed"


@pytest.mark.parametrize("host", ["localhost", "b.localhost", "a.b.LocalHost."])
def test_names_of_this_machine_are_loopback_whatever_the_resolver_says(host: str) -> None:
    async def resolve(_name: str, _account_id: str) -> Resolution:
        return Resolution(ResolutionStatus.FOUND, (PUBLIC,))

    with pytest.raises(InvalidInput) as refusal:
        asyncio.run(public_url(f"https://{host}/hook", AddressPolicy(), resolve, "acct_1"))
    assert refusal.value.code == "target_not_allowed"


def test_a_name_that_there_was_no_time_to_look_up_is_not_accepted() -> None:
    async def resolve(_name: str, _account_id: str) -> Resolution:
        raise NameNotLookedUp("busy")

    with pytest.raises(NameNotLookedUp):
        asyncio.run(public_url("https://shop.example/hook", POLICY, resolve, "acct_1"))


@pytest.mark.parametrize("authority", ["intranet:22", "localhost:22", "b.localhost:22", "127.0.0.1:22", "10.1.2.3:25"])
def test_any_port_is_allowed_in_the_networks_of_the_operator(authority: str) -> None:
    assert canonical_url(f"https://{authority}/", POLICY).url == f"https://{authority}/"


@pytest.mark.parametrize(
    "authority", ["shop.example:22", "localhost.example:22", "93.184.216.34:1023", "shop.example:0"]
)
def test_any_other_host_has_port_443_or_one_from_1024_on(authority: str) -> None:
    with pytest.raises(InvalidInput, match="port"):
        canonical_url(f"https://{authority}/", POLICY)


DIGITS = st.sampled_from(["0123456789", "\uff10\uff11\uff12\uff13\uff14\uff15\uff16\uff17\uff18\uff19"])
FORMATS = st.sampled_from(["{}", "0{:o}", "{:#x}", "0X{:X}", "000{:o}", "0x000{:x}"])


@st.composite
def spelled(draw: st.DrawFn) -> str:
    """An IPv4 address in one of the forms that `inet_aton` reads: 1 to 4 numbers, decimal, octal or hexadecimal."""
    address = draw(st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0x7F000001, 0x0A000001, 0xA9FEA9FE, 0])))
    octets = list(address.to_bytes(4, "big"))
    count = draw(st.integers(1, 4))
    numbers = [*octets[: count - 1], int.from_bytes(bytes(octets[count - 1 :]), "big")]
    text = ".".join(draw(FORMATS).format(number) for number in numbers)
    dot = draw(st.sampled_from([".", "\u3002"]))
    digits = draw(DIGITS)
    return "".join(digits[int(each)] if each.isdigit() else dot if each == "." else each for each in text)


@given(spelled(), st.sampled_from(["", "."]))
def test_an_address_is_accepted_in_its_usual_form_only(text: str, end: str) -> None:
    """Whatever the operating system reads as an address is that very address, or refused."""
    try:
        url = canonical_url(f"https://{text}{end}/", AddressPolicy())
    except InvalidInput:
        return
    assert url.address == IPv4Address(url.host) == IPv4Address(socket.inet_aton(url.host))
    assert AddressPolicy().allows(url.host)


@given(st.from_regex(r"[0-9a-fxX.\uff10-\uff19]{1,24}", fullmatch=True))
def test_no_text_that_is_read_as_an_address_passes_for_a_name(text: str) -> None:
    try:
        url = canonical_url(f"https://{text}/", AddressPolicy())
    except InvalidInput:
        return
    if url.address is None:
        with pytest.raises(OSError, match="illegal IP address"):
            socket.inet_aton(url.host)
