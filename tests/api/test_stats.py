"""What is counted of the attempts of an endpoint, as deliveries to a real receiver make it."""

import socket
from collections.abc import Iterator

import pytest

from support.databases import Databases
from support.receivers import Authority, Hit, RawServer, answer
from support.server import Server


@pytest.fixture(scope="module", params=("sqlite", "postgres"))
def server(request: pytest.FixtureRequest, databases: Databases, authority: Authority) -> Iterator[Server]:
    with Server(databases.fresh(request.param), authority.ca_file) as running:
        yield running


def test_each_attempt_is_counted_by_how_it_ended(server: Server, authority: Authority) -> None:
    statuses = [200, 503, 200, 404]

    def script(connection: socket.socket, hit: Hit | None) -> None:
        assert hit is not None
        number = int(hit.headers["X-Number"]) if "X-Number" in hit.headers else 0
        connection.sendall(answer(statuses[number]))

    with RawServer(script, authority.context()) as receiver:
        for number in range(len(statuses)):
            body = {"url": receiver.url, "events": ["customer.created"], "headers": {"X-Number": str(number)}}
            server.post("/v1/webhook_endpoints", body | {"description": str(number)})
        server.post("/v1/customers/batch", {"customers": [{}, {}, {}]})
        for endpoint in server.get("/v1/webhook_endpoints")["data"]:
            status = statuses[int(endpoint["description"])]
            path = f"/v1/webhook_endpoints/{endpoint['id']}/stats"
            found = server.until(path, lambda each: each["delivered"] + each["failed"] >= 3)
            assert (found["delivered"] > 0, found["failed"] > 0) == (status == 200, status != 200)
            outcome = {503: "http_5xx", 404: "http_4xx"}.get(status)
            expected = [] if outcome is None else [(outcome, status, found["failed"])]
            assert [
                (each["outcome"], each["response_status"], each["attempts"]) for each in found["failures"]
            ] == expected
            assert all((value is None) == (status != 200) for value in found["latency"].values())
            assert found["last_attempt_at"] >= endpoint["created_at"]
            for period, spans in (("1h", 60), ("24h", 24), ("7d", 168), ("30d", 30)):
                other = server.get(f"{path}?period={period}")
                assert len(other["spans"]) == spans
                assert sum(each["delivered"] for each in other["spans"]) == other["delivered"] >= found["delivered"]
                assert other["failed"] >= found["failed"]
