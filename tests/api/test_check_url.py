"""The check of an endpoint's URL through a server, with a real DNS server behind it."""

from collections.abc import Iterator

import pytest

from support.databases import Databases
from support.dns_server import DnsServer, at
from support.receivers import Authority
from support.server import Server

PATH = "/v1/webhook_endpoints/check_url"
ZONES = {"public.example": at("93.184.216.34"), "private.example": at("10.0.0.1")}


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer(dict(ZONES)) as running:
        yield running


@pytest.fixture
def server(database_url: str, authority: Authority, dns: DnsServer, databases: Databases) -> Iterator[Server]:
    with Server(database_url, authority.ca_file, egress_allow="", dns_servers=dns.address) as running:
        yield running


def last_line(server: Server, url: str) -> str:
    found = server.post(PATH, {"url": url})
    return str(found["checks"][-1]["detail"])


def test_the_name_is_looked_up_and_nothing_is_stored(server: Server) -> None:
    assert last_line(server, "https://public.example/hook") == "public.example leads to a public address"
    assert "not public" in last_line(server, "https://private.example/hook")
    assert last_line(server, "https://nowhere.example/hook") == "This name does not exist."
    assert server.get("/v1/webhook_endpoints")["data"] == []


def test_the_endpoints_that_have_the_url_are_named(server: Server) -> None:
    url = "https://public.example/hook"
    for name in ("CRM", "Till", "Shop", "Mail"):
        server.post("/v1/webhook_endpoints", {"url": url, "events": ["*"], "description": name})
        if name == "CRM":
            assert last_line(server, "HTTPS://Public.Example:443/hook") == "An endpoint with this URL exists: CRM."
    assert last_line(server, url) == "Endpoints with this URL exist: CRM, Till, Shop and others."
    assert last_line(server, url + "/other") == "public.example leads to a public address"


def test_a_caller_has_thirty_checks_a_minute(server: Server) -> None:
    answers = [server.call("POST", PATH, {"url": "https://10.0.0.1/"}) for _ in range(31)]
    assert [each.status for each in answers] == [200] * 30 + [429]
    assert answers[-1].headers["retry-after"] == "2"
    assert "30 URLs per minute" in answers[-1].json["detail"]
