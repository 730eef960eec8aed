"""The receivers that the set-up page shows: each one runs, or is parsed, for every path and every choice of events."""

import http.client
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tree_sitter
import tree_sitter_go
import tree_sitter_php
from hypothesis import given
from hypothesis import strategies as st

from docs.test_examples import SECRET, environment
from loyalpro.events.catalog import EVENT_TYPES
from loyalpro.events.samples import sample
from loyalpro.kernel.errors import InvalidInput
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.signing import sign
from loyalpro.webhooks.endpoint_url import canonical_url
from loyalpro.webhooks.snippets import FRAMEWORKS, Framework, Snippet, snippet
from support import node

SERVERS = Path(__file__).parent / "servers"
EXPRESS = Path(__file__).parent.parent / "docs" / "express.js"
HTTPS = "https://shop.example"
TYPES = ["points.earned", "customer.deleted"]


def written(framework: Framework, path: str = "/in/loyalpro", types: list[str] = TYPES) -> Snippet:
    return snippet(framework, HTTPS + path, types)


# -- run ---------------------------------------------------------------------------------------------------------------


@contextmanager
def running(found: Snippet, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """The receiver as a process that prints its port first, and then what it received."""
    file = folder / Path(found.file_name).name
    file.write_text(found.code)
    program: list[str | Path] = [sys.executable, "-W", "error", SERVERS / "serve.py", file]
    if found.framework == "nextjs":
        program = [node.executable(), SERVERS / "nextjs.mjs", file]
    elif found.framework == "express":
        module = folder / "node_modules" / "express"
        module.mkdir(parents=True)
        (module / "index.js").write_text(EXPRESS.read_text())
        program = [node.executable(), file]
    with subprocess.Popen(program, env=environment(), cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def posted(port: int, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"} | headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def event(event_type: str) -> bytes:
    """A sample with a character outside ASCII, so that a receiver that signs decoded text would notice."""
    data = sample(event_type, 0)
    return json.dumps({"id": "evt_1", "type": event_type, "data": data, "x": "\xe4"}, ensure_ascii=False).encode()


def signed(body: bytes) -> dict[str, str]:
    return dict(sign([SECRET], SECRET, "evt_1", 1, body))


@pytest.mark.parametrize("framework", ["flask", "django", "nextjs", "express", "fastapi"])
def test_a_receiver_prints_what_is_signed_and_refuses_the_rest(framework: Framework, tmp_path: Path) -> None:
    found = written(framework)
    with running(found, tmp_path) as process:
        assert process.stdout is not None
        port, path, body = int(process.stdout.readline()), "/in/loyalpro", event("points.earned")
        assert posted(port, path, body + b" ", signed(body))[0] == 401
        assert posted(port, path, body, {})[0] == 401
        assert posted(port, path, body, {"X-LoyalPro-Signature": "\xe9" * 64})[0] == 401
        status, answer = posted(port, path, body, signed(body))
        assert (status, json.loads(answer)) == (200, {"received": True})
        customer_id = json.loads(body)["data"]["customer_id"]
        assert process.stdout.readline().split()[:2] == ["points.earned", customer_id]
        other = event("churn.risk")
        assert posted(port, path, other, signed(other))[0] == 200


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_receiver_has_a_case_for_each_chosen_type_and_prints_fields_that_exist(framework: Framework) -> None:
    assert cases(written(framework)) == ["customer.deleted", "points.earned"], "in the order of the catalog"
    every = written(framework, types=["*"])
    assert cases(every) == list(EVENT_TYPES)
    names = re.findall(r"""(?:data\[|Data\[|event\.data\.)["']?(\w+)""", every.code)
    known = {each for event_type in EVENT_TYPES.values() for each in event_type.fields}
    assert len(names) >= len(EVENT_TYPES)
    assert set(names) <= known


def cases(found: Snippet) -> list[str]:
    return re.findall(r"""case ["']([\w.]+)["']:""", found.code)


# -- parse -------------------------------------------------------------------------------------------------------------

GRAMMARS = {"go": tree_sitter_go.language(), "php": tree_sitter_php.language_php()}


def has_error(language: str, code: str) -> bool:
    parser = tree_sitter.Parser(tree_sitter.Language(GRAMMARS[language]))
    return parser.parse(code.encode()).root_node.has_error


@pytest.mark.parametrize("framework", ["go", "php"])
def test_a_receiver_in_go_or_php_is_read_without_an_error(framework: Framework) -> None:
    for types in (TYPES, ["*"]):
        code = written(framework, types=types).code
        assert not has_error(framework, code)
        assert has_error(framework, code.replace("(", "", 1))


POLICY = AddressPolicy()
CHARACTERS = "ab9/._~-%<>{}:*?+()[]!$&'\",;=@|\\^` \n\xe4#"


@given(st.text(CHARACTERS, max_size=20), st.sampled_from(list(FRAMEWORKS)))
def test_no_path_gets_out_of_its_quotes(path: str, framework: Framework) -> None:
    try:
        url = canonical_url(f"{HTTPS}/{path}", POLICY).url
    except InvalidInput:
        return
    found = snippet(framework, url, ["*"])
    usual = snippet(framework, f"{HTTPS}/webhooks", ["*"])
    if found.is_other_path:
        assert (found.code, found.path) == (usual.code, "/webhooks")
    else:
        assert re.fullmatch(r"[A-Za-z0-9/._~-]+", found.path)
        assert found.path == url.removeprefix(HTTPS).partition("?")[0]


@pytest.mark.parametrize(
    ("path", "framework", "file_name"),
    [
        ("/webhooks", "nextjs", "app/webhooks/route.ts"),
        ("", "nextjs", "app/route.ts"),
        ("/_in/a.b?x=1", "nextjs", "app/%5Fin/a.b/route.ts"),
        ("/in", "fastapi", "receiver.py"),
    ],
)
def test_the_file_of_a_receiver_is_where_its_framework_looks(path: str, framework: Framework, file_name: str) -> None:
    assert written(framework, path).file_name == file_name


def test_next_is_told_to_keep_a_slash_at_the_end() -> None:
    assert "trailingSlash" in written("nextjs", "/in/").code
    assert "trailingSlash" not in written("nextjs", "/in").code
    assert "trailingSlash" not in written("nextjs", "/").code


@pytest.mark.parametrize("path", ["/a%7Bb%7D", "/a//b", "/../a", "/a/.", "/a:b", "/(a)", "/a*"])
def test_a_path_that_a_router_may_take_for_a_pattern_is_replaced(path: str) -> None:
    assert written("express", path).is_other_path
