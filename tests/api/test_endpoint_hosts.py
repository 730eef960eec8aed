"""Which host names an endpoint may have, with a real DNS server behind the API: the check never fails open."""

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.databases import Databases
from support.dns_server import BROKEN, DnsServer, Zone, at
from support.receivers import Authority
from support.server import Answer, Server

ZONES = {
    "public.example": at("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"),
    "private.example": at("10.0.0.1"),
    "mixed.example": at("93.184.216.34", "10.0.0.1"),
    "mapped.example": at("::ffff:10.0.0.1"),
    "isatap.example": at("2a01:4f8:1:2:0:5efe:a00:1"),
    "broken.example": BROKEN,
    "empty.example": Zone(),
    "b.localhost": at("93.184.216.34"),
}


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer(dict(ZONES)) as running:
        yield running


@pytest.fixture
def server(databases: Databases, authority: Authority, dns: DnsServer) -> Iterator[Server]:
    url = databases.fresh("sqlite")
    with Server(url, authority.ca_file, egress_allow="", dns_servers=dns.address) as running:
        yield running


def add(server: Server, host: str) -> Answer:
    return server.call("POST", "/v1/webhook_endpoints", {"url": f"https://{host}/hook", "events": ["*"]})


def test_a_name_is_refused_that_has_an_address_which_deliveries_may_not_reach(server: Server) -> None:
    refused = ["private.example", "mixed.example", "mapped.example", "isatap.example", "b.localhost", "localhost:22"]
    answers = {host: add(server, host) for host in refused}
    assert {host: (each.status, each.json["code"]) for host, each in answers.items()} == dict.fromkeys(
        refused, (422, "target_not_allowed")
    )


def test_a_name_is_accepted_that_has_public_addresses_or_none_yet(server: Server) -> None:
    """Every connection checks the addresses again."""
    accepted = ["public.example", "unknown.example", "broken.example", "empty.example"]
    assert {host: add(server, host).status for host in accepted} == dict.fromkeys(accepted, 201)


def test_the_check_does_not_fail_open_beside_60_silent_names(server: Server, dns: DnsServer) -> None:
    with ThreadPoolExecutor(60) as pool:
        silent = [pool.submit(add, server, f"silent.{n}.example") for n in range(60)]
        dns.wait_for_names(60)
        assert add(server, "private.example").json["code"] == "target_not_allowed"
        assert add(server, "public.example").status == 201
        assert {each.result().status for each in silent} == {201}, "the DNS servers were asked, and did not answer"


def test_a_name_that_cannot_be_looked_up_is_answered_503(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is accepted unchecked. Here the process that looks names up has ended, and no other can be started."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    children = Path(f"/proc/self/task/{os.getpid()}/children").parent.parent.glob("*/children")
    pids = {pid for each in children for pid in each.read_text().split()}
    [sender] = [pid for pid in pids if b"sender_process" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(int(sender), signal.SIGKILL)
    refused = add(server, "public.example")
    assert (refused.status, refused.json["code"]) == (503, "name_not_looked_up")
    assert refused.headers["retry-after"] == "5"
    assert server.get("/v1/webhook_endpoints")["data"] == []


@pytest.mark.parametrize("name", ["X_LoyalPro_Signature", "webhook_id", "Content_Length", "HOST", "Proxy"])
def test_a_custom_header_that_a_receiver_could_take_for_another_is_refused(server: Server, name: str) -> None:
    body = {"url": "https://public.example/hook", "events": ["*"], "headers": {name: "x"}}
    refused = server.call("POST", "/v1/webhook_endpoints", body)
    assert (refused.status, refused.json["code"], refused.json["param"]) == (422, "invalid_header", f"headers.{name}")
