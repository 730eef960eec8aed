"""Campaigns through the API: their fields, and what purchases earn while they run."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.databases import Databases
from support.server import Server

SATURDAY, SUNDAY, MONDAY = "2026-11-21T12:00:00Z", "2026-11-22T12:00:00Z", "2026-11-23T12:00:00Z"


@pytest.fixture(params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    """A server on which no test changes the program."""
    with Server(databases.fresh(request.param)) as running:
        yield running


def double(server: Server, **fields: Any) -> Any:
    body = {"name": "double", "kind": "multiplier", "multiplier_permille": 2_000, "starts_at": "2026-01-01T00:00:00Z"}
    return server.post("/v1/campaigns", body | fields)


def bonus(server: Server, **fields: Any) -> Any:
    return server.post("/v1/campaigns", {"name": "bonus", "kind": "bonus", "points": 100, **fields})


def enrolled(server: Server, **fields: Any) -> str:
    return str(server.post("/v1/customers", fields)["id"])


def purchase(customer_id: str, amount: int = 1_000, **fields: Any) -> dict[str, Any]:
    return {"customer_id": customer_id, "amount": amount, "currency": "EUR", **fields}


def earned(server: Server, customer_id: str, amount: int = 1_000, **fields: Any) -> int:
    return int(server.post("/v1/transactions", purchase(customer_id, amount, **fields))["points_earned"])


def test_a_campaign_has_what_was_sent_and_defaults(shared: Server) -> None:
    tier = shared.get("/v1/program")["tiers"][1]["id"]
    sent = {
        "name": "Tea on weekends",
        "kind": "multiplier",
        "multiplier_permille": 1_500,
        "match": {"skus": ["tea"], "categories": []},
        "min_spend": 500,
        "tags": ["vip"],
        "tier_ids": [tier],
        "starts_at": "2026-01-01T00:00:00.000Z",
        "ends_at": "2027-01-01T00:00:00.000Z",
        "weekdays": ["sat", "sun"],
        "limit_per_customer": 3,
        "status": "paused",
    }
    made = shared.post("/v1/campaigns", sent)
    assert {name: made[name] for name in sent} == sent
    assert made["points"] is None
    assert shared.get(f"/v1/campaigns/{made['id']}") == made
    plain = bonus(shared)
    assert plain["starts_at"] == plain["created_at"]
    assert (plain["ends_at"], plain["tags"], plain["weekdays"], plain["status"]) == (None, [], [], "active")
    shared.call("DELETE", f"/v1/campaigns/{plain['id']}")


def test_campaigns_are_listed_newest_first_by_status(server: Server) -> None:
    first, second, third = (bonus(server, status=status) for status in ("active", "paused", "active"))
    assert [each["id"] for each in server.get("/v1/campaigns")["data"]] == [third["id"], second["id"], first["id"]]
    page = server.get("/v1/campaigns?status=active&limit=1")
    assert [each["id"] for each in page["data"]] == [third["id"]]
    rest = server.get(f"/v1/campaigns?status=active&limit=1&cursor={page['next_cursor']}")
    assert ([each["id"] for each in rest["data"]], rest["next_cursor"]) == ([first["id"]], None)


def test_a_campaign_is_patched_and_archived(server: Server) -> None:
    made = double(server)
    path = f"/v1/campaigns/{made['id']}"
    changed = server.call("PATCH", path, {"multiplier_permille": 3_000, "weekdays": ["mon"]})
    assert changed.status == 200
    assert changed.json == made | {
        "multiplier_permille": 3_000,
        "weekdays": ["mon"],
        "updated_at": changed.json["updated_at"],
    }
    cleared = server.call("PATCH", path, {"weekdays": None, "starts_at": None}).json
    assert (cleared["weekdays"], cleared["starts_at"]) == ([], made["starts_at"])
    assert server.call("PATCH", path, {}).json == cleared
    archived = server.call("DELETE", path)
    assert (archived.status, archived.json["status"]) == (200, "archived")
    assert server.call("DELETE", path).json == archived.json == server.get(path)
    actions = [each["action"] for each in server.get(f"/v1/audit_log?object_id={made['id']}")["data"]]
    assert actions == ["campaign.changed", "campaign.changed", "campaign.changed", "campaign.created"]


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "discount"}, "kind", "invalid_field"),
    ({"kind": "multiplier"}, "multiplier_permille", "missing_field"),
    ({"kind": "multiplier", "multiplier_permille": 1_000}, "multiplier_permille", "invalid_field"),
    ({"kind": "multiplier", "multiplier_permille": 2_000, "points": 5}, "points", "invalid_field"),
    ({"points": None}, "points", "missing_field"),
    ({"points": 0}, "points", "invalid_field"),
    ({"multiplier_permille": 2_000}, "multiplier_permille", "invalid_field"),
    ({"name": ""}, "name", "invalid_field"),
    ({"match": {}}, "match", "invalid_field"),
    ({"match": {"sku": ["tea"]}}, "match.sku", "unknown_field"),
    ({"weekdays": ["saturday"]}, "weekdays[0]", "invalid_field"),
    ({"tier_ids": ["tier_gone"]}, "tier_ids[0]", "unknown_tier"),
    ({"starts_at": "2026-02-01T00:00:00Z", "ends_at": "2026-02-01T00:00:00Z"}, "ends_at", "invalid_field"),
    ({"ends_at": "2026-01-01"}, "ends_at", "invalid_field"),
    ({"limit_per_customer": 0}, "limit_per_customer", "invalid_field"),
    ({"status": "over"}, "status", "invalid_field"),
    ({"surprise": 1}, "surprise", "unknown_field"),
]


@pytest.mark.parametrize(("changes", "param", "code"), WRONG, ids=[str(each[0])[:50] for each in WRONG])
def test_a_wrong_field_is_named(shared: Server, changes: dict[str, Any], param: str, code: str) -> None:
    body = {"name": "c", "kind": "bonus", "points": 100} | changes
    before = shared.get("/v1/campaigns")
    answer = shared.call("POST", "/v1/campaigns", {name: value for name, value in body.items() if value is not None})
    assert (answer.status, answer.json["param"], answer.json["code"]) == (422, param, code), answer.json
    assert shared.get("/v1/campaigns") == before


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"kind": "multiplier"}, "multiplier_permille", "missing_field"),
        ({"points": None}, "points", "missing_field"),
        ({"name": None}, "name", "missing_field"),
        ({"name": "x" * 300}, "name", "invalid_field"),
        ({"weekdays": ["x"]}, "weekdays[0]", "invalid_field"),
        ({"match": {"skus": []}}, "match", "invalid_field"),
        ({"ends_at": "2020-01-01T00:00:00Z"}, "ends_at", "invalid_field"),
        ({"id": "camp_1"}, "id", "unknown_field"),
    ],
)
def test_a_wrong_patch_is_refused(server: Server, changes: dict[str, Any], param: str, code: str) -> None:
    made = bonus(server)
    answer = server.call("PATCH", f"/v1/campaigns/{made['id']}", changes)
    assert (answer.status, answer.json["param"], answer.json["code"]) == (422, param, code), answer.json
    assert server.get(f"/v1/campaigns/{made['id']}") == made


def test_a_campaign_that_is_not_there_is_not_found(shared: Server) -> None:
    unknown = "/v1/campaigns/camp_01katpkj20v3rs3dtr98h6bcfn"
    for method, body in (("GET", None), ("PATCH", {"status": "paused"}), ("DELETE", None)):
        assert shared.call(method, unknown, body).status == 404


def test_a_campaign_of_a_retired_tier_can_still_be_archived(server: Server) -> None:
    bronze, silver, gold = server.get("/v1/program")["tiers"]
    made = bonus(server, tier_ids=[gold["id"]])
    assert server.call("PATCH", "/v1/program", {"tiers": [bronze, silver]}).status == 200
    assert server.call("DELETE", f"/v1/campaigns/{made['id']}").status == 200
    refused = server.call(
        "POST", "/v1/campaigns", {"name": "c", "kind": "bonus", "points": 1, "tier_ids": [gold["id"]]}
    )
    assert refused.json["code"] == "unknown_tier"


def test_only_the_scope_program_changes_campaigns(shared: Server) -> None:
    reader = shared.post("/v1/api_keys", {"name": "reader", "scopes": ["read", "transactions"]})["key"]
    assert shared.call("GET", "/v1/campaigns", key=reader).status == 200
    refused = shared.call("POST", "/v1/campaigns", {"name": "c", "kind": "bonus", "points": 1}, key=reader)
    assert refused.json["code"] == "insufficient_scope"


def test_the_number_of_campaigns_is_limited(server: Server) -> None:
    made = [bonus(server, status="paused") for _ in range(100)]
    full = server.call("POST", "/v1/campaigns", {"name": "c", "kind": "bonus", "points": 1})
    assert (full.status, full.json["code"]) == (409, "too_many_campaigns")
    server.call("DELETE", f"/v1/campaigns/{made[0]['id']}")
    bonus(server)
    back = server.call("PATCH", f"/v1/campaigns/{made[0]['id']}", {"status": "active"})
    assert back.json["code"] == "too_many_campaigns"


# -- what purchases earn -------------------------------------------------------------------------------------------------


def test_a_campaign_is_a_line_of_the_rules(server: Server) -> None:
    made, customer = double(server), enrolled(server)
    assert earned(server, customer) == 20
    [entry] = server.get(f"/v1/customers/{customer}/ledger")["data"]
    [rule] = server.get("/v1/program")["earning"]["rules"]
    assert entry["rules"] == [
        {"id": rule["id"], "name": rule["name"], "points": 10},
        {"id": made["id"], "name": "double", "multiplier": 2, "points": 10},
    ]


def test_when_a_purchase_happened_decides_and_not_when_it_arrives(server: Server) -> None:
    made = double(server, ends_at="2026-11-22T00:00:00Z", weekdays=["sat", "sun"])
    customer = enrolled(server)
    assert [earned(server, customer, occurred_at=at) for at in (SATURDAY, SUNDAY, MONDAY)] == [20, 10, 10]
    server.call("PATCH", f"/v1/campaigns/{made['id']}", {"ends_at": None})
    assert [earned(server, customer, occurred_at=at) for at in (SATURDAY, SUNDAY, MONDAY)] == [20, 20, 10]
    server.call("PATCH", f"/v1/campaigns/{made['id']}", {"status": "paused"})
    assert earned(server, customer, occurred_at=SATURDAY) == 10


def test_a_campaign_is_for_its_tiers_and_items(server: Server) -> None:
    silver = server.get("/v1/program")["tiers"][1]["id"]
    double(server, match={"categories": ["drinks"]})
    bonus(server, tier_ids=[silver])
    customer = enrolled(server)
    items = [{"sku": "tea", "category": "drinks", "amount": 400}, {"sku": "cup", "amount": 600}]
    assert earned(server, customer, items=items) == 14


def test_a_limit_counts_the_purchases_of_each_customer(server: Server) -> None:
    bonus(server, limit_per_customer=2, starts_at="2026-01-01T00:00:00Z")
    one, other = enrolled(server), enrolled(server)
    assert [earned(server, one) for _ in range(3)] == [110, 110, 10]
    batch = [purchase(other, external_id=f"o{number}") for number in range(3)] + [purchase(one)]
    results = server.post("/v1/transactions/batch", {"transactions": batch})["data"]
    assert [each["transaction"]["points_earned"] for each in results] == [110, 110, 10, 10]


def test_a_limit_holds_for_purchases_at_once(server: Server) -> None:
    bonus(server, limit_per_customer=3, starts_at="2026-01-01T00:00:00Z")
    customer = enrolled(server)
    with ThreadPoolExecutor(8) as tills:
        points = list(tills.map(lambda _: earned(server, customer), range(12)))
    assert sorted(points) == [10] * 9 + [110] * 3


def test_a_day_has_a_limit_of_points(server: Server) -> None:
    answer = server.call("PATCH", "/v1/program", {"earning": {"max_points_per_day": 25, "max_points_per_order": 15}})
    assert answer.status == 200
    customer = enrolled(server)
    batch = [purchase(customer, 2_000, occurred_at=SUNDAY), purchase(customer, 2_000, occurred_at=MONDAY)] * 2
    results = server.post("/v1/transactions/batch", {"transactions": batch})["data"]
    assert [each["transaction"]["points_earned"] for each in results] == [15, 15, 10, 10]
    assert earned(server, customer, occurred_at=MONDAY) == 0
    assert earned(server, customer, occurred_at=SATURDAY) == 10
