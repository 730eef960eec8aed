"""Tiers over HTTP: a purchase moves its customer up, `PUT /v1/customers/{id}/tier` puts it anywhere, and sweeps review it."""

from collections.abc import Iterator
from typing import Any

import pytest

from loyalpro.kernel.clock import VirtualClock
from support.databases import Databases
from support.server import Server
from support.timeline import instant

START = instant("2026-11-28T10:00Z")


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param), clock=VirtualClock(START)) as running:
        yield running


def enroll(server: Server) -> str:
    return str(server.post("/v1/customers", {})["id"])


def buy(server: Server, customer_id: str, points: int) -> None:
    server.post("/v1/transactions", {"customer_id": customer_id, "amount": points * 100, "currency": "EUR"})


def tier(server: Server, customer_id: str) -> Any:
    return server.get(f"/v1/customers/{customer_id}")["tier"]


def tier_ids(server: Server) -> dict[str, str]:
    return {each["name"]: each["id"] for each in server.get("/v1/program")["tiers"]}


def changes(server: Server, customer_id: str) -> list[tuple[str, str, str]]:
    found = server.listed(f"/v1/events?customer_id={customer_id}&type=customer.tier_changed")["data"]
    data = [each["data"] for each in found]
    return [(each["previous_tier"]["name"], each["tier"]["name"], each["reason"]) for each in data]


def put(server: Server, customer_id: str, name: str, **fields: Any) -> Any:
    body = {"tier_id": tier_ids(server)[name], "reason": "a guest of the house", **fields}
    answer = server.call("PUT", f"/v1/customers/{customer_id}/tier", body)
    assert answer.status == 200, answer.raw
    return answer.json


def test_a_customer_shows_how_it_stands(server: Server) -> None:
    ann, ids = enroll(server), tier_ids(server)
    window = {"window_start": "2025-11-29T00:00:00.000Z", "window_end": "2026-11-29T00:00:00.000Z"}
    assert tier(server, ann) == {
        "id": ids["Bronze"],
        "name": "Bronze",
        "rank": 1,
        "since": "2026-11-28T10:00:00.000Z",
        "review_at": None,
        "locked_until": None,
        "qualifying": {"metric": "points_earned", "value": 0, **window},
        "next": {"id": ids["Silver"], "name": "Silver", "remaining": 1_000},
    }
    buy(server, ann, 1_052)
    assert tier(server, ann) == {
        "id": ids["Silver"],
        "name": "Silver",
        "rank": 2,
        "since": "2026-11-28T10:00:00.000Z",
        "review_at": "2027-11-29T00:00:00.000Z",
        "locked_until": None,
        "qualifying": {"metric": "points_earned", "value": 1_052, **window},
        "next": {"id": ids["Gold"], "name": "Gold", "remaining": 3_948},
    }
    buy(server, ann, 9_000)
    assert tier(server, ann)["next"] is None
    assert changes(server, ann) == [("Bronze", "Silver", "qualified"), ("Silver", "Gold", "qualified")]


def test_lists_show_the_tier_without_the_window(server: Server) -> None:
    server.post("/v1/customers", {"external_id": "in a list"})
    [shown] = server.get("/v1/customers?external_id=in%20a%20list")["data"]
    assert set(shown["tier"]) == {"id", "name", "rank", "since", "review_at", "locked_until"}


def test_a_call_puts_a_customer_into_a_tier_and_locks_it(server: Server) -> None:
    ann = enroll(server)
    shown = put(server, ann, "Gold", locked_until="2027-03-01T00:00:00Z")
    assert shown == tier(server, ann)
    assert (shown["name"], shown["locked_until"], shown["review_at"]) == ("Gold", *["2027-03-01T00:00:00.000Z"] * 2)
    put(server, ann, "Bronze", locked_until="2027-03-01T00:00:00Z")
    buy(server, ann, 1_000)
    assert tier(server, ann)["name"] == "Bronze"
    assert changes(server, ann) == [("Bronze", "Gold", "manual"), ("Gold", "Bronze", "manual")]
    found = server.get(f"/v1/audit_log?object_id={ann}")["data"]
    assert [each["action"] for each in found][:2] == ["customer.tier_assigned"] * 2


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"tier_id": "tier_01m8793cqewqq1j7aafjqmntka"}, 422, "unknown_tier", "tier_id"),
        ({"locked_until": "2026-11-28T10:00:00Z"}, 422, "locked_until_in_past", "locked_until"),
        ({"locked_until": "tomorrow"}, 422, "invalid_field", "locked_until"),
        ({"reason": None}, 422, "invalid_field", "reason"),
        ({"reason": ""}, 422, "invalid_field", "reason"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(server: Server, change: Any, status: int, code: str, param: str) -> None:
    ann = enroll(server)
    body = {"tier_id": tier_ids(server)["Gold"], "reason": "r", **change}
    answer = server.call("PUT", f"/v1/customers/{ann}/tier", body)
    assert (answer.status, answer.json["code"], answer.json["param"]) == (status, code, param)
    assert changes(server, ann) == []


def test_an_unknown_customer_has_no_tier(server: Server) -> None:
    body = {"tier_id": tier_ids(server)["Gold"], "reason": "r"}
    for id_ in ("cus_01m8793ctx2zrb94rghckj4mw4", "nonsense"):
        assert server.call("PUT", f"/v1/customers/{id_}/tier", body).status == 404


def test_an_adjustment_that_counts_moves_its_customer_up(server: Server) -> None:
    ann = enroll(server)
    body = {"points": 1_000, "reason_code": "goodwill"}
    server.post(f"/v1/customers/{ann}/adjustments", body)
    assert tier(server, ann)["name"] == "Bronze"
    server.post(f"/v1/customers/{ann}/adjustments", {**body, "counts_toward_tier": True})
    assert changes(server, ann) == [("Bronze", "Silver", "qualified")]
    kinds = [each["type"] for each in server.listed(f"/v1/events?customer_id={ann}")["data"]]
    assert kinds[-2:] == ["points.adjusted", "customer.tier_changed"]
