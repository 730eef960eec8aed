"""Fraud rules from outside: each fires at its threshold and not below it, acts, and its cases are resolved."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from loyalpro.kernel.clock import VirtualClock, rfc3339
from support.databases import Databases
from support.server import Server

HOUR, DAY = 3_600, 86_400
DEFAULTS = {
    "velocity.earn": {"threshold": 5, "window": "PT1H", "params": {"long_threshold": 8, "long_window": "PT24H"}},
    "velocity.redeem": {"threshold": 3, "window": "PT1H", "params": {}},
    "amount.outlier": {"threshold": 6, "window": None, "params": {"floor": 50_000, "min_purchases": 8}},
    "points.cap": {"threshold": 10_000, "window": "P1D", "params": {}},
    "refund.abuse": {"threshold": 0.5, "window": "P60D", "params": {"min_purchases": 4}},
    "refund.after_redeem": {"threshold": 1, "window": None, "params": {}},
    "account.change_then_redeem": {"threshold": 0.5, "window": "PT24H", "params": {}},
    "dormant.burst": {"threshold": 0.8, "window": "P180D", "params": {}},
    "identity.shared": {"threshold": 3, "window": "P30D", "params": {}},
    "employee.self_accrual": {"threshold": 4, "window": "P1D", "params": {}},
    "employee.adjustments": {"threshold": 5_000, "window": "P1D", "params": {"max_entries": 50}},
    "receipt.duplicate": {"threshold": 2, "window": "PT1M", "params": {"min_amount": 5_000}},
}
_numbers = count()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    """Its clock stands still unless a test moves it."""
    clock = VirtualClock(1_800_014_400_000)  # 2027-01-15T12:00Z
    with Server(databases.fresh(request.param), clock=clock) as running:
        running.clock = clock  # type: ignore[attr-defined]
        yield running


@pytest.fixture(autouse=True)
def _default_rules(server: Server) -> Iterator[None]:
    """A day that no test before has used, and the default rules after the test."""
    move(server, 2 * DAY)
    before = server.get("/v1/fraud/rules")["data"]
    yield
    restored = [{name: value for name, value in rule.items() if name != "version"} for rule in before]
    assert server.call("PUT", "/v1/fraud/rules", {"rules": restored}).status == 200


def move(server: Server, seconds: float) -> None:
    server.loop.call_soon_threadsafe(server.clock.advance, seconds)  # type: ignore[attr-defined]
    server.get("/v1/fraud/rules")


def now_ms(server: Server) -> int:
    return int(server.clock.now_ms())  # type: ignore[attr-defined]


def enroll(server: Server, **fields: Any) -> str:
    return str(server.post("/v1/customers", {"external_id": f"c-{next(_numbers)}", **fields})["id"])


def buy(server: Server, customer: str, amount: int = 1_000, **fields: Any) -> Any:
    return server.post("/v1/transactions", {"customer_id": customer, "amount": amount, "currency": "EUR", **fields})


def cases(server: Server, customer: str, **filters: str) -> list[Any]:
    query = "".join(f"&{name}={value}" for name, value in filters.items())
    return list(server.get(f"/v1/fraud/cases?customer_id={customer}{query}")["data"])


def codes(server: Server, customer: str) -> list[str]:
    return [each["rule"]["code"] for each in cases(server, customer)]


def events(server: Server, customer: str) -> list[Any]:
    return list(server.listed(f"/v1/events?customer_id={customer}&limit=100")["data"])


def put(server: Server, code: str, **fields: Any) -> Any:
    answer = server.call("PUT", f"/v1/fraud/rules/{code}", fields)
    assert answer.status == 200, answer.raw
    return answer.json


# -- rules -----------------------------------------------------------------------------------------------------------


def test_a_new_account_has_twelve_rules(server: Server) -> None:
    listed = server.get("/v1/fraud/rules")
    assert listed["next_cursor"] is None
    found = {each["code"]: {name: each[name] for name in ("threshold", "window", "params")} for each in listed["data"]}
    assert found == DEFAULTS
    for each in listed["data"]:
        assert each["id"].startswith("frule_")
        assert (each["enabled"], each["shadow"], each["action"], each["cooldown"]) == (True, False, "flag", "PT24H")


def test_a_changed_rule_has_the_next_version_and_an_audit_row(server: Server) -> None:
    before = server.get("/v1/fraud/rules/velocity.redeem")
    changed = put(server, "velocity.redeem", action="block", threshold=4, window="PT2H", score=99, cooldown="P3D")
    assert changed == before | {
        "version": before["version"] + 1,
        "action": "block",
        "threshold": 4,
        "window": "PT2H",
        "score": 99,
        "cooldown": "P3D",
    }
    assert server.get("/v1/fraud/rules/velocity.redeem") == changed
    assert put(server, "velocity.redeem", threshold=4) == changed
    audit = server.get(f"/v1/audit_log?object_id={changed['id']}")["data"]
    assert audit[0]["action"] == "fraud_rule.updated"
    assert audit[0]["actor"].startswith("key:")


def test_rules_can_be_sent_as_they_were_read(server: Server) -> None:
    read = server.get("/v1/fraud/rules")
    for body in (read, {"rules": read["data"]}):
        answer = server.call("PUT", "/v1/fraud/rules", body)
        assert (answer.status, answer.json) == (200, read)


def test_several_rules_change_together_or_not_at_all(server: Server) -> None:
    good, bad = {"code": "points.cap", "threshold": 7}, {"code": "velocity.earn", "threshold": 1}
    refused = server.call("PUT", "/v1/fraud/rules", {"rules": [good, bad]})
    assert (refused.status, refused.json["code"], refused.json["param"]) == (422, "invalid_field", "threshold")
    assert server.get("/v1/fraud/rules/points.cap")["threshold"] == 10_000
    changed = server.call(
        "PUT", "/v1/fraud/rules", {"rules": [good, {"code": "velocity.earn", "enabled": False}]}
    ).json["data"]
    assert {each["code"]: each["enabled"] for each in changed if each["code"] in DEFAULTS}["velocity.earn"] is False
    assert server.get("/v1/fraud/rules/points.cap")["threshold"] == 7


@pytest.mark.parametrize(
    ("code", "body", "status", "error", "param"),
    [
        ("velocity.earns", {}, 404, "not_found", "code"),
        ("velocity.earn", {"threshold": 2.5}, 422, "invalid_field", "threshold"),
        ("velocity.earn", {"window": "1h"}, 422, "invalid_field", "window"),
        ("points.cap", {"window": "PT1H"}, 422, "invalid_field", "window"),
        ("velocity.earn", {"params": {"long_thresh": 9}}, 422, "invalid_field", "params.long_thresh"),
        ("velocity.earn", {"cooldown": "never"}, 422, "invalid_field", "cooldown"),
        ("velocity.earn", {"score": 101}, 422, "invalid_field", "score"),
        ("velocity.earn", {"version": 99}, 409, "fraud_rule_changed", "version"),
        ("velocity.earn", {"colour": 1}, 422, "unknown_field", "colour"),
        ("refund.abuse", {"action": "hold"}, 422, "action_not_available", "action"),
        ("dormant.burst", {"action": "hold"}, 422, "action_not_available", "action"),
    ],
)
def test_a_wrong_change_is_refused_by_field(
    server: Server, code: str, body: Any, status: int, error: str, param: str
) -> None:
    answer = server.call("PUT", f"/v1/fraud/rules/{code}", body)
    assert (answer.status, answer.json["code"], answer.json.get("param")) == (status, error, param)


def test_changes_need_the_scope_program(server: Server) -> None:
    key = server.post("/v1/api_keys", {"name": "till", "scopes": ["read", "transactions"]})["key"]
    assert server.call("GET", "/v1/fraud/rules", key=key).status == 200
    assert (
        server.call("PUT", "/v1/fraud/rules/points.cap", {"threshold": 9}, key=key).json["code"] == "insufficient_scope"
    )
    case = "/v1/fraud/cases/frd_01kat6b8z3v2m8d4qk7c5n9x1r/resolve"
    assert server.call("POST", case, {"resolution": "confirmed"}, key=key).json["code"] == "insufficient_scope"


# -- each rule for purchases -----------------------------------------------------------------------------------------


def test_example_28_velocity_earn_fires_at_the_fifth_purchase_and_counts_the_sixth(server: Server) -> None:
    customer = enroll(server)
    bought = [buy(server, customer)["id"] for _ in range(4)]
    assert cases(server, customer) == []
    bought.append(buy(server, customer)["id"])
    [case] = cases(server, customer)
    assert case["measurement"] == {
        "aggregate": "count",
        "value": 5,
        "threshold": 5,
        "severity_ratio": 1,
        "window": "PT1H",
        "key_type": "customer",
    }
    assert (case["status"], case["hits"], case["evidence"], case["severity"], case["score"]) == (
        "open",
        1,
        bought,
        "medium",
        50,
    )
    sixth = buy(server, customer)["id"]
    [again] = cases(server, customer)
    assert (again["id"], again["hits"], again["evidence"]) == (case["id"], 2, [*bought, sixth])
    types = [each["type"] for each in events(server, customer)]
    assert types.count("fraud.detected") == 1
    assert types[-5:] == [
        "transaction.completed",
        "points.earned",
        "fraud.detected",
        "transaction.completed",
        "points.earned",
    ]
    [detected] = [each["data"] for each in events(server, customer) if each["type"] == "fraud.detected"]
    assert detected["case_id"] == case["id"]
    assert detected["trigger"] == {"event_id": None, "type": "points.earned", "object_id": bought[-1]}
    assert (detected["action"], detected["points_held"], detected["shadow"]) == ("flag", 0, False)
    assert detected["rule"]["id"] == server.get("/v1/fraud/rules/velocity.earn")["id"]


def test_velocity_earn_does_not_fire_when_an_hour_lies_between(server: Server) -> None:
    customer = enroll(server)
    buy(server, customer)
    move(server, HOUR)
    for _ in range(4):
        buy(server, customer)
    assert cases(server, customer) == []


def test_velocity_earn_fires_at_the_eighth_purchase_of_24_hours(server: Server) -> None:
    customer = enroll(server)
    for number in range(8):
        assert cases(server, customer) == []
        buy(server, customer)
        move(server, HOUR * 3 if number < 7 else 0)
    assert cases(server, customer)[0]["measurement"] | {"aggregate": "count"} == {
        "aggregate": "count",
        "value": 8,
        "threshold": 8,
        "severity_ratio": 1,
        "window": "PT24H",
        "key_type": "customer",
    }


def test_purchases_that_happened_days_ago_set_nothing_off(server: Server) -> None:
    customer = enroll(server)
    long_ago = rfc3339(now_ms(server) - 48 * HOUR * 1_000)
    for _ in range(6):
        buy(server, customer, 200_000, occurred_at=long_ago, employee_id="emp_1")
    assert cases(server, customer) == []


@pytest.mark.parametrize(("amount", "fires"), [(50_001, True), (50_000, False)])
def test_amount_outlier(server: Server, amount: int, *, fires: bool) -> None:
    customer = enroll(server)
    for _ in range(8):
        buy(server, customer, 1_000)
        move(server, 2 * DAY)
    buy(server, customer, amount)
    assert codes(server, customer) == (["amount.outlier"] if fires else [])


def test_amount_outlier_needs_eight_purchases_before_it(server: Server) -> None:
    customer = enroll(server)
    for _ in range(7):
        buy(server, customer, 1_000)
        move(server, 2 * DAY)
    buy(server, customer, 60_000)
    assert codes(server, customer) == []


@pytest.mark.parametrize(("last", "fires"), [(10_100, True), (10_099, False)])
def test_points_cap(server: Server, last: int, *, fires: bool) -> None:
    customer = enroll(server)
    buy(server, customer, 500_000)
    buy(server, customer, 490_000)
    assert codes(server, customer) == []
    buy(server, customer, last)
    assert codes(server, customer) == (["points.cap"] if fires else [])


@pytest.mark.parametrize("field", ["device_id", "payment_fingerprint"])
def test_identity_shared_by_purchases(server: Server, field: str) -> None:
    value = f"secret-value-{next(_numbers)}"
    first, second, third = (enroll(server) for _ in range(3))
    for customer in (first, second, second):
        buy(server, customer, **{field: value})
    assert codes(server, first) == codes(server, second) == []
    bought = buy(server, third, **{field: value})
    [case] = cases(server, third)
    assert case["rule"]["code"] == "identity.shared"
    assert (case["measurement"]["key_type"], case["measurement"]["value"]) == (field.partition("_")[0], 3)
    assert case["evidence"][-1] == bought["id"]
    [detected] = [each["data"] for each in events(server, third) if each["type"] == "fraud.detected"]
    assert set(detected["related_customer_ids"]) == {first, second}
    assert value not in str((case, detected, bought))


@pytest.mark.parametrize(
    "values",
    [
        {"email": ["s{}@gmail.com", "S.{}@gmail.com", "s{}+b@Gmail.com"]},
        {"phone": ["+49 170 {}", "+49170{}", "+49-170-{}"]},
    ],
    ids=["email", "phone"],
)
def test_identity_shared_by_contacts(server: Server, values: dict[str, list[str]]) -> None:
    [(field, texts)] = values.items()
    number = f"{next(_numbers):07}"
    first, second = (enroll(server, **{field: text.format(number)}) for text in texts[:2])
    assert codes(server, first) == codes(server, second) == []
    third = enroll(server)
    assert server.call("PATCH", f"/v1/customers/{third}", {field: texts[2].format(number)}).status == 200
    [case] = cases(server, third)
    assert (case["rule"]["code"], case["measurement"]["key_type"]) == ("identity.shared", field)
    assert number not in str(case)
    assert [each["type"] for each in events(server, third)][-2:] == ["customer.updated", "fraud.detected"]


def test_identity_shared_forgets_after_30_days(server: Server) -> None:
    device = f"device-{next(_numbers)}"
    buy(server, enroll(server), device_id=device)
    move(server, 30 * DAY)
    buy(server, enroll(server), device_id=device)
    third = enroll(server)
    buy(server, third, device_id=device)
    assert cases(server, third) == []


@pytest.mark.parametrize(("employees", "fires"), [(["e"] * 4, True), (["e"] * 3, False), (["e", "e", "e", "f"], False)])
def test_employee_self_accrual(server: Server, employees: list[str], *, fires: bool) -> None:
    customer = enroll(server)
    for employee in employees:
        buy(server, customer, employee_id=employee)
    assert codes(server, customer) == (["employee.self_accrual"] if fires else [])


def test_purchases_without_an_employee_or_with_a_blank_one_are_nobodys(server: Server) -> None:
    customer = enroll(server)
    for employee in (None, None, None, "", ""):
        buy(server, customer, employee_id=employee)
    assert codes(server, customer) == ["velocity.earn"]


@pytest.mark.parametrize(
    ("other", "fires"),
    [
        ({}, True),
        ({"location_id": "loc_2"}, False),
        ({"amount": 5_001}, False),
        ({"minute": 1}, False),
        ({"location_id": None}, False),
    ],
)
def test_receipt_duplicate(server: Server, other: dict[str, Any], *, fires: bool) -> None:
    minute = now_ms(server) // 60_000 * 60_000
    first, second = enroll(server), enroll(server)
    receipt = {"location_id": f"loc_{first}", "occurred_at": rfc3339(minute)}
    buy(server, first, 5_000, **receipt)
    moved = {"occurred_at": rfc3339(minute - 60_000)} if other.pop("minute", 0) else {}
    buy(server, second, **({"amount": 5_000} | receipt | other | moved))
    assert codes(server, second) == (["receipt.duplicate"] if fires else [])


def test_receipts_below_50_are_not_compared(server: Server) -> None:
    first, second = enroll(server), enroll(server)
    for customer in (first, second):
        buy(server, customer, 4_999, location_id="loc_1")
    assert codes(server, second) == []


# -- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_judged_like_single_purchases(server: Server) -> None:
    """Two customers in turn, so that each measure is read for both, and what the batch did before counts."""
    single, batched = [enroll(server), enroll(server)], [enroll(server), enroll(server)]
    lines = [(number % 2, {"amount": 490_000 if number > 7 else 1_000, "employee_id": "emp_9"}) for number in range(14)]
    for who, fields in lines:
        buy(server, single[who], **fields)
    server.post(
        "/v1/transactions/batch",
        {"transactions": [{"customer_id": batched[who], "currency": "EUR", **fields} for who, fields in lines]},
    )
    for one, other in zip(single, batched, strict=True):
        shown = [
            [(e["type"], e["data"].get("rule"), e["data"].get("measurement")) for e in events(server, each)]
            for each in (one, other)
        ]
        assert [(kind, rule and rule["code"], measured) for kind, rule, measured in shown[0]] == [
            (kind, rule and rule["code"], measured) for kind, rule, measured in shown[1]
        ]
        hits = [
            sorted((c["rule"]["code"], c["hits"], len(c["evidence"])) for c in cases(server, each))
            for each in (one, other)
        ]
        assert hits[0] == hits[1]
        assert {code for code, _, _ in hits[0]} == {"velocity.earn", "employee.self_accrual", "points.cap"}


# -- what rules do ---------------------------------------------------------------------------------------------------


def held(server: Server, customer: str, **rule: Any) -> Any:
    """A purchase whose 500 points the rule `points.cap` holds; its case."""
    put(server, "points.cap", **({"action": "hold", "threshold": 400} | rule))
    buy(server, customer, 50_000)
    return cases(server, customer)[0]


def points(server: Server, customer: str) -> Any:
    return server.get(f"/v1/customers/{customer}")["points"]


def test_held_points_are_pending_without_a_date(server: Server) -> None:
    customer = enroll(server)
    case = held(server, customer)
    assert case["action"] == "hold"
    assert points(server, customer) == {"available": 0, "pending": 500, "debt": 0}
    [earned, detected] = [each["data"] for each in events(server, customer)][-2:]
    assert (earned["status"], earned["activates_at"]) == ("pending", None)
    assert (detected["action"], detected["points_held"]) == ("hold", 500)
    move(server, 31 * DAY)
    buy(server, customer, 1_000)
    assert points(server, customer) == {"available": 10, "pending": 500, "debt": 0}


@pytest.mark.parametrize("action", ["hold", "block"])
def test_a_purchase_is_never_refused_and_a_false_positive_releases_its_points(server: Server, action: str) -> None:
    customer = enroll(server)
    case = held(server, customer, action=action)
    [lot] = server.get(f"/v1/customers/{customer}/lots")["data"]
    resolved = server.post(f"/v1/fraud/cases/{case['id']}/resolve", {"resolution": "false_positive", "note": "known"})
    assert (resolved["status"], resolved["note"], resolved["resolved_by"][:4]) == ("false_positive", "known", "key:")
    assert points(server, customer) == {"available": 500, "pending": 0, "debt": 0}
    [released] = server.get(f"/v1/customers/{customer}/lots")["data"]
    assert (released["status"], released["expires_at"]) == ("active", lot["expires_at"])
    assert [each["type"] for each in server.get(f"/v1/customers/{customer}/ledger")["data"]] == ["activate", "earn"]
    assert server.get(f"/v1/audit_log?object_id={case['id']}")["data"][0]["action"] == "fraud_case.false_positive"


def test_a_key_is_exempt_for_30_days_after_a_false_positive(server: Server) -> None:
    customer = enroll(server)
    case = held(server, customer)
    server.post(f"/v1/fraud/cases/{case['id']}/resolve", {"resolution": "false_positive"})
    move(server, 30 * DAY - 1)
    buy(server, customer, 50_000)
    assert len(cases(server, customer)) == 1
    move(server, 1)
    buy(server, customer, 50_000)
    assert [each["status"] for each in cases(server, customer)] == ["open", "false_positive"]


def test_released_points_are_valid_30_days_at_least(server: Server) -> None:
    customer = enroll(server)
    case = held(server, customer)
    for _ in range(5):
        move(server, 80 * DAY)
        buy(server, customer, 50_000)
    server.post(f"/v1/fraud/cases/{case['id']}/resolve", {"resolution": "false_positive"})
    lots = server.get(f"/v1/customers/{customer}/lots")["data"]
    assert [each["status"] for each in lots] == ["active"] * 6
    assert lots[-1]["expires_at"] == rfc3339(now_ms(server) + 30 * DAY * 1_000)
    assert points(server, customer)["available"] == 3_000


def test_a_confirmed_case_cancels_its_points_and_can_block_the_customer(server: Server) -> None:
    customer = enroll(server)
    case = held(server, customer)
    body = {"resolution": "confirmed", "block_earning": True, "block_redeeming": True}
    server.post(f"/v1/fraud/cases/{case['id']}/resolve", body)
    assert points(server, customer) == {"available": 0, "pending": 0, "debt": 0}
    adjusted = events(server, customer)[-1]
    assert adjusted["type"] == "points.adjusted"
    assert (adjusted["data"]["points"], adjusted["data"]["kind"], adjusted["data"]["reason_code"]) == (
        -500,
        "pending_canceled",
        "fraud_confirmed",
    )
    bought = buy(server, customer, 5_000)
    assert bought["points_earned"] == 0
    assert points(server, customer) == {"available": 0, "pending": 0, "debt": 0}
    again = server.call("POST", f"/v1/fraud/cases/{case['id']}/resolve", {"resolution": "false_positive"})
    assert (again.status, again.json["code"]) == (409, "fraud_case_closed")


def test_points_that_two_cases_hold_are_released_with_the_last_of_them(server: Server) -> None:
    customer = enroll(server)
    put(server, "employee.self_accrual", action="hold", threshold=2)
    buy(server, customer, 100, employee_id="emp_1")
    put(server, "points.cap", action="hold", threshold=400)
    buy(server, customer, 50_000, employee_id="emp_1")
    first, second = cases(server, customer)
    server.post(f"/v1/fraud/cases/{second['id']}/resolve", {"resolution": "false_positive"})
    assert points(server, customer) == {"available": 1, "pending": 500, "debt": 0}
    server.post(f"/v1/fraud/cases/{first['id']}/resolve", {"resolution": "false_positive"})
    assert points(server, customer) == {"available": 501, "pending": 0, "debt": 0}


@pytest.mark.parametrize("order", [0, 1])
def test_a_confirmed_case_cancels_points_that_another_one_holds(server: Server, order: int) -> None:
    customer = enroll(server)
    put(server, "employee.self_accrual", action="hold", threshold=2)
    buy(server, customer, 100, employee_id="emp_1")
    put(server, "points.cap", action="hold", threshold=400)
    buy(server, customer, 50_000, employee_id="emp_1")
    found = cases(server, customer)
    server.post(f"/v1/fraud/cases/{found[order]['id']}/resolve", {"resolution": "confirmed"})
    assert points(server, customer) == {"available": 1, "pending": 0, "debt": 0}
    server.post(f"/v1/fraud/cases/{found[1 - order]['id']}/resolve", {"resolution": "false_positive"})
    assert points(server, customer) == {"available": 1, "pending": 0, "debt": 0}


def test_a_rule_in_shadow_keeps_a_case_and_does_nothing_else(server: Server) -> None:
    customer = enroll(server)
    case = held(server, customer, shadow=True)
    assert (case["shadow"], case["hits"]) == (True, 1)
    assert points(server, customer)["available"] == 500
    assert "fraud.detected" not in [each["type"] for each in events(server, customer)]
    put(server, "points.cap", shadow=False)
    buy(server, customer, 50_000)
    [revealed] = cases(server, customer)
    assert (revealed["id"], revealed["shadow"], revealed["hits"]) == (case["id"], False, 2)
    assert points(server, customer) == {"available": 500, "pending": 500, "debt": 0}
    assert [each["type"] for each in events(server, customer)].count("fraud.detected") == 1


def test_a_disabled_rule_fires_no_more(server: Server) -> None:
    put(server, "points.cap", enabled=False, threshold=1)
    customer = enroll(server)
    buy(server, customer, 50_000)
    assert cases(server, customer) == []


def test_an_open_case_lapses_90_days_after_its_last_hit(server: Server) -> None:
    customer = enroll(server)
    case = held(server, customer)
    move(server, 89 * DAY)
    buy(server, customer, 50_000)
    move(server, 90 * DAY + 60)
    found = server.until(f"/v1/fraud/cases/{case['id']}", lambda each: each["status"] != "open")
    assert (found["status"], found["resolved_by"], found["hits"]) == ("lapsed", "system:fraud", 2)
    assert points(server, customer)["available"] == 1_000


# -- cases -----------------------------------------------------------------------------------------------------------


def test_cases_are_filtered_and_paged(server: Server) -> None:
    put(server, "points.cap", threshold=1)
    customers = [enroll(server) for _ in range(3)]
    for each in customers:
        buy(server, each, 1_000)
    listed = server.get("/v1/fraud/cases?rule=points.cap&status=open&limit=2")
    assert [each["customer_id"] for each in listed["data"]] == [customers[2], customers[1]]
    following = server.get(f"/v1/fraud/cases?rule=points.cap&status=open&limit=2&cursor={listed['next_cursor']}")
    assert following["data"][0]["customer_id"] == customers[0]
    assert cases(server, customers[0], status="confirmed") == cases(server, customers[0], rule="velocity.earn") == []
    case = listed["data"][0]
    assert server.get(f"/v1/fraud/cases/{case['id']}") == case
    assert server.call("GET", "/v1/fraud/cases?status=closed").status == 422
    assert server.call("GET", "/v1/fraud/cases/frd_01kat6b8z3v2m8d4qk7c5n9x1r").status == 404


def test_a_resolution_is_idempotent(server: Server) -> None:
    customer = enroll(server)
    path = f"/v1/fraud/cases/{held(server, customer)['id']}/resolve"
    first, second = (
        server.call("POST", path, {"resolution": "confirmed"}, Idempotency_Key="r-1-" + customer) for _ in range(2)
    )
    assert (first.status, first.raw) == (second.status, second.raw) == (200, first.raw)
    assert second.headers["idempotent-replayed"] == "true"
