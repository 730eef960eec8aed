"""What successful responses contain: the types that views return. They are published as schemas, with an example of each.

A view is a `TypedDict`, so the type checker compares it with what the function returns, and no response is slower for it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Generic, TypeVar

from pydantic import Field
from typing_extensions import TypedDict

V = TypeVar("V")


def _like(example: str, **more: Any) -> Any:
    return Field(examples=[example], **more)


Time = Annotated[str, _like("2026-11-24T17:19:19.389Z", json_schema_extra={"format": "date-time"})]
Date = Annotated[str, _like("2026-11-24", json_schema_extra={"format": "date"})]
CustomerId = Annotated[str, _like("cus_01m8793ctx2zrb94rghckj4mw4")]
TransactionId = Annotated[str, _like("txn_01m8793cyjq9f3vjj0rjecawyt")]
RefundId = Annotated[str, _like("ref_01m8793cyjq9f3vjj0rjecawyr")]
EntryId = Annotated[str, _like("led_01m8793cyjq9f3vjj0rjecawyx")]
LotId = Annotated[str, _like("lot_01m8793cyjq9f3vjj0rjecawyy")]
AdjustmentId = Annotated[str, _like("adj_01m8793d2k3f2v6w1q0k6b1r4t")]
TierId = Annotated[str, _like("tier_01m8793cqewqq1j7aafjqmntka")]
RewardId = Annotated[str, _like("rew_01m8793d2k3f2v6w1q0k6b1r4v")]
RedemptionId = Annotated[str, _like("red_01m8793d2k3f2v6w1q0k6b1r4w")]
CampaignId = Annotated[str, _like("camp_01m8793d2k3f2v6w1q0k6b1r4x")]
CaseId = Annotated[str, _like("frd_01m8793d2k3f2v6w1q0k6b1r4y")]
JobId = Annotated[str, _like("job_01m8j7c8kjrn3x994szc3jsa8z")]
EndpointId = Annotated[str, _like("we_01m8793d0xn5jh2v2cqxwp5zmg")]
EventId = Annotated[str, _like("evt_01m8793cyjq9f3vjj0rjecawyv")]
DeliveryId = Annotated[str, _like("dlv_01m8793cyjq9f3vjj0rjecawyv_01m8793d0xn5jh2v2cqxwp5zmg")]
ReplayId = Annotated[str, _like("rpl_01m8793d6tze5074nby8k864kd")]
NoticeId = Annotated[str, _like("ntc_01m8793d6tze5074nby8k864ke")]
KeyId = Annotated[str, _like("key_01m8793cqewqq1j7aafjqmntkc")]
AuditId = Annotated[str, _like("aud_01m8793cqewqq1j7aafjqmntkd")]
RequestId = Annotated[str, _like("req_01m8793cqewqq1j7aafjqmntke")]
Actor = Annotated[str, _like("key:key_01m8793cqewqq1j7aafjqmntkc", description="Who made the change.")]
ExternalId = Annotated[str, _like("shop-77")]
CurrencyCode = Annotated[str, _like("EUR")]
EventType = Annotated[str, _like("points.earned")]
MetadataView = Annotated[dict[str, Any], Field(examples=[{"newsletter": True}])]
MinorUnits = Annotated[int, Field(examples=[5600], description="In the currency's minor unit: 5600 is 56.00.")]
PointCount = Annotated[int, Field(examples=[56])]
Count = Annotated[int, Field(examples=[1])]


class Page(TypedDict, Generic[V]):
    """A page of a list."""

    data: list[V]
    next_cursor: Annotated[
        str | None, Field(description="The `cursor` of the next page; null on the last one.", examples=[None])
    ]


class Listed(TypedDict, Generic[V]):
    """Everything at once, in the form of a page."""

    data: list[V]


class ErrorView(TypedDict):
    """Why a member of a batch was refused, as a request for it alone would tell."""

    code: Annotated[str, _like("customer_not_found")]
    detail: Annotated[str, _like("There is no customer with this customer_id; enroll it first.")]
    param: Annotated[str | None, _like("customer_id")]


class PointsView(TypedDict):
    """What a customer has."""

    available: PointCount
    pending: Annotated[int, Field(examples=[0])]
    debt: Annotated[int, Field(examples=[0])]


def answers(view: Any, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route whose successful response is this view, with the status 200 or one of these."""
    return {status: {"model": view} for status in statuses or (200,)}


_NEXT: Final = ("anyOf", "oneOf", "allOf")


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """An example of what a schema describes. `schemas`: the components that it refers to."""
    if "examples" in schema:
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for name in _NEXT:
        if name in schema:
            return example_of(schema[name][0], schemas)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    return _plain_example(schema, schemas)


def _plain_example(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    match schema.get("type"):
        case "object":
            return {name: example_of(each, schemas) for name, each in schema.get("properties", {}).items()}
        case "array":
            return [example_of(schema["items"], schemas)] if schema.get("items") else []
        case "string":
            return "text"
        case "integer" | "number":
            return 1
        case "boolean":
            return False
        case _:
            return None
