"""Typed payloads of events: their JSON objects have the fields of the examples and satisfy the published schemas."""

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.events.customer import CustomerDeleted
from loyalpro.events.envelope import seal
from loyalpro.events.new_event import NewEvent, new_event
from loyalpro.events.points import MAX_EXPIRED_LOTS
from loyalpro.events.samples import sample
from loyalpro.events.stable_json import encode, freeze
from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.errors import InvalidInput
from support.event_bodies import examples, stored_bodies

NOW = 1_763_980_200_123
EXAMPLES = examples()
ID = "0" * 26


def body_of(name: str, data: dict[str, Any]) -> bytes:
    """The whole body of an event with this data."""
    new = NewEvent(f"acct_{ID}", name, "cus_1", 7, data)
    return seal(new, event_id=f"evt_{ID}", now=NOW).body


def satisfies_the_schema(name: str, data: dict[str, Any]) -> bool:
    validator = jsonschema.Draft202012Validator(EVENT_TYPES[name].body_schema())
    return bool(validator.is_valid(json.loads(body_of(name, data))))


def parts(schema: object) -> list[dict[str, Any]]:
    """Every object inside of a schema, the schema included."""
    if isinstance(schema, dict):
        return [schema, *(part for value in schema.values() for part in parts(value))]
    return [part for value in schema for part in parts(value)] if isinstance(schema, list) else []


def test_there_is_an_example_of_each_type() -> None:
    assert list(EXAMPLES) == list(EVENT_TYPES)


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_each_example_is_the_data_of_a_payload_field_for_field(name: str) -> None:
    payload = EVENT_TYPES[name].read(EXAMPLES[name])
    assert payload.type == name
    assert encode(payload.data()) == encode(EXAMPLES[name])


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_a_payload_is_written_as_its_json_object(name: str) -> None:
    payload = EVENT_TYPES[name].read(EXAMPLES[name])
    data = payload.data()
    assert encode(payload) == encode(data)
    assert encode({"fraction": 0.5, "data": [payload]}) == encode({"fraction": 0.5, "data": [data]})


def test_a_text_of_a_payload_that_is_not_unicode_is_refused_by_name() -> None:
    read = EVENT_TYPES["customer.deleted"].read(EXAMPLES["customer.deleted"])
    assert isinstance(read, CustomerDeleted)
    payload = replace(read, customer_external_id="\ud800")
    with pytest.raises(InvalidInput) as caught:
        freeze({"data": payload})
    assert caught.value.param == "data.customer_external_id"


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_each_example_and_sample_satisfies_the_published_schema_of_its_type(name: str) -> None:
    assert satisfies_the_schema(name, EXAMPLES[name])
    assert satisfies_the_schema(name, sample(name, NOW))
    assert EVENT_TYPES[name].read(sample(name, NOW)).data() == sample(name, NOW)


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_reading_a_payload_refuses_unknown_missing_and_mistyped_fields(name: str) -> None:
    data = sample(name, NOW)
    first = next(iter(data))
    for broken in (data | {"surprise": 1}, {key: data[key] for key in data if key != first}, data | {first: 1.5}):
        with pytest.raises(ValidationError):
            EVENT_TYPES[name].read(broken)


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_the_schema_closes_no_enumeration_and_no_object(name: str) -> None:
    schema = EVENT_TYPES[name].body_schema()
    for part in parts([schema["properties"]["data"], schema.get("$defs", {})]):
        assert not {"enum", "const"} & part.keys()
        assert part.get("additionalProperties") is not False


def test_an_open_enumeration_publishes_its_values_as_examples_and_accepts_other_strings() -> None:
    status = EVENT_TYPES["points.earned"].body_schema()["properties"]["data"]["properties"]["status"]
    assert (status["type"], status["examples"]) == ("string", ["available", "pending"])
    later = EXAMPLES["points.earned"] | {"status": "added_later"}
    assert EVENT_TYPES["points.earned"].read(later).data() == later
    assert satisfies_the_schema("points.earned", later)
    assert not satisfies_the_schema("points.earned", later | {"status": 1})
    with pytest.raises(ValidationError):
        EVENT_TYPES["points.earned"].read(later | {"status": 1})


@pytest.mark.parametrize(("multiplier", "written"), [(2, "2"), (2.0, "2"), (1.5, "1.5"), (0.001, "0.001")])
def test_a_multiplier_is_a_number_as_javascript_writes_it(multiplier: float, written: str) -> None:
    rule = {"id": "camp_2", "name": "double", "multiplier": multiplier, "points": 56}
    data = EXAMPLES["points.earned"] | {"rules": [rule]}
    assert satisfies_the_schema("points.earned", data)
    read = EVENT_TYPES["points.earned"].read(data)
    assert f'"multiplier":{written},"points":56}}' in freeze(read.data()).decode()


@given(st.integers(1, 10**7))
def test_every_multiplier_in_thousandths_keeps_its_value(permille: int) -> None:
    data = EXAMPLES["points.earned"] | {
        "rules": [{"id": "r", "name": "r", "multiplier": permille / 1_000, "points": 1}]
    }
    [rule] = json.loads(freeze(EVENT_TYPES["points.earned"].read(data).data()))["rules"]
    assert round(rule["multiplier"] * 1_000) == permille
    assert isinstance(rule["multiplier"], int) == (permille % 1_000 == 0)


def test_an_expiry_has_at_most_100_lots_which_fit_into_a_body() -> None:
    lot = {"lot_id": f"lot_{ID}", "points": 2**53 - 1, "earned_at": rfc3339(NOW), "expired_at": rfc3339(NOW)}
    most = EXAMPLES["points.expired"] | {"lots": [lot] * MAX_EXPIRED_LOTS}
    assert MAX_EXPIRED_LOTS == 100
    assert EVENT_TYPES["points.expired"].read(most).data() == most
    assert satisfies_the_schema("points.expired", most)
    more = most | {"lots": [lot] * 101}
    assert not satisfies_the_schema("points.expired", more)
    with pytest.raises(ValidationError):
        EVENT_TYPES["points.expired"].read(more)


def test_an_item_and_a_rule_have_only_the_fields_that_were_given() -> None:
    taxed = {"sku": "A", "name": "Tea", "category": "tea", "quantity": 0.75, "amount": 5600, "tax_amount": 934}
    for items in ([{"quantity": 1, "amount": 5600}], [taxed], [{"quantity": -1, "amount": -5600}]):
        purchase = EXAMPLES["transaction.completed"]
        data = purchase | {"transaction": purchase["transaction"] | {"items": items}}
        assert EVENT_TYPES["transaction.completed"].read(data).data() == data
        assert satisfies_the_schema("transaction.completed", data)
    plain, multiplied = EXAMPLES["points.earned"]["rules"]
    assert ("multiplier" in plain, "multiplier" in multiplied) == (False, True)


NULLABLE = {
    "customer.created": {"customer.external_id", "customer.email", "customer.phone", "customer.name"},
    "customer.updated": {"customer.external_id", "customer.email", "customer.phone", "customer.name"},
    "customer.deleted": {"customer_external_id", "external_id", "merged_into"},
    "customer.tier_changed": {
        "customer_external_id", "qualification.window_start", "qualification.window_end", "tier_expires_at", "next_tier",
    },
    "points.earned": {
        "customer_external_id", "activates_at", "expires_at", "transaction_id", "transaction_external_id",
    },
    "points.redeemed": {
        "customer_external_id", "reward", "reward.amount", "reward.currency", "reward.percent", "reward.sku",
        "transaction_id", "code", "reserved_until",
    },
    "points.expired": {"customer_external_id"},
    "points.adjusted": {
        "customer_external_id", "note", "reverses_entry_id", "transaction_id", "refund_id", "redemption_id",
    },
    "transaction.completed": {
        "customer_external_id", "transaction.external_id", "transaction.channel", "transaction.location_id",
        "transaction.employee_id",
    },
    "transaction.refunded": {"external_id", "transaction_external_id", "customer_external_id", "reason"},
    "fraud.detected": {"customer_id", "customer_external_id", "trigger.event_id", "measurement.window"},
    "churn.risk": {"customer_external_id", "p_alive", "p_purchase_horizon", "features.typical_gap_days"},
}  # fmt: skip
"""The fields that may be null, by type: the others of the examples are always there."""


@pytest.mark.parametrize("name", EVENT_TYPES)
def test_a_field_without_a_value_is_null_and_never_left_out(name: str) -> None:
    found = set()
    for path in paths(EXAMPLES[name]):
        data = with_null(EXAMPLES[name], path)
        try:
            written = EVENT_TYPES[name].read(data).data()
        except ValidationError:
            assert not satisfies_the_schema(name, data)
            continue
        assert encode(written) == encode(data)
        assert satisfies_the_schema(name, data)
        found.add(".".join(path))
    assert found == NULLABLE[name]


def paths(data: dict[str, Any], lead: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The paths of the fields of a payload; what merchants store in it is left out."""
    found = []
    for name, value in data.items():
        if name not in ("metadata", "previous_attributes"):
            found += [(*lead, name), *(paths(value, (*lead, name)) if isinstance(value, dict) else ())]
    return found


def with_null(data: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    first, *rest = path
    return data | {first: with_null(data[first], tuple(rest)) if rest else None}


def test_stored_bodies_of_earlier_payloads_keep_their_bytes_when_they_are_parsed_and_written_again() -> None:
    bodies = stored_bodies()
    assert len(bodies) > 1_000
    assert [freeze(json.loads(body)) for body in bodies] == bodies


def test_a_sealed_event_has_the_fields_of_the_payload_in_their_order() -> None:
    deleted = CustomerDeleted(
        customer_id="cus_1",
        customer_external_id=None,
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
