"""Which host names an endpoint may have, by the addresses that they resolve to."""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_network

import pytest

from loyalpro.kernel.errors import InvalidInput
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.webhooks.endpoint_url import canonical_url, check_target

POLICY = AddressPolicy([ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8")])
PUBLIC = "93.184.216.34"


def check(host: str, addresses: Sequence[str]) -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return addresses

    asyncio.run(check_target(canonical_url(f"https://{host}/hook", POLICY), POLICY, resolve))


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("localhost", ["127.0.0.1"]),
        ("localhost", ["::1", "127.0.0.1"]),
        ("intranet", [PUBLIC, "10.1.2.3"]),
        ("shop.example", [PUBLIC, "10.1.2.3"]),
        ("shop.example", []),
    ],
)
def test_a_name_that_resolves_to_an_allowed_address_is_accepted(host: str, addresses: Sequence[str]) -> None:
    check(host, addresses)


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        ("localhost", ["::1"]),
        ("localhost", []),
        ("intranet", [PUBLIC, "192.168.1.1"]),
        ("shop.example", [PUBLIC, "192.168.1.1"]),
        ("shop.example", ["10.1.2.3", "::1"]),
    ],
)
def test_a_name_that_resolves_to_no_allowed_address_is_refused(host: str, addresses: Sequence[str]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check(host, addresses)
    assert refusal.value.code == "target_not_allowed"
