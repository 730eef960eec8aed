"""The limit on the endpoints of an account, which bounds how many deliveries one purchase creates."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.databases import Databases
from support.receivers import Authority
from support.server import Answer, Server

LIMIT = 3


@pytest.fixture
def server(database_url: str, authority: Authority) -> Iterator[Server]:
    with Server(database_url, authority.ca_file, max_endpoints=LIMIT) as running:
        yield running


def add(server: Server, number: int = 0) -> Answer:
    body = {"url": f"https://localhost:44300/{number}", "events": ["*"]}
    return server.call("POST", "/v1/webhook_endpoints", body)


def test_one_endpoint_more_than_the_limit_is_refused(server: Server) -> None:
    added = [add(server).json["id"] for _ in range(LIMIT)]
    refused = add(server)
    assert (refused.status, refused.json["code"]) == (422, "too_many_endpoints")
    assert f"has {LIMIT} webhook endpoints" in refused.json["detail"]
    assert server.call("DELETE", f"/v1/webhook_endpoints/{added[0]}").status == 204
    assert add(server).status == 201, "a deleted endpoint does not count"
    assert add(server).status == 422


def test_two_servers_together_do_not_exceed_the_limit(databases: Databases, authority: Authority) -> None:
    url = databases.fresh("postgres")
    with (
        Server(url, authority.ca_file, max_endpoints=LIMIT) as one,
        Server(url, authority.ca_file, max_endpoints=LIMIT) as other,
        ThreadPoolExecutor(8) as pool,
    ):
        for each in (one, other):
            each.get(
                "/v1/webhook_endpoints"
            )  # so that the routes of both servers are built, one server after the other
        statuses = sorted(answer.status for answer in pool.map(add, [one, other] * 10, range(20)))
        assert statuses == [201] * LIMIT + [422] * (20 - LIMIT)
        assert len(one.get("/v1/webhook_endpoints")["data"]) == LIMIT
