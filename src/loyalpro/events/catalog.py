"""The twelve event types: what each says, as a record and as a JSON Schema.

Inside one API version the payloads only grow: a field is added, never renamed, retyped or removed.
"""

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Final

import msgspec
from pydantic import TypeAdapter

from loyalpro.events.churn import ChurnRisk
from loyalpro.events.customer import CustomerCreated, CustomerDeleted, CustomerTierChanged, CustomerUpdated
from loyalpro.events.fraud import FraudDetected
from loyalpro.events.payload import Payload
from loyalpro.events.points import PointsAdjusted, PointsEarned, PointsExpired, PointsRedeemed
from loyalpro.events.transaction import TransactionCompleted, TransactionRefunded
from loyalpro.kernel.record import record

API_VERSION: Final = "2026-11-01"

_PAYLOADS: Final[Sequence[type[Payload]]] = (
    CustomerCreated,
    CustomerUpdated,
    CustomerDeleted,
    CustomerTierChanged,
    PointsEarned,
    PointsRedeemed,
    PointsExpired,
    PointsAdjusted,
    TransactionCompleted,
    TransactionRefunded,
    FraudDetected,
    ChurnRisk,
)


@record
class EventType:
    """One type: its name, what it means, and the record of its `data`."""

    name: str
    description: str
    payload: type[Payload]

    @property
    def fields(self) -> list[str]:
        """The names of the fields of `data`, in their order."""
        return [each.name for each in fields(self.payload)]  # type: ignore[arg-type]

    def read(self, data: object) -> Payload:
        """The payload of a JSON object. Raises `pydantic.ValidationError` when the published schema does not allow it."""
        return _adapter(self.name).validate_json(msgspec.json.encode(data))

    def body_schema(self) -> dict[str, Any]:
        """JSON Schema 2020-12 of a whole delivered body of this type."""
        return _body_schema(self.name)


EVENT_TYPES: Final[dict[str, EventType]] = {
    each.type: EventType(each.type, (each.__doc__ or "").strip().splitlines()[0], each) for each in _PAYLOADS
}


@cache
def _adapter(name: str) -> TypeAdapter[Payload]:
    """Built when it is first needed: that takes milliseconds, and a server needs it only to publish its schemas."""
    return TypeAdapter(EVENT_TYPES[name].payload)


@cache
def _body_schema(name: str) -> dict[str, Any]:
    data = _open(_adapter(name).json_schema(mode="serialization"))
    definitions = data.pop("$defs", {})
    envelope: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        "description": EVENT_TYPES[name].description,
        "type": "object",
        "required": ["id", "type", "created_at", "api_version", "account_id", "sequence", "data"],
        "properties": {
            "id": {"type": "string", "pattern": "^evt_[0-9a-z]{26}$"},
            "type": {"const": name},
            "created_at": {"type": "string", "format": "date-time"},
            "api_version": {"type": "string"},
            "account_id": {"type": "string", "pattern": "^acct_[0-9a-z]{26}$"},
            "sequence": {
                "type": ["integer", "null"],
                "minimum": 1,
                "description": "1, 2, 3 ... for each customer; null where the event has no customer.",
            },
            "data": data,
        },
    }
    if definitions:
        envelope["$defs"] = definitions
    return envelope


def _open(schema: Any) -> Any:
    """The same schema without `additionalProperties: false`: receivers must accept the fields that are added later."""
    if isinstance(schema, dict):
        return {
            key: _open(value) for key, value in schema.items() if not (key == "additionalProperties" and value is False)
        }
    if isinstance(schema, list):
        return [_open(value) for value in schema]
    return schema
