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
    assert listed == (
        "There is no query parameter 'q'. Known query parameters: cursor, email, external_id, limit, phone, tag, tier_id,"
        " updated_since."
    )


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


FILTERS = [
    f"/v1/{kind}?{name}="
    for kind, names in {
        "customers": ["external_id", "email", "phone", "tag", "tier_id", "updated_since"],
        "transactions": ["customer_id", "external_id"],
        "events": ["type", "customer_id"],
        "deliveries": ["endpoint_id", "event_id", "type", "status"],
        "notices": ["endpoint_id"],
    }.items()
    for name in names
]


@pytest.mark.parametrize("path", [*FILTERS, "/v1/customers?limit="])
def test_a_parameter_without_a_value_is_refused(server: Server, path: str) -> None:
    refused = server.call("GET", path)
    assert (refused.status, refused.json["code"]) == (422, "invalid_field")
    assert refused.json["param"] == path.partition("?")[2].rstrip("=")


@pytest.mark.parametrize(
    "query", ["limit=1&limit=2", "external_id=a&external_id=a", "cursor=&cursor=", "email=a&limit=1&email=b"]
)
def test_a_parameter_that_is_sent_twice_is_refused(server: Server, query: str) -> None:
    refused = server.call("GET", f"/v1/customers?{query}")
    assert (refused.status, refused.json["param"]) == (422, query.partition("=")[0])
    assert "more than once" in refused.json["detail"]


@pytest.mark.parametrize("value", ["abc", "0", "101", "1.5", "-1", "1e2", "%2B"])
def test_a_limit_that_is_no_limit_is_refused(server: Server, value: str) -> None:
    refused = server.call("GET", f"/v1/customers?limit={value}")
    assert (refused.status, refused.json["param"]) == (422, "limit")


@pytest.mark.parametrize("value", ["succeded", "Pending", "failed", "pending,succeeded"])
def test_an_unknown_status_is_refused_with_the_known_ones(server: Server, value: str) -> None:
    refused = server.call("GET", f"/v1/deliveries?status={value}")
    assert (refused.status, refused.json["param"]) == (422, "status")
    assert "Send one of: pending, succeeded, exhausted, canceled, parked" in refused.json["detail"]
    if value == "succeded":
        assert refused.json["detail"].endswith("Did you mean succeeded?")


def test_an_empty_cursor_is_the_beginning_of_a_list(server: Server) -> None:
    for path in ("/v1/customers?cursor=", "/v1/events?after=", "/v1/events?cursor="):
        assert server.call("GET", path).status == 200


@pytest.mark.parametrize(
    ("path", "body", "param", "near"),
    [
        ("/v1/customers", {"externalId": "a"}, "externalId", "external_id"),
        ("/v1/customers", {"emial": "a@b.c"}, "emial", "email"),
        ("/v1/transactions", {"ammount": 1}, "ammount", "amount"),
        (
            "/v1/transactions",
            {"amount": 1, "currency": "EUR", "items": [{"amount": 1}, {"quantitiy": 2}]},
            "items[1].quantitiy",
            "quantity",
        ),
        ("/v1/webhook_endpoints", {"event": ["*"]}, "event", "events"),
        (f"/v1/webhook_endpoints/we_{'0' * 26}/replay", {"sinze": "x"}, "sinze", "since"),
        (f"/v1/webhook_endpoints/we_{'0' * 26}/rotate_secret", {"promot": True}, "promot", "promote"),
        (f"/v1/webhook_endpoints/we_{'0' * 26}/test", {"types": "x"}, "types", "type"),
        (f"/v1/events/evt_{'0' * 26}/resend", {"endpoint": "x"}, "endpoint", "endpoint_id"),
        ("/v1/transactions/batch", {"transaction": []}, "transaction", "transactions"),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_name(
    server: Server, path: str, body: dict[str, object], param: str, near: str
) -> None:
    refused = server.call("POST", path, body)
    assert (refused.status, refused.json["code"], refused.json["param"]) == (422, "unknown_field", param)
    assert refused.json["detail"].endswith(f"Did you mean {near}?")


@pytest.mark.parametrize(
    "name",
    [
        "Idempotency-Keys",
        "Idempotency",
        "IdempotencyKey",
        "X-Idempotency-Key",
        "Idempotent-Key",
        "Idempotence-Key",
        "Idempotancy-Key",
    ],
)
def test_a_header_that_is_called_almost_like_the_idempotency_key_is_refused(server: Server, name: str) -> None:
    for path in ("/v1/customers", "/v1/webhook_endpoints"):
        body = {} if path == "/v1/customers" else {"url": "https://hooks.example", "events": ["*"]}
        refused = server.call("POST", path, body, **{name: "k"})
        assert (refused.status, refused.json["code"]) == (422, "unknown_header")
        assert "Did you mean Idempotency-Key?" in refused.json["detail"]
    both = server.call("POST", "/v1/customers", {}, **{name: "k", "Idempotency-Key": f"beside {name}"})
    assert both.status == 201, "a proxy may add it"
    assert server.call("GET", "/v1/customers", **{name: "k"}).status == 200


def test_every_route_of_the_api_checks_its_parameters() -> None:
    routes = [route for router in ROUTERS for route in router.routes]
    assert len(routes) > 20
    assert all(isinstance(route, StrictRoute) for route in routes)
