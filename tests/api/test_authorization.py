"""Who may make which call: every call of the OpenAPI document, with every kind of key."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter

from loyalpro.accounts.scopes import SCOPES
from loyalpro.kernel.clock import VirtualClock, rfc3339
from loyalpro.web.auth import AccountId
from loyalpro.web.strict_route import StrictRoute
from support.accounts import open_account
from support.databases import Databases
from support.history import count, query
from support.server import API_KEY, Answer, Server

WITHOUT_A_KEY = {("get", "/v1/event_types"), ("get", "/healthz"), ("get", "/readyz"), ("get", "/metrics")}
WRITE = {
    "/v1/customers": "customers",
    "/v1/customers/{customer_id}/adjustments": "points",
    "/v1/lots": "points",
    "/v1/program": "program",
    "/v1/campaigns": "program",
    "/v1/churn": "program",
    "/v1/fraud": "program",
    "/v1/rewards": "program",
    "/v1/redemptions": "points",
    "/v1/transactions": "transactions",
    "/v1/refunds": "transactions",
    "/v1/imports": "transactions",
    "/v1/exports": "read",
    "/v1/webhook_endpoints": "webhooks",
    "/v1/events": "webhooks",
    "/v1/deliveries": "webhooks",
    "/v1/api_keys": "admin",
}
"""The scope of every call that changes something, by the beginning of its path; the longest one decides."""
READ = {"/v1/api_keys": "admin", "/v1/audit_log": "admin", "/v1/webhook_endpoints/{endpoint_id}/secret": "webhooks"}
"""The scope of the calls that read, where it is not `read`: what they show lets its reader do more than read."""
CAMPAIGN = {"name": "Canary", "kind": "bonus", "points": 1, "starts_at": "2026-01-01T00:00:00Z"}
OTHER_ACCOUNT = "lp_other_0123456789abcdef0123456789"


def expected(method: str, path: str) -> str:
    """The scope that a call needs."""
    if method == "get":
        return next((scope for begin, scope in READ.items() if path.startswith(begin)), "read")
    return WRITE[max((begin for begin in WRITE if path.startswith(begin)), key=len)]


@pytest.fixture(scope="module", params=("sqlite", "postgres"))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    clock = VirtualClock(1_800_000_000_000)
    with Server(databases.fresh(str(request.param)), clock=clock) as running:
        yield running


@pytest.fixture(scope="module")
def calls(server: Server) -> dict[tuple[str, str], Any]:
    """Every call under its method and path."""
    paths = server.get("/openapi.json")["paths"]
    return {(method, path): call for path, methods in paths.items() for method, call in methods.items()}


@pytest.fixture(scope="module")
def keys(server: Server) -> dict[str, str]:
    """A key with each scope alone, one with all but each, and ones that must not work."""
    now = server.application.clock.now_ms()

    def made(name: str, scopes: Any, **fields: Any) -> dict[str, Any]:
        created: dict[str, Any] = server.post("/v1/api_keys", {"name": name, "scopes": scopes} | fields)
        return created

    found: dict[str, str] = {scope: made(scope, [scope])["key"] for scope in SCOPES}
    found |= {
        f"not {scope}": made(f"not {scope}", [each for each in SCOPES if each != scope])["key"] for scope in SCOPES
    }
    revoked = made("revoked", SCOPES)
    server.call("DELETE", f"/v1/api_keys/{revoked['id']}")
    expired = made("expired", SCOPES, expires_at=rfc3339(now + 1))
    clock: Any = server.application.clock
    clock.advance(1)
    return found | {"revoked": revoked["key"], "expired": expired["key"], "unknown": "lp_" + "0" * 48}


@pytest.fixture(scope="module")
def other_account(server: Server) -> str:
    """The key of another account that has every scope."""
    open_account(server, OTHER_ACCOUNT)
    return OTHER_ACCOUNT


def ask(server: Server, method: str, path: str, key: str | None, ids: dict[str, str] | None = None) -> Answer:
    """Make a call with a body that no call accepts, so that an authorized one changes nothing."""
    target = re.sub(r"\{(\w+)\}", lambda name: (ids or {}).get(name[1], "none"), path)
    body = {"no such field": 1} if method in ("post", "patch", "put") else None
    return server.call(method.upper(), target, body, key=key)


def test_every_call_declares_the_scope_that_it_needs(calls: dict[tuple[str, str], Any]) -> None:
    assert len(calls) > 30
    for (method, path), call in calls.items():
        if (method, path) in WITHOUT_A_KEY:
            assert "security" not in call, (method, path)
        else:
            assert call["security"] == [{"HTTPBearer": [expected(method, path)]}], (method, path)


def test_a_route_that_needs_a_key_and_declares_no_scope_does_not_start() -> None:
    router = APIRouter(route_class=StrictRoute)

    async def route(account_id: AccountId) -> None: ...

    with pytest.raises(TypeError, match="names no scope"):
        router.add_api_route("/v1/new", route)


def test_without_a_valid_key_every_call_is_refused(
    server: Server, calls: dict[tuple[str, str], Any], keys: dict[str, str]
) -> None:
    codes = {
        None: "missing_api_key",
        keys["unknown"]: "invalid_api_key",
        keys["revoked"]: "invalid_api_key",
        keys["expired"]: "api_key_expired",
    }
    for method, path in calls.keys() - WITHOUT_A_KEY:
        for key, code in codes.items():
            answer = ask(server, method, path, key)
            assert (answer.status, answer.json["code"]) == (401, code), (method, path, key)
            assert answer.headers["www-authenticate"] == "Bearer"


def test_a_call_is_allowed_with_its_scope_alone_and_refused_with_all_others(
    server: Server, calls: dict[tuple[str, str], Any], keys: dict[str, str]
) -> None:
    for method, path in calls.keys() - WITHOUT_A_KEY:
        scope = expected(method, path)
        assert ask(server, method, path, keys[scope]).status not in (401, 403), (method, path)
        for name in [f"not {scope}", *(each for each in SCOPES if each != scope)]:
            answer = ask(server, method, path, keys[name])
            assert (answer.status, answer.json["code"]) == (403, "insufficient_scope"), (method, path, name)
            assert f"scope {scope};" in answer.json["detail"]


def test_a_key_of_another_account_finds_and_changes_nothing(
    server: Server, calls: dict[tuple[str, str], Any], other_account: str
) -> None:
    added = server.post(
        "/v1/webhook_endpoints",
        {"url": "https://localhost:1024/canary", "events": ["*"], "description": "Canary", "status": "paused"},
    )
    endpoint = f"/v1/webhook_endpoints/{added['id']}"
    server.post("/v1/customers", {"external_id": "a", "name": "Canary"})
    customer = server.get("/v1/customers")["data"][0]["id"]
    purchase = server.post("/v1/transactions", {"customer_id": customer, "amount": 100, "currency": "EUR"})
    url = server.application.settings.url
    ids = {
        "customer_id": customer,
        "transaction_id": purchase["id"],
        "event_id": server.until("/v1/events", lambda page: page["data"])["data"][0]["id"],
        "endpoint_id": added["id"],
        "delivery_id": server.get("/v1/deliveries")["data"][0]["id"],
        "replay_id": server.post(f"{endpoint}/replay", {"since": "2020-01-01T00:00:00Z"})["id"],
        "key_id": server.get("/v1/api_keys")["data"][0]["id"],
        "reward_id": server.post("/v1/rewards", {"name": "Canary", "type": "custom", "cost_points": 1})["id"],
        "lot_id": server.get(f"/v1/customers/{customer}/lots")["data"][0]["id"],
        "import_id": server.post("/v1/imports", {"kind": "customers", "rows": [{"external_id": "b"}]})["id"],
        "export_id": server.post("/v1/exports", {"kind": "customers"})["id"],
        "campaign_id": server.post("/v1/campaigns", CAMPAIGN)["id"],
        "run_id": server.post("/v1/churn/runs", {})["id"],
        "case_id": "frd_00000000000000000000000000",
        "code": "velocity.nothing",
        "version": "99",
        "redemption_id": server.post("/v1/redemptions", {"customer_id": customer, "points": 1, "reserve": True})["id"],
    }
    tables = ("customers", "transactions", "events", "audit_log", "api_keys")
    rows = (
        "SELECT id, status, name FROM customers ORDER BY id",
        "SELECT id, name, revoked_at FROM api_keys ORDER BY id",
        "SELECT id, status, name FROM rewards ORDER BY id",
        "SELECT id, status, points_returned FROM redemptions ORDER BY id",
    )

    def state() -> list[Any]:
        return [count(url, table) for table in tables] + [query(url, each) for each in rows]

    tier = server.call("GET", "/v1/program", key=other_account).json["tiers"][0]["id"]
    before = state()
    bodies: dict[str, Any] = {
        "webhook_endpoints": {"status": "paused"},
        "replay": {"since": "2020-01-01T00:00:00Z"},
        "adjustments": {"points": 1, "reason_code": "x"},
        "merge": {"into": "cus_00000000000000000000000000"},
        "tier": {"tier_id": tier, "reason": "x"},
        "resolve": {"resolution": "confirmed"},
        "backtest": {},
        "{code}": {},
        "refunds": {},
        "capture": {},
        "reverse": {},
        "cancel": {},
    }
    asked = 0
    for method, path in calls.keys() - WITHOUT_A_KEY:
        needed = re.findall(r"\{(\w+)\}", path)
        if needed:
            target = re.sub(r"\{(\w+)\}", lambda name: ids[name[1]], path)
            body = bodies.get(
                path.split("/")[2 if method == "patch" else -1],
                {"name": "x"} if method == "patch" else None,
            )
            answer = server.call(method.upper(), target, body, key=other_account)
            assert answer.status == 404, (method, path, answer.raw)
            asked += 1
        elif method == "get":
            assert b"Canary" not in server.call("GET", path, key=other_account).raw
    assert asked > 20
    assert state() == before
    assert server.call("GET", f"/v1/customers/{customer}", key=API_KEY).status == 200
