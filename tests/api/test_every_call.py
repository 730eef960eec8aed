"""Every call of the API: the scope that it needs, and that the key of one account never reaches another.

The calls are read from the published document, and `support.calls` describes each: a call without a description fails here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from loyalpro.accounts.scopes import SCOPES
from loyalpro.kernel.clock import VirtualClock
from support.accounts import open_account
from support.calls import (
    CALLS,
    FIELDS_OF_OTHERS,
    OBJECTS_IN_BODIES,
    OF_EVERY_ACCOUNT,
    WITHOUT_A_KEY,
    calls_of,
    filled,
)
from support.databases import Databases
from support.history import query
from support.planted import Planting, ids_in, stored_rows
from support.server import API_KEY, Answer, Server

OTHER_KEY = "lp_other_0123456789abcdef0123456789"
WORD = "canary"


@dataclass(frozen=True)
class World:
    """A server with two accounts. `names`: ids of the first account, and of the other one as `own.` and the name."""

    server: Server
    calls: dict[tuple[str, str], Any]
    names: dict[str, str]
    secrets: set[str]
    """Every id of the first account."""

    def ask(self, method: str, path: str, body: Any = None, *, own: bool = False) -> Answer:
        """Make a call with the key of the other account. `own`: on its own objects."""
        target = path.replace("{", "{own.") if own else path
        return self.server.call(method.upper(), filled(target, self.names), filled(body, self.names), key=OTHER_KEY)

    def rows(self, *without: str) -> dict[str, list[str]]:
        return stored_rows(self.server.application.settings.url, *without)

    def shows_nothing(self, answer: Answer, sent: str = "") -> None:
        """The response has no id and no text of the first account but those that were sent."""
        text = answer.raw.decode()
        assert {each for each in self.secrets if each in text and each not in sent} == set()
        assert WORD not in text.lower() or WORD in sent


@pytest.fixture(scope="module", params=("sqlite", "postgres"))
def world(request: pytest.FixtureRequest, databases: Databases) -> Iterator[World]:
    with Server(databases.fresh(str(request.param)), clock=VirtualClock(1_800_000_000_000)) as server:
        names = Planting(server, API_KEY, WORD).everything()
        secrets = ids_in(stored_rows(server.application.settings.url))
        open_account(server, OTHER_KEY)
        own = Planting(server, OTHER_KEY, "own").everything()
        secrets -= {each for each in secrets if each.startswith("dlv_")} - {names["delivery_id"]}
        yield World(server, calls_of(server), names | {f"own.{name}": id_ for name, id_ in own.items()}, secrets)


@pytest.fixture(scope="module")
def keys(world: World) -> dict[str, str]:
    """A key with each scope alone, and one with all but each."""
    url = "/v1/api_keys"
    alone = {scope: world.server.post(url, {"name": scope, "scopes": [scope]})["key"] for scope in SCOPES}
    without = {
        f"not {scope}": world.server.post(
            url, {"name": f"not {scope}", "scopes": [each for each in SCOPES if each != scope]}
        )["key"]
        for scope in SCOPES
    }
    return alone | without


def test_every_call_is_described_and_declares_its_scope(world: World) -> None:
    assert world.calls.keys() == CALLS.keys() | WITHOUT_A_KEY
    for (method, path), operation in world.calls.items():
        expected = None if (method, path) in WITHOUT_A_KEY else [{"HTTPBearer": [CALLS[method, path].scope]}]
        assert operation.get("security") == expected, (method, path)


def test_a_call_is_allowed_with_its_scope_alone_and_refused_with_all_others(world: World, keys: dict[str, str]) -> None:
    for (method, path), call in CALLS.items():
        target = re.sub(r"\{\w+\}", "none", path)
        body = None if method in ("get", "delete") else {"no such field": 1}  # no call accepts it, so nothing changes
        assert world.server.call(method.upper(), target, body, key=keys[call.scope]).status not in (401, 403), path
        answer = world.server.call(method.upper(), target, body, key=keys[f"not {call.scope}"])
        assert (answer.status, answer.json["code"]) == (403, "insufficient_scope"), (method, path)
        assert f"scope {call.scope};" in answer.json["detail"]


def test_a_path_that_names_an_object_of_another_account_is_not_found(world: World) -> None:
    before = world.rows()
    asked = 0
    for (method, path), call in CALLS.items():
        if not set(re.findall(r"\{(\w+)\}", path)) - OF_EVERY_ACCOUNT:
            continue
        if method == "get" and path.endswith("{version}"):
            continue  # versions are numbers of each account
        answer = world.ask(method, path, call.body)
        assert answer.status == 404, (method, path, answer.raw)
        asked += 1
    assert asked > 45
    assert world.rows() == before


def test_an_inner_object_of_another_account_is_not_found_within_an_own_one(world: World) -> None:
    for method, end in (("get", ""), ("post", "/cancel")):
        path = f"/v1/webhook_endpoints/{{own.endpoint_id}}/replays/{{replay_id}}{end}"
        assert world.ask(method, path).status == 404


def test_lists_show_nothing_of_another_account(world: World) -> None:
    lists = [path for method, path in CALLS if method == "get" and "{" not in path]
    assert len(lists) > 15
    for path in lists:
        answer = world.ask("get", path)
        assert answer.status == 200, (path, answer.raw)
        world.shows_nothing(answer)


def test_own_objects_show_nothing_of_another_account(world: World) -> None:
    for path in [path for method, path in CALLS if method == "get" and "{" in path]:
        answer = world.ask("get", path, own=True)
        assert answer.status == 200, (path, answer.raw)
        world.shows_nothing(answer)


def test_filters_find_nothing_of_another_account(world: World) -> None:
    texts = {
        "email": f"{WORD}@example.com", "tag": WORD, "object_id": "{customer_id}", "actor": "key:{key_id}",
        "channel": WORD, "code": WORD,
    }  # fmt: skip
    asked = 0
    for (method, path), operation in world.calls.items():
        for each in operation.get("parameters", []):
            name = each["name"]
            value = texts.get(name) or (f"{{{name}}}" if name in world.names else None)
            if each["in"] != "query" or method != "get" or value is None:
                continue
            answer = world.ask("get", f"{path}?{name}={value}", own=True) if "{" in path else world.ask(
                "get", f"{path}?{name}={value}"
            )  # fmt: skip
            assert answer.status in (200, 404), (path, name, answer.raw)
            if answer.status == 200:
                assert answer.json["data"] == [], (path, name)
            asked += 1
    assert asked > 15


def named_in(schemas: Any, schema: Any) -> Iterator[str]:
    """The fields of a body that name objects."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    for part in (*schema.get("anyOf", []), *([schema["items"]] if "items" in schema else [])):
        yield from named_in(schemas, part)
    for name, part in schema.get("properties", {}).items():
        if (name == "into" or name.endswith(("_id", "_ids"))) and name not in FIELDS_OF_OTHERS:
            yield name
        yield from named_in(schemas, part)


def test_every_field_of_a_body_that_names_an_object_is_described(world: World) -> None:
    schemas = world.server.get("/openapi.json")["components"]["schemas"]
    found = {
        (method, path, name)
        for (method, path), operation in world.calls.items()
        if "requestBody" in operation
        for name in named_in(schemas, operation["requestBody"]["content"]["application/json"]["schema"])
    }
    filters = {("post", "/v1/exports", name) for name in ("customer_id", "tier_id")}
    unread = {("post", "/v1/transactions/calculate", "redemption_ids")}
    assert found - OBJECTS_IN_BODIES.keys() == filters | unread


def test_a_body_that_names_an_object_of_another_account_is_refused(world: World) -> None:
    before = world.rows()
    for (method, path, field), body in OBJECTS_IN_BODIES.items():
        answer = world.ask(method, path, body, own=True)
        assert answer.status in (404, 409, 422), (method, path, field, answer.raw)
        assert answer.json["code"] not in ("invalid_field", "missing_field", "unknown_field"), (path, field, answer.raw)
        world.shows_nothing(answer, sent=str(filled(body, world.names)))
    assert world.rows() == before


def test_members_of_a_batch_that_name_objects_of_another_account_are_refused(world: World) -> None:
    before = world.rows()
    for path in ("/v1/transactions/batch", "/v1/refunds/batch"):
        body = CALLS["post", path].body
        answer = world.ask("post", path, body)
        assert [each["status"] for each in answer.json["data"]] == [404], answer.raw
        world.shows_nothing(answer, sent=str(filled(body, world.names)))
    assert world.rows() == before


def test_rows_of_an_import_and_filters_of_an_export_reach_no_other_account(world: World) -> None:
    url = world.server.application.settings.url
    [(account,)] = query(url, "SELECT account_id FROM customers WHERE id = ?", world.names["customer_id"])

    def of_first() -> dict[str, list[str]]:
        return {name: [row for row in found if account in row] for name, found in world.rows().items()}

    before = of_first()
    rows = {"kind": "transactions", "rows": [CALLS["post", "/v1/transactions"].body]}
    balances = {"kind": "balances", "rows": [{"customer_id": "{customer_id}", "points": 1, "external_id": "x"}]}
    planting = Planting(world.server, OTHER_KEY, "own")
    for body in (rows, balances):
        job = planting.until(f"/v1/imports/{world.ask('post', '/v1/imports', body).json['id']}", "status", "done")
        assert (job["imported"], job["refused"]) == (0, 1)
    for name in ("customer_id", "tier_id"):
        kind = "ledger" if name == "customer_id" else "customers"
        started = world.ask("post", "/v1/exports", {"kind": kind, "format": "jsonl", name: f"{{{name}}}"})
        if name == "customer_id":
            assert (started.status, started.json["code"]) == (404, "customer_not_found")
            continue
        planting.until(f"/v1/exports/{started.json['id']}", "status", "done")
        assert world.ask("get", f"/v1/exports/{started.json['id']}/file").raw == b""
    assert of_first() == before


def test_the_rule_of_a_code_is_that_of_the_own_account(world: World) -> None:
    path = "/v1/fraud/rules/velocity.redeem"
    before = world.server.get(path)
    assert world.ask("put", path, {"score": 62}).status == 200
    assert world.server.get(path) == before
