"""What is read of a customer: the statement, lots, and the export of everything; and pending lots that are changed by hand."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loyalpro.loyalty.customer_export import SECTIONS as EXPORTED
from loyalpro.storage.tables.exports import SECTIONS
from support.customer_rows import columns, occurrences, plant_everything, tables_of_customers
from support.databases import Databases
from support.history import query
from support.server import Server


@dataclass
class Shop:
    """A server and its database."""

    server: Server
    url: str

    def enroll(self, **details: Any) -> str:
        return str(self.server.post("/v1/customers", details)["id"])

    def adjust(self, customer_id: str, points: int, **more: Any) -> None:
        body = {"points": points, "reason_code": "test", **({"allow_negative": True} if points < 0 else {}), **more}
        self.server.post(f"/v1/customers/{customer_id}/adjustments", body)

    def buy(self, customer_id: str, amount: int = 5_600, **more: Any) -> dict[str, Any]:
        body = {"customer_id": customer_id, "amount": amount, "currency": "EUR", **more}
        bought: dict[str, Any] = self.server.post("/v1/transactions", body)
        return bought

    def buy_pending(self, customer_id: str) -> dict[str, Any]:
        """A purchase whose points are pending for 14 days; its lot."""
        [(before,)] = query(self.url, "SELECT rules FROM program_versions")
        rules = json.loads(before) | {"pending_days": 14}
        query(self.url, "UPDATE program_versions SET rules = ?", json.dumps(rules))
        self.buy(customer_id)
        query(self.url, "UPDATE program_versions SET rules = ?", before)
        lot: dict[str, Any] = self.server.get(f"/v1/customers/{customer_id}/lots?limit=1")["data"][0]
        assert lot["status"] == "pending"
        return lot

    def statement(self, customer_id: str, **params: str) -> dict[str, Any]:
        text = "&".join(f"{name}={value}" for name, value in params.items())
        found: dict[str, Any] = self.server.get(f"/v1/customers/{customer_id}/statement?{text}")
        return found

    def export(self, customer_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.server.listed(f"/v1/customers/{customer_id}/export")
        return found


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Shop]:
    url = databases.fresh(request.param)
    with Server(url) as running:
        yield Shop(running, url)


def total(position: dict[str, int]) -> int:
    return position["available"] + position["pending"] - position["debt"]


def moved(statement: dict[str, Any]) -> int:
    return sum(each["points"] for each in statement["totals"] if each["type"] != "activate")


# -- the statement ---------------------------------------------------------------------------------------------------


def test_a_statement_has_the_balance_before_and_after_and_the_sums_between(shop: Shop) -> None:
    customer = shop.enroll()
    shop.buy(customer)
    shop.buy_pending(customer)
    shop.adjust(customer, -100)
    shop.adjust(customer, 4)
    found = shop.statement(customer)
    assert found == {
        "customer_id": customer,
        "from": None,
        "to": None,
        "opening": {"available": 0, "pending": 0, "debt": 0},
        "totals": [{"type": "adjust", "entries": 2, "points": -96}, {"type": "earn", "entries": 2, "points": 112}],
        "closing": {"available": 0, "pending": 56, "debt": 40},
    }
    assert found["closing"] == shop.server.get(f"/v1/customers/{customer}")["points"]


def test_a_statement_begins_with_the_entry_of_its_first_instant_and_ends_before_its_last(shop: Shop) -> None:
    customer = shop.enroll()
    for points in (1, 10, 100):
        shop.adjust(customer, points)
    ids = [each["id"] for each in reversed(shop.server.get(f"/v1/customers/{customer}/ledger")["data"])]
    if shop.url.startswith("sqlite"):
        query(shop.url, "DROP TRIGGER ledger_entries_are_never_changed")
    else:
        query(shop.url, "ALTER TABLE ledger_entries DISABLE TRIGGER ledger_entries_are_never_changed")
    for number, id_ in enumerate(ids):
        query(shop.url, "UPDATE ledger_entries SET created_at = ? WHERE id = ?", 1_000 * (number + 1), id_)

    def second(number: float) -> str:
        return f"1970-01-01T00:00:0{number:.3f}Z"

    for since, until, opening, closing in (
        (0, 9, 0, 111), (1, 9, 0, 111), (1.001, 9, 1, 111), (2, 3, 1, 11), (2, 3.001, 1, 111), (3.001, 9, 111, 111),
        (0, 1, 0, 0), (2, 2, 1, 1),
    ):  # fmt: skip
        found = shop.statement(customer, **{"from": second(since), "to": second(until)})
        assert (total(found["opening"]), total(found["closing"])) == (opening, closing), (since, until)
        assert moved(found) == closing - opening


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", 422, "invalid_range"),
        ("from=yesterday", 422, "invalid_field"),
    ],
)
def test_a_wrong_time_of_a_statement_is_refused(shop: Shop, params: str, status: int, code: str) -> None:
    refused = shop.server.call("GET", f"/v1/customers/{shop.enroll()}/statement?{params}")
    assert (refused.status, refused.json["code"]) == (status, code)
    unknown = shop.server.call("GET", "/v1/customers/cus_00000000000000000000000000/statement")
    assert (unknown.status, unknown.json["code"]) == (404, "customer_not_found")


steps = st.lists(
    st.tuples(st.sampled_from(["buy", "adjust", "redeem", "reserve", "merge"]), st.integers(1, 300)),
    min_size=1,
    max_size=7,
)


@given(steps)
@settings(max_examples=12, deadline=None)
def test_the_closing_balance_is_the_balance_whatever_happened(shop: Shop, happened: list[tuple[str, int]]) -> None:
    customer = shop.enroll()
    for what, number in happened:
        if what == "buy":
            shop.buy(customer, number * 100)
        elif what == "adjust":
            shop.adjust(customer, number if number % 2 else -number)
        elif what == "merge":
            other = shop.enroll()
            shop.buy(other, number * 100)
            shop.server.post(f"/v1/customers/{other}/merge", {"into": customer})
        else:
            body = {"customer_id": customer, "points": number, **({"reserve": True} if what == "reserve" else {})}
            assert shop.server.call("POST", "/v1/redemptions", body).status in (201, 422)
    found = shop.statement(customer, to="2199-01-01T00:00:00Z")
    assert found["closing"] == shop.server.get(f"/v1/customers/{customer}")["points"]
    assert moved(found) == total(found["closing"])


# -- lots ------------------------------------------------------------------------------------------------------------


def test_open_lots_hold_points(shop: Shop) -> None:
    customer = shop.enroll()
    shop.adjust(customer, 10)
    pending = shop.buy_pending(customer)
    shop.adjust(customer, 20)
    shop.adjust(customer, -15)
    lots = shop.server.get(f"/v1/customers/{customer}/lots")["data"]
    still_open = [each for each in lots if each["remaining"]]
    assert len(still_open) < len(lots)
    assert pending in still_open
    assert shop.server.get(f"/v1/customers/{customer}/lots?status=open")["data"] == still_open
    refused = shop.server.call("GET", f"/v1/customers/{customer}/lots?status=closed")
    assert (refused.status, refused.json["param"]) == (422, "status")


def test_a_pending_lot_is_activated_by_hand_and_repays_debt(shop: Shop) -> None:
    customer = shop.enroll()
    lot = shop.buy_pending(customer)
    shop.adjust(customer, -20)
    before = len(shop.server.listed(f"/v1/events?customer_id={customer}")["data"])
    activated = shop.server.post(f"/v1/lots/{lot['id']}/activate")
    assert (activated["status"], activated["remaining"], activated["activates_at"]) == ("active", 36, None)
    assert shop.server.get(f"/v1/customers/{customer}")["points"] == {"available": 36, "pending": 0, "debt": 0}
    assert shop.server.post(f"/v1/lots/{lot['id']}/activate") == activated
    assert len(shop.server.listed(f"/v1/events?customer_id={customer}")["data"]) == before
    actions = [each["action"] for each in shop.server.get(f"/v1/audit_log?object_id={lot['id']}")["data"]]
    assert actions == ["lot.activated"]
    refused = shop.server.call("POST", f"/v1/lots/{lot['id']}/cancel")
    assert (refused.status, refused.json["code"]) == (409, "lot_not_pending")


def test_a_pending_lot_is_canceled_by_hand(shop: Shop) -> None:
    customer = shop.enroll()
    lot = shop.buy_pending(customer)
    canceled = shop.server.post(f"/v1/lots/{lot['id']}/cancel")
    assert (canceled["status"], canceled["remaining"]) == ("canceled", 0)
    assert shop.server.post(f"/v1/lots/{lot['id']}/cancel") == canceled
    assert shop.server.get(f"/v1/customers/{customer}")["points"] == {"available": 0, "pending": 0, "debt": 0}
    last = shop.server.listed(f"/v1/events?customer_id={customer}")["data"][-1]
    assert (last["type"], last["data"]["kind"], last["data"]["points"]) == ("points.adjusted", "pending_canceled", -56)
    assert last["data"]["transaction_id"] == lot["transaction_id"]
    refused = shop.server.call("POST", f"/v1/lots/{lot['id']}/activate")
    assert (refused.status, refused.json["code"]) == (409, "lot_not_pending")


def test_a_pending_lot_whose_date_has_passed_expires_when_it_is_activated(shop: Shop) -> None:
    customer = shop.enroll()
    lot = shop.buy_pending(customer)
    query(shop.url, "UPDATE lots SET expires_at = 5 WHERE id = ?", lot["id"])
    activated = shop.server.post(f"/v1/lots/{lot['id']}/activate")
    assert (activated["status"], activated["remaining"]) == ("active", 0)
    assert shop.server.get(f"/v1/customers/{customer}")["points"] == {"available": 0, "pending": 0, "debt": 0}
    last = shop.server.listed(f"/v1/events?customer_id={customer}")["data"][-1]
    assert (last["type"], last["data"]["points"]) == ("points.expired", 56)


@pytest.mark.parametrize("change", ["activate", "cancel"])
def test_lots_that_cannot_be_changed(shop: Shop, change: str) -> None:
    customer = shop.enroll()
    held = shop.buy_pending(customer)
    query(shop.url, "UPDATE lots SET hold_case_id = 'frd_1' WHERE id = ?", held["id"])
    refused = shop.server.call("POST", f"/v1/lots/{held['id']}/{change}")
    assert (refused.status, refused.json["code"]) == (409, "lot_held")
    shop.server.call("DELETE", f"/v1/customers/{customer}")
    for id_, code in (
        (held["id"], "lot_not_found"),
        ("lot_00000000000000000000000000", "lot_not_found"),
        ("x", "not_found"),
    ):
        unknown = shop.server.call("POST", f"/v1/lots/{id_}/{change}")
        assert (unknown.status, unknown.json["code"]) == (404, code)


# -- the export ------------------------------------------------------------------------------------------------------


NOT_EXPORTED = {
    "churn_runs": "how far a run is: the last customer whose score it has",
    "customer_tags": "the tags are in `customers`",
    "deliveries": "an event that is sent to an endpoint: the event is in `events`",
    "erasures": "how far the erasure of a deleted customer is",
}
NOT_SHOWN = {
    "events": {"position", "transaction_id", "owed", "test", "imported"},
    "audit_log": {"address", "actor_name"},
}
"""Columns beside the account that say nothing of a customer."""


def test_every_table_and_column_with_data_of_a_customer_is_exported(shop: Shop) -> None:
    tables = {name: {each.name for each in known} for name, known in columns(shop.url).items()}
    owned = tables_of_customers(shop.url)
    exported = {each.table: each for each in SECTIONS.values()}
    assert owned - set(NOT_EXPORTED) <= set(exported)
    assert {"customers", "audit_log"} <= set(exported)
    for name, section in exported.items():
        missing = tables[name] - set(section.columns) - {"account_id"} - NOT_SHOWN.get(name, set())
        assert missing == set(), name
    assert tuple(SECTIONS) == EXPORTED


def test_an_export_has_every_row_of_the_customer_and_of_no_other(shop: Shop) -> None:
    customer, other = shop.enroll(external_id="export-me", email="e@x.co", tags=["t"], metadata={"a": 1}), shop.enroll()
    for each in (customer, other):
        shop.buy(each, items=[{"sku": "A", "amount": 5_600}])
        shop.server.post("/v1/redemptions", {"customer_id": each, "points": 5})
        shop.adjust(each, 3, note="a note")
        shop.server.call("PATCH", f"/v1/customers/{each}", {"name": "Ann"})
        plant_everything(shop.url, each, f"text of {each}")
    exported = shop.export(customer)
    assert tuple(exported) == EXPORTED
    tables = {each.table: name for name, each in SECTIONS.items()}
    expected = {name: number for name, number in occurrences(shop.url, customer).items() if name in tables}
    expected["ledger_entries"] = len(exported["ledger"])  # one more row than its owner's would name it as a source
    assert {name: len(exported[section]) for name, section in tables.items()} == {
        name: expected.get(name, 0) for name in tables
    }
    assert min(len(rows) for rows in exported.values()) > 0
    assert other not in json.dumps(exported)
    shown = exported["customers"][0]
    assert (shown["email"], shown["tags"], shown["metadata"], shown["available"]) == ("e@x.co", ["t"], {"a": 1}, 54)
    assert exported["transactions"][0]["items"] == [{"sku": "A", "quantity": 1, "amount": 5_600}]
    assert "a note" in {each["note"] for each in exported["ledger"]}
    assert exported["lots"][0]["earned_at"].endswith("Z")
    assert exported["events"][0]["body"]["type"] == "customer.created"
    assert exported["days"][0]["day"] == exported["transactions"][0]["occurred_at"][:10]


def test_tables_that_are_not_exported_have_a_reason(shop: Shop) -> None:
    """Beside them, no table names the customers of this module."""
    customer = shop.enroll(tags=["t"])
    shop.buy(customer)
    named = set(occurrences(shop.url, customer))
    assert named <= {each.table for each in SECTIONS.values()} | set(NOT_EXPORTED)


def test_an_export_of_many_rows_is_read_in_pieces(shop: Shop) -> None:
    customer = shop.enroll()
    batch = {"transactions": [{"customer_id": customer, "amount": 100, "currency": "EUR"}] * 600}
    shop.server.post("/v1/transactions/batch", batch)
    exported = shop.export(customer)
    assert [len({each["id"] for each in exported[name]}) for name in ("transactions", "ledger", "lots")] == [600] * 3
    assert [each["sequence"] for each in exported["ledger"]] == list(range(1, 601))
    sequences = [each["sequence"] for each in exported["events"]]
    assert sequences == list(range(1, len(sequences) + 1))
    assert len(sequences) >= 1_201


def test_an_export_has_the_ledger_and_the_events_of_merged_customers(shop: Shop) -> None:
    a, b = shop.enroll(name="Ann"), shop.enroll()
    shop.buy(a)
    shop.server.post(f"/v1/customers/{a}/merge", {"into": b})
    exported = shop.export(b)
    assert [each["id"] for each in exported["customers"]] == [b, a]
    assert {each["customer_id"] for each in exported["ledger"]} == {a, b}
    assert "Ann" in json.dumps([each["body"] for each in exported["events"] if each["customer_id"] == a])
    unknown = shop.server.call("GET", "/v1/customers/cus_00000000000000000000000000/export")
    assert (unknown.status, unknown.json["code"]) == (404, "customer_not_found")
