"""`POST /v1/transactions/calculate`: what recording would do, and nothing written."""

from collections.abc import Iterator
from typing import Any

import pytest

from loyalpro.kernel.clock import MS_PER_DAY, SystemClock, UnixMs
from loyalpro.storage.unit_of_work import UnitOfWork
from support.databases import Databases
from support.server import Server

TABLES = ("transactions", "ledger_entries", "lots", "events", "customer_days", "campaign_uses", "idempotency_keys")


@pytest.fixture(params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    """A server on which no test changes the program."""
    with Server(databases.fresh(request.param)) as running:
        yield running


class SkippingClock(SystemClock):
    """A clock that a test moves forward. Nothing that waits ends sooner, so no sweep runs."""

    skipped_ms = 0

    def now_ms(self) -> UnixMs:
        return super().now_ms() + self.skipped_ms


def calculated(server: Server, amount: int = 5_600, **fields: Any) -> Any:
    return server.post("/v1/transactions/calculate", {"amount": amount, "currency": "EUR", **fields})


def counts(server: Server) -> list[int]:
    def read(unit: UnitOfWork) -> list[int]:
        return [unit.connection.execute(f"SELECT COUNT(*) FROM {table}")[0][0] for table in TABLES]

    return server.run(server.application.runner.read(read))


def test_without_a_customer_the_order_is_priced_for_one_that_begins(shared: Server) -> None:
    found = calculated(shared, 5_600, shipping_amount=600, occurred_at="2026-11-21T12:00:00Z")
    [rule] = shared.get("/v1/program")["earning"]["rules"]
    assert found["points"] == 50
    assert found["eligible_amount"] == 5_000
    assert found["rules"] == [{"id": rule["id"], "name": rule["name"], "points": 50}]
    assert found["expires_at"] == "2027-11-22T00:00:00.000Z"
    assert (found["activates_at"], found["tier_after"], found["rewards_available"]) == (None, None, [])


def test_an_order_without_points_has_no_dates(shared: Server) -> None:
    found = calculated(shared, 99)
    assert (found["points"], found["rules"], found["expires_at"], found["activates_at"]) == (0, [], None, None)


def test_nothing_is_written(server: Server) -> None:
    customer = server.post("/v1/customers", {"external_id": "regular"})["id"]
    server.post("/v1/campaigns", {"name": "b", "kind": "bonus", "points": 5, "limit_per_customer": 1})
    server.wait_until_listed()
    before = counts(server)
    for _ in range(3):
        assert calculated(server, customer_id=customer)["points"] == 61
    server.post(
        "/v1/transactions/calculate", {"amount": 100, "currency": "EUR"}, **{"Idempotency-Key": "calculation-1"}
    )
    assert counts(server) == before


def test_what_is_calculated_is_what_is_recorded(server: Server) -> None:
    [rule] = server.get("/v1/program")["earning"]["rules"]
    tea = {"name": "tea", "match": {"skus": ["tea"]}, "rates": {"EUR": {"points": 5, "per_amount": 100}}}
    program = {"earning": {"rules": [tea, rule], "exclude": {"categories": ["gift_card"]}}, "pending": {"days": 14}}
    assert server.call("PATCH", "/v1/program", program).status == 200
    server.post("/v1/campaigns", {"name": "b", "kind": "bonus", "points": 7, "limit_per_customer": 1})
    customer = server.post("/v1/customers", {"external_id": "regular"})["id"]
    body = {
        "customer_external_id": "regular",
        "amount": 7_200,
        "currency": "EUR",
        "items": [
            {"sku": "tea", "quantity": 2, "amount": 2_000},
            {"category": "gift_card", "amount": 3_000},
            {"sku": "cups", "amount": 3_000},
        ],
    }
    for points in (124, 117):
        found = server.post("/v1/transactions/calculate", body)
        assert found["points"] == points
        recorded = server.post("/v1/transactions", body)
        entry = server.get(f"/v1/customers/{customer}/ledger")["data"][0]
        lot = server.get(f"/v1/customers/{customer}/lots")["data"][0]
        assert (recorded["points_earned"], recorded["eligible_amount"]) == (points, found["eligible_amount"])
        assert (entry["rules"], lot["expires_at"], lot["activates_at"]) == (
            found["rules"],
            found["expires_at"],
            found["activates_at"],
        )


def test_the_tier_after_it_counts_the_purchase(server: Server) -> None:
    customer = server.post("/v1/customers", {})["id"]
    for amount, tier in ((99_999, "Bronze"), (100_000, "Silver"), (500_000, "Gold")):
        assert calculated(server, amount, customer_id=customer)["tier_after"]["name"] == tier
    server.post("/v1/transactions", {"customer_id": customer, "amount": 94_400, "currency": "EUR"})
    assert calculated(server, 5_599, customer_id=customer)["tier_after"]["name"] == "Bronze"
    after = calculated(server, 5_600, customer_id=customer)
    assert after["tier_after"] == {"id": after["tier_after"]["id"], "name": "Silver", "rank": 2}
    old = calculated(server, 500_000, customer_id=customer, occurred_at="2025-01-01T00:00:00Z")
    assert old["tier_after"]["name"] == "Bronze"


def test_the_metric_of_the_tiers_decides(server: Server) -> None:
    customer = server.post("/v1/customers", {})["id"]
    tiers = server.get("/v1/program")["tiers"]
    for metric, threshold in (("spend", 5_600), ("transactions", 1)):
        patch = {"tiering": {"metric": metric}, "tiers": [tiers[0], tiers[1] | {"threshold": threshold}]}
        assert server.call("PATCH", "/v1/program", patch).status == 200
        tiers = server.get("/v1/program")["tiers"]
        assert calculated(server, 5_600, customer_id=customer)["tier_after"]["name"] == "Silver"
    assert calculated(server, 5_599, customer_id=customer)["tier_after"]["name"] == "Silver"


def test_a_day_that_is_full_earns_nothing_more(server: Server) -> None:
    customer = server.post("/v1/customers", {})["id"]
    assert server.call("PATCH", "/v1/program", {"earning": {"max_points_per_day": 60}}).status == 200
    server.post("/v1/transactions", {"customer_id": customer, "amount": 5_000, "currency": "EUR"})
    assert calculated(server, 5_600, customer_id=customer)["points"] == 10
    assert calculated(server, 5_600)["points"] == 56


def test_rewards_are_those_that_the_customer_can_redeem_for_the_order(server: Server) -> None:
    cheap = server.post("/v1/rewards", {"name": "Coffee", "type": "custom", "cost_points": 50, "status": "active"})
    server.post("/v1/rewards", {"name": "Mug", "type": "custom", "cost_points": 51, "status": "active"})
    server.post("/v1/rewards", {"name": "Tea", "type": "custom", "cost_points": 5, "status": "draft"})
    large = {"name": "Large", "type": "custom", "cost_points": 5, "status": "active", "min_spend": 10_000}
    for_large_orders = server.post("/v1/rewards", large)
    customer = server.post("/v1/customers", {})["id"]
    assert calculated(server, customer_id=customer)["rewards_available"] == []
    server.post("/v1/transactions", {"customer_id": customer, "amount": 5_000, "currency": "EUR"})
    shown = {"id": cheap["id"], "name": "Coffee", "type": "custom", "cost_points": 50}
    assert calculated(server, customer_id=customer)["rewards_available"] == [shown]
    both = calculated(server, 10_000, customer_id=customer)["rewards_available"]
    assert [each["id"] for each in both] == [for_large_orders["id"], cheap["id"]]


def test_points_that_have_expired_before_the_sweep_buy_no_reward(databases: Databases, store: str) -> None:
    clock = SkippingClock()
    with Server(databases.fresh(store), clock=clock, sweep_interval=86_400) as server:
        server.post("/v1/rewards", {"name": "Coffee", "type": "custom", "cost_points": 50, "status": "active"})
        customer = server.post("/v1/customers", {})["id"]
        server.post("/v1/transactions", {"customer_id": customer, "amount": 5_000, "currency": "EUR"})
        assert len(calculated(server, customer_id=customer)["rewards_available"]) == 1
        clock.skipped_ms = 400 * MS_PER_DAY
        assert calculated(server, customer_id=customer)["rewards_available"] == []


@pytest.mark.parametrize(
    ("changes", "status", "param", "code"),
    [
        ({"currency": "USD"}, 422, "currency", "currency_not_supported"),
        ({"tip_amount": 5_601}, 422, "amount", "amounts_do_not_add_up"),
        ({"occurred_at": "2099-01-01T00:00:00Z"}, 422, "occurred_at", "occurred_at_in_future"),
        ({"items": [{"amount": 1, "quantity": 0.0001}]}, 422, "items[0].quantity", "invalid_field"),
        ({"customer_id": "cus_unknown"}, 404, "customer_id", "customer_not_found"),
        ({"customer_external_id": "nobody"}, 404, "customer_external_id", "customer_not_found"),
        ({"customer_id": "a", "customer_external_id": "b"}, 422, "customer_id", "invalid_field"),
        ({"amount": None}, 422, "amount", "invalid_field"),
        ({"metadata": {"1": 2}}, 422, "metadata.1", "unstable_json"),
        ({"surprise": 1}, 422, "surprise", "unknown_field"),
    ],
)
def test_what_recording_refuses_is_refused(
    shared: Server, changes: dict[str, Any], status: int, param: str, code: str
) -> None:
    body = {"amount": 5_600, "currency": "EUR"} | changes
    answer = shared.call("POST", "/v1/transactions/calculate", body)
    assert (answer.status, answer.json["param"], answer.json["code"]) == (status, param, code), answer.json


def test_a_deleted_customer_is_not_found(shared: Server) -> None:
    customer = shared.post("/v1/customers", {"external_id": "gone"})["id"]
    shared.call("DELETE", f"/v1/customers/{customer}")
    for named in ({"customer_id": customer}, {"customer_external_id": "gone"}):
        answer = shared.call("POST", "/v1/transactions/calculate", {"amount": 1, "currency": "EUR", **named})
        assert answer.json["code"] == "customer_not_found"
