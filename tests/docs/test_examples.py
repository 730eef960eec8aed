"""The programs and commands of the documentation do what their pages say."""

import asyncio
import http.client
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from docs.pages import REFERENCE, ROOT, Block, blocks, every_page
from loyalpro.transport.signing import sign
from loyalpro.webhooks.snippets import FRAMEWORKS, snippet
from support import node
from support.databases import Databases
from support.receivers import Authority
from support.server import API_KEY, Server

README = ROOT / "README.md"
GETTING_STARTED = ROOT / "docs" / "getting-started.md"
RECEIVERS = ROOT / "docs" / "receivers.md"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
BODY = b'{"id":"evt_1","type":"points.earned","data":{"points":56,"customer_id":"cus_1","balance":{"after":56}}}'
URL = "https://shop.example/webhooks"
TYPES = ["points.earned"]
PROGRAMS = [(page, block) for page in every_page() for block in blocks(page, "python", "javascript")]


def program(page: Path, part: str) -> str:
    """The one program of a page that contains this part."""
    [found] = [block.text for block in blocks(page, "python", "javascript") if part in block.text]
    return found


@pytest.mark.parametrize(("page", "block"), PROGRAMS, ids=lambda each: getattr(each, "name", None))
def test_every_program_runs_unchanged(page: Path, block: Block, tmp_path: Path) -> None:
    if block.language == "python":
        done = subprocess.run([sys.executable, "-W", "error", "-c", block.text], env=environment(), check=False)
        assert done.returncode == 0
    elif "listen(" not in block.text:
        node.run(block.text, b"")
    else:
        with listening(block.text, tmp_path) as port:
            assert port


def environment() -> dict[str, str]:
    return os.environ | {"LOYALPRO_WEBHOOK_SECRET": SECRET, "PYTHONUNBUFFERED": "1"}


@contextmanager
def listening(script: str, folder: Path) -> Iterator[int]:
    """Run a server of the documentation in Node, with a small replacement for Express; its port."""
    module = folder / "node_modules" / "express"
    module.mkdir(parents=True)
    (module / "index.js").write_text(Path(__file__).with_name("express.js").read_text())
    (folder / "receiver.js").write_text(script)
    with subprocess.Popen(
        [node.executable(), folder / "receiver.js"], env=environment(), stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        try:
            yield int(running.stdout.readline())
        finally:
            running.terminate()


def posted(port: int, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/webhooks", body, {"Content-Type": "application/json"} | headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def signed(timestamp_s: int = 1) -> dict[str, str]:
    return dict(sign([SECRET], SECRET, "evt_1", timestamp_s, BODY))


def test_the_node_receiver_accepts_only_signed_requests(tmp_path: Path) -> None:
    with listening(program(RECEIVERS, "express"), tmp_path) as port:
        assert posted(port, BODY, signed()) == (200, b'{"received":true}')
        assert posted(port, BODY + b" ", signed())[0] == 401
        assert posted(port, BODY, {})[0] == 401
        assert posted(port, BODY, {"X-LoyalPro-Signature": "\xe9" * 64})[0] == 401


def test_the_standard_webhooks_example_verifies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOYALPRO_WEBHOOK_SECRET", SECRET)
    names = run(program(REFERENCE / "webhooks.md", "standardwebhooks"))
    headers = signed(int(datetime.now(UTC).timestamp()))
    assert names["verified"](BODY, headers)["type"] == "points.earned"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        names["verified"](BODY + b" ", headers)


def test_the_duplicates_example_handles_a_repeated_event_once() -> None:
    names = run(program(REFERENCE / "webhooks.md", "CREATE TABLE seen"))
    event = json.loads(BODY)
    names["handle"](event)
    names["database"].execute("UPDATE balances SET points = 7")
    names["handle"](event)
    assert names["database"].execute("SELECT customer_id, points FROM balances").fetchall() == [("cus_1", 7)]
    names["database"].close()


def run(source: str) -> dict[str, Any]:
    """Execute a program in this process; the names that it defines."""
    names: dict[str, Any] = {}
    exec(source, names)
    return names


def test_the_steps_of_getting_started_end_with_a_verified_webhook(
    databases: Databases, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "receiver.py").write_text(program(RECEIVERS, "fastapi"))
    text = "\n".join(block.text for block in blocks(GETTING_STARTED, "sh")).replace("\\\n", " ")
    add_endpoint, *others = [line for line in text.splitlines() if line.startswith("curl ")]
    with (
        Server(databases.fresh("sqlite"), authority.ca_file) as server,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        url = f"https://localhost:{listener.getsockname()[1]}/webhooks"
        endpoint = curl(server, add_endpoint.replace("https://localhost:8443/webhooks", url))
        with receiver(tmp_path, authority, listener, endpoint["secret"]) as running:
            answers = [curl(server, each) for each in others]
            assert running.stdout is not None
            assert running.stdout.readline() == f"points.earned {answers[0]['id']} 56\n"
        assert {each["endpoint_id"] for each in answers[-1]["data"]} == {endpoint["id"]}


@contextmanager
def receiver(
    folder: Path, authority: Authority, listener: socket.socket, secret: str
) -> Iterator["subprocess.Popen[str]"]:
    """Start the Python receiver with the command of the page, except for the port and the certificate."""
    authority.context()
    [newest] = sorted(authority.ca_file.parent.glob("receiver-*.pem"), key=lambda file: file.stat().st_mtime_ns)[-1:]
    options = ["--fd", str(listener.fileno()), "--log-level", "error", "--no-access-log"]
    with subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "receiver:app", *options, "--ssl-keyfile", newest, "--ssl-certfile", newest],
        cwd=folder,
        env=environment() | {"LOYALPRO_WEBHOOK_SECRET": secret},
        pass_fds=[listener.fileno()],
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()  # a graceful stop waits for the other side of kept TLS connections


def curl(server: Server, command: str) -> Any:
    """Make the request of a curl command to this server; the JSON of the response."""
    _, address, *options = shlex.split(command)
    given = list(zip(options[::2], options[1::2], strict=True))
    assert {name for name, _ in given} <= {"-H", "-d"}
    headers = dict(value.split(": ", 1) for name, value in given if name == "-H")
    assert re.fullmatch(r"Bearer lp_\w{13,}", headers.pop("Authorization"))
    body = next((value.encode() for name, value in given if name == "-d"), None)
    path = address.removeprefix("http://127.0.0.1:8700")
    answer = server.call("GET" if body is None else "POST", path, body, key=API_KEY, **headers)
    assert 200 <= answer.status < 300, answer.raw
    return answer.json


def test_the_pages_show_the_receivers_of_the_dashboard() -> None:
    written = {each: snippet(each, URL, TYPES) for each in FRAMEWORKS}
    shown = [block.text for block in blocks(RECEIVERS, *{each.language for each in written.values()})]
    assert sorted(shown) == sorted(each.code for each in written.values())
    assert program(README, "fastapi") == written["fastapi"].code


@pytest.mark.parametrize("page", [README, RECEIVERS], ids=lambda page: page.name)
def test_the_python_receiver_accepts_only_signed_requests(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOYALPRO_WEBHOOK_SECRET", SECRET)
    app = run(program(page, "fastapi"))["app"]
    assert asyncio.run(answered(app, BODY, signed())) == 200
    assert asyncio.run(answered(app, BODY + b" ", signed())) == 401
    assert asyncio.run(answered(app, BODY, {})) == 401
    assert asyncio.run(answered(app, BODY, {"X-LoyalPro-Signature": "\xe9" * 64})) == 401


async def answered(app: Any, body: bytes, headers: dict[str, str]) -> int:
    """The status with which an ASGI application answers."""
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/webhooks",
        "raw_path": b"/webhooks",
        "query_string": b"",
        "headers": raw,
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return int(sent[0]["status"])
