"""What a running server does because of the time, and what a change of its program makes of customers."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from loyalpro.kernel.clock import VirtualClock
from support.databases import Databases
from support.server import Server
from support.timeline import instant

START = instant("2026-11-28T10:00Z")


@pytest.fixture(params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param), clock=VirtualClock(START)) as running:
        yield running


def advance(server: Server, seconds: float) -> None:
    clock: Any = server.application.clock
    server.loop.call_soon_threadsafe(clock.advance, seconds)


def sweep_until(server: Server, done: Callable[[], bool], step_s: float = 60.0) -> None:
    """Move the time on, by intervals of the sweeps, until a sweep has done something."""
    deadline_s = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline_s
        advance(server, step_s)


def member(server: Server, points: int) -> str:
    id_ = str(server.post("/v1/customers", {})["id"])
    server.post("/v1/transactions", {"customer_id": id_, "amount": points * 100, "currency": "EUR"})
    return id_


def shown(server: Server, customer_id: str) -> Any:
    return server.get(f"/v1/customers/{customer_id}")


def kinds(server: Server, customer_id: str) -> list[str]:
    return [each["type"] for each in server.listed(f"/v1/events?customer_id={customer_id}&limit=100")["data"]]


def test_points_expire_and_tiers_are_reviewed_without_a_request(server: Server) -> None:
    ann = member(server, 1_000)
    assert shown(server, ann)["tier"]["name"] == "Silver"
    advance(server, (instant("2027-11-29T00:00Z") - START) / 1_000)
    sweep_until(server, lambda: shown(server, ann)["points"]["available"] == 0)
    sweep_until(server, lambda: shown(server, ann)["tier"]["name"] == "Bronze")
    found = kinds(server, ann)  # the events of last year may be removed already
    assert sorted(found[-2:]) == ["customer.tier_changed", "points.expired"]


def test_a_reservation_ends_without_a_request(server: Server) -> None:
    ann = member(server, 100)
    body = {"customer_id": ann, "points": 60, "reserve": True, "ttl_seconds": 60}
    redemption = server.post("/v1/redemptions", body)
    assert shown(server, ann)["points"]["available"] == 40
    advance(server, 60)
    sweep_until(server, lambda: shown(server, ann)["points"]["available"] == 100)
    assert server.get(f"/v1/redemptions/{redemption['id']}")["status"] == "expired"


def test_changed_tiers_reach_all_customers(server: Server) -> None:
    """The change wakes the job: it is done before the next interval of 60 seconds."""
    ann, bob, gil = member(server, 600), member(server, 100), member(server, 1_000)
    tiers = server.get("/v1/program")["tiers"]
    silver = next(each for each in tiers if each["name"] == "Silver")
    kept = [{"id": each["id"], "name": each["name"], "threshold": each["threshold"]} for each in tiers]
    lowered = [{**each, "threshold": 500} if each["id"] == silver["id"] else each for each in kept]
    assert server.call("PATCH", "/v1/program", {"tiers": lowered}).status == 200
    sweep_until(server, lambda: shown(server, ann)["tier"]["name"] == "Silver", step_s=0.02)
    assert shown(server, bob)["tier"]["name"] == "Bronze"
    without = [each for each in lowered if each["id"] != silver["id"]]
    assert server.call("PATCH", "/v1/program", {"tiers": without}).status == 200
    for each in (ann, gil):
        sweep_until(server, lambda id_=each: shown(server, id_)["tier"]["name"] == "Bronze", step_s=0.02)  # type: ignore[misc]
    data = [each["data"] for each in server.listed(f"/v1/events?customer_id={ann}&type=customer.tier_changed")["data"]]
    assert [(each["tier"]["name"], each["reason"]) for each in data] == [
        ("Silver", "program_changed"),
        ("Bronze", "program_changed"),
    ]
    assert server.application.clock.now_ms() - START < 60_000
