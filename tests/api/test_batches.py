"""A batch has the effect of its purchases recorded one by one, in their order."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from support.databases import Databases
from support.server import Server


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(request.param)) as running:
        yield running


def customers(server: Server, name: str) -> dict[str, str]:
    return {each: server.post("/v1/customers", {"external_id": f"{name}-{each}"})["id"] for each in ("ann", "bob")}


def purchases(name: str, ids: dict[str, str]) -> list[Any]:
    """Two customers named by either id, a purchase that earns nothing, an external id twice, and several refused purchases."""
    good: dict[str, Any] = {"amount": 5_600, "currency": "EUR", "customer_id": ids["ann"]}
    by_name = {"amount": 199, "currency": "EUR", "customer_external_id": f"{name}-bob"}
    return [
        good | {"external_id": f"{name}-1", "metadata": {"a": [1.5, "\u2028é", {}]}, "items": [{"amount": 5, "sku": "x"}]},
        by_name,
        good | {"amount": 99},
        good | {"currency": "USD"},
        good | {"external_id": f"{name}-1", "metadata": {"b": 1}, "items": [{"amount": 5, "sku": "x"}]},
        good | {"external_id": f"{name}-1", "amount": 1},
        by_name | {"customer_external_id": "nobody"},
        good | {"customer_id": ids["bob"], "occurred_at": "2025-01-31T10:00:00.5+02:00", "channel": "pos"},
        good | {"occurred_at": "2199-01-01T00:00:00Z"},
        by_name | {"external_id": f"{name}-1", "amount": 5_600},
        {"currency": "EUR", "customer_id": ids["ann"]},
        good | {"surprise": 1},
        good | {"k" * 300: 1},
        good | {"items": [{"sku": "x"}]},
        good | {"amount": "1", "currency": 7},
        good | {f"surprise{number}": 1 for number in range(101)},
        7,
        good,
    ]  # fmt: skip


def plain(value: Any, name: str) -> Any:
    """`value` without what differs between two runs: ids, present instants, and external ids."""
    text = json.dumps(value).replace(name, "run")
    text = re.sub(r"([a-z]+)_[0-9a-z]{26}", r"\1", text)
    return json.loads(re.sub(r"20(2[6-9]|[3-9]\d)-\d\d-\d\dT[\d:.]+Z", "now", text))


def state(server: Server, ids: dict[str, str], name: str) -> Any:
    paths = [
        f"customers/{each}{rest}" for each in ids.values() for rest in ("", "/ledger?limit=100", "/lots?limit=100")
    ]
    paths += [f"{kind}?customer_id={each}&limit=100" for each in ids.values() for kind in ("transactions", "events")]
    found = [server.listed(f"/v1/{path}") for path in paths]
    return plain(found, name)


def test_a_batch_has_the_effect_of_its_purchases_recorded_one_by_one(server: Server) -> None:
    alone, together = customers(server, "alone"), customers(server, "together")
    answers = [server.call("POST", "/v1/transactions", each) for each in purchases("alone", alone)]
    results = server.post("/v1/transactions/batch", {"transactions": purchases("together", together)})["data"]
    assert [each["status"] for each in results] == [answer.status for answer in answers]
    assert [answer.status for answer in answers] == [201, 201, 201, 422, 200, 409, 404, 201, 422, 409, *[422] * 7, 201]
    for result, answer in zip(results, answers, strict=True):
        if answer.status < 300:
            assert plain(result["transaction"], "together") == plain(answer.json, "alone")
        else:
            shown = {key: answer.json.get(key) for key in ("code", "detail", "param")}
            assert plain(result["error"], "together") == plain(shown, "alone")
    assert state(server, together, "together") == state(server, alone, "alone")


def test_a_purchase_with_many_unknown_fields_has_one_error(server: Server) -> None:
    wild = {f"k{number}": 0 for number in range(20_000)}
    [result, _] = server.post("/v1/transactions/batch", {"transactions": [wild, 7]})["data"]
    assert (result["error"]["code"], result["error"]["param"]) == ("unknown_field", "k0")


def test_the_error_of_a_purchase_with_many_wrong_lines_is_short(server: Server) -> None:
    lines = [{"sku": 1}] * 500
    [result] = server.post("/v1/transactions/batch", {"transactions": [{"items": lines}]})["data"]
    assert "More than 100" in result["error"]["detail"]


def test_event_sequences_have_no_gap_after_a_batch(server: Server) -> None:
    ids = customers(server, "stream")
    server.post("/v1/transactions/batch", {"transactions": purchases("stream", ids)})
    for each in ids.values():
        events = server.listed(f"/v1/events?customer_id={each}&limit=100")["data"]
        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
