"""Enrolling customers, one and many at a time, and which updates change them."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from loyalpro.kernel.clock import MS_PER_DAY, SystemClock
from support.databases import Databases
from support.history import query
from support.server import Server


@dataclass
class Shop:
    server: Server
    url: str


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Shop]:
    url = databases.fresh(request.param)
    with Server(url) as running:
        yield Shop(running, url)


@pytest.fixture
def server(shop: Shop) -> Server:
    return shop.server


@pytest.fixture
def enrollment_points(shop: Shop) -> Iterator[int]:
    """The program gives 25 points for enrolling."""
    [(before,)] = query(shop.url, "SELECT rules FROM program_versions")
    rules = json.loads(before)
    rules["earning"]["enrollment_points"] = 25
    query(shop.url, "UPDATE program_versions SET rules = ?", json.dumps(rules))
    yield 25
    query(shop.url, "UPDATE program_versions SET rules = ?", before)


def events_of(server: Server, customer_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.listed(f"/v1/events?customer_id={customer_id}&limit=100")["data"]
    return found


def audited(server: Server, object_id: str) -> list[str]:
    return [each["action"] for each in server.get(f"/v1/audit_log?object_id={object_id}")["data"]]


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (1, True, True),
        (False, 0, True),
        ([{"a": 1}], [{"a": True}], True),
        (1, 1.5, True),
        (1, 1.0, False),
        (True, True, False),
        ({"a": [1, None]}, {"a": [1, None]}, False),
    ],
)
def test_metadata_is_changed_when_its_json_differs(server: Server, before: Any, after: Any, *, changed: bool) -> None:
    customer = server.post("/v1/customers", {"metadata": {"vip": before}})
    path = f"/v1/customers/{customer['id']}"
    answer = server.call("PATCH", path, {"metadata": {"vip": after}})
    assert answer.status == 200
    assert repr(answer.json["metadata"]) == repr(server.get(path)["metadata"])
    if changed:
        assert repr(answer.json["metadata"]) == repr({"vip": after})
        events = server.until(f"/v1/events?customer_id={customer['id']}", lambda page: len(page["data"]) == 2)["data"]
        assert repr(events[1]["data"]["previous_attributes"]) == repr({"metadata": {"vip": before}})
    else:
        assert answer.json == customer


# -- enrolling -------------------------------------------------------------------------------------------------------


def enrollments(name: str) -> list[Any]:
    """Customers with everything and with nothing, external ids that occur twice or are taken, and wrong ones."""
    return [
        {"external_id": f"{name}-b", "email": f"{name}@Example.com", "name": "Ada", "tags": ["vip", "b", "vip"]},
        {},
        {"external_id": f"{name}-a", "metadata": {"a": [1.5, "\u2028é", {}]}},
        {"external_id": f"{name}-b", "name": "Second"},
        {"external_id": f"{name}-taken"},
        {"email": "nonsense"},
        {"surprise": 1},
        {"tags": "vip"},
        {"tags": ["x" * 41]},
        {"tags": [f"t{number}" for number in range(51)]},
        {"metadata": {"7": 1}},
        {"metadata": {"a": "x" * 17_000}},
        7,
        {"external_id": f"{name}-c"},
    ]  # fmt: skip


def plain(value: Any, name: str) -> Any:
    """`value` without what differs between two runs: ids, instants, and external ids."""
    text = json.dumps(value).replace(name, "run")
    text = re.sub(r"\b[a-z]+_[0-9a-z]{26}", "id", text)
    return json.loads(re.sub(r"20\d\d-\d\d-\d\dT[\d:.]+Z", "then", text))


def state(server: Server, customer_id: str, name: str) -> Any:
    paths = [f"/v1/customers/{customer_id}{rest}" for rest in ("", "/ledger", "/lots")]
    return plain([*(server.get(path) for path in paths), events_of(server, customer_id)], name)


@pytest.mark.parametrize("points", [0, 25])
def test_a_batch_has_the_effect_of_its_customers_enrolled_one_by_one(
    server: Server, request: pytest.FixtureRequest, points: int
) -> None:
    if points:
        request.getfixturevalue("enrollment_points")
    alone, together = f"alone{points}", f"together{points}"
    for name in (alone, together):
        server.post("/v1/customers", {"external_id": f"{name}-taken"})
    answers = [server.call("POST", "/v1/customers", each) for each in enrollments(alone)]
    results = server.post("/v1/customers/batch", {"customers": enrollments(together)})["data"]
    assert [each["index"] for each in results] == list(range(len(answers)))
    assert [each["status"] for each in results] == [answer.status for answer in answers]
    assert [answer.status for answer in answers] == [201, 201, 201, 409, 409, *[422] * 8, 201]
    for result, answer in zip(results, answers, strict=True):
        if answer.status == 201:
            assert plain(result["customer"], together) == plain(answer.json, alone)
            assert result["customer"]["points"]["available"] == points
            states = state(server, result["customer"]["id"], together), state(server, answer.json["id"], alone)
            assert states[0] == states[1]
        else:
            shown = {key: answer.json.get(key) for key in ("code", "detail", "param")}
            assert plain(result["error"], together) == plain(shown, alone)


def test_a_batch_of_a_thousand_customers_with_tags(server: Server) -> None:
    batch = [{"external_id": f"many-{999 - number}", "tags": ["many"]} for number in range(1_000)]
    results = server.post("/v1/customers/batch", {"customers": batch})["data"]
    assert [each["status"] for each in results] == [201] * 1_000
    assert [each["customer"]["external_id"] for each in results] == [each["external_id"] for each in batch]
    again = server.post("/v1/customers/batch", {"customers": batch[:300]})["data"]
    assert {(each["status"], each["error"]["code"]) for each in again} == {(409, "customer_exists")}
    assert events_of(server, results[500]["customer"]["id"])[0]["sequence"] == 1


def test_the_enrollment_earns_points_of_the_reason_promotion(
    server: Server, shop: Shop, enrollment_points: int
) -> None:
    customer = server.post("/v1/customers", {"name": "Ada"})
    assert customer["points"] == {"available": 25, "pending": 0, "debt": 0}
    created, earned = events_of(server, customer["id"])
    assert (created["type"], created["data"]["customer"]["balance"]["available"]) == ("customer.created", 0)
    assert (earned["type"], earned["sequence"]) == ("points.earned", 2)
    assert (earned["data"]["reason"], earned["data"]["points"]) == ("promotion", enrollment_points)
    assert sum(rule["points"] for rule in earned["data"]["rules"]) == enrollment_points
    [entry] = server.get(f"/v1/customers/{customer['id']}/ledger")["data"]
    assert (entry["type"], entry["source"]) == ("earn", {"type": "customer", "id": customer["id"]})
    [(day, points)] = query(
        shop.url, "SELECT day, points_qualifying FROM customer_days WHERE customer_id = ?", customer["id"]
    )
    assert (day, points) == (SystemClock().now_ms() // MS_PER_DAY, 25)


def test_concurrent_batches_with_the_same_external_ids_enroll_each_once(server: Server) -> None:
    names = [f"race-{number}" for number in range(300)]
    orders = [names, names[::-1]] * 2

    def enroll(order: list[str]) -> list[int]:
        body = {"customers": [{"external_id": each} for each in order]}
        return [each["status"] for each in server.post("/v1/customers/batch", body)["data"]]

    with ThreadPoolExecutor(len(orders)) as pool:
        statuses = [each for found in pool.map(enroll, orders) for each in found]
    assert sorted(statuses) == [201] * 300 + [409] * 900


def test_an_enrollment_and_a_batch_leave_one_audit_row_each(server: Server) -> None:
    customer = server.post("/v1/customers", {})
    assert audited(server, customer["id"]) == ["customer.created"]
    results = server.post("/v1/customers/batch", {"customers": [{}, {}, {"surprise": 1}]})["data"]
    assert [audited(server, each["customer"]["id"]) for each in results[:2]] == [["customers.created"], []]


def test_a_batch_with_an_idempotency_key_takes_effect_once(server: Server) -> None:
    body = {"customers": [{"external_id": "once-1"}, {"external_id": "once-2"}]}
    first = server.call("POST", "/v1/customers/batch", body, Idempotency_Key="batch-once")
    second = server.call("POST", "/v1/customers/batch", body, Idempotency_Key="batch-once")
    assert (first.raw, second.status) == (second.raw, 200)


def test_fraud_rules_see_the_contacts_of_enrolled_and_changed_customers(server: Server) -> None:
    """The third customer with a phone number opens a case, whichever way it gets the number."""
    for way in ("one by one", "batch", "change"):
        phone = f"+4479{len(way)}77"
        members: list[dict[str, Any]] = [
            {"phone": phone},
            {"phone": phone},
            {} if way == "change" else {"phone": phone},
        ]
        if way == "batch":
            results = server.post("/v1/customers/batch", {"customers": members})["data"]
            ids = [each["customer"]["id"] for each in results]
        else:
            ids = [server.post("/v1/customers", each)["id"] for each in members]
        if way == "change":
            server.call("PATCH", f"/v1/customers/{ids[2]}", {"phone": f"{phone[:3]} {phone[3:]}"})
        detected = [[each for each in events_of(server, id_) if each["type"] == "fraud.detected"] for id_ in ids]
        assert [len(each) for each in detected] == [0, 0, 1], way
        assert detected[2][0]["data"]["rule"]["code"] == "identity.shared"
        assert phone not in json.dumps(detected)


# -- changing --------------------------------------------------------------------------------------------------------


def test_tags_are_shown_replaced_and_cleared(server: Server, shop: Shop) -> None:
    customer = server.post("/v1/customers", {"tags": ["b", "a", "b"]})
    path = f"/v1/customers/{customer['id']}"
    assert customer["tags"] == ["b", "a"]
    assert server.call("PATCH", path, {"tags": ["a", "c"]}).json["tags"] == ["a", "c"]
    stored = "SELECT tag FROM customer_tags WHERE customer_id = ? ORDER BY tag"
    assert query(shop.url, stored, customer["id"]) == [("a",), ("c",)]
    assert server.call("PATCH", path, {"tags": ["a", "c"]}).status == 200
    assert server.call("PATCH", path, {"tags": None}).json["tags"] == []
    assert query(shop.url, stored, customer["id"]) == []
    _, replaced, cleared = events_of(server, customer["id"])
    assert replaced["data"]["changed"] == ["tags"]
    assert replaced["data"]["previous_attributes"] == {"tags": ["b", "a"]}
    assert replaced["data"]["customer"]["tags"] == ["a", "c"]
    assert cleared["data"]["previous_attributes"] == {"tags": ["a", "c"]}


@pytest.mark.parametrize(
    ("changes", "is_new"),
    [
        ({"email": "eve@example.com"}, True),
        ({"email": None}, True),
        ({"phone": "+44 80"}, True),
        ({"email": "ADA@example.com "}, False),
        ({"phone": "+44-79"}, False),
        ({"name": "Eve", "external_id": None, "tags": ["x"]}, False),
    ],
)
def test_another_email_or_phone_is_remembered_with_its_time(
    server: Server, shop: Shop, changes: dict[str, Any], *, is_new: bool
) -> None:
    """Not another spelling of the same one. A blank behind an address is refused, so it is cut before it is sent."""
    sent = {name: value.strip() if isinstance(value, str) else value for name, value in changes.items()}
    customer = server.post("/v1/customers", {"email": "ada@example.com", "phone": "+44 79"})
    changed = server.call("PATCH", f"/v1/customers/{customer['id']}", sent)
    assert changed.status == 200
    sql = "SELECT security_changed_at, updated_at, email, email_key, phone, phone_key FROM customers WHERE id = ?"
    [(at, updated_at, email, email_key, phone, phone_key)] = query(shop.url, sql, customer["id"])
    assert at == (updated_at if is_new else None)
    assert email_key == (email and email.lower())
    assert phone_key == (phone and re.sub(r"[^+\d]", "", phone))


def test_the_event_of_the_largest_change_fits(server: Server) -> None:
    """`customer.updated` carries the metadata, the tags and every other text twice; 4 bytes each is the most in UTF-8."""
    wide = "\U0001f980"

    def details(letter: str) -> dict[str, Any]:
        texts = dict.fromkeys(("external_id", "name"), wide * 254 + letter)
        texts |= {"phone": wide * 99 + letter, "email": wide * 253 + "@" + letter}
        tags = [f"{number:02}{letter}" + wide * 37 for number in range(50)]
        metadata = {"a": letter * (16 * 1024 - len('{"a":""}'))}
        assert len(msgspec.json.encode(metadata)) == 16 * 1024
        return {**texts, "tags": tags, "metadata": metadata}

    customer = server.post("/v1/customers", details("a"))
    changed = server.call("PATCH", f"/v1/customers/{customer['id']}", details("b"))
    assert changed.status == 200, changed.raw
    _, updated = events_of(server, customer["id"])
    assert len(updated["data"]["changed"]) == 6
    too_large = server.call("PATCH", f"/v1/customers/{customer['id']}", {"metadata": {"a": "b" * 16 * 1024}})
    assert (too_large.status, too_large.json["code"], too_large.json["param"]) == (422, "too_large", "metadata")


def test_a_customer_shows_its_blocks_and_purchases(server: Server, shop: Shop) -> None:
    customer = server.post("/v1/customers", {})
    assert (customer["earning_blocked"], customer["redeeming_blocked"]) == (False, False)
    assert (customer["first_purchase_at"], customer["last_purchase_at"]) == (None, None)
    query(shop.url, "UPDATE customers SET redeeming_blocked = 1 WHERE id = ?", customer["id"])
    for day in ("2026-11-03", "2026-11-01", "2026-11-02"):
        body = {"customer_id": customer["id"], "amount": 100, "currency": "EUR", "occurred_at": f"{day}T10:00:00Z"}
        server.post("/v1/transactions", body)
    shown = server.get(f"/v1/customers/{customer['id']}")
    assert shown["redeeming_blocked"] is True
    assert (shown["first_purchase_at"][:10], shown["last_purchase_at"][:10]) == ("2026-11-01", "2026-11-03")
