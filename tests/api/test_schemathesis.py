"""Requests that schemathesis generates from the published document: no server error, and responses as the document says."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from loyalpro.kernel.clock import VirtualClock
from support.calls import CALLS, WITHOUT_A_KEY, filled
from support.databases import Databases
from support.planted import Planting
from support.server import API_KEY, Server

EXAMPLES = 2
"""Generated requests for each call and each mode, which is one of valid and invalid requests."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
AUTHORIZED = {"Authorization": f"Bearer {API_KEY}"}
OPERATIONS = sorted({*CALLS, *WITHOUT_A_KEY}, key=lambda call: (call[0] == "delete", call[1], call[0]))
"""Every call, the deleting ones last, so that most requests are about objects that exist."""


@dataclass(frozen=True)
class Published:
    """A server, the schema that it publishes, and the ids of objects that it has."""

    schema: Any
    url: str
    ids: dict[str, str]


@pytest.fixture(scope="module", params=("sqlite", "postgres"))
def published(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Published]:
    with Server(databases.fresh(str(request.param)), clock=VirtualClock(1_800_000_000_000)) as server:
        ids = Planting(server, API_KEY, "planted").everything()
        schema = schemathesis.openapi.from_dict(server.get("/openapi.json"))
        yield Published(schema, f"http://127.0.0.1:{server.port}", ids)


@pytest.mark.parametrize("call", OPERATIONS, ids=[" ".join(each) for each in OPERATIONS])
def test_responses_are_as_the_document_says(published: Published, call: tuple[str, str]) -> None:
    method, path = call
    operation = published.schema[path][method.upper()]
    modes = (
        [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
        if "{" in path or method != "get"
        else [GenerationMode.POSITIVE]
    )
    send_described(published, operation, call)
    for mode in modes:
        check(published, operation.as_strategy(generation_mode=mode))


def send_described(published: Published, operation: Any, call: tuple[str, str]) -> None:
    """Send the request that `support.calls` describes: it takes effect, unless the state of its object forbids it."""
    ids = published.ids | {f"own.{name}": id_ for name, id_ in published.ids.items()}
    body = CALLS[call].body if call in CALLS else None
    sent = {} if body is None else {"body": filled(body, ids), "media_type": "application/json"}
    names = re.findall(r"\{(\w+)\}", call[1])
    case = operation.Case(path_parameters={name: ids[name] for name in names}, headers=AUTHORIZED, **sent)
    response = case.call(base_url=published.url)
    case.validate_response(response, checks=CHECKS)
    assert response.status_code < 300 or response.status_code in (409, 422), response.text


def check(published: Published, cases: st.SearchStrategy[Any]) -> None:
    """Send generated requests, most of them about objects that exist, and judge the responses."""

    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases, st.sampled_from([True, True, False]))
    def send(case: Any, is_known: bool) -> None:  # noqa: FBT001 - generated
        if is_known:
            known = {name: published.ids[name] for name in case.path_parameters or {} if name in published.ids}
            case.path_parameters = {**(case.path_parameters or {}), **known}
        response = case.call(base_url=published.url, headers=AUTHORIZED)
        case.validate_response(response, checks=CHECKS)

    send()


def test_every_body_has_examples_that_its_schema_accepts(published: Published) -> None:
    document = published.schema.raw_schema
    found = 0
    for path, method, operation in operations_of(document):
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            examples = [each for part in parts_of(document, schema) for each in part.get("examples", [])]
            assert examples, (method, path)
            validator = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
            for each in examples:
                validator.validate(each)
            found += 1
    assert found > 30


def test_every_success_has_a_schema_and_every_error_is_a_problem(published: Published) -> None:
    document = published.schema.raw_schema
    for path, method, operation in operations_of(document):
        for status, response in operation["responses"].items():
            content = response.get("content", {})
            if status in ("4XX", "5XX"):
                assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
            elif status != "204" and path != "/metrics":
                assert content, (method, path)
                assert all(media["schema"] for media in content.values()), (method, path)


def operations_of(document: Any) -> list[tuple[str, str, Any]]:
    return [(path, method, call) for path, calls in document["paths"].items() for method, call in calls.items()]


def parts_of(document: Any, schema: Any) -> list[Any]:
    """The schema of a body, without references, and its alternatives."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return [schema, *(part for each in schema.get("anyOf", []) for part in parts_of(document, each))]
