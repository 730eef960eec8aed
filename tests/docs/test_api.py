"""docs/reference/api.md documents every call with every field, and a server gives the responses of its examples."""

import json
import re
import socket
from typing import Any

import pytest

from docs.pages import REFERENCE, Block, blocks, prose
from loyalpro.app import Application
from loyalpro.settings import Settings
from support.databases import Databases
from support.receivers import Authority, Hit, RawServer, answer
from support.server import Answer, Server
from support.waiting import until

PAGE = REFERENCE / "api.md"
ID = re.compile(r"\b[a-z]{2,5}_[0-9a-hjkmnp-tv-z]{26,36}\b")
DOCUMENTED_URL = "https://shop.example/webhooks"
VARIABLE = [
    (re.compile(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"), "<time>"),
    (re.compile(r"\b20\d\d-\d\d-\d\d\b"), "<day>"),
    (re.compile(r"\blp_[0-9a-f]{48}\b"), "<key>"),
    (re.compile(r"whsec_[\w+/=]{44}"), "<secret>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<digest>"),
    (re.compile(r"\bLP-[2-9A-Z]{4,8}\b"), "<code>"),
    (re.compile(r"v1,[\w+/=]{44}"), "<signature>"),
    (re.compile(r"\b1\d{9}\b"), "<seconds>"),
    (re.compile(r"\b\d+\.\d+\.\d+(\.\d+)?\b"), "<version or address>"),
]


@pytest.fixture(scope="module")
def openapi(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The OpenAPI document of an application that is not started."""
    url = f"sqlite:///{tmp_path_factory.mktemp('openapi') / 'loyalpro.db'}"
    return Application(Settings.model_validate({"database_url": url})).web.openapi()


def sections() -> dict[str, str]:
    """The text under each heading that names a call."""
    found = re.split(r"^### `([A-Z]+ [^`]+)`$", prose(PAGE), flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def test_every_call_is_documented_and_no_other(openapi: dict[str, Any]) -> None:
    calls = [f"{method.upper()} {path}" for path, methods in openapi["paths"].items() for method in methods]
    assert sorted(sections()) == sorted(calls)


def test_every_parameter_and_field_is_documented(openapi: dict[str, Any]) -> None:
    missing = []
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            text = sections()[f"{method.upper()} {path}"]
            missing += [f"{method} {path} {name}" for name in takes(operation, openapi) if f"`{name}`" not in text]
    assert missing == []


def takes(operation: dict[str, Any], openapi: dict[str, Any]) -> list[str]:
    """The query parameters of a call and the fields of its body."""
    names = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
    body = json.dumps(operation.get("requestBody", {}))
    for model in re.findall(r"#/components/schemas/(\w+)", body):
        names += openapi["components"]["schemas"][model]["properties"]
    return names


def test_a_server_gives_the_responses_of_the_examples(databases: Databases, authority: Authority) -> None:
    known: dict[str, str] = {}
    examples = blocks(PAGE, "http", "json")
    with (
        Server(databases.fresh("sqlite"), authority.ca_file) as server,
        RawServer(receiving, authority.context()) as receiver,
    ):
        for request, answer in zip(examples, [*examples[1:], Block("http", "")], strict=True):
            if request.language == "http":
                text = with_actual_ids(request.text, known).replace(DOCUMENTED_URL, receiver.url)
                actual = answered(server, text).replace(receiver.url, DOCUMENTED_URL)
                expected = answer.text if answer.language == "json" else "null"
                known |= zip(ID.findall(expected), ID.findall(actual), strict=False)
                assert without_variables(json.loads(actual)) == without_variables(
                    json.loads(with_actual_ids(expected, known))
                )
    assert len(known) > 10


def with_actual_ids(text: str, known: dict[str, str]) -> str:
    """The text with the ids of this run in place of those of the page."""
    return ID.sub(lambda found: known.get(found.group(), found.group()), text)


def answered(server: Server, text: str) -> str:
    """Make the request of an `http` block; the response. A `GET` is repeated until its state is final."""
    line, _, body = text.partition("\n")
    method, target = line.split()

    def call() -> Answer:
        found = server.call(method, target, body.strip().encode() or None)
        assert 200 <= found.status < 300, found.raw
        return found

    found = until(call, lambda found: is_final(found.json), timeout_s=30) if method == "GET" else call()
    return found.raw.decode() or "null"


def is_final(view: dict[str, Any]) -> bool:
    """Whether a delivery is finished, a job is done, or a list is not empty."""
    return view.get("status") not in ("pending", "queued", "running") and view.get("data") != []


def receiving(connection: socket.socket, hit: Hit | None) -> None:
    """Answer as the endpoint of the examples."""
    gone = hit is not None and b"churn.risk" in hit.body
    connection.sendall(answer(410 if gone else 200, b"" if gone else b'{"received":true}'))


def without_variables(value: Any) -> Any:
    """The value with fixed words in place of everything that differs from run to run."""
    if isinstance(value, dict):
        return {
            key: 0 if key.endswith("_ms") or key in ("hint", "score") else without_variables(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [without_variables(each) for each in value]
    if isinstance(value, str):
        for pattern, word in VARIABLE:
            value = pattern.sub(word, value)
    return value
