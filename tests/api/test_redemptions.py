"""Redemptions: points that are exchanged, reserved, captured, canceled and returned."""

import itertools
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from loyalpro.kernel.clock import MS_PER_DAY, VirtualClock, rfc3339
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.redemption_book import PutBack, cancel_reservations, linked_redemptions, named_redemptions
from loyalpro.loyalty.redemptions import CODE_LETTERS, ExpireReservations, expire_reservations
from loyalpro.storage.unit_of_work import UnitOfWork
from support.accounts import open_account
from support.databases import Databases
from support.points import Member, refused
from support.server import Answer, Server

START = 1_767_225_600_000
"""2026-01-01T00:00:00Z, a Thursday."""
_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    """No sweep comes while a test moves the clock, so each command has to settle what is due."""
    with Server(databases.fresh(request.param), clock=VirtualClock(START), sweep_interval=100_000_000) as running:
        yield running


def move(server: Server, redemption: Any, name: str, body: Any = None) -> Answer:
    return server.call("POST", f"/v1/redemptions/{redemption['id']}/{name}", body)


def moved(server: Server, redemption: Any, name: str, body: Any = None) -> Any:
    answer = move(server, redemption, name, body)
    assert answer.status == 200, answer.raw
    return answer.json


def advance(server: Server, seconds: float) -> None:
    clock: Any = server.application.clock
    clock.advance(seconds)


def account_of(unit: UnitOfWork, member: Member) -> str:
    [(account_id,)] = unit.connection.execute("SELECT account_id FROM customers WHERE id = ?", (member.id,))
    return str(account_id)


def in_a_unit(server: Server, work: Any) -> Any:
    return server.run(server.application.runner.change(work))


def day(server: Server, days: int) -> str:
    """The instant of so many days from now."""
    return rfc3339(server.application.clock.now_ms() + days * MS_PER_DAY)


# -- to redeem ---------------------------------------------------------------------------------------------------------


def test_redeemed_points_leave_the_balance_and_the_event_tells_it(server: Server) -> None:
    member = Member(server, 100)
    answer = member.redeem(points=30)
    assert answer.status == 201
    redemption = answer.json
    assert (redemption["status"], redemption["points"], redemption["points_returned"]) == ("redeemed", 30, 0)
    assert (redemption["reward"], redemption["reserved_until"], redemption["ended_at"]) == (None, None, None)
    assert redemption["captured_at"] == redemption["created_at"]
    assert server.get(f"/v1/redemptions/{redemption['id']}") == redemption
    assert member.points == {"available": 70, "pending": 0, "debt": 0}
    assert member.entries()[-1] == ("redeem", -30, 70)
    [event] = member.events("points.redeemed")
    assert (event["redemption_id"], event["points"], event["status"]) == (redemption["id"], 30, "redeemed")
    assert (event["code"], event["reward"], event["transaction_id"]) == (redemption["code"], None, None)
    assert event["balance"] == {
        "before": 100, "after": 70, "pending_before": 0, "pending": 0, "debt_before": 0, "debt": 0
    }  # fmt: skip
    assert member.audited(redemption["id"]) == ["redemption.created"]
    assert member.totals() == {"redemptions": 1, "points_redeemed": 30, "points_qualifying": 0}
    member.check()


def test_a_customer_is_named_by_either_id(server: Server) -> None:
    member = Member(server, 10)
    answer = server.call("POST", "/v1/redemptions", {"customer_external_id": member.external_id, "points": 4})
    assert (answer.status, answer.json["customer_id"], member.available) == (201, member.id, 6)


def test_example_16_points_that_expire_first_are_spent_first(server: Server) -> None:
    """50 until May, 30 until March, 20 for longer than both: 60 are spent."""
    member = Member(server, (50, day(server, 120)), (30, day(server, 60)), 20)
    member.redeemed(points=60)
    assert member.lots() == [(50, 20), (30, 0), (20, 20)]
    member.check()


def test_more_than_is_available_is_refused_and_changes_nothing(server: Server) -> None:
    member = Member(server, 10)
    problem = refused(member.redeem(points=11), 422, "insufficient_points", "points")
    assert problem["available"] == 10
    assert "10 points available" in problem["detail"]
    assert (member.available, len(member.events("points."))) == (10, 1)
    assert member.redeem(points=10).status == 201
    assert member.available == 0


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"points": 1}, "missing_field", "customer_id"),
        ({"customer_id": "a", "customer_external_id": "a", "points": 1}, "invalid_field", "customer_id"),
        ({"customer_id": "a"}, "missing_field", "points"),
        ({"customer_id": "a", "points": 1, "reward_id": "rew_1"}, "invalid_field", "points"),
        ({"customer_id": "a", "points": 0}, "invalid_field", "points"),
        ({"customer_id": "a", "points": 2**53}, "number_out_of_range", "points"),
        ({"customer_id": "a", "points": 1, "ttl_seconds": 60}, "invalid_field", "ttl_seconds"),
        ({"customer_id": "a", "points": 1, "reserve": True, "ttl_seconds": 59}, "invalid_field", "ttl_seconds"),
        ({"customer_id": "a", "points": 1, "reserve": True, "ttl_seconds": 86_401}, "invalid_field", "ttl_seconds"),
        ({"customer_id": "a", "points": 1, "currency": "EUR"}, "invalid_field", "currency"),
        ({"customer_id": "a", "points": 1, "amount": 1, "currency": "EURO"}, "unknown_currency", "currency"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(server: Server, body: Any, code: str, param: str) -> None:
    refused(server.call("POST", "/v1/redemptions", body), 422, code, param)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("customer_id", "cus_00000000000000000000000000", "customer_not_found"),
        ("reward_id", "rew_00000000000000000000000000", "not_found"),
        ("transaction_id", "txn_00000000000000000000000000", "not_found"),
        ("reward_id", "5 EUR off", "not_found"),
    ],
)
def test_what_does_not_exist_is_named(server: Server, field: str, value: str, code: str) -> None:
    member = Member(server, 10)
    body = {"points": 1, field: value} if field != "reward_id" else {field: value}
    refused(member.redeem(**body), 404, code, field)
    assert member.available == 10


def test_a_purchase_of_another_customer_is_not_found(server: Server) -> None:
    member, other = Member(server, 10), Member(server)
    purchase = other.buy(500)
    refused(member.redeem(points=1, transaction_id=purchase["id"]), 404, "not_found", "transaction_id")
    own = member.buy(500)
    assert member.redeemed(points=1, transaction_id=own["id"])["transaction_id"] == own["id"]


def test_a_customer_whose_redeeming_is_blocked_redeems_nothing(server: Server) -> None:
    member = Member(server, 10)

    def block(unit: UnitOfWork) -> None:
        unit.connection.execute("UPDATE customers SET redeeming_blocked = 1 WHERE id = ?", (member.id,))

    in_a_unit(server, block)
    refused(member.redeem(points=1), 409, "redeeming_blocked")
    assert member.available == 10


def test_the_same_external_id_takes_effect_once(server: Server) -> None:
    member = Member(server, 100)
    first = member.redeemed(points=10, external_id=f"{member.external_id}-1")
    again = member.redeem(points=10, external_id=f"{member.external_id}-1")
    assert (again.status, again.json) == (200, first)
    differing = member.redeem(points=11, reserve=True, external_id=f"{member.external_id}-1")
    problem = refused(differing, 409, "redemption_exists", "external_id")
    assert "differs in points, reserve" in problem["detail"]
    other = Member(server, 100)
    refused(other.redeem(points=10, external_id=f"{member.external_id}-1"), 409, "redemption_exists", "external_id")
    assert (member.available, other.available) == (90, 100)


def test_two_customers_that_use_one_external_id_at_the_same_time_redeem_once(server: Server) -> None:
    members = [Member(server, 10) for _ in range(8)]
    external_id = f"shared-{next(_numbers)}"
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda member: member.redeem(points=5, external_id=external_id), members))
    assert Counter(each.status for each in answers) == {201: 1, 409: 7}
    assert sum(each.available for each in members) == 75


def test_a_code_can_be_typed_and_finds_its_redemption(server: Server) -> None:
    member = Member(server, 100)
    redemptions = [member.redeemed(points=1) for _ in range(5)]
    codes = [each["code"] for each in redemptions]
    assert len(set(codes)) == 5
    for code in codes:
        assert code.startswith("LP-")
        assert len(code) == 7
        assert set(code[3:]) <= set(CODE_LETTERS)
    found = server.get(f"/v1/redemptions?code={codes[2]}")["data"]
    assert [each["id"] for each in found] == [redemptions[2]["id"]]


def test_redemptions_are_listed_newest_first(server: Server) -> None:
    member = Member(server, 100)
    purchase = member.buy(100)
    made = [member.redeemed(points=n, external_id=f"{member.external_id}-{n}") for n in (1, 2, 3)]
    linked = member.redeemed(points=4, transaction_id=purchase["id"])
    by_customer = f"/v1/redemptions?customer_id={member.id}"
    first = server.get(f"{by_customer}&limit=2")
    assert [each["points"] for each in first["data"]] == [4, 3]
    second = server.get(f"{by_customer}&limit=2&cursor={first['next_cursor']}")
    assert ([each["points"] for each in second["data"]], second["next_cursor"]) == ([2, 1], None)
    assert server.get(f"/v1/redemptions?transaction_id={purchase['id']}")["data"] == [linked]
    assert server.get(f"/v1/redemptions?external_id={member.external_id}-2")["data"] == [made[1]]


# -- reservations ------------------------------------------------------------------------------------------------------


def test_example_30_a_reservation_takes_its_points_until_it_times_out(server: Server) -> None:
    member = Member(server, 100)
    reserved = member.redeemed(points=60, reserve=True)
    assert (reserved["status"], reserved["captured_at"]) == ("reserved", None)
    assert reserved["reserved_until"] == rfc3339(server.application.clock.now_ms() + 900_000)
    [event] = member.events("points.redeemed")
    assert (event["status"], event["reserved_until"]) == ("reserved", reserved["reserved_until"])
    problem = refused(member.redeem(points=50), 422, "insufficient_points", "points")
    assert problem["available"] == 40
    advance(server, 900)
    assert member.redeem(points=100).status == 201  # no sweep is needed: the command settles what is overdue
    assert [each[:2] for each in member.entries()[1:]] == [("redeem", -60), ("redeem_reversal", 60), ("redeem", -100)]
    assert server.get(f"/v1/redemptions/{reserved['id']}")["status"] == "expired"
    [returned] = member.events("points.adjusted")[1:]
    assert (returned["kind"], returned["points"], returned["redemption_id"]) == (
        "redemption_reversal", 60, reserved["id"]
    )  # fmt: skip
    assert (returned["reason_code"], returned["actor"]) == ("reservation_expired", "system:reservations")
    assert member.totals() == {"redemptions": 1, "points_redeemed": 100, "points_qualifying": 0}
    member.check()


def test_a_reservation_is_captured_once_and_without_an_event(server: Server) -> None:
    member = Member(server, 100)
    reserved = member.redeemed(points=60, reserve=True, ttl_seconds=60)
    purchase = member.buy(500)
    before = len(member.events())
    advance(server, 59)
    captured = moved(server, reserved, "capture", {"transaction_id": purchase["id"]})
    assert (captured["status"], captured["transaction_id"]) == ("redeemed", purchase["id"])
    assert captured["captured_at"] == rfc3339(server.application.clock.now_ms())
    assert moved(server, reserved, "capture") == captured
    assert moved(server, reserved, "capture", {"transaction_id": purchase["id"]}) == captured
    assert len(member.events()) == before
    assert member.available == 45
    assert member.audited(reserved["id"]) == ["redemption.created", "redemption.captured"]
    other = member.buy(500)
    answer = move(server, reserved, "capture", {"transaction_id": other["id"]})
    refused(answer, 409, "redemption_has_transaction", "transaction_id")
    member.check()


def test_a_canceled_reservation_returns_its_points_once(server: Server) -> None:
    member = Member(server, 100)
    reserved = member.redeemed(points=60, reserve=True)
    canceled = moved(server, reserved, "cancel")
    assert (canceled["status"], canceled["points_returned"], member.available) == ("canceled", 60, 100)
    assert canceled["ended_at"] == rfc3339(server.application.clock.now_ms())
    assert moved(server, reserved, "cancel") == canceled
    [_, event] = member.events("points.adjusted")
    assert (event["points"], event["reason_code"]) == (60, "reservation_canceled")
    assert event["reverses_entry_id"] == member.events("points.redeemed")[0]["entry_id"]
    assert member.totals() == {"redemptions": 0, "points_redeemed": 0, "points_qualifying": 0}
    assert member.audited(reserved["id"]) == ["redemption.created", "redemption.canceled"]
    member.check()


@pytest.mark.parametrize(
    ("status", "name", "code"),
    [
        ("reserved", "reverse", "redemption_not_redeemed"),
        ("redeemed", "cancel", "redemption_not_reserved"),
        ("canceled", "capture", "redemption_not_reserved"),
        ("canceled", "reverse", "redemption_not_redeemed"),
        ("overdue", "capture", "redemption_not_reserved"),
        ("overdue", "cancel", "redemption_not_reserved"),
        ("overdue", "reverse", "redemption_not_redeemed"),
        ("expired", "capture", "redemption_not_reserved"),
        ("expired", "cancel", "redemption_not_reserved"),
        ("reversed", "capture", "redemption_not_reserved"),
        ("reversed", "cancel", "redemption_not_reserved"),
    ],
)
def test_a_move_from_another_state_is_refused_and_changes_nothing(
    server: Server, status: str, name: str, code: str
) -> None:
    member = Member(server, 100)
    redemption = member.redeemed(points=10, reserve=status not in ("redeemed", "reversed"))
    if status == "canceled":
        moved(server, redemption, "cancel")
    if status == "reversed":
        moved(server, redemption, "reverse")
    if status in ("overdue", "expired"):
        advance(server, 900)
    if status == "expired":
        member.redeemed(points=1)
    before, shown = member.entries(), server.get(f"/v1/redemptions/{redemption['id']}")
    problem = refused(move(server, redemption, name), 409, code, "id")
    assert ("expired since" if status in ("overdue", "expired") else status) in problem["detail"]
    assert (member.entries(), server.get(f"/v1/redemptions/{redemption['id']}")) == (before, shown)


def test_reservations_whose_time_has_passed_are_expired_in_one_go(server: Server) -> None:
    members = [Member(server, 100) for _ in range(3)]
    reserved = [each.redeemed(points=10, reserve=True, ttl_seconds=60) for each in members for _ in range(2)]
    later = members[0].redeemed(points=10, reserve=True, ttl_seconds=61)
    moved(server, reserved[1], "cancel")
    moved(server, reserved[3], "capture")
    advance(server, 60)

    def expire(unit: UnitOfWork) -> int:
        account_id = account_of(unit, members[0])
        ids = [each["id"] for each in [*reserved, later]]
        overdue = unit.redemptions.overdue(unit.now, None, 200)
        assert {id_ for account, id_, _ in overdue if account == account_id} >= {
            reserved[n]["id"] for n in (0, 2, 4, 5)
        }
        return expire_reservations(unit, ExpireReservations(account_id, ids))

    assert (in_a_unit(server, expire), in_a_unit(server, expire_again(members[0], reserved))) == (4, 0)
    statuses = [server.get(f"/v1/redemptions/{each['id']}")["status"] for each in [*reserved, later]]
    assert statuses == ["expired", "canceled", "expired", "redeemed", "expired", "expired", "reserved"]
    assert [each.available for each in members] == [90, 90, 100]
    for each in members:
        each.check()


def expire_again(member: Member, reserved: list[Any]) -> Any:
    def work(unit: UnitOfWork) -> int:
        ids = [each["id"] for each in reserved]
        return expire_reservations(unit, ExpireReservations(account_of(unit, member), ids))

    return work


def test_all_reservations_of_a_customer_are_canceled_with_the_book(server: Server) -> None:
    """As a merge and a deletion do it."""
    member, other = Member(server, 100), Member(server, 100)
    mine = [member.redeemed(points=10, reserve=True) for _ in range(2)]
    kept = other.redeemed(points=10, reserve=True)

    def work(unit: UnitOfWork) -> None:
        book = Book(unit, account_of(unit, member), ids=[member.id, other.id], with_lots=True)
        cancel_reservations(unit, book, member.id, "customer_merged")
        book.write()

    in_a_unit(server, work)
    assert [server.get(f"/v1/redemptions/{each['id']}")["status"] for each in [*mine, kept]] == [
        "canceled", "canceled", "reserved"
    ]  # fmt: skip
    assert (member.available, other.available) == (100, 90)
    assert {each["reason_code"] for each in member.events("points.adjusted")[1:]} == {"customer_merged"}
    member.check()


# -- returns -----------------------------------------------------------------------------------------------------------


def test_redeemed_points_come_back_in_parts(server: Server) -> None:
    member = Member(server, 100)
    redemption = member.redeemed(points=60)
    part = moved(server, redemption, "reverse", {"points": 20})
    assert (part["status"], part["points_returned"], part["ended_at"]) == ("redeemed", 20, None)
    moved(server, redemption, "reverse", {"points": 20})
    answer = move(server, redemption, "reverse", {"points": 21})
    assert refused(answer, 422, "reversal_exceeds_redemption", "points")["remaining_points"] == 20
    whole = moved(server, redemption, "reverse")
    assert (whole["status"], whole["points_returned"]) == ("reversed", 60)
    assert moved(server, redemption, "reverse") == whole
    assert moved(server, redemption, "reverse", {"points": 60}) == whole
    answer = move(server, redemption, "reverse", {"points": 1})
    assert refused(answer, 422, "reversal_exceeds_redemption", "points")["remaining_points"] == 0
    assert member.available == 100
    returned = [entry for entry in member.entries() if entry[0] == "redeem_reversal"]
    assert [points for _, points, _ in returned] == [20, 20, 20]
    assert {each["kind"] for each in member.events("points.adjusted")[1:]} == {"redemption_reversal"}
    assert member.totals() == {"redemptions": 0, "points_redeemed": 0, "points_qualifying": 0}
    assert member.audited(redemption["id"]) == ["redemption.created", *["redemption.reversed"] * 3]
    member.check()


@pytest.mark.parametrize("first", [20, 60], ids=["17 part", "17 whole"])
def test_example_17_returned_points_go_back_to_their_lots(databases: Databases, store: str, first: int) -> None:
    """50 until May and 30 until March are there in February, and 60 are spent. They come back in April."""
    with Server(databases.fresh(store), clock=VirtualClock(START + 31 * MS_PER_DAY)) as server:
        member = Member(server, (50, "2026-05-31T00:00:00Z"), (30, "2026-03-31T00:00:00Z"), 20)
        redemption = member.redeemed(points=60)
        assert member.lots() == [(50, 20), (30, 0), (20, 20)]
        advance(server, 68 * 86_400)  # 10 April
        assert server.application.clock.now_ms() == START + 99 * MS_PER_DAY
        moved(server, redemption, "reverse", {"points": first})
        if first == 20:
            assert member.lots() == [(50, 40), (30, 0), (20, 20)]
        else:
            assert member.lots() == [(50, 50), (30, 0), (20, 20), (30, 30)]
            [lot] = server.get(f"/v1/customers/{member.id}/lots?limit=1")["data"]
            assert lot["expires_at"] == "2026-05-11T00:00:00.000Z"
        member.check()


def test_points_that_come_back_in_parts_fill_one_lot_after_the_other(server: Server) -> None:
    """60 are taken, 30 from each lot. What expires last is full before anything goes to the other one."""
    member = Member(server, (50, day(server, 90)), (30, day(server, 30)))
    redemption = member.redeemed(points=60)
    seen = []
    for _ in range(3):
        moved(server, redemption, "reverse", {"points": 20})
        seen.append(member.lots())
    assert seen == [[(50, 40), (30, 0)], [(50, 50), (30, 10)], [(50, 50), (30, 30)]]
    member.check()


def test_points_that_come_back_in_parts_after_they_expired_keep_their_purchases(
    databases: Databases, store: str
) -> None:
    """60 are taken, 30 from each of two purchases; both expire. 40 of them come back in two parts, each in lots of its own."""
    with Server(databases.fresh(store), clock=VirtualClock(START + 40 * MS_PER_DAY)) as server:
        member = Member(server)
        first = member.buy(3_000, occurred_at="2026-01-01T00:00:00Z")["id"]
        second = member.buy(3_000, occurred_at="2026-02-01T00:00:00Z")["id"]
        redemption = member.redeemed(points=60)
        advance(server, 400 * 86_400)
        moved(server, redemption, "reverse", {"points": 20})
        moved(server, redemption, "reverse", {"points": 20})
        lots = server.get(f"/v1/customers/{member.id}/lots")["data"][::-1]
        assert [(each["remaining"], each["transaction_id"]) for each in lots] == [
            (0, first), (0, second), (20, second), (10, second), (10, first)
        ]  # fmt: skip
        member.check(with_events=False)


def test_a_program_may_let_points_expire_at_once_that_come_back_too_late(databases: Databases, store: str) -> None:
    with Server(databases.fresh(store), clock=VirtualClock(START)) as server:
        assert server.call("PATCH", "/v1/program", {"refunds": {"restore_expired": "expire_now"}}).status == 200
        member = Member(server, (50, day(server, 10)), 50)
        redemption = member.redeemed(points=60)
        advance(server, 20 * 86_400)
        moved(server, redemption, "reverse")
        assert member.lots() == [(50, 0), (50, 50), (50, 0)]
        assert [each[:2] for each in member.entries()[-2:]] == [("redeem_reversal", 60), ("expire", -50)]
        [expired] = member.events("points.expired")
        [lot] = server.get(f"/v1/customers/{member.id}/lots?limit=1")["data"]
        [entry] = server.get(f"/v1/customers/{member.id}/ledger?limit=1")["data"]
        assert [each["lot_id"] for each in expired["lots"]] == [lot["id"]]
        assert entry["source"] == {"type": "lot", "id": lot["id"]}
        member.check()


def test_returned_points_repay_debt_first(server: Server) -> None:
    member = Member(server, 100)
    redemption = member.redeemed(points=80)
    member.adjusted(-50, allow_negative=True)
    assert member.points == {"available": 0, "pending": 0, "debt": 30}
    moved(server, redemption, "reverse")
    assert member.points == {"available": 50, "pending": 0, "debt": 0}
    member.check()


def test_a_deleted_customer_gets_nothing_back(server: Server) -> None:
    member = Member(server, 100)
    redemption = member.redeemed(points=80)
    server.call("DELETE", f"/v1/customers/{member.id}")
    refused(move(server, redemption, "reverse"), 404, "customer_not_found", "id")
    refused(member.redeem(points=1), 404, "customer_not_found", "customer_id")


def test_a_redemption_that_does_not_exist_is_not_found(server: Server) -> None:
    for name in ("capture", "cancel", "reverse"):
        refused(move(server, {"id": "red_00000000000000000000000000"}, name), 404, "not_found", "id")
    refused(server.call("GET", "/v1/redemptions/red_00000000000000000000000000"), 404, "not_found", "id")


def test_another_account_finds_and_moves_nothing(server: Server) -> None:
    member = Member(server, 100)
    reserved = member.redeemed(points=10, reserve=True)
    reward = server.post("/v1/rewards", {"name": "r", "type": "custom", "cost_points": 1})["id"]
    key = f"lp_other_{next(_numbers):032}"
    open_account(server, key)
    for name in ("capture", "cancel", "reverse"):
        answer = server.call("POST", f"/v1/redemptions/{reserved['id']}/{name}", key=key)
        refused(answer, 404, "not_found", "id")
    refused(server.call("GET", f"/v1/redemptions/{reserved['id']}", key=key), 404, "not_found", "id")
    assert server.call("GET", f"/v1/redemptions?code={reserved['code']}", key=key).json["data"] == []
    assert server.call("GET", f"/v1/redemptions?customer_id={member.id}", key=key).json["data"] == []
    customer = server.call("POST", "/v1/customers", {}, key=key).json["id"]
    body = {"customer_id": customer, "amount": 1, "currency": "EUR", "redemption_ids": [reserved["id"]]}
    refused(server.call("POST", "/v1/transactions", body, key=key), 404, "not_found", "redemption_ids")
    body = {"customer_id": customer, "reward_id": reward}
    refused(server.call("POST", "/v1/redemptions", body, key=key), 404, "not_found", "reward_id")
    body = {"customer_id": member.id, "points": 1}
    refused(server.call("POST", "/v1/redemptions", body, key=key), 404, "customer_not_found", "customer_id")
    path = f"/v1/customers/{member.id}/adjustments"
    answer = server.call("POST", path, {"points": 1, "reason_code": "x"}, key=key)
    refused(answer, 404, "customer_not_found", "id")
    assert server.get(f"/v1/redemptions/{reserved['id']}") == reserved


# -- for purchases and refunds -----------------------------------------------------------------------------------------


def test_a_purchase_captures_what_it_names(server: Server) -> None:
    """A reservation and redeemed points of the customer are linked; those of others, and ended ones, are refused."""
    member, other = Member(server, 100), Member(server, 100)
    reserved, redeemed = member.redeemed(points=10, reserve=True), member.redeemed(points=10)
    canceled, foreign = member.redeemed(points=10, reserve=True), other.redeemed(points=10, reserve=True)
    moved(server, canceled, "cancel")
    purchase = member.buy(500)["id"]

    def work(unit: UnitOfWork) -> dict[str, str]:
        book = Book(unit, account_of(unit, member), ids=[member.id, other.id])
        named = named_redemptions(unit, book, [each["id"] for each in (reserved, redeemed, canceled, foreign)])
        wallet, codes = book.wallet(member.id), {}
        assert wallet is not None
        for each in (reserved, redeemed, canceled, foreign, {"id": "red_x"}):
            try:
                named.require_capturable(each["id"], wallet)
            except Exception as error:  # noqa: BLE001 - each refusal is compared below
                codes[each["id"]] = str(getattr(error, "code", error))
        for each in (reserved, redeemed):
            named.capture(each["id"], purchase)
        for each in (reserved, redeemed):
            with pytest.raises(Exception, match=purchase) as refusal:
                named.require_capturable(each["id"], wallet)
            assert getattr(refusal.value, "code", "") == "redemption_has_transaction"
        named.write()
        book.write()
        return codes

    codes = in_a_unit(server, work)
    assert codes == {canceled["id"]: "redemption_not_reserved", foreign["id"]: "not_found", "red_x": "not_found"}
    found = server.get(f"/v1/redemptions?transaction_id={purchase}")["data"]
    assert [(each["id"], each["status"]) for each in found] == [
        (redeemed["id"], "redeemed"), (reserved["id"], "redeemed")
    ]  # fmt: skip
    assert member.available == 85


def test_example_18_a_refund_restores_what_paid_for_the_purchase(server: Server) -> None:
    """Of 300 and 200 points 125 come back, then the other 375: the oldest first, each at most what it has left."""
    member = Member(server, 500)
    purchase = member.buy(0)["id"]
    redemptions = [member.redeemed(points=points, transaction_id=purchase) for points in (300, 200)]
    reserved = Member(server, 10).redeemed(points=5, reserve=True)
    assert reserved["status"] == "reserved"

    def restore(points: int, refund_id: str) -> Any:
        def work(unit: UnitOfWork) -> tuple[int, list[tuple[int, int]]]:
            book = Book(unit, account_of(unit, member), ids=[member.id])
            linked = linked_redemptions(unit, book, [purchase])
            why = PutBack("refund", unit.actor, refund_id)
            restored = linked.restore_for_refund(purchase, points // 2, why)
            restored += linked.restore_for_refund(purchase, points - points // 2, why)
            linked.write()
            book.write()
            return restored, [(each.points, each.points_returned) for each in linked.of_transaction(purchase)]

        return in_a_unit(server, work)

    assert restore(125, "ref_1") == (125, [(300, 125), (200, 0)])
    assert restore(375, "ref_2") == (375, [(300, 300), (200, 200)])
    assert restore(1, "ref_3") == (0, [(300, 300), (200, 200)])
    assert member.available == 500
    events = member.events("points.adjusted")[1:]
    assert [(each["points"], each["refund_id"]) for each in events] == [
        (62, "ref_1"), (63, "ref_1"), (175, "ref_2"), (12, "ref_2"), (188, "ref_2")
    ]  # fmt: skip
    assert {each["transaction_id"] for each in events} == {purchase}
    assert [server.get(f"/v1/redemptions/{each['id']}")["status"] for each in redemptions] == ["reversed"] * 2
    member.check()


def test_example_30_of_fifty_parallel_redemptions_exactly_ten_succeed(server: Server) -> None:
    member = Member(server, 100)
    with ThreadPoolExecutor(50) as threads:
        answers = list(threads.map(lambda _: member.redeem(points=10), range(50)))
    assert Counter(each.status for each in answers) == {201: 10, 422: 40}
    assert member.available == 0
    member.check()
