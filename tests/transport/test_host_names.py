"""Host names, against a real DNS server: who waits for it, what its answers may lead to, and what the attempt shows."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest

from loyalpro.delivery.attempt import OutcomeCode, OutgoingRequest, SendResult, classify
from loyalpro.kernel.errors import NameNotLookedUp
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.resolver import NO_ADDRESS, NO_ANSWER, PER_ACCOUNT
from loyalpro.transport.sender import CurlSender
from support.dns_server import BROKEN, SILENT, UNKNOWN, DnsServer, Zone, at
from support.receivers import Authority, RawServer, Script, answer, good

SHOP = "shop.example"
LOCAL = AddressPolicy([ip_network("127.0.0.0/8")])


@pytest.fixture
def receiver(authority: Authority, serve: Callable[..., RawServer]) -> Callable[[Script], RawServer]:
    return lambda script: serve(script, context=authority.context(SHOP))


def request(host: str, port: int = 443, *, timeout_s: float = 30, account_id: str = "acct_1") -> OutgoingRequest:
    return OutgoingRequest(f"https://{host}:{port}/hook", (), b"{}", timeout_s, account_id=account_id)


def run(
    authority: Authority,
    zones: dict[str, Zone],
    use: Callable[[CurlSender, DnsServer], Awaitable[Any]],
    policy: AddressPolicy = LOCAL,
    look_up_s: float = 8,
) -> Any:
    """Run `use` with a started sender whose only DNS server has these zones."""

    async def main() -> Any:
        with DnsServer(zones) as dns:
            sender = CurlSender(policy, authority.ca_file, dns_servers=[dns.address], look_up_s=look_up_s)
            await sender.start()
            try:
                return await use(sender, dns)
            finally:
                await sender.stop()

    return asyncio.run(main())


def sent(
    authority: Authority, zone: Zone, port: int = 443, *, policy: AddressPolicy = LOCAL, timeout_s: float = 30
) -> SendResult:
    result: SendResult = run(
        authority, {SHOP: zone}, lambda sender, _: sender.send(request(SHOP, port, timeout_s=timeout_s)), policy
    )
    return result


@asynccontextmanager
async def silent_names(sender: CurlSender, dns: DnsServer, count: int, account_id: str = "acct_1") -> Any:
    """So many requests to names whose DNS server does not answer are under way."""
    requests = [request(f"silent.{n}.example", account_id=account_id) for n in range(count)]
    tasks = [asyncio.create_task(sender.send(each)) for each in requests]
    await asyncio.to_thread(dns.wait_for_names, min(count, PER_ACCOUNT))
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("account_id", ["acct_1", "acct_2"])
def test_a_name_beside_200_silent_ones_is_found_within_a_second(
    authority: Authority, receiver: Callable[[Script], RawServer], account_id: str
) -> None:
    """Whether the silent ones belong to the same account or to another."""
    port = receiver(good).port

    async def beside(sender: CurlSender, dns: DnsServer) -> SendResult:
        async with silent_names(sender, dns, 200):
            return await sender.send(request(SHOP, port, account_id=account_id))

    result = run(authority, {SHOP: at("127.0.0.1")}, beside)
    assert classify(result) is OutcomeCode.SUCCEEDED
    assert 0 < result.timings.dns_ms < 1_000


def test_an_account_beyond_its_limit_waits_and_another_does_not(
    authority: Authority, receiver: Callable[[Script], RawServer]
) -> None:
    port = receiver(good).port

    async def beside(sender: CurlSender, dns: DnsServer) -> tuple[SendResult, SendResult]:
        async with silent_names(sender, dns, PER_ACCOUNT):
            own = await sender.send(request("also.example", port, timeout_s=0.2))
            return own, await sender.send(request(SHOP, port, account_id="acct_2"))

    zones = {SHOP: at("127.0.0.1"), "also.example": at("127.0.0.1")}
    own, other = run(authority, zones, beside)
    assert classify(own) is OutcomeCode.TIMEOUT
    assert own.timings.dns_ms == own.timings.total_ms >= 200
    assert classify(other) is OutcomeCode.SUCCEEDED


def test_the_time_of_a_look_up_counts(authority: Authority, receiver: Callable[[Script], RawServer]) -> None:
    """In the timings, and in the time that the attempt has."""
    server = receiver(good)
    result = sent(authority, at("127.0.0.1", after_s=0.3), server.port)
    timings = result.timings
    assert classify(result) is OutcomeCode.SUCCEEDED
    assert timings.dns_ms is not None
    assert timings.first_byte_ms is not None
    assert 300 <= timings.dns_ms < timings.first_byte_ms <= timings.total_ms
    late = sent(authority, at("127.0.0.1", after_s=5), server.port, timeout_s=0.3)
    assert classify(late) is OutcomeCode.TIMEOUT
    assert late.timings.dns_ms == late.timings.total_ms >= 300
    assert len(server.hits) == 1


@pytest.mark.parametrize(
    ("zone", "words"), [(UNKNOWN, "no address"), (at(), "no address"), (BROKEN, "no usable answer")]
)
def test_a_name_that_cannot_be_resolved_says_why(authority: Authority, zone: Zone, words: str) -> None:
    result = sent(authority, zone)
    assert classify(result) is OutcomeCode.DNS_FAILED
    assert words in result.detail


def test_options_of_the_environment_are_in_force(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """With them the DNS server is given up after a second, and without them after five."""
    monkeypatch.setenv("RES_OPTIONS", "timeout:1 attempts:1")
    result = sent(authority, SILENT)
    assert classify(result) is OutcomeCode.DNS_FAILED
    assert result.timings.total_ms < 4_000


def test_a_server_that_is_quick_as_a_rule_may_be_slow_for_one_name(authority: Authority) -> None:
    """c-ares shortens its time-outs when a server answers quickly; a name has its five seconds all the same."""
    quick = {f"{n}.example": at("192.0.2.1") for n in range(20)}

    async def ask(sender: CurlSender, _: DnsServer) -> Any:
        for name in quick:
            await sender.look_up(name, "acct_1")
        return (await sender.look_up("slow.example", "acct_1")).addresses

    assert run(authority, quick | {"slow.example": at("10.0.0.1", after_s=3)}, ask) == ("10.0.0.1",)


@pytest.mark.parametrize("closes", [True, False])
def test_the_addresses_of_a_name_are_looked_up_once(
    authority: Authority, receiver: Callable[[Script], RawServer], *, closes: bool
) -> None:
    """For all requests of a short time, whether the receiver keeps its connections or not."""
    headers = {"Connection": "close"} if closes else {}

    def script(connection: Any, _: object) -> None:
        connection.sendall(answer(200, **headers))
        if closes:
            connection.shutdown(2)

    server = receiver(script)

    async def many(sender: CurlSender, dns: DnsServer) -> tuple[list[SendResult], int]:
        together = await asyncio.gather(*(sender.send(request(SHOP, server.port)) for _ in range(4)))
        after = [await sender.send(request(SHOP, server.port)) for _ in range(4)]
        return [*together, *after], dns.questions[SHOP]

    results, questions = run(authority, {SHOP: at("127.0.0.1")}, many)
    assert {classify(each) for each in results} == {OutcomeCode.SUCCEEDED}
    assert questions == 2  # for IPv4 and for IPv6 addresses
    assert (server.connections == 8) is closes


@pytest.mark.parametrize(
    ("addresses", "outcome"),
    [
        (["127.0.0.1"], OutcomeCode.SUCCEEDED),
        (["10.9.8.7", "::1", "127.0.0.1"], OutcomeCode.SUCCEEDED),
        (["::ffff:127.0.0.1", "10.9.8.7"], OutcomeCode.TARGET_NOT_ALLOWED),
        ([f"10.9.8.{n}" for n in range(1, 21)] + ["127.0.0.1"], OutcomeCode.SUCCEEDED),
    ],
    ids=["allowed", "mixed", "refused", "allowed after many refused ones"],
)
def test_of_the_addresses_of_a_name_only_the_allowed_are_connected_to(
    authority: Authority, receiver: Callable[[Script], RawServer], addresses: list[str], outcome: OutcomeCode
) -> None:
    server = receiver(good)
    result = sent(authority, at(*addresses), server.port)
    assert classify(result) is outcome
    assert result.remote_ip == ("127.0.0.1" if outcome is OutcomeCode.SUCCEEDED else None)
    assert server.connections == (outcome is OutcomeCode.SUCCEEDED)


def test_a_name_that_moves_to_a_refused_address_is_refused(
    authority: Authority, receiver: Callable[[Script], RawServer]
) -> None:
    """The addresses that the look-up returned are those that are checked, whatever the DNS server says later."""
    server, zones = receiver(good), {SHOP: at("127.0.0.1"), "moved.example": at("127.0.0.1")}

    async def move(sender: CurlSender, _: DnsServer) -> tuple[SendResult, SendResult]:
        before = await sender.send(request(SHOP, server.port))
        zones["moved.example"] = at("10.9.8.7")
        return before, await sender.send(request("moved.example", server.port))

    before, after = run(authority, zones, move)
    assert [classify(before), classify(after)] == [OutcomeCode.SUCCEEDED, OutcomeCode.TARGET_NOT_ALLOWED]


@pytest.mark.parametrize("host", ["localhost", "b.localhost"])
def test_names_of_this_machine_are_not_asked(
    authority: Authority, receiver: Callable[[Script], RawServer], host: str
) -> None:
    server = receiver(good)

    async def send(sender: CurlSender, dns: DnsServer) -> tuple[SendResult, int]:
        return await sender.send(request(host, server.port)), len(dns.questions)

    zones = {"localhost": at("10.9.8.7"), "b.localhost": at("10.9.8.7")}
    result, asked = run(authority, zones, send)
    assert (
        classify(result) is OutcomeCode.TLS_HOSTNAME_MISMATCH
    )  # it reached 127.0.0.1; the certificate is for another name
    assert (server.connections, asked) == (1, 0)


def test_a_registration_that_finds_no_time_for_its_look_up_says_so(authority: Authority) -> None:
    async def beside(sender: CurlSender, dns: DnsServer) -> Any:
        async with silent_names(sender, dns, PER_ACCOUNT):
            with pytest.raises(NameNotLookedUp):
                await sender.look_up(SHOP, "acct_1")
            return (await sender.look_up(SHOP, "acct_2")).addresses

    assert run(authority, {SHOP: at("10.0.0.1")}, beside, look_up_s=0.5) == ("10.0.0.1",)


def test_a_name_without_addresses_differs_from_one_without_an_answer(authority: Authority) -> None:
    async def ask(sender: CurlSender, _: DnsServer) -> list[Any]:
        return [await sender.look_up(name, "acct_1") for name in ("unknown.example", "broken.example", SHOP)]

    assert run(authority, {"broken.example": BROKEN, SHOP: at("192.0.2.1", "2001:db8::1")}, ask)[:2] == [
        NO_ADDRESS,
        NO_ANSWER,
    ]
