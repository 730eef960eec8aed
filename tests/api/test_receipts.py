"""Receipts as tills have them are recorded, and reach receivers as they were sent: points depend on the amount alone."""

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from loyalpro.events.catalog import EVENT_TYPES
from support.databases import Databases
from support.server import Server

LINES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"quantity": 0}, {"quantity": 0}),
    ({"quantity": 0.75}, {"quantity": 0.75}),
    ({"quantity": 2.0}, {"quantity": 2}),
    ({"quantity": -0.0}, {"quantity": 0}),
    ({"quantity": -1}, {"quantity": -1}),
    ({"quantity": 0.375}, {"quantity": 0.375}),
    ({"amount": -500}, {"quantity": 1, "amount": -500}),
    ({"amount": 500.0}, {"quantity": 1, "amount": 500}),
    ({"amount": -(10**12) + 1}, {"quantity": 1, "amount": -(10**12) + 1}),
    ({"name": "Bread\t500 g\r\n\x00\x1b[1m\x7f\u0085\u2028"}, {"name": "Bread\t500 g\r\n\x00\x1b[1m\x7f\u0085\u2028", "quantity": 1}),
    ({"sku": "", "name": "", "category": ""}, {"sku": "", "name": "", "category": "", "quantity": 1}),
    ({"sku": None, "name": "n" * 2_000}, {"name": "n" * 2_000, "quantity": 1}),
]  # fmt: skip


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        running.post("/v1/customers", {"external_id": "regular"})
        yield running


def record(server: Server, **fields: Any) -> dict[str, Any]:
    recorded: dict[str, Any] = server.post(
        "/v1/transactions", {"customer_external_id": "regular", "amount": 5_600, "currency": "EUR"} | fields
    )
    return recorded


def event_of(server: Server, recorded: dict[str, Any]) -> dict[str, Any]:
    """The event of a purchase, once the list shows it; it is valid by the published schema."""

    def shown(page: Any) -> Any:
        return [each for each in page["data"] if each["data"]["transaction"]["id"] == recorded["id"]]

    path = "/v1/events?type=transaction.completed&limit=100"
    [event] = shown(server.until(path, shown))
    jsonschema.validate(event, EVENT_TYPES["transaction.completed"].body_schema())
    transaction: dict[str, Any] = event["data"]["transaction"]
    return transaction


@pytest.mark.parametrize(("line", "shown"), LINES, ids=[json.dumps(line)[:30] for line, _ in LINES])
def test_a_line_is_recorded_and_sent_as_it_is(server: Server, line: dict[str, Any], shown: dict[str, Any]) -> None:
    recorded = record(server, items=[{"amount": 0} | line])
    assert recorded["points_earned"] == 56
    assert recorded["items"] == [{"amount": 0} | shown]
    assert server.get(f"/v1/transactions/{recorded['id']}")["items"] == recorded["items"]
    assert event_of(server, recorded)["items"] == recorded["items"]


@pytest.mark.parametrize("quantity", [0.1 + 0.2, 1e-7, 0.0005])
def test_a_quantity_has_three_decimals_at_most(server: Server, quantity: float) -> None:
    purchase = {"customer_external_id": "regular", "amount": 1, "currency": "EUR"}
    lines = [{"amount": 1}, {"amount": 1, "quantity": quantity}]
    refused = server.call("POST", "/v1/transactions", purchase | {"items": lines})
    assert (refused.status, refused.json["code"], refused.json["param"]) == (422, "invalid_field", "items[1].quantity")


def test_a_repeated_purchase_that_differs_names_the_fields_that_differ(server: Server) -> None:
    first = {"external_id": "order-77", "amount": 500, "items": [{"amount": 500, "sku": "A"}]}
    recorded = record(server, **first, occurred_at="2026-01-02T10:00:00Z", tax_amount=80)
    assert record(server, **first, tax_amount=80, channel="pos", metadata={"a": 1})["id"] == recorded["id"]
    for changed, named in (
        ({"amount": 501}, "amount"),
        ({"items": [{"amount": 500, "sku": "B"}]}, "items"),
        ({"tax_amount": 0}, "tax_amount"),
        ({"occurred_at": "2026-01-02T10:00:01Z"}, "occurred_at"),
        ({"amount": 499, "tip_amount": 1}, "amount, tip_amount"),
    ):
        purchase = {"customer_external_id": "regular", "currency": "EUR", "tax_amount": 80} | first | changed
        refused = server.call("POST", "/v1/transactions", purchase)
        assert (refused.status, refused.json["code"]) == (409, "transaction_exists")
        assert f"differs in {named}." in refused.json["detail"]


def test_a_receipt_of_a_thousand_lines_with_a_coupon_is_one_purchase(server: Server) -> None:
    lines = [{"sku": f"{number:05}", "quantity": 1, "amount": 100} for number in range(999)]
    recorded = record(server, items=[*lines, {"name": "Coupon", "quantity": 1, "amount": -500}])
    assert (len(recorded["items"]), recorded["points_earned"]) == (1_000, 56)
    assert event_of(server, recorded)["items"] == recorded["items"]


def test_texts_of_a_purchase_keep_their_tabs_and_may_be_empty(server: Server) -> None:
    texts = {"channel": "", "location_id": "Store\t7", "employee_id": "Ünal\n" + "e" * 250}
    recorded = record(server, **texts)
    assert {name: event_of(server, recorded)[name] for name in texts} == texts
    refused = server.call("POST", "/v1/transactions", {"customer_external_id": "regular", "amount": 1, "currency": "EUR", "channel": "\x00"})  # fmt: skip
    assert (refused.status, refused.json["param"]) == (422, "channel")
    assert refused.json["detail"] == "channel: The character U+0000 is not allowed here."


def test_the_largest_items_and_metadata_fit_into_the_event(server: Server) -> None:
    """Every text is of characters that take six bytes as an escape, and the purchase is accepted with the last byte."""
    texts = dict.fromkeys(("channel", "location_id", "employee_id"), "\x01" * 255)
    metadata = {"m": "x" * (16 * 1024 - len('{"m":""}'))}
    empty = len(json.dumps([{"name": "", "quantity": 1, "amount": 1}], separators=(",", ":")))
    name = "x" * (56 * 1024 - 16 * 1024 - empty)
    fields: dict[str, Any] = {
        "external_id": "é" * 255,
        "metadata": metadata,
        "items": [{"name": name, "amount": 1}],
    } | texts
    assert event_of(server, record(server, **fields))["items"] == [{"name": name, "quantity": 1, "amount": 1}]
    fields |= {"external_id": "other", "items": [{"name": name + "x", "amount": 1}]}
    refused = server.call("POST", "/v1/transactions", {"customer_external_id": "regular", "amount": 1, "currency": "EUR"} | fields)  # fmt: skip
    assert (refused.status, refused.json["code"], refused.json["param"]) == (422, "too_large", "items")
    assert refused.json["detail"] == "items has over 40960 bytes as JSON; shorten it."
