"""Rewards: what they state, who can have them, and how many are left."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from loyalpro.kernel.clock import MS_PER_S, VirtualClock, rfc3339
from loyalpro.storage.unit_of_work import UnitOfWork
from support.databases import Databases
from support.points import Member, refused
from support.server import Answer, Server

START = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""
COFFEE: dict[str, Any] = {"name": "A coffee", "type": "free_item", "sku": "COFFEE", "cost_points": 40}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    """No sweep comes while a test moves the clock, so each command has to settle what is due."""
    with Server(databases.fresh(request.param), clock=VirtualClock(START), sweep_interval=100_000_000) as running:
        yield running


def reward(server: Server, **fields: Any) -> Any:
    return server.post("/v1/rewards", COFFEE | fields)


def change(server: Server, made: Any, **fields: Any) -> Answer:
    return server.call("PATCH", f"/v1/rewards/{made['id']}", fields)


def stock(server: Server, made: Any) -> Any:
    return server.get(f"/v1/rewards/{made['id']}")["stock"]


def tiers(server: Server) -> list[str]:
    """The ids of the account's tiers, lowest first."""
    member = Member(server)

    def read(unit: UnitOfWork) -> list[str]:
        sql = "SELECT t.id FROM tiers t JOIN customers c ON c.account_id = t.account_id WHERE c.id = ? ORDER BY t.rank"
        return [id_ for (id_,) in unit.connection.execute(sql, (member.id,))]

    return server.run(server.application.runner.read(read))


# -- the catalog -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "amount_off", "amount": 500, "currency": "EUR", "sku": None},
        {"type": "percent_off", "percent": 10, "sku": None},
        {"type": "free_item", "sku": "COFFEE"},
        {"type": "custom", "sku": None},
    ],
)
def test_a_reward_of_each_type_can_be_created_and_redeemed(server: Server, fields: Any) -> None:
    made = reward(server, **fields)
    assert server.get(f"/v1/rewards/{made['id']}") == made
    assert made == made | COFFEE | fields | {"status": "active", "stock": None, "tier_ids": [], "tags": []}
    member = Member(server, 100)
    redemption = member.redeemed(reward_id=made["id"])
    shown = {name: made[name] for name in ("id", "name", "type", "amount", "currency", "percent", "sku")}
    assert (redemption["points"], redemption["reward_id"], redemption["reward"]) == (40, made["id"], shown)
    assert member.events("points.redeemed")[0]["reward"] == shown
    assert member.available == 60
    assert member.audited(made["id"]) == ["reward.created"]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"type": "amount_off"}, "missing_field", "amount"),
        ({"type": "amount_off", "sku": None, "amount": 1}, "missing_field", "currency"),
        ({"type": "amount_off", "sku": None, "amount": 1, "currency": "EURO"}, "unknown_currency", "currency"),
        ({"type": "amount_off", "amount": 1, "currency": "EUR"}, "invalid_field", "sku"),
        ({"type": "percent_off", "sku": None}, "missing_field", "percent"),
        ({"type": "percent_off", "sku": None, "percent": 101}, "invalid_field", "percent"),
        ({"type": "percent_off", "sku": None, "percent": 0}, "invalid_field", "percent"),
        ({"type": "percent_off", "sku": None, "percent": 9.5}, "invalid_field", "percent"),
        ({"sku": None}, "missing_field", "sku"),
        ({"percent": 10}, "invalid_field", "percent"),
        ({"type": "custom"}, "invalid_field", "sku"),
        ({"type": "stamp"}, "invalid_field", "type"),
        ({"cost_points": 0}, "invalid_field", "cost_points"),
        ({"stock": -1}, "invalid_field", "stock"),
        ({"limit_per_customer": 0}, "invalid_field", "limit_per_customer"),
        ({"tier_ids": ["tier_x"]}, "unknown_tier", "tier_ids[0]"),
        ({"starts_at": "2026-02-01T00:00:00Z", "ends_at": "2026-02-01T00:00:00Z"}, "invalid_field", "ends_at"),
        ({"status": "archived"}, "invalid_field", "status"),
    ],
)
def test_a_reward_that_makes_no_sense_is_refused(server: Server, fields: Any, code: str, param: str) -> None:
    refused(server.call("POST", "/v1/rewards", COFFEE | fields), 422, code, param)


def test_a_changed_reward_leaves_redemptions_as_they_were(server: Server) -> None:
    made, member = reward(server), Member(server, 100)
    redemption = member.redeemed(reward_id=made["id"])
    changed = change(server, made, name="A large coffee", cost_points=50, stock=3)
    assert (changed.status, changed.json["name"], changed.json["stock"]) == (200, "A large coffee", 3)
    assert server.get(f"/v1/redemptions/{redemption['id']}") == redemption
    assert member.redeemed(reward_id=made["id"])["points"] == 50
    refused(change(server, made, type="percent_off", percent=5), 422, "invalid_field", "sku")
    assert change(server, made, type="percent_off", percent=5, sku=None).status == 200
    refused(change(server, made, name=None), 422, "invalid_field", "name")
    refused(change(server, {"id": "rew_00000000000000000000000000"}, name="x"), 404, "not_found", "id")
    same = change(server, made, type="percent_off", percent=5)
    assert same.json == server.get(f"/v1/rewards/{made['id']}")
    assert member.audited(made["id"]) == ["reward.created", *["reward.updated"] * 2]


def test_an_archived_reward_is_read_and_not_redeemed(server: Server) -> None:
    made, member = reward(server), Member(server, 100)
    reserved = member.redeemed(reward_id=made["id"], reserve=True)
    archived = server.call("DELETE", f"/v1/rewards/{made['id']}")
    assert (archived.status, archived.json["status"]) == (200, "archived")
    assert server.call("DELETE", f"/v1/rewards/{made['id']}").json == archived.json
    assert server.get(f"/v1/rewards/{made['id']}") == archived.json
    assert (
        refused(member.redeem(reward_id=made["id"]), 422, "reward_not_available", "reward_id")["reason"] == "not_active"
    )
    assert server.post(f"/v1/redemptions/{reserved['id']}/capture")["status"] == "redeemed"
    assert member.audited(made["id"]) == ["reward.created", "reward.archived"]
    assert change(server, made, status="active").json["status"] == "active"


def test_rewards_are_listed_with_what_a_customer_can_have(server: Server) -> None:
    member = Member(server, 50)
    cheap, dear = reward(server, name="cheap"), reward(server, name="dear", cost_points=70)
    draft, limited = reward(server, status="draft"), reward(server, limit_per_customer=1, cost_points=10)
    member.redeemed(reward_id=limited["id"])
    found = server.get(f"/v1/rewards?customer_id={member.id}&limit=4")["data"]
    assert [each["id"] for each in found] == [each["id"] for each in (limited, draft, dear, cheap)]
    offers = [each.pop("offer") for each in found]
    assert [(each["available"], each["reason"]) for each in offers] == [
        (False, "limit_reached"), (False, "not_active"), (True, None), (True, None)
    ]  # fmt: skip
    assert [(each["affordable"], each["missing_points"]) for each in offers] == [
        (True, 0), (True, 0), (False, 30), (True, 0)
    ]  # fmt: skip
    assert found[2] == dear
    drafts = server.get("/v1/rewards?status=draft")["data"]
    assert draft in drafts
    assert {each["status"] for each in drafts} == {"draft"}
    page = server.get("/v1/rewards?limit=1")
    assert (page["data"], page["next_cursor"]) == ([limited], limited["id"])
    assert server.get(f"/v1/rewards?limit=1&cursor={limited['id']}")["data"] == [draft]
    unknown = "cus_00000000000000000000000000"
    refused(server.call("GET", f"/v1/rewards?customer_id={unknown}"), 404, "customer_not_found", "id")


# -- who can have one --------------------------------------------------------------------------------------------------


def not_available(answer: Answer) -> str:
    reason: str = refused(answer, 422, "reward_not_available", "reward_id")["reason"]
    return reason


def test_a_reward_is_for_its_time_only(server: Server) -> None:
    now = server.application.clock.now_ms()
    made = reward(server, starts_at=rfc3339(now + 10 * MS_PER_S), ends_at=rfc3339(now + 20 * MS_PER_S))
    member, clock = Member(server, 1_000), server.application.clock
    seen = []
    for _ in range(4):
        answer = member.redeem(reward_id=made["id"])
        seen.append(answer.status if answer.status == 201 else not_available(answer))
        clock.advance(9.999 if len(seen) == 1 else 0.001 if len(seen) == 2 else 10)  # type: ignore[attr-defined]
    assert seen == ["not_started", "not_started", 201, "ended"]


def test_a_reward_is_for_its_tiers_and_tags_only(server: Server) -> None:
    member, [bronze, silver, _] = Member(server, 1_000), tiers(server)
    assert not_available(member.redeem(reward_id=reward(server, tier_ids=[silver])["id"])) == "tier"
    assert member.redeem(reward_id=reward(server, tier_ids=[silver, bronze])["id"]).status == 201
    vip = reward(server, tags=["vip", "press"])
    assert not_available(member.redeem(reward_id=vip["id"])) == "tags"

    def tag(unit: UnitOfWork) -> None:
        unit.connection.execute('UPDATE customers SET tags = \'["x","vip"]\' WHERE id = ?', (member.id,))

    server.run(server.application.runner.change(tag))
    assert member.redeem(reward_id=vip["id"]).status == 201


def test_a_minimum_spend_is_compared_with_the_order(server: Server) -> None:
    member = Member(server, 1_000)
    made = reward(server, min_spend=2_000)["id"]
    assert not_available(member.redeem(reward_id=made)) == "min_spend"
    assert not_available(member.redeem(reward_id=made, amount=1_999)) == "min_spend"
    assert not_available(member.redeem(reward_id=made, amount=2_000, currency="JPY")) == "currency"
    assert member.redeem(reward_id=made, amount=2_000, currency="EUR").status == 201
    small, large = member.buy(1_999)["id"], member.buy(2_000)["id"]
    assert not_available(member.redeem(reward_id=made, transaction_id=small)) == "min_spend"
    assert member.redeem(reward_id=made, transaction_id=large).status == 201
    voucher = reward(server, type="amount_off", amount=5, currency="USD", sku=None)["id"]
    assert not_available(member.redeem(reward_id=voucher, amount=2_000, currency="EUR")) == "currency"
    assert member.redeem(reward_id=voucher).status == 201


def test_a_reward_that_costs_too_much_is_not_taken_from_the_stock(server: Server) -> None:
    made, member = reward(server, stock=1), Member(server, 39)
    assert refused(member.redeem(reward_id=made["id"]), 422, "insufficient_points", "points")["available"] == 39
    assert stock(server, made) == 1


# -- how many are left -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["cancel", "reverse", "time-out", "parts"])
def test_stock_and_limit_come_back_with_all_points(server: Server, way: str) -> None:
    made, member = reward(server, stock=1, limit_per_customer=1), Member(server, 200)
    redemption = member.redeemed(reward_id=made["id"], reserve=way in ("cancel", "time-out"))
    path = f"/v1/redemptions/{redemption['id']}"
    assert stock(server, made) == 0
    assert not_available(member.redeem(reward_id=made["id"])) == "limit_reached"
    assert not_available(Member(server, 200).redeem(reward_id=made["id"])) == "out_of_stock"
    if way == "time-out":
        server.application.clock.advance(900)  # type: ignore[attr-defined]
    elif way == "parts":
        server.post(f"{path}/reverse", {"points": 39})
        assert stock(server, made) == 0
        assert not_available(member.redeem(reward_id=made["id"])) == "limit_reached"
        server.post(f"{path}/reverse", {"points": 1})
    else:
        server.post(f"{path}/{way}")
    if way != "time-out":
        assert stock(server, made) == 1
    member.redeemed(reward_id=made["id"])
    assert stock(server, made) == 0
    assert member.available == 160
    member.check()


def test_a_reward_without_stock_stays_so(server: Server) -> None:
    made, member = reward(server), Member(server, 100)
    redemption = member.redeemed(reward_id=made["id"])
    server.post(f"/v1/redemptions/{redemption['id']}/reverse")
    assert stock(server, made) is None


def test_no_more_pieces_are_given_than_there_are(server: Server) -> None:
    """Thirty customers want one of ten pieces at once, and one customer wants ten of a reward with a limit of three."""
    made, members = reward(server, stock=10), [Member(server, 100) for _ in range(30)]
    limited = reward(server, limit_per_customer=3, cost_points=1)
    greedy = Member(server, 100)
    with ThreadPoolExecutor(20) as threads:
        few = threads.map(lambda each: each.redeem(reward_id=made["id"]), members)
        many = threads.map(lambda _: greedy.redeem(reward_id=limited["id"]), range(10))
        assert Counter(each.status for each in few) == {201: 10, 422: 20}
        assert Counter(each.status for each in many) == {201: 3, 422: 7}
    assert stock(server, made) == 0
    assert sum(each.available for each in members) == 20 * 100 + 10 * 60
