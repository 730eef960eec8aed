"""`/v1/api_keys` and what a key may do: scopes, expiry, the request limit, the last use, and the end of a key."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from loyalpro.accounts.scopes import SCOPES
from loyalpro.kernel.clock import VirtualClock, rfc3339
from support.accounts import open_account
from support.databases import Databases
from support.history import query, transaction
from support.server import API_KEY, Answer, Server

NOBODY = "key_" + "0" * 26


@pytest.fixture
def server(databases: Databases, store: str) -> Iterator[Server]:
    with Server(databases.fresh(store)) as running:
        yield running


def create(server: Server, *scopes: str, name: str = "till", by: str = API_KEY, **fields: Any) -> dict[str, Any]:
    """A new key with its text."""
    answer = server.call("POST", "/v1/api_keys", {"name": name, "scopes": scopes or SCOPES} | fields, key=by)
    assert answer.status == 201, answer.raw
    created: dict[str, Any] = answer.json
    return created


def refused(answer: Answer, status: int, code: str, param: str | None = None) -> str:
    """Check a refusal; its text."""
    assert (answer.status, answer.json["code"], answer.json.get("param")) == (status, code, param), answer.raw
    return str(answer.json["detail"])


def test_the_key_of_the_environment_has_every_scope(server: Server) -> None:
    [key] = server.get("/v1/api_keys")["data"]
    assert key | {"id": "", "created_at": ""} == {
        "id": "",
        "name": "bootstrap",
        "hint": API_KEY[-4:],
        "scopes": list(SCOPES),
        "requests_per_minute": None,
        "status": "active",
        "created_at": "",
        "created_by": "system:bootstrap",
        "expires_at": None,
        "last_used_at": None,
        "revoked_at": None,
    }


def test_a_created_key_works_and_is_shown_once(server: Server) -> None:
    created = create(server, "transactions", "read", "read", requests_per_minute=600, expires_at="2100-01-01T00:00:00Z")
    text = created.pop("key")
    assert (text[:3], len(text), text[-4:]) == ("lp_", 51, created["hint"])
    assert created["scopes"] == ["read", "transactions"]
    assert (created["requests_per_minute"], created["expires_at"]) == (600, "2100-01-01T00:00:00.000Z")
    [own] = [each for each in server.get("/v1/api_keys")["data"] if each["name"] == "bootstrap"]
    assert created["created_by"] == f"key:{own['id']}"
    assert server.get(f"/v1/api_keys/{created['id']}") == created
    assert server.get("/v1/api_keys")["data"] == [created, own]
    assert server.call("GET", "/v1/customers", key=text).status == 200
    url = server.application.settings.url
    assert all(text not in str(row) for row in query(url, "SELECT * FROM api_keys"))


def test_a_repeated_creation_returns_the_same_key_and_stores_it_sealed(server: Server) -> None:
    first = server.call("POST", "/v1/api_keys", {"name": "a", "scopes": ["read"]}, Idempotency_Key="one")
    again = server.call("POST", "/v1/api_keys", {"name": "a", "scopes": ["read"]}, Idempotency_Key="one")
    assert (again.raw, again.headers["idempotent-replayed"]) == (first.raw, "true")
    assert len(server.get("/v1/api_keys")["data"]) == 2
    [(stored,)] = query(server.application.settings.url, "SELECT body FROM idempotency_keys")
    assert first.json["key"].encode() not in bytes(stored)


def test_a_stored_response_gives_nothing_to_a_key_that_could_not_have_created_it(server: Server) -> None:
    body = {"name": "a", "scopes": ["read", "webhooks"]}
    server.post("/v1/api_keys", body, Idempotency_Key="one")
    manager = create(server, "admin", "read")["key"]
    answer = server.call("POST", "/v1/api_keys", body, key=manager, Idempotency_Key="one")
    assert "webhooks" in refused(answer, 403, "insufficient_scope", "scopes")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"name": ""}, "invalid_field", "name"),
        ({"name": " "}, "invalid_field", "name"),
        ({"name": "a\nb"}, "invalid_field", "name"),
        ({"name": "x" * 101}, "invalid_field", "name"),
        ({"scopes": []}, "invalid_field", "scopes"),
        ({"scopes": ["webhook"]}, "unknown_scope", "scopes"),
        ({"scopes": ["*"]}, "unknown_scope", "scopes"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "invalid_field", "expires_at"),
        ({"requests_per_minute": 0}, "invalid_field", "requests_per_minute"),
        ({"requests_per_minute": 1_000_001}, "invalid_field", "requests_per_minute"),
        ({"account_id": "acct_1"}, "unknown_field", "account_id"),
    ],
)
def test_wrong_fields_of_a_key_are_refused(databases: Databases, fields: Any, code: str, param: str) -> None:
    with Server(databases.fresh("sqlite")) as server:
        answer = server.call("POST", "/v1/api_keys", {"name": "a", "scopes": ["read"]} | fields)
        detail = refused(answer, 422, code, param)
        assert code != "unknown_scope" or ("Did you mean webhooks?" in detail) == (fields["scopes"] == ["webhook"])


def test_a_key_cannot_create_a_key_that_may_do_more(server: Server) -> None:
    limits: Any = {"requests_per_minute": 60, "expires_at": "2100-01-01T00:00:00Z"}
    manager = create(server, "admin", "customers", **limits)["key"]

    def asked(*scopes: str, **fields: Any) -> Answer:
        return server.call("POST", "/v1/api_keys", {"name": "b", "scopes": scopes} | fields, key=manager)

    assert "read" in refused(asked("customers", "read", **limits), 403, "insufficient_scope", "scopes")
    for name, more in (("requests_per_minute", 61), ("expires_at", "2100-01-01T00:00:00.001Z")):
        refused(asked("admin", **limits | {name: more}), 403, "key_exceeds_creator", name)
        refused(
            asked("admin", **{key: value for key, value in limits.items() if key != name}),
            403,
            "key_exceeds_creator",
            name,
        )
    assert asked("customers", "admin", **limits).status == 201
    without_admin = create(server, "customers")["key"]
    assert "admin" in refused(
        server.call("POST", "/v1/api_keys", {"name": "b", "scopes": ["customers"]}, key=without_admin),
        403,
        "insufficient_scope",
    )


def test_a_revoked_key_is_refused_at_once_and_stays_visible(server: Server) -> None:
    created = create(server)
    text = created.pop("key")
    assert server.call("POST", "/v1/customers", {}, key=text).status == 201
    revoked = server.call("DELETE", f"/v1/api_keys/{created['id']}")
    assert (revoked.status, revoked.json["status"]) == (200, "revoked")
    refused(server.call("POST", "/v1/customers", {}, key=text), 401, "invalid_api_key")
    again = server.call("DELETE", f"/v1/api_keys/{created['id']}")
    assert (again.status, again.json) == (200, revoked.json)
    assert server.get(f"/v1/api_keys/{created['id']}") == revoked.json
    refused(server.call("DELETE", f"/v1/api_keys/{NOBODY}"), 404, "not_found", "id")


def test_a_revocation_reaches_other_processes_at_once(databases: Databases) -> None:
    url = databases.fresh("postgres")
    with Server(url) as one, Server(url) as other:
        created = create(one)
        assert other.call("GET", "/v1/customers", key=created["key"]).status == 200
        one.call("DELETE", f"/v1/api_keys/{created['id']}")
        assert other.call("GET", "/v1/customers", key=created["key"]).status == 401


def test_the_only_key_that_manages_keys_cannot_be_revoked(server: Server) -> None:
    [own] = server.get("/v1/api_keys")["data"]
    create(server, "read")
    detail = refused(server.call("DELETE", f"/v1/api_keys/{own['id']}"), 409, "last_admin_key")
    assert "loyalpro keys revoke" in detail
    other = create(server, "admin")["key"]
    assert server.call("DELETE", f"/v1/api_keys/{own['id']}", key=other).status == 200


def test_two_keys_that_revoke_each_other_at_the_same_time_leave_one(databases: Databases) -> None:
    url = databases.fresh("postgres")
    with Server(url) as server, Server(url) as second:
        [own] = server.get("/v1/api_keys")["data"]
        for _ in range(10):
            other = create(server, "admin")

            async def both(other: dict[str, Any] = other) -> tuple[Answer, Answer]:
                return await asyncio.gather(
                    asyncio.to_thread(server.call, "DELETE", f"/v1/api_keys/{other['id']}"),
                    asyncio.to_thread(second.call, "DELETE", f"/v1/api_keys/{own['id']}", key=other["key"]),
                )

            answers = asyncio.run(both())
            assert sorted(each.status for each in answers) in ([200, 401], [200, 409])
            if answers[1].status == 200:
                break


def test_a_key_is_renamed_and_nothing_else_of_it_changes(server: Server) -> None:
    created = create(server, "read")
    del created["key"]
    renamed = server.call("PATCH", f"/v1/api_keys/{created['id']}", {"name": "till 2"})
    assert (renamed.status, renamed.json) == (200, created | {"name": "till 2"})
    for field in ({"scopes": ["admin"]}, {"expires_at": None}, {"requests_per_minute": 5}):
        refused(
            server.call("PATCH", f"/v1/api_keys/{created['id']}", {"name": "x"} | field), 422, "unknown_field", *field
        )


def test_an_expired_key_is_refused_with_its_own_code(databases: Databases, store: str) -> None:
    clock = VirtualClock(1_800_000_000_000)
    with Server(databases.fresh(store), clock=clock) as server:
        created = create(server, expires_at=rfc3339(clock.now_ms() + 5_000))
        clock.advance(4.999)
        assert server.call("GET", "/v1/customers", key=created["key"]).status == 200
        clock.advance(0.001)
        detail = refused(server.call("GET", "/v1/customers", key=created["key"]), 401, "api_key_expired")
        assert created["expires_at"] in detail
        assert server.get(f"/v1/api_keys/{created['id']}")["status"] == "expired"


def test_a_key_beyond_its_limit_is_told_when_to_come_back(databases: Databases, store: str) -> None:
    clock = VirtualClock(1_800_000_000_000)
    with Server(databases.fresh(store), clock=clock) as server:
        text = create(server, "read", requests_per_minute=4)["key"]

        def asked(path: str = "/v1/customers", method: str = "GET") -> Answer:
            return server.call(method, path, key=text)

        assert [asked().status for _ in range(3)] == [200] * 3
        refused(asked("/v1/customers", "POST"), 403, "insufficient_scope")
        answer = asked()
        assert "4 requests per minute" in refused(answer, 429, "rate_limited")
        assert answer.headers["retry-after"] == "15"
        clock.advance(14)
        assert asked().headers["retry-after"] == "1"
        clock.advance(1)
        assert [asked().status for _ in range(2)] == [200, 429]
        assert server.call("GET", "/v1/customers").status == 200
        clock.advance(3_600)
        assert [asked().status for _ in range(5)] == [200] * 4 + [429]


def test_the_last_use_is_stored_by_the_hour(databases: Databases, store: str) -> None:
    url = databases.fresh(store)
    with Server(url, sweep_interval=0.05) as server:
        created = create(server, "read")
        assert created["last_used_at"] is None
        server.call("GET", "/v1/customers", key=created["key"])
        used = server.until(f"/v1/api_keys/{created['id']}", lambda key: key["last_used_at"] is not None)
        assert used["last_used_at"].endswith(":00:00.000Z")
        with transaction(url) as connection:
            connection.execute("UPDATE api_keys SET last_used_at = 3600000 WHERE id = ?", (created["id"],))
        server.call("GET", "/v1/customers", key=created["key"])
        server.until(f"/v1/api_keys/{created['id']}", lambda key: key["last_used_at"] == used["last_used_at"])


def test_keys_of_another_account_are_not_found(server: Server) -> None:
    other = open_account(server, "lp_other_0123456789abcdef0123456789")
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        refused(server.call(method, f"/v1/api_keys/{other}", body), 404, "not_found", "id")
    assert len(server.get("/v1/api_keys")["data"]) == 1


def test_keys_are_listed_in_pages(server: Server) -> None:
    names = [create(server, "read", name=f"key {number}")["name"] for number in range(4)]
    first = server.get("/v1/api_keys?limit=3")
    rest = server.get(f"/v1/api_keys?limit=3&cursor={first['next_cursor']}")
    assert [each["name"] for each in first["data"] + rest["data"]] == [*reversed(names), "bootstrap"]
