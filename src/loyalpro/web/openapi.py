"""The OpenAPI 3.1 document: the API's paths, and every webhook under `webhooks`."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from loyalpro.events.catalog import EVENT_TYPES, EventType
from loyalpro.events.samples import sample_body
from loyalpro.web.answers import example_of
from loyalpro.web.idempotency import LONGEST_KEY
from loyalpro.web.strict_route import SCOPE

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable, for programs."},
        "detail": {"type": "string", "description": "What is wrong and what to do, for people."},
        "param": {"type": "string", "description": "The field that is wrong."},
        "request_id": {"type": ["string", "null"]},
    },
}
_SCHEMA_OF: Final = "#/components/schemas/"
_HEADERS = {
    "X-LoyalPro-Signature": "Hex HMAC-SHA256 of the raw body; the key is the whole secret, prefix included.",
    "X-LoyalPro-Event-Id": "The id of the event, as in the body.",
    "X-LoyalPro-Event-Type": "The type of the event, as in the body.",
    "X-LoyalPro-Delivery-Id": "The id of the delivery, the same on every attempt.",
    "X-LoyalPro-Attempt": "The number of the attempt, from 1.",
    "webhook-id": "Standard Webhooks: the event id.",
    "webhook-timestamp": "Standard Webhooks: Unix seconds of this attempt.",
    "webhook-signature": "Standard Webhooks: `v1,<base64>` for every secret that is valid now.",
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "For 24 hours, the same request with the same key takes effect once and gets the same response.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY},
}


def install(app: FastAPI) -> None:
    """Publish the document at /openapi.json."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]  # the framework documents this way to extend it


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, openapi_version="3.1.0"
    )
    document["webhooks"] = {each.name: _webhook(each) for each in EVENT_TYPES.values()}
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = _PROBLEM
    for path in document["paths"].values():
        for method, operation in path.items():
            _describe(method, operation, schemas)
    return document


def _describe(method: str, operation: dict[str, Any], schemas: Mapping[str, Any]) -> None:
    """Add the scope, the error responses, and the idempotency key of a `POST`."""
    if (scope := operation.pop(SCOPE, None)) is not None:
        operation["security"] = [{scheme: [scope] for scheme in operation["security"][0]}]
    content = {"application/problem+json": {"schema": {"$ref": f"{_SCHEMA_OF}Problem"}}}
    operation["responses"].pop("422", None)
    for response in operation["responses"].values():
        for media in response.get("content", {}).values():
            _show_view(media, schemas)
    operation["responses"]["4XX"] = {"description": "The request is wrong.", "content": content}
    operation["responses"]["5XX"] = {
        "description": "The server failed. Repeat the request; a `POST` with the same Idempotency-Key.",
        "content": content,
    }
    if method == "post":
        operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)


def _show_view(media: dict[str, Any], schemas: Mapping[str, Any]) -> None:
    """The schema of the view alone, without that of its values in Python, and an example."""
    schema = media["schema"]
    view = {name: schema[name] for name in ("$ref", "anyOf") if name in schema}
    media["schema"] = view or schema or {"type": "object"}
    if media["schema"].get("type") != "string":
        media["example"] = example_of(media["schema"], schemas)


def _webhook(event_type: EventType) -> dict[str, Any]:
    headers = [
        {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
        for name, text in _HEADERS.items()
    ]
    return {
        "post": {
            "operationId": event_type.name.replace(".", "_"),
            "summary": event_type.description,
            "parameters": headers,
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": _embedded(event_type.body_schema()),
                        "example": sample_body(event_type.name),
                    }
                },
            },
            "responses": {
                "2XX": {
                    "description": "Received. After any other response, or none within 30 seconds, the delivery is retried."
                },
                "410": {"description": "Disables the endpoint. Its pending deliveries wait until it is enabled again."},
            },
        }
    }


def _embedded(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its definitions inlined, so that it is valid anywhere in a document."""
    definitions = schema.get("$defs", {})

    def inline(part: Any) -> Any:
        if isinstance(part, list):
            return [inline(each) for each in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return inline(definitions[part["$ref"].rpartition("/")[2]])
        return {key: inline(value) for key, value in part.items() if key not in ("$defs", "$schema")}

    embedded: dict[str, Any] = inline(schema)
    return embedded
