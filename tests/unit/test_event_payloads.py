"""Typed payloads of events: their JSON objects satisfy the published schemas and keep the stored bytes."""

import gzip
import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.events.customer import CustomerDeleted
from loyalpro.events.envelope import seal
from loyalpro.events.new_event import new_event
from loyalpro.events.samples import sample
from loyalpro.events.stable_json import freeze

NOW = 1_763_980_200_123
EMITTED_TYPES = {
    "customer.created",
    "customer.updated",
    "customer.deleted",
    "points.earned",
    "points.adjusted",
    "transaction.completed",
}


def stored_bodies() -> list[bytes]:
    """Bodies that were frozen before payloads were typed, of every type that is emitted."""
    return gzip.decompress(Path(__file__).with_name("stored_events.jsonl.gz").read_bytes()).splitlines()


def test_stored_bodies_keep_their_bytes_when_they_pass_through_typed_payloads() -> None:
    seen = set()
    for body in stored_bodies():
        envelope = json.loads(body)
        payload = EVENT_TYPES[envelope["type"]].read(envelope["data"])
        assert payload.type == envelope["type"]
        assert freeze(envelope | {"data": payload.data()}) == body
        seen.add(payload.type)
    assert seen == EMITTED_TYPES


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_each_sample_satisfies_the_published_schema_of_its_type(name: str) -> None:
    data = sample(name, NOW)
    assert EVENT_TYPES[name].read(data).data() == data
    jsonschema.Draft202012Validator(EVENT_TYPES[name].body_schema()["properties"]["data"] | _defs(name)).validate(data)


def _defs(name: str) -> dict[str, object]:
    return {"$defs": EVENT_TYPES[name].body_schema().get("$defs", {})}


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_reading_a_payload_refuses_unknown_missing_and_mistyped_fields(name: str) -> None:
    data = sample(name, NOW)
    first = next(iter(data))
    for broken in (data | {"surprise": 1}, {key: data[key] for key in data if key != first}, data | {first: 1.5}):
        with pytest.raises(ValidationError):
            EVENT_TYPES[name].read(broken)


def test_a_field_with_a_default_is_left_out_until_it_has_another_value() -> None:
    data = sample("transaction.completed", NOW)
    assert "tax_amount" not in data["transaction"]
    taxed = data | {"transaction": data["transaction"] | {"tax_amount": 934}}
    assert EVENT_TYPES["transaction.completed"].read(taxed).data()["transaction"]["tax_amount"] == 934


def test_a_sealed_event_has_the_fields_of_the_payload_in_their_order() -> None:
    deleted = CustomerDeleted(
        customer_id="cus_1",
        external_id=None,
        deleted_at="2026-11-28T10:00:00.000Z",
        reason="merchant_request",
        erased=True,
        points_forfeited=0,
        merged_into=None,
    )
    new = new_event("acct_1", deleted, customer_id="cus_1", sequence=2)
    event = seal(new, event_id="evt_1", now=NOW)
    assert json.loads(event.body) == {
        "id": "evt_1",
        "type": "customer.deleted",
        "created_at": "2025-11-24T10:30:00.123Z",
        "api_version": "2026-11-01",
        "account_id": "acct_1",
        "sequence": 2,
        "data": deleted.data(),
    }
    assert list(json.loads(event.body)["data"]) == EVENT_TYPES["customer.deleted"].fields
