"""Fraud rules from outside: each fires at its threshold and not below it, acts, and its cases are resolved."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from loyalpro.kernel.clock import SystemClock, UnixMs, rfc3339
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


class WallClock(SystemClock):
    """Its wall time stands still unless a test moves it. What is measured and waited for takes real time."""

    def __init__(self) -> None:
        self.at: UnixMs = 1_800_014_400_000  # 2027-01-15T12:00Z

    def now_ms(self) -> UnixMs:
        return self.at


CLOCK = WallClock()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param), clock=CLOCK, sweep_interval=1) as running:
        yield running


@pytest.fixture(autouse=True)
def _default_rules(server: Server) -> Iterator[None]:
    """A day that no test before has used, and the default rules after the test."""
    move(2 * DAY)
    before = server.get("/v1/fraud/rules")["data"]
    yield
    restored = [{name: value for name, value in rule.items() if name != "version"} for rule in before]
    assert server.call("PUT", "/v1/fraud/rules", {"rules": restored}).status == 200


def move(seconds: float) -> None:
    CLOCK.at += round(seconds * 1_000)


def enroll(server: Server, **fields: Any) -> str:
    return str(server.post("/v1/customers", {"external_id": f"c-{next(_numbers)}", **fields})["id"])


def buy(server: Server, customer: str, amount_: int = 1_000, /, **fields: Any) -> Any:
    return server.post("/v1/transactions", {"customer_id": customer, "amount": amount_, "currency": "EUR", **fields})


def adjust(server: Server, customer: str, number: int, **fields: Any) -> Any:
    body = {"points": number, "reason_code": "goodwill", **fields}
    return server.call("POST", f"/v1/customers/{customer}/adjustments", body)


def redeem(server: Server, customer: str, number: int, **fields: Any) -> Any:
    return server.call("POST", "/v1/redemptions", {"customer_id": customer, "points": number, **fields})


def refund(server: Server, purchase: Any, amount: int) -> Any:
    return server.post(f"/v1/transactions/{purchase['id']}/refunds", {"amount": amount})


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
    move(HOUR)
    for _ in range(4):
        buy(server, customer)
    assert cases(server, customer) == []


def test_velocity_earn_fires_at_the_eighth_purchase_of_24_hours(server: Server) -> None:
    customer = enroll(server)
    for number in range(8):
        assert cases(server, customer) == []
        buy(server, customer)
        move(HOUR * 3 if number < 7 else 0)
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
    long_ago = rfc3339(CLOCK.at - 48 * HOUR * 1_000)
    for _ in range(6):
        buy(server, customer, 200_000, occurred_at=long_ago, employee_id="emp_1")
    assert cases(server, customer) == []


@pytest.mark.parametrize(("amount", "fires"), [(50_001, True), (50_000, False)])
def test_amount_outlier(server: Server, amount: int, *, fires: bool) -> None:
    customer = enroll(server)
    for _ in range(8):
        buy(server, customer, 1_000)
        move(2 * DAY)
    buy(server, customer, amount)
    assert codes(server, customer) == (["amount.outlier"] if fires else [])


def test_amount_outlier_needs_eight_purchases_before_it(server: Server) -> None:
    customer = enroll(server)
    for _ in range(7):
        buy(server, customer, 1_000)
        move(2 * DAY)
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
    move(30 * DAY)
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
        ({"earlier_ms": 1}, False),
        ({"location_id": None}, False),
    ],
)
def test_receipt_duplicate(server: Server, other: dict[str, Any], *, fires: bool) -> None:
    minute = CLOCK.at // 60_000 * 60_000
    first, second = enroll(server), enroll(server)
    receipt = {"amount": 5_000, "location_id": f"loc_{first}", "occurred_at": rfc3339(minute)}
    buy(server, first, **receipt)
    fields = {name: value for name, value in other.items() if name != "earlier_ms"}
    at = rfc3339(minute - other.get("earlier_ms", 0))
    buy(server, second, **(receipt | {"occurred_at": at} | fields))
    assert codes(server, second) == (["receipt.duplicate"] if fires else [])


def test_receipts_below_50_are_not_compared(server: Server) -> None:
    first, second = enroll(server), enroll(server)
    for customer in (first, second):
        buy(server, customer, 4_999, location_id="loc_1")
    assert codes(server, second) == []


# -- each rule for redemptions, refunds and credits ------------------------------------------------------------------


def test_velocity_redeem_fires_at_the_third_redemption_of_an_hour(server: Server) -> None:
    customer = enroll(server)
    buy(server, customer, 100_000)
    redemptions = [redeem(server, customer, 10).json["id"]]
    move(HOUR)
    redemptions += [redeem(server, customer, 10).json["id"] for _ in range(2)]
    assert cases(server, customer) == []
    redemptions.append(redeem(server, customer, 10, reserve=True).json["id"])
    [case] = cases(server, customer)
    assert (case["rule"]["code"], case["measurement"]["value"], case["evidence"]) == (
        "velocity.redeem",
        3,
        redemptions[1:],
    )
    detected = events(server, customer)[-1]
    assert detected["type"] == "fraud.detected"
    assert detected["data"]["trigger"] == {"event_id": None, "type": "points.redeemed", "object_id": redemptions[-1]}


@pytest.mark.parametrize(("wait", "number", "fires"), [(DAY - 1, 500, True), (DAY - 1, 499, False), (DAY, 500, False)])
@pytest.mark.parametrize("field", ["email", "phone"])
def test_account_change_then_redeem(server: Server, field: str, wait: int, number: int, *, fires: bool) -> None:
    customer = enroll(server)
    buy(server, customer, 100_000)
    value = f"a{customer[-9:]}@example.com" if field == "email" else f"+44{next(_numbers):09}"
    assert server.call("PATCH", f"/v1/customers/{customer}", {field: value}).status == 200
    move(wait)
    assert redeem(server, customer, number).status == 201
    assert codes(server, customer) == (["account.change_then_redeem"] if fires else [])


def test_a_change_of_the_name_is_no_change_of_the_account(server: Server) -> None:
    customer = enroll(server)
    buy(server, customer, 100_000)
    server.call("PATCH", f"/v1/customers/{customer}", {"name": "Ada"})
    redeem(server, customer, 900)
    assert cases(server, customer) == []


@pytest.mark.parametrize(
    ("wait", "number", "fires"), [(180 * DAY, 800, True), (180 * DAY, 799, False), (180 * DAY - 1, 800, False)]
)
def test_dormant_burst(server: Server, wait: int, number: int, *, fires: bool) -> None:
    customer = enroll(server)
    buy(server, customer, 100_000)
    move(wait)
    assert redeem(server, customer, number).status == 201
    assert codes(server, customer) == (["dormant.burst"] if fires else [])


def test_a_redemption_in_between_ends_the_dormancy(server: Server) -> None:
    customer = enroll(server)
    buy(server, customer, 100_000)
    move(90 * DAY)
    redeem(server, customer, 100)
    move(179 * DAY)
    redeem(server, customer, 900)
    assert cases(server, customer) == []


@pytest.mark.parametrize(("last", "fires"), [(1_000, True), (999, False)])
def test_refund_abuse(server: Server, last: int, *, fires: bool) -> None:
    customer = enroll(server)
    bought = [buy(server, customer, 1_000) for _ in range(4)]
    refund(server, bought[0], 1_000)
    assert cases(server, customer) == []
    refund(server, bought[1], last)
    assert codes(server, customer) == (["refund.abuse"] if fires else [])
    if fires:
        assert cases(server, customer)[0]["measurement"] | {"window": ""} == {
            "aggregate": "ratio",
            "value": 0.5,
            "threshold": 0.5,
            "severity_ratio": 1,
            "window": "",
            "key_type": "customer",
        }


def test_refund_abuse_needs_four_purchases_in_60_days(server: Server) -> None:
    customer = enroll(server)
    buy(server, customer, 1_000)
    move(60 * DAY)
    for bought in [buy(server, customer, 1_000) for _ in range(3)]:
        refund(server, bought, 1_000)
    assert cases(server, customer) == []


@pytest.mark.parametrize(("spent", "fires"), [(1, True), (0, False)])
def test_refund_after_redeem(server: Server, spent: int, *, fires: bool) -> None:
    customer = enroll(server)
    bought = buy(server, customer, 10_000)
    if spent:
        redeem(server, customer, spent)
    refund(server, bought, 10_000)
    assert points(server, customer)["debt"] == spent
    assert codes(server, customer) == (["refund.after_redeem"] if fires else [])
    if fires:
        assert [each["type"] for each in events(server, customer)][-3:] == [
            "transaction.refunded",
            "points.adjusted",
            "fraud.detected",
        ]


@pytest.fixture
def employee(server: Server) -> str:
    """The key of an employee that has credited nothing."""
    return str(server.post("/v1/api_keys", {"name": "desk", "scopes": ["read", "points"]})["key"])


def credit(server: Server, customer: str, number: int, key: str) -> Any:
    body = {"points": number, "reason_code": "goodwill"}
    return server.call("POST", f"/v1/customers/{customer}/adjustments", body, key=key)


@pytest.mark.parametrize(("last", "fires"), [(2_001, True), (2_000, False)])
def test_employee_adjustments_by_points(server: Server, employee: str, last: int, *, fires: bool) -> None:
    first, second = enroll(server), enroll(server)
    made = [credit(server, first, 3_000, employee).json["id"], credit(server, first, -3_000, employee).json["id"]]
    made.append(credit(server, second, last, employee).json["id"])
    assert codes(server, first) == []
    assert codes(server, second) == (["employee.adjustments"] if fires else [])
    if fires:
        [case] = cases(server, second)
        assert (case["measurement"]["value"], case["measurement"]["key_type"]) == (5_001, "actor")
        assert case["evidence"] == [made[0], made[2]]


def test_employee_adjustments_by_entries_of_a_local_day(server: Server, employee: str) -> None:
    customer = enroll(server)
    for _ in range(50):
        credit(server, customer, 1, employee)
    assert cases(server, customer) == []
    credit(server, customer, 1, employee)
    [case] = cases(server, customer)
    assert (case["measurement"]["aggregate"], case["measurement"]["value"]) == ("count", 51)
    assert len(case["evidence"]) == 20
    move(DAY)
    credit(server, enroll(server), 1, employee)
    assert cases(server, customer)[0]["hits"] == 1


# -- blocks ----------------------------------------------------------------------------------------------------------


def test_a_blocked_redemption_is_refused_and_its_case_and_event_are_kept(server: Server) -> None:
    put(server, "velocity.redeem", action="block")
    customer = enroll(server)
    buy(server, customer, 100_000)
    for _ in range(2):
        assert redeem(server, customer, 10).status == 201
    refused = redeem(server, customer, 10)
    assert (refused.status, refused.json["code"]) == (409, "blocked_by_fraud_rule")
    [case] = cases(server, customer)
    assert case["id"] in refused.json["detail"]
    assert (case["action"], case["hits"]) == ("block", 1)
    assert points(server, customer)["available"] == 980
    detected = events(server, customer)[-1]
    assert (detected["type"], detected["data"]["action"]) == ("fraud.detected", "block")
    assert detected["data"]["trigger"]["object_id"] == customer
    assert [each["sequence"] for each in events(server, customer)] == list(range(1, len(events(server, customer)) + 1))
    assert redeem(server, customer, 10).status == 409
    assert cases(server, customer)[0]["hits"] == 2
    assert redeem(server, customer, 981).json["code"] == "insufficient_points"
    assert cases(server, customer)[0]["hits"] == 2
    server.post(f"/v1/fraud/cases/{case['id']}/resolve", {"resolution": "false_positive"})
    assert redeem(server, customer, 10).status == 201
    assert len(server.get(f"/v1/redemptions?customer_id={customer}")["data"]) == 3


def test_a_blocked_redemption_takes_nothing_out_of_the_stock(server: Server) -> None:
    put(server, "velocity.redeem", action="block", threshold=2)
    customer = enroll(server)
    buy(server, customer, 100_000)
    reward = server.post(
        "/v1/rewards", {"name": "mug", "type": "custom", "cost_points": 10, "stock": 2, "status": "active"}
    )
    answers = [
        server.call("POST", "/v1/redemptions", {"customer_id": customer, "reward_id": reward["id"]}).status
        for _ in range(2)
    ]
    assert answers == [201, 409]
    assert server.get(f"/v1/rewards/{reward['id']}")["stock"] == 1


def test_a_refusal_is_not_the_answer_of_an_idempotency_key(server: Server) -> None:
    """It is judged again, so that the same request passes once the case is resolved."""
    put(server, "velocity.redeem", action="block", threshold=2)
    customer = enroll(server)
    buy(server, customer, 100_000)
    redeem(server, customer, 10)
    body, key = {"customer_id": customer, "points": 10}, f"k-{customer}"
    assert server.call("POST", "/v1/redemptions", body, Idempotency_Key=key).status == 409
    [case] = cases(server, customer)
    server.post(f"/v1/fraud/cases/{case['id']}/resolve", {"resolution": "false_positive"})
    assert server.call("POST", "/v1/redemptions", body, Idempotency_Key=key).status == 201


def test_a_blocked_credit_is_refused(server: Server, employee: str) -> None:
    put(server, "employee.adjustments", action="block", threshold=100)
    customer = enroll(server)
    assert credit(server, customer, 100, employee).status == 201
    refused = credit(server, customer, 1, employee)
    assert (refused.status, refused.json["code"]) == (409, "blocked_by_fraud_rule")
    assert points(server, customer)["available"] == 100
    assert [each["type"] for each in events(server, customer)] == [
        "customer.created",
        "points.adjusted",
        "fraud.detected",
    ]
    assert adjust(server, customer, 1).status == 201
    assert credit(server, customer, -1, employee).status == 201


def test_a_customer_that_is_blocked_cannot_redeem(server: Server) -> None:
    customer = enroll(server)
    buy(server, customer, 10_000)
    case = held(server, customer)
    server.post(f"/v1/fraud/cases/{case['id']}/resolve", {"resolution": "confirmed", "block_redeeming": True})
    assert redeem(server, customer, 10).json["code"] == "redeeming_blocked"


def test_a_block_and_its_end_are_told_and_the_customer_earns_and_redeems_again(server: Server) -> None:
    customer = enroll(server)
    buy(server, customer, 10_000)
    case = held(server, customer)
    blocks = {"resolution": "confirmed", "block_earning": True, "block_redeeming": True}
    wrong = server.call("POST", f"/v1/fraud/cases/{case['id']}/resolve", blocks | {"resolution": "false_positive"})
    assert (wrong.status, wrong.json["param"]) == (422, "block_earning")
    server.post(f"/v1/fraud/cases/{case['id']}/resolve", blocks)
    path = f"/v1/customers/{customer}"
    assert buy(server, customer, 1_000)["points_earned"] == 0
    for name in ("earning_blocked", "redeeming_blocked"):
        changed = server.call("PATCH", path, {name: False})
        assert (changed.status, changed.json[name]) == (200, False)
    assert buy(server, customer, 1_000)["points_earned"] == 10
    assert redeem(server, customer, 10).status == 201
    told = [each["data"] for each in events(server, customer) if each["type"] == "customer.updated"]
    shown = [(each["customer"]["earning_blocked"], each["customer"]["redeeming_blocked"]) for each in told]
    assert shown == [(True, True), (False, True), (False, False)]
    assert [each["previous_attributes"] for each in told] == [
        {"earning_blocked": False, "redeeming_blocked": False},
        {"earning_blocked": True},
        {"redeeming_blocked": True},
    ]
    audited = server.get(f"/v1/audit_log?object_id={customer}")["data"]
    assert [each["changes"] for each in audited[:2]] == [
        {"fields": ["redeeming_blocked"], "redeeming_blocked": False},
        {"fields": ["earning_blocked"], "earning_blocked": False},
    ]
    [resolved] = server.get(f"/v1/audit_log?object_id={case['id']}")["data"]
    assert resolved["changes"] == {"earning_blocked": True, "redeeming_blocked": True}
    assert server.call("PATCH", path, {"earning_blocked": False}).status == 200
    assert len([each for each in events(server, customer) if each["type"] == "customer.updated"]) == 3
    for value in (None, 1, "false"):
        refused = server.call("PATCH", path, {"earning_blocked": value})
        assert (refused.status, refused.json["param"]) == (422, "earning_blocked")


def test_held_points_count_toward_a_tier_once_they_are_released(server: Server) -> None:
    customer = enroll(server)
    put(server, "points.cap", action="hold", threshold=400)
    buy(server, customer, 120_000)
    tier = server.get(f"/v1/customers/{customer}")["tier"]["name"]
    [case] = cases(server, customer)
    server.post(f"/v1/fraud/cases/{case['id']}/resolve", {"resolution": "false_positive"})
    assert (tier, server.get(f"/v1/customers/{customer}")["tier"]["name"]) == ("Bronze", "Silver")
    assert events(server, customer)[-1]["type"] == "customer.tier_changed"


def test_released_points_stay_pending_as_long_as_the_program_says(server: Server) -> None:
    """The program is put back, for the tests that follow."""
    for days in (14, 0):
        assert server.call("PATCH", "/v1/program", {"pending": {"days": days}}).status == 200
        customer = enroll(server)
        case = held(server, customer)
        assert server.get(f"/v1/customers/{customer}/lots")["data"][0]["activates_at"] is None
        server.post(f"/v1/fraud/cases/{case['id']}/resolve", {"resolution": "false_positive"})
        [lot] = server.get(f"/v1/customers/{customer}/lots")["data"]
        assert points(server, customer)["pending" if days else "available"] == 500
        assert (lot["activates_at"] is None) == (days == 0)
        move(15 * DAY)
        buy(server, customer, 100)
        assert points(server, customer)["available"] == (500 if days else 501)


def test_a_lot_that_two_cases_hold_names_the_one_that_is_left(server: Server) -> None:
    customer = enroll(server)
    put(server, "employee.self_accrual", action="hold", threshold=2)
    buy(server, customer, 100, employee_id="emp_1")
    put(server, "points.cap", action="hold", threshold=400)
    bought = buy(server, customer, 50_000, employee_id="emp_1")
    for case in reversed(cases(server, customer)):
        lots = server.get(f"/v1/customers/{customer}/export")["lots"]
        [lot] = [each for each in lots if each["transaction_id"] == bought["id"]]
        assert lot["hold_case_id"] == case["id"]
        server.post(f"/v1/fraud/cases/{case['id']}/resolve", {"resolution": "false_positive"})


def test_a_refund_of_held_points_cancels_them(server: Server) -> None:
    customer = enroll(server)
    put(server, "points.cap", action="hold", threshold=400)
    bought = buy(server, customer, 50_000)
    refund(server, bought, 25_000)
    assert points(server, customer) == {"available": 0, "pending": 250, "debt": 0}
    [case] = [each for each in cases(server, customer) if each["rule"]["code"] == "points.cap"]
    server.post(f"/v1/fraud/cases/{case['id']}/resolve", {"resolution": "false_positive"})
    assert points(server, customer) == {"available": 250, "pending": 0, "debt": 0}
    refund(server, bought, 25_000)
    assert points(server, customer) == {"available": 0, "pending": 0, "debt": 0}


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
    move(31 * DAY)
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
    move(30 * DAY - 1)
    buy(server, customer, 50_000)
    assert len(cases(server, customer)) == 1
    move(1)
    buy(server, customer, 50_000)
    assert [each["status"] for each in cases(server, customer)] == ["open", "false_positive"]


def test_released_points_are_valid_30_days_at_least(server: Server) -> None:
    customer = enroll(server)
    case = held(server, customer)
    for _ in range(5):
        move(80 * DAY)
        buy(server, customer, 50_000)
    server.post(f"/v1/fraud/cases/{case['id']}/resolve", {"resolution": "false_positive"})
    lots = server.get(f"/v1/customers/{customer}/lots")["data"]
    assert [each["status"] for each in lots] == ["active"] * 6
    assert lots[-1]["expires_at"] == rfc3339(CLOCK.at + 30 * DAY * 1_000)
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


@pytest.fixture
def daily_limit(server: Server) -> Iterator[None]:
    """100 points a day."""
    assert server.call("PATCH", "/v1/program", {"earning": {"max_points_per_day": 100}}).status == 200
    yield
    assert server.call("PATCH", "/v1/program", {"earning": {"max_points_per_day": None}}).status == 200


@pytest.mark.usefixtures("daily_limit")
def test_held_points_count_toward_the_most_points_of_a_day(server: Server) -> None:
    """Otherwise each purchase would have the whole limit while a case holds what was earned before it."""
    customer = enroll(server)
    put(server, "points.cap", action="hold", threshold=50)
    assert buy(server, customer, 8_000)["points_earned"] == 80
    purchase = {"customer_id": customer, "amount": 8_000, "currency": "EUR"}
    assert server.post("/v1/transactions/calculate", purchase)["points"] == 20
    batch = server.post("/v1/transactions/batch", {"transactions": [purchase] * 2})["data"]
    assert [each["transaction"]["points_earned"] for each in batch] == [20, 0]
    [case] = cases(server, customer)
    server.post(f"/v1/fraud/cases/{case['id']}/resolve", {"resolution": "false_positive"})
    assert points(server, customer) == {"available": 100, "pending": 0, "debt": 0}
    assert buy(server, customer, 8_000)["points_earned"] == 0


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
    move(89 * DAY)
    buy(server, customer, 50_000)
    move(90 * DAY)
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


# -- backtests -------------------------------------------------------------------------------------------------------


def test_a_backtest_with_the_rules_in_force_finds_what_they_found(server: Server, employee: str) -> None:
    """Everything that a day can show, in an order in which each rule fires at least once, but for a dormant customer."""
    first, second, third = (enroll(server) for _ in range(3))
    for number in range(6):
        buy(server, first, 250_000, employee_id="emp_1", device_id=f"{first}-{number % 2}", location_id=first)
        move(60)
    for customer in (second, third):
        for each in range(2):
            buy(server, customer, 250_000, device_id=f"{first}-{each}", location_id=first)
    for number in (1_000, 1_000, 1_000, 4_000):
        redeem(server, first, number)
    server.call("PATCH", f"/v1/customers/{second}", {"email": f"{second}@example.com"})
    redeem(server, second, 4_000)
    bought = [buy(server, second, 1_000) for _ in range(4)]
    refund(server, server.get(f"/v1/transactions?customer_id={second}&limit=5")["data"][-1], 250_000)
    for each in bought:
        refund(server, each, 1_000)
    for _ in range(3):
        credit(server, third, 2_600, employee)
    happened: dict[str, int] = dict.fromkeys(DEFAULTS, 0)
    for customer in (first, second, third):
        for case in cases(server, customer):
            happened[case["rule"]["code"]] += case["hits"]
    found = {code: backtest(server, code, days=1)["hits"] for code in DEFAULTS}
    assert found == happened
    assert {code for code, hits in found.items() if not hits} == {"amount.outlier", "dormant.burst"}


def backtest(server: Server, code: str, **body: Any) -> Any:
    return server.post(f"/v1/fraud/rules/{code}/backtest", body)


def test_a_backtest_tries_other_parameters_and_changes_nothing(server: Server) -> None:
    customer, before = enroll(server), server.get("/v1/fraud/rules")
    bought = [buy(server, customer)["id"] for _ in range(4)]
    assert backtest(server, "velocity.earn", days=1)["hits"] == 0
    found = backtest(server, "velocity.earn", threshold=3, params={"long_threshold": 9}, days=1)
    assert (found["hits"], found["cases"], found["complete"]) == (2, 1, True)
    assert found["examined"] == 4
    assert found["rule"]["threshold"] == 3
    assert [each["evidence"] for each in found["examples"]] == [bought[:3], bought]
    assert {each["customer_id"] for each in found["examples"]} == {customer}
    assert server.get("/v1/fraud/rules") == before
    assert cases(server, customer) == []


def test_a_backtest_of_a_rule_that_is_disabled_tries_it(server: Server) -> None:
    put(server, "points.cap", enabled=False)
    buy(server, enroll(server), 1_000)
    assert backtest(server, "points.cap", threshold=9, days=1)["hits"] == 1


@pytest.mark.parametrize(
    ("code", "body", "status", "param"),
    [
        ("velocity.earns", {}, 404, "code"),
        ("velocity.earn", {"threshold": 1}, 422, "threshold"),
        ("velocity.earn", {"days": 91}, 422, "days"),
        ("velocity.earn", {"params": {"x": 1}}, 422, "params.x"),
    ],
)
def test_a_wrong_backtest_is_refused_by_field(server: Server, code: str, body: Any, status: int, param: str) -> None:
    answer = server.call("POST", f"/v1/fraud/rules/{code}/backtest", body)
    assert (answer.status, answer.json.get("param")) == (status, param)
