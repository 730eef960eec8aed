"""Query parameters: a misspelled filter is refused, because a call that ignored it would list everything."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from loyalpro.web.api import customers, deliveries, events, notices, replays, secrets, transactions, webhook_endpoints
from loyalpro.web.strict_route import StrictRoute
from support.databases import Databases
from support.server import Server

LISTS = ["customers", "transactions", "events", "deliveries", "notices", "webhook_endpoints"]
ROUTERS = [
    each.router for each in (customers, deliveries, events, notices, replays, secrets, transactions, webhook_endpoints)
]


@pytest.fixture(scope="module")
def server(databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh("sqlite")) as running:
        yield running


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_refuses_a_parameter_that_it_does_not_have(server: Server, kind: str) -> None:
    refused = server.call("GET", f"/v1/{kind}?Limit=1")
    assert (refused.status, refused.json["code"], refused.json["param"]) == (422, "unknown_field", "Limit")
    assert "Did you mean limit?" in refused.json["detail"]


def test_the_nearest_name_is_suggested(server: Server) -> None:
    for sent, meant in (("externalId", "external_id"), ("emial", "email"), ("curser", "cursor")):
        assert f"Did you mean {meant}?" in server.call("GET", f"/v1/customers?{sent}=x").json["detail"]
    listed = server.call("GET", "/v1/customers?q=x").json["detail"]
    assert listed == "There is no query parameter 'q'. Known query parameters: cursor, email, external_id, limit."


def test_a_call_without_parameters_refuses_every_one(server: Server) -> None:
    for method, path in (("POST", "/v1/customers"), ("GET", "/v1/event_types"), ("GET", "/v1/customers/cus_1")):
        refused = server.call(method, f"{path}?dry_run=1", {} if method == "POST" else None)
        assert (refused.status, refused.json["code"], refused.json["param"]) == (422, "unknown_field", "dry_run")
    assert not server.get("/v1/customers")["data"], "nothing was done"


def test_a_name_of_any_length_and_characters_is_refused_in_short(server: Server) -> None:
    refused = server.call("GET", f"/v1/customers?{quote('ü' + chr(10)) + 'x' * 4000}=1")
    assert (refused.status, refused.json["code"]) == (422, "unknown_field")
    assert len(refused.json["detail"]) < 200


@pytest.mark.parametrize("kind", ["events", "deliveries"])
def test_a_filter_by_an_event_type_that_does_not_exist_is_refused(server: Server, kind: str) -> None:
    refused = server.call("GET", f"/v1/{kind}?type=point.earned")
    assert (refused.status, refused.json["code"], refused.json["param"]) == (422, "unknown_event_type", "type")
    assert "did you mean points.earned?" in refused.json["detail"]
    assert server.call("GET", f"/v1/{kind}?type=points.earned").status == 200


def test_every_route_of_the_api_checks_its_parameters() -> None:
    routes = [route for router in ROUTERS for route in router.routes]
    assert len(routes) > 20
    assert all(isinstance(route, StrictRoute) for route in routes)
