"""Every wrong value of every field and parameter is refused in words of JSON: no name of Python, and no phrase of pydantic."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from loyalpro.web import field_errors
from support.databases import Databases
from support.server import Answer, Server

WRONG: list[Any] = [
    None, True, 0, -1, 1.5, 10**12, 2**53 - 1, "", "x", "lost", "\x00", "x" * 300, "1", [], [1], ["x"], [None], [[]], ["x"] * 60,
    [{"skuu": 1}], [{"amount": "x", "quantity": "y"}], {}, {"a": 1}, {"a": None}, {"": ""}, {"__proto__": 1}, {"1": 1},
]  # fmt: skip
VALUES = ["", "x", "0", "-1", "101", "1.5", "9" * 400, "%00", "true", "null", "x" * 300, "1&{name}=2"]
FOREIGN = re.compile(
    r"\b(int|str|float|bool|dict|list|tuple|None|NoneType|True|False|(?i:dictionary|instance|pydantic|input should|value error"
    r"|unable to parse|valid (?:integer|string|number|boolean|list)|extra inputs|field required|attributes?|type=))\b"
)


@pytest.fixture(scope="module")
def server(databases: Databases) -> Iterator[Server]:
    with Server(databases.fresh("sqlite")) as running:
        yield running


def calls(server: Server) -> list[tuple[str, str, dict[str, Any]]]:
    found = server.get("/openapi.json")["paths"]
    return [
        (method.upper(), re.sub(r"\{\w+\}", "x", path), operation)
        for path, operations in found.items()
        for method, operation in operations.items()
        if path.startswith("/v1/")
    ]


def fields(server: Server, operation: dict[str, Any]) -> dict[str, Any]:
    """The fields of the body of a call; empty when it has none."""
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    [name] = set(re.findall(r"#/components/schemas/(\w+)", str(schema))) or [None]
    schemas = server.get("/openapi.json")["components"]["schemas"]
    return dict(schemas[name]["properties"]) if name else {}


def check(answer: Answer, sent: object) -> None:
    assert answer.status < 500, sent
    if answer.status < 400:
        return
    for each in (answer.json, *answer.json.get("errors", ())):
        text = each["detail"]
        assert not FOREIGN.search(text.replace(str(each.get("param")), "")), (sent, text)
        assert re.search(r"[.?]$", text) or each is not answer.json, text
        assert len(text) < 600, text


def test_no_wrong_field_is_refused_in_words_of_python(server: Server) -> None:
    tried = 0
    for method, path, operation in calls(server):
        names = fields(server, operation)
        for name in [*names, *(["metadatas", "Amount"] if names else [])]:
            for value in WRONG:
                tried += 1
                check(server.call(method, path, {name: value}), (method, path, name, value))
        for body in WRONG if names else ():
            check(server.call(method, path, body), (method, path, body))
            check(server.call(method, path, {"transactions": [body]}), (method, path, body))
    assert tried > 700


def test_no_wrong_parameter_is_refused_in_words_of_python(server: Server) -> None:
    tried = 0
    for method, path, operation in calls(server):
        for each in operation.get("parameters", ()):
            for value in VALUES if each["in"] == "query" else ():
                tried += 1
                sent = f"{path}?{each['name']}={value.format(name=each['name'])}"
                check(server.call(method, sent), sent)
    assert tried > 100


def test_no_kind_of_error_that_these_calls_cause_lacks_a_text(server: Server) -> None:
    """The general text exists for a later version of pydantic."""
    general = "This value is not accepted"
    for method, path, operation in calls(server):
        for name in fields(server, operation):
            for value in WRONG:
                answer = server.call(method, path, {name: value})
                assert general.encode() not in answer.raw, (method, path, name, value, answer.raw)
    assert general in str(field_errors.field_error({"type": "new", "ctx": {}}, ["a"]).detail)
