"""Invalid requests: a 4xx that names the field, never a 500, and no partial change."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.databases import Databases
from support.server import API_KEY, Server


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


@pytest.fixture(scope="module")
def customer_id(server: Server) -> str:
    return str(server.post("/v1/customers", {"external_id": "regular"})["id"])


def purchase(buyer: str, **changes: Any) -> dict[str, Any]:
    return {"customer_id": buyer, "amount": 5_600, "currency": "EUR"} | changes


FIELDS: list[tuple[dict[str, Any], int, str]] = [
    ({"amount": "5600"}, 422, "amount"),
    ({"amount": -1}, 422, "amount"),
    ({"amount": 1.5}, 422, "amount"),
    ({"amount": True}, 422, "amount"),
    ({"amount": None}, 422, "amount"),
    ({"amount": 10**12}, 422, "amount"),
    ({"amount": 10**30}, 422, "amount"),
    ({"currency": "EURO"}, 422, "currency"),
    ({"currency": "eur"}, 422, "currency"),
    ({"currency": "USD"}, 422, "currency"),
    ({"currency": 978}, 422, "currency"),
    ({"occurred_at": "2099-01-01T00:00:00Z"}, 422, "occurred_at"),
    ({"occurred_at": "2025-01-01T00:00:00"}, 422, "occurred_at"),
    ({"occurred_at": "2025-01-01"}, 422, "occurred_at"),
    ({"occurred_at": "yesterday"}, 422, "occurred_at"),
    ({"occurred_at": 1763980200}, 422, "occurred_at"),
    ({"occurred_at": "9999-12-31T23:59:59-23:59"}, 422, "occurred_at"),
    ({"occurred_at": "0001-01-01T00:00:00+14:00"}, 422, "occurred_at"),
    ({"items": {}}, 422, "items"),
    ({"items": [{"sku": "A"}]}, 422, "items[0].amount"),
    ({"items": [{"amount": 1, "quantity": "2"}]}, 422, "items[0].quantity"),
    ({"items": [{"amount": 1, "quantity": True}]}, 422, "items[0].quantity"),
    ({"items": [{"amount": 1, "quantity": 1e16}]}, 422, "items[0].quantity"),
    ({"items": [{"amount": 0.5}]}, 422, "items[0].amount"),
    ({"items": [{"amount": -(10**12)}]}, 422, "items[0].amount"),
    ({"items": [{"amount": 1}] * 1_001}, 422, "items"),
    ({"items": [{"amount": 1, "name": "é" * 250}] * 120}, 422, "items"),
    ({"metadata": []}, 422, "metadata"),
    ({"metadata": {"1": 2}}, 422, "metadata.1"),
    ({"metadata": {"a": {"__proto__": 2}}}, 422, "metadata.a.__proto__"),
    ({"metadata": {"a": "x" * 20_000}}, 422, "metadata"),
    ({"metadata": {"a": 2**53}}, 422, "metadata.a"),
    ({"metadata": {"a": 1e16}}, 422, "metadata.a"),
    ({"metadata": {"a": [-1e20]}}, 422, "metadata.a[0]"),
    ({"metadata": {"a": 1e21}}, 422, "metadata.a"),
    ({"metadata": {"a": 10**21}}, 422, "metadata.a"),
    ({"external_id": ""}, 422, "external_id"),
    ({"external_id": "a\u0000b"}, 422, "external_id"),
    ({"external_id": "x" * 256}, 422, "external_id"),
    ({"surprise": 1}, 422, "surprise"),
    ({"customer_external_id": "also"}, 422, "customer_id"),
    ({"customer_id": None}, 422, "customer_id"),
    ({"customer_id": "cus_unknown"}, 404, "customer_id"),
    ({"customer_id": "a\u0000"}, 422, "customer_id"),
]


@pytest.mark.parametrize(("changes", "status", "param"), FIELDS, ids=[json.dumps(each[0])[:40] for each in FIELDS])
def test_a_wrong_field_is_named_and_nothing_is_stored(
    server: Server, customer_id: str, changes: dict[str, Any], status: int, param: str
) -> None:
    before = server.until("/v1/events?limit=100", lambda page: page["data"])["data"]  # only `customer.created`
    answer = server.call("POST", "/v1/transactions", purchase(customer_id, **changes))
    assert (answer.status, answer.json["param"]) == (status, param), answer.json
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(answer.json) >= {"type", "title", "status", "code", "detail", "request_id"}
    assert server.get("/v1/events?limit=100")["data"] == before
    assert server.get("/v1/transactions")["data"] == []


RAW: list[tuple[bytes, int, str | None]] = [
    (b"", 400, None),
    (b"{", 400, None),
    (b"null", 422, None),
    (b"[]", 422, None),
    (b"\xff\xfe", 400, None),
    (b'{"amount":NaN}', 400, "amount"),
    (b'{"amount":-Infinity}', 400, "amount"),
    (b'{"amount":1,"amount":2}', 422, "amount"),
    (b'{"metadata":{"a":{"b":1,"b":1}}}', 422, "metadata.a.b"),
    (b'{"metadata":{"a":"\\ud800"}}', 422, "metadata.a"),
    (b'{"amount":' + b"7" * 5_000 + b"}", 422, "amount"),
    (b'{"amount":1e999}', 422, "amount"),
    (b'{"metadata":' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"}", 422, "metadata"),
    (
        b'{"metadata":' + b'{"a":' * 40 + b"1" + b"}" * 40 + b',"amount":1,"currency":"EUR","customer_id":"c"}',
        422,
        "metadata",
    ),
    (b"[" * 60_000, 422, None),
    (b"[" * 100_000, 413, None),
    (b'{"metadata":"' + b"x" * 300_000 + b'"}', 413, None),
]


@pytest.mark.parametrize(("body", "status", "param"), RAW, ids=[repr(each[0][:30]) for each in RAW])
def test_a_body_that_is_not_strict_json_is_refused(server: Server, body: bytes, status: int, param: str | None) -> None:
    answer = server.call("POST", "/v1/transactions", body)
    assert (answer.status, answer.json.get("param")) == (status, param), answer.json


@pytest.mark.parametrize(
    "path", ["/v1/customers", "/v1/transactions", "/v1/transactions/batch", "/v1/webhook_endpoints"]
)
@settings(max_examples=60)
@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["url", "events", "amount", "currency", "customer_id", "transactions", "metadata", "email"]
                ),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_no_json_body_causes_a_500(server: Server, path: str, body: Any) -> None:
    answer = server.call("POST", path, json.dumps(body).encode())
    assert answer.status < 500, (body, answer.json)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/customers?limit=0", "/v1/customers?limit=101", "/v1/customers?limit=x", "/v1/customers?external_id=%00",
        "/v1/customers?cursor=zzz", "/v1/customers/%00", "/v1/customers/cus_%ff", "/v1/events?after=nothing",
        "/v1/deliveries?status=lost", "/v1/deliveries?type=%00", "/v1/transactions/txn_1", "/v1/webhook_endpoints/we_1",
        "/v1/events/evt_00000000000000000000000000", "/v1/nothing", "/v1/customers/",
    ],
)  # fmt: skip
def test_bad_queries_and_paths_are_refused_with_a_problem(server: Server, path: str) -> None:
    answer = server.call("GET", path)
    assert 400 <= answer.status < 500, answer.raw
    assert answer.json["code"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/customers", "GET, POST"),
        ("/v1/customers/cus_1", "DELETE, GET, PATCH"),
        ("/v1/transactions/batch", "GET, POST"),
        ("/healthz", "GET, HEAD"),
    ],
)
def test_a_refused_method_gets_the_methods_of_the_path(server: Server, path: str, allowed: str) -> None:
    answer = server.call("PUT", path)
    assert (answer.status, answer.json["code"], answer.headers["allow"]) == (405, "method_not_allowed", allowed)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_checks_accept_head_requests(server: Server, path: str) -> None:
    answer = server.call("HEAD", path, key=None)
    assert (answer.status, answer.raw) == (200, b"")


def test_every_post_documents_the_idempotency_key(server: Server) -> None:
    for path, found in server.get("/openapi.json")["paths"].items():
        for method, operation in found.items():
            named = [each["name"] for each in operation.get("parameters", []) if each["in"] == "header"]
            expected = {"post": ["Idempotency-Key"], "patch": ["if-match"] if path == "/v1/program" else []}
            assert named == expected.get(method, []), (method, path)


def test_a_missing_or_wrong_api_key_is_refused(server: Server) -> None:
    for key in (None, "", "lp_wrong", API_KEY + "x", API_KEY.upper()):
        answer = server.call("GET", "/v1/customers", key=key)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"


def test_every_call_checks_the_api_key_before_the_body(server: Server) -> None:
    paths = server.get("/openapi.json")["paths"]
    calls = [(method.upper(), path) for path, found in paths.items() if path.startswith("/v1/") for method in found]
    calls.remove(("GET", "/v1/event_types"))
    assert len(calls) > 30
    for method, path in calls:
        for body in (None, b"{"):
            assert server.call(method, path, body, key=None).status == 401, (method, path)
    assert server.call("POST", "/v1/transactions/batch", b"x" * 9_000_000, key="lp_wrong").status == 401


def test_a_body_of_a_call_without_fields_is_limited_too(server: Server) -> None:
    path = f"/v1/deliveries/dlv_{'0' * 36}/cancel"
    for headers in ({}, {"Idempotency_Key": "no-body"}):
        assert server.call("POST", path, b"x" * 16_384, **headers).status == 404
        answer = server.call("POST", path, b"x" * 3_000_000, **headers)
        assert (answer.status, answer.json["code"]) == (413, "body_too_large")


def test_a_body_that_is_compressed_or_not_json_is_refused(server: Server) -> None:
    for headers in ({"Content_Encoding": "gzip"}, {"Content_Type": "text/xml"}):
        assert server.call("POST", "/v1/customers", b"{}", **headers).status == 400


def test_a_batch_has_a_result_for_each_purchase(server: Server, databases: Databases) -> None:
    buyer = server.post("/v1/customers", {"external_id": "batch-buyer"})["id"]
    good, bad = purchase(buyer, external_id="b-1"), purchase(buyer, amount=-5)
    answer = server.post(
        "/v1/transactions/batch",
        {"transactions": [good, bad, good, purchase(buyer, external_id="b-1", amount=1), purchase("cus_x"), 7]},
    )
    statuses = [each["status"] for each in answer["data"]]
    assert statuses == [201, 422, 200, 409, 404, 422]
    assert answer["data"][1]["error"]["param"] == "amount"
    assert answer["data"][0]["transaction"] == answer["data"][2]["transaction"]
    assert server.get(f"/v1/customers/{buyer}")["points"]["available"] == 56
    events = [each["type"] for each in server.listed(f"/v1/events?customer_id={buyer}")["data"]]
    assert events == ["customer.created", "transaction.completed", "points.earned"]
