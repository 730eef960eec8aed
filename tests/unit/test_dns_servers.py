"""The setting of the DNS servers."""

import pytest
from pydantic import ValidationError

from loyalpro.settings import Settings


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("", ()),
        ("10.0.0.2", ("10.0.0.2",)),
        ("10.0.0.2:5353, 2001:db8::53,[2001:db8::54]:53", ("10.0.0.2:5353", "2001:db8::53", "[2001:db8::54]:53")),
        ("[::1],fe80::1%eth0", ("[::1]", "fe80::1%eth0")),
    ],
)
def test_servers_are_addresses_with_or_without_a_port(text: str, servers: tuple[str, ...]) -> None:
    assert Settings(dns_servers=text).dns_servers == servers


@pytest.mark.parametrize(
    "text",
    ["dns.example", "10.0.0.2:0", "10.0.0.2:65536", "10.0.0.2:", "[::1]:x", "10.0.0.2;10.0.0.3", "[::1"],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="dns_servers"):
        Settings(dns_servers=text)
