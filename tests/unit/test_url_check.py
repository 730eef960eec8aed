"""The lines that are shown while the URL of an endpoint is typed."""

import asyncio
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.errors import InvalidInput, NameNotLookedUp
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.resolver import NO_ADDRESS, NO_ANSWER, Resolution, ResolutionStatus
from loyalpro.webhooks.endpoint_url import public_url
from loyalpro.webhooks.url_check import UrlCheck, check_url

POLICY = AddressPolicy([ip_network("127.0.0.0/8")])
PUBLIC = "93.184.216.34"
NAMES = {
    "shop.example": Resolution(ResolutionStatus.FOUND, (PUBLIC,)),
    "private.example": Resolution(ResolutionStatus.FOUND, (PUBLIC, "10.1.2.3")),
    "allowed.example": Resolution(ResolutionStatus.FOUND, ("127.0.0.1",)),
    "silent.example": NO_ANSWER,
}


async def resolve(name: str, _account_id: str) -> Resolution:
    if name == "busy.example":
        raise NameNotLookedUp("busy")
    return NAMES.get(name, NO_ADDRESS)


def check(text: str) -> UrlCheck:
    return asyncio.run(check_url(text, POLICY, resolve, "acct_1"))


def lines(text: str) -> list[str]:
    """The checks after HTTPS, each as its result, its subject and its words."""
    first, *others = check(text).checks
    assert (first.subject, first.result, first.detail) == ("https", "passed", "HTTPS")
    return [f"{each.result} {each.subject}: {each.detail}" for each in others]


def test_a_public_name_passes_every_check() -> None:
    assert lines("https://shop.example/hook") == [
        "passed port: Port 443",
        "passed address: shop.example leads to a public address",
    ]
    assert lines(f" https://{PUBLIC}:8443/ ") == [
        "passed port: Port 8443",
        f"passed address: {PUBLIC} is a public address",
    ]


@pytest.mark.parametrize("text", ["http://shop.example", "shop.example/hook", "", "ftp://shop.example"])
def test_an_address_without_https_is_told_what_to_put_in_front(text: str) -> None:
    [only] = check(text).checks
    assert (only.subject, only.result) == ("https", "failed")
    assert only.detail == "Webhooks are only sent over HTTPS. Put https:// in front."


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("https://private.example/", "failed address: This name leads to an address that is not public. Nothing is sent there."),
        ("https://intranet/", "failed address: This name leads to an address that is not public. Nothing is sent there."),
        ("https://10.1.2.3/", "failed address: This address is not public. Nothing is sent there."),
        ("https://shop.example:22/", "failed url: The URL has a port that is not allowed; use 443, or 1024 and above."),
        ("https://nowhere.example/", "warning name: This name does not exist."),
        ("https://silent.example/", "warning name: The DNS servers do not answer for this name. It is looked up again for every delivery."),
        ("https://busy.example/", "warning name: There was no time to look this name up. It is looked up when the endpoint is added."),
        ("https://localhost/", "passed address: localhost leads to an address that the operator allows"),
        ("https://allowed.example/", "passed address: allowed.example leads to an address that the operator allows"),
    ],
)  # fmt: skip
def test_the_last_line_says_what_is_wrong(text: str, line: str) -> None:
    assert lines(text)[-1] == line


def test_no_line_names_a_private_address_or_tells_whether_an_internal_name_exists() -> None:
    shown = [each.detail for host in ("private.example", "intranet") for each in check(f"https://{host}/").checks]
    assert "10.1.2.3" not in " ".join(shown)
    assert lines("https://intranet/") == lines("https://nowhere/")


@given(
    st.sampled_from([*NAMES, "nowhere.example", "intranet", "localhost", "10.0.0.1", "127.0.0.1", PUBLIC, "[::1]", ""]),
    st.sampled_from(["", ":443", ":22", ":8443", ":x"]),
    st.sampled_from(["", "/hook", "/a b", "#x", "?a=1"]),
    st.sampled_from(["https://", "http://", ""]),
)
def test_a_url_is_accepted_here_when_an_endpoint_may_have_it(host: str, port: str, path: str, scheme: str) -> None:
    found = check(scheme + host + port + path)
    try:
        expected = asyncio.run(public_url(scheme + host + port + path, POLICY, resolve, "acct_1"))
    except InvalidInput:
        assert not found.accepted
    else:
        assert (found.accepted, found.url) == (True, expected)
