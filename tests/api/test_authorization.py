"""Keys that must not work, with every call of the OpenAPI document. `test_every_call` has the scopes."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import APIRouter

from loyalpro.accounts.scopes import SCOPES
from loyalpro.kernel.clock import VirtualClock, rfc3339
from loyalpro.web.auth import AccountId
from loyalpro.web.strict_route import StrictRoute
from support.calls import WITHOUT_A_KEY, calls_of
from support.databases import Databases
from support.server import Server


@pytest.fixture(scope="module", params=("sqlite", "postgres"))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    clock = VirtualClock(1_800_000_000_000)
    with Server(databases.fresh(str(request.param)), clock=clock) as running:
        yield running


@pytest.fixture(scope="module")
def keys(server: Server) -> dict[str, str]:
    """Keys that must not work."""
    now = server.application.clock.now_ms()

    def made(name: str, scopes: Any, **fields: Any) -> dict[str, Any]:
        created: dict[str, Any] = server.post("/v1/api_keys", {"name": name, "scopes": scopes} | fields)
        return created

    revoked = made("revoked", SCOPES)
    server.call("DELETE", f"/v1/api_keys/{revoked['id']}")
    expired = made("expired", SCOPES, expires_at=rfc3339(now + 1))
    clock: Any = server.application.clock
    clock.advance(1)
    return {"revoked": revoked["key"], "expired": expired["key"], "unknown": "lp_" + "0" * 48}


def test_a_route_that_needs_a_key_and_declares_no_scope_does_not_start() -> None:
    router = APIRouter(route_class=StrictRoute)

    async def route(account_id: AccountId) -> None: ...

    with pytest.raises(TypeError, match="names no scope"):
        router.add_api_route("/v1/new", route)


def test_without_a_valid_key_every_call_is_refused(server: Server, keys: dict[str, str]) -> None:
    codes = {
        None: "missing_api_key",
        keys["unknown"]: "invalid_api_key",
        keys["revoked"]: "invalid_api_key",
        keys["expired"]: "api_key_expired",
    }
    for method, path in calls_of(server).keys() - WITHOUT_A_KEY:
        for key, code in codes.items():
            body = {"no such field": 1} if method in ("post", "patch", "put") else None
            answer = server.call(method.upper(), re.sub(r"\{\w+\}", "none", path), body, key=key)
            assert (answer.status, answer.json["code"]) == (401, code), (method, path, key)
            assert answer.headers["www-authenticate"] == "Bearer"
