"""Points that are given or taken by hand."""

from collections.abc import Iterator
from typing import Any

import pytest

from loyalpro.kernel.clock import MS_PER_DAY, VirtualClock, rfc3339
from support.databases import Databases
from support.points import Member, refused
from support.server import Server

START = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    """No sweep comes while a test moves the clock, so each command has to settle what is due."""
    with Server(databases.fresh(request.param), clock=VirtualClock(START), sweep_interval=100_000_000) as running:
        yield running


def test_given_points_are_a_lot_by_the_policy(server: Server) -> None:
    member = Member(server)
    made = member.adjusted(50, note="Late delivery", reason_code="goodwill")
    assert made["expires_at"] == "2027-01-02T00:00:00.000Z"
    assert made["balance"] == {"available": 50, "pending": 0, "debt": 0}
    assert (made["points"], made["reason_code"], made["note"]) == (50, "goodwill", "Late delivery")
    [lot] = server.get(f"/v1/customers/{member.id}/lots")["data"]
    assert (lot["id"], lot["entry_id"], lot["expires_at"]) == (made["lot_id"], made["entry_id"], made["expires_at"])
    [entry] = server.get(f"/v1/customers/{member.id}/ledger")["data"]
    assert entry["source"] == {"type": "adjustment", "id": made["id"]}
    assert (entry["type"], entry["points"], entry["note"], entry["actor"]) == (
        "adjust", 50, "Late delivery", made["actor"]
    )  # fmt: skip
    [event] = member.events("points.adjusted")
    assert (event["kind"], event["points"], event["reason_code"], event["note"], event["counts_toward_tier"]) == (
        "manual", 50, "goodwill", "Late delivery", False
    )  # fmt: skip
    assert member.audited(made["id"]) == ["points.adjusted"]
    member.check()


def test_given_points_may_have_a_date_of_their_own(server: Server) -> None:
    member = Member(server)
    until = rfc3339(server.application.clock.now_ms() + MS_PER_DAY)
    assert member.adjusted(50, expires_at=until)["expires_at"] == until


def test_taken_points_leave_in_spending_order(server: Server) -> None:
    soon = rfc3339(server.application.clock.now_ms() + MS_PER_DAY)
    member = Member(server, 50, (30, soon))
    made = member.adjusted(-40)
    assert (made["points"], made["lot_id"], made["expires_at"]) == (-40, None, None)
    assert member.lots() == [(50, 40), (30, 0)]
    assert member.events("points.adjusted")[-1]["points"] == -40
    member.check()


def test_example_12_what_is_taken_beyond_the_balance_is_refused_or_becomes_debt(server: Server) -> None:
    """100 are given and 80 spent; 100 are taken: the balance is -80."""
    member = Member(server, 100)
    member.redeemed(points=80)
    problem = refused(member.adjust(-100), 422, "insufficient_points", "points")
    assert problem["available"] == 20
    assert member.available == 20
    made = member.adjusted(-100, allow_negative=True)
    assert made["balance"] == {"available": 0, "pending": 0, "debt": 80}
    assert member.entries()[-1] == ("adjust", -100, -80)
    assert member.adjusted(100)["balance"] == {"available": 20, "pending": 0, "debt": 0}
    member.check()


def test_points_of_a_reservation_that_has_timed_out_can_be_taken(server: Server) -> None:
    member = Member(server, 100)
    member.redeemed(points=60, reserve=True)
    refused(member.adjust(-50), 422, "insufficient_points", "points")
    clock: Any = server.application.clock
    clock.advance(900)
    assert member.adjusted(-50)["balance"]["available"] == 50
    member.check()


def test_points_count_toward_the_tier_when_they_are_to(server: Server) -> None:
    member = Member(server, 10)
    assert member.adjusted(70, counts_toward_tier=True)["counts_toward_tier"] is True
    member.adjusted(-30, counts_toward_tier=True)
    assert member.totals()["points_qualifying"] == 40
    assert [each["counts_toward_tier"] for each in member.events("points.adjusted")] == [False, True, True]


def test_points_that_count_toward_the_tier_raise_it(server: Server) -> None:
    member = Member(server, 1_000)
    member.adjusted(999, counts_toward_tier=True)
    assert server.get(f"/v1/customers/{member.id}")["tier"]["name"] == "Bronze"
    member.adjusted(1, counts_toward_tier=True)
    assert server.get(f"/v1/customers/{member.id}")["tier"]["name"] == "Silver"
    types = [each["type"] for each in server.listed(f"/v1/events?customer_id={member.id}")["data"]]
    assert types[-2:] == ["points.adjusted", "customer.tier_changed"]


def test_the_same_external_id_takes_effect_once(server: Server) -> None:
    member = Member(server)
    fields = {"external_id": f"{member.external_id}-1", "note": "n"}
    first = member.adjusted(50, **fields)
    again = member.adjust(50, **fields)
    assert (again.status, again.json) == (200, first)
    assert member.adjust(50, external_id=f"{member.external_id}-1").status == 200
    problem = refused(member.adjust(51, **fields, reason_code="x"), 409, "adjustment_exists", "external_id")
    assert "differs in points, reason_code" in problem["detail"]
    other = Member(server)
    refused(other.adjust(50, **fields), 409, "adjustment_exists", "external_id")
    taken = member.adjusted(-10, external_id=f"{member.external_id}-2")
    again = member.adjust(-10, external_id=f"{member.external_id}-2")
    assert (again.status, again.json) == (200, taken)
    assert (member.available, other.available) == (40, 0)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"points": 0, "reason_code": "x"}, "invalid_field", "points"),
        ({"points": 1}, "missing_field", "reason_code"),
        ({"points": 1, "reason_code": ""}, "invalid_field", "reason_code"),
        ({"points": 1.5, "reason_code": "x"}, "invalid_field", "points"),
        ({"points": 1, "reason_code": "x", "expires_at": "2025-12-31T23:59:59Z"}, "invalid_field", "expires_at"),
        ({"points": -1, "reason_code": "x", "expires_at": "2099-01-01T00:00:00Z"}, "invalid_field", "expires_at"),
        ({"points": 1, "reason_code": "x", "allow_negative": True}, "invalid_field", "allow_negative"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(server: Server, body: Any, code: str, param: str) -> None:
    member = Member(server, 10)
    refused(server.call("POST", f"/v1/customers/{member.id}/adjustments", body), 422, code, param)
    assert member.available == 10


def test_no_balance_is_larger_than_json_can_count(server: Server) -> None:
    member = Member(server)
    most = 2**53 - 1
    member.adjusted(most)
    refused(member.adjust(1), 422, "points_limit", "points")
    member.adjusted(-most)
    member.adjusted(-most, allow_negative=True)
    refused(member.adjust(-1, allow_negative=True), 422, "points_limit", "points")
    assert member.points == {"available": 0, "pending": 0, "debt": most}
    member.check()


def test_the_note_is_erased_with_the_customer(server: Server) -> None:
    member = Member(server)
    member.adjusted(10, note="canary-note")
    server.call("DELETE", f"/v1/customers/{member.id}")
    refused(member.adjust(1), 404, "customer_not_found", "id")

    def notes(unit: Any) -> Any:
        return unit.connection.execute("SELECT COUNT(note) FROM ledger_entries WHERE customer_id = ?", (member.id,))

    clock: Any = server.application.clock
    while server.run(server.application.runner.read(notes)) != [(0,)]:
        server.run(advance(clock))  # the next piece of the erasure is due


async def advance(clock: VirtualClock) -> None:
    """Move the clock on the event loop, where everything that waits for it is."""
    clock.advance(60)
