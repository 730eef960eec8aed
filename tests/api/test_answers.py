"""Every successful response of the API has the fields that the document publishes for it, and no others."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from loyalpro.kernel.clock import VirtualClock
from support.calls import CALLS, calls_of, filled
from support.databases import Databases
from support.planted import Planting
from support.server import API_KEY, Answer, Server

FILE = ("get", "/v1/exports/{export_id}/file")
ENDED = {
    ("post", "/v1/imports/{import_id}/cancel"),
    ("post", "/v1/exports/{export_id}/cancel"),
    ("post", "/v1/webhook_endpoints/{endpoint_id}/replays/{replay_id}/cancel"),
}
"""Calls about jobs that have ended when the test begins. They show what `GET` shows of the job."""
ORDER = sorted(CALLS, key=lambda call: (call[0] == "delete", call[1].endswith("/merge"), call[0] != "get", call[1]))
"""Every call: first those that read, and in the end those that end an object."""


def closed(schema: Any) -> Any:
    """The schema without room for fields that it does not name."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: closed(each) for name, each in schema.items()}
    return {"additionalProperties": False, **inner} if isinstance(schema.get("properties"), dict) else inner


class Document:
    """The published document of a server."""

    def __init__(self, server: Server) -> None:
        self.operations = calls_of(server)
        self._components = closed(server.get("/openapi.json")["components"])

    def content(self, call: tuple[str, str], status: int) -> Any:
        """What the document says of a response in JSON."""
        return self.operations[call]["responses"][str(status)]["content"]["application/json"]

    def check(self, call: tuple[str, str], status: int, value: Any) -> None:
        schema = {"components": self._components, **self.content(call, status)["schema"]}
        try:
            jsonschema.Draft202012Validator(schema).validate(value)
        except jsonschema.ValidationError as error:
            raise AssertionError(f"{call} {status}: {error.json_path}: {error.message}") from error


@pytest.fixture(scope="module", params=("sqlite", "postgres"))
def server(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh(str(request.param)), clock=VirtualClock(1_800_000_000_000)) as running:
        yield running


def test_every_example_is_what_its_schema_describes(server: Server) -> None:
    document = Document(server)
    found = 0
    for call in CALLS:
        for status, response in document.operations[call]["responses"].items():
            for media in response.get("content", {}).values() if status[0] == "2" and call != FILE else ():
                assert media["schema"] != {"type": "object"}, call
                document.check(call, int(status), media["example"])
                found += 1
    assert found > 95


def test_every_answer_is_what_its_schema_describes(server: Server) -> None:
    first, second = (Planting(server, API_KEY, word).everything() for word in ("first", "second"))
    for each in (first, second):
        server.call("PATCH", f"/v1/webhook_endpoints/{each['endpoint_id']}", {"status": "enabled"})
    second["lot_id"] = pending_lot(server, second["customer_id"])
    document = Document(server)
    refused = []
    for method, path in ORDER:
        answer = answered(server, method, path, first, second)
        if answer.status >= 300:
            refused.append((method, path, answer.raw))
        elif answer.status != 204 and (method, path) != FILE:
            document.check((method, path), answer.status, answer.json)
    assert {each[:2] for each in refused} == ENDED, refused


def pending_lot(server: Server, customer_id: str) -> str:
    """The lot of a purchase whose points are pending."""
    server.call("PATCH", "/v1/program", {"pending": {"days": 14}})
    server.post("/v1/transactions", {"customer_id": customer_id, "amount": 1_000, "currency": "EUR"})
    return str(server.get(f"/v1/customers/{customer_id}/lots")["data"][0]["id"])


def answered(server: Server, method: str, path: str, *planted: dict[str, str]) -> Answer:
    """The answer to a call about the first object, or about the second one if the state of the first forbids it."""
    others = {f"own.{name}": id_ for name, id_ in planted[-1].items()}
    for ids in planted:
        target = filled(path, ids)
        answer = server.call(method.upper(), target, filled(CALLS[method, path].body, others | ids))
        if answer.status < 300:
            break
    return answer
