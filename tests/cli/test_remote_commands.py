"""The commands that talk to a server, with a real one."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from click.testing import Result
from typer.testing import CliRunner

from loyalpro.cli.main import app
from support.databases import Databases
from support.receivers import Authority, RawServer, Responder
from support.server import API_KEY, Server

Run = Callable[..., Result]
BEFORE_ALL_EVENTS = "2020-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def _no_log_lines() -> Iterator[None]:
    """The server runs in this process, and its log would mix with the output of the commands."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def responder() -> Responder:
    return Responder()


@pytest.fixture
def receiver(authority: Authority, responder: Responder) -> Iterator[RawServer]:
    with RawServer(responder, authority.context()) as listening:
        yield listening
        responder.release()


@pytest.fixture
def server(databases: Databases, authority: Authority) -> Iterator[Server]:
    with Server(databases.fresh("sqlite"), authority.ca_file, retry_schedule="3600,3600") as running:
        yield running


@pytest.fixture
def run(server: Server) -> Run:
    """Runs a command that talks to the server."""

    def command(*arguments: str, code: int = 0) -> Result:
        where = {"LOYALPRO_SERVER": f"http://127.0.0.1:{server.port}", "LOYALPRO_API_KEY": API_KEY}
        result: Any = CliRunner().invoke(app, arguments, env=where)
        assert result.exit_code == code, (arguments, result.output, result.exception)
        found: Result = result
        return found

    return command


@pytest.fixture
def endpoint(run: Run, receiver: RawServer) -> str:
    made = run("endpoints", "add", receiver.url, "--events", "customer.created", "--description", "till").stdout
    found = re.fullmatch(r"(we_\w+) is enabled\nsecret: whsec_\S+\n", made)
    assert found is not None, made
    return found[1]


def enroll(server: Server) -> str:
    """Enroll a customer; the id of the delivery that this causes, after its first attempt."""
    server.post("/v1/customers", {"name": "Ada"})
    page = server.until("/v1/deliveries?limit=1", lambda page: page["data"] and page["data"][0]["attempt_count"])
    return str(page["data"][0]["id"])


def test_events_are_listed_and_sent_again(server: Server, run: Run, endpoint: str, receiver: RawServer) -> None:
    enroll(server)
    server.post("/v1/customers", {"name": "Grace"})
    server.wait_until_listed()
    ids = [json.loads(line)["id"] for line in run("events", "list", "--json").stdout.splitlines()]
    assert len(ids) == 2
    assert ids[1] in run("events", "list", "--after", ids[0], "--type", "customer.created").stdout
    assert ids[0] not in run("events", "list", "--after", ids[0]).stdout
    assert len(run("events", "list", "-n", "1", "--json").stdout.splitlines()) == 1
    receiver.wait_for(2)
    server.until("/v1/deliveries", lambda page: all(each["status"] == "succeeded" for each in page["data"]))
    assert endpoint in run("events", "resend", ids[0]).stdout
    [sent] = run("events", "resend", ids[1], "--endpoint", endpoint, "--json").stdout.splitlines()
    assert json.loads(sent)["event_id"] == ids[1]
    receiver.wait_for(4)
    run("endpoints", "pause", endpoint)
    assert "No enabled endpoint" in run("events", "resend", ids[0]).stdout


def test_deliveries_are_shown_retried_and_canceled(
    server: Server, run: Run, endpoint: str, responder: Responder
) -> None:
    responder.status = 500
    delivery = enroll(server)
    shown = run("deliveries", "show", delivery).stdout
    assert "attempt 1 at" in shown
    assert "http_5xx (HTTP 500)" in shown
    assert json.loads(run("deliveries", "show", delivery, "--json").stdout)["endpoint_id"] == endpoint
    assert run("deliveries", "retry", delivery).stdout == f"{delivery} is pending\n"
    server.until(f"/v1/deliveries/{delivery}", lambda each: each["attempt_count"] == 2)
    assert run("deliveries", "cancel", delivery).stdout == f"{delivery} is canceled\n"
    for arguments in (("--no-follow",), ("--status", "canceled", "--no-follow"), ("--json", "--no-follow")):
        [line] = run("deliveries", "tail", *arguments).stdout.splitlines()
        assert delivery in line
    assert run("deliveries", "tail", "--status", "succeeded", "--no-follow").stdout == ""


def test_every_request_of_an_attempt_is_shown(
    server: Server, run: Run, endpoint: str, receiver: RawServer, responder: Responder
) -> None:
    responder.status = 401
    run("endpoints", "rotate-secret", endpoint)
    delivery = enroll(server)
    shown = run("deliveries", "show", delivery).stdout.split("\n\n")[1]
    lines = [re.sub(r"\d\d\d\d-\S+Z", "<time>", line) for line in shown.splitlines()]
    assert [line for line in lines if "ms:" not in line] == [
        "attempt 1 at <time>: http_4xx (HTTP 401), 2 requests",
        "  request 1 at <time>: http_4xx (HTTP 401)",
        "    The endpoint answered 401.",
        "    answer: '{}'",
        "  request 2 at <time>: http_4xx (HTTP 401)",
        "    The endpoint answered 401.",
        "    answer: '{}'",
    ]
    with_headers = run("deliveries", "show", delivery, "--headers").stdout
    assert re.findall(r"^    > X-LoyalPro-Signature: (\w{64})$", with_headers, re.MULTILINE) == [
        hit.headers["X-LoyalPro-Signature"] for hit in receiver.hits
    ]
    assert with_headers.count("    < Content-Length: 2\n") == 2


def test_endpoints_are_paused_enabled_listed_and_tested(
    server: Server, run: Run, endpoint: str, receiver: RawServer, responder: Responder
) -> None:
    assert run("endpoints", "pause", endpoint).stdout == f"{endpoint} is paused\n"
    assert "parked" in run("endpoints", "test", endpoint, code=1).stdout
    assert run("endpoints", "enable", endpoint).stdout == f"{endpoint} is enabled\n"
    receiver.wait_for(1)
    assert ": succeeded." in run("endpoints", "test", endpoint, "--type", "points.earned").stdout
    assert receiver.wait_for(2)[1].headers["X-LoyalPro-Event-Type"] == "points.earned"
    responder.status = 404
    assert ": http_4xx." in run("endpoints", "test", endpoint, code=1).stdout
    listed = run("endpoints", "list").stdout
    assert endpoint in listed
    assert receiver.url in listed
    assert json.loads(run("endpoints", "list", "--json").stdout)["description"] == "till"


def test_secrets_are_rotated(run: Run, endpoint: str) -> None:
    started = run("endpoints", "rotate-secret", endpoint).stdout
    assert "stays on the previous secret" in started
    promoted = run("endpoints", "rotate-secret", endpoint, "--promote").stdout
    assert promoted.splitlines()[:2] == started.splitlines()[:2]
    assert "stays" not in promoted
    assert (
        "No rotation of this endpoint is under way"
        in run("endpoints", "rotate-secret", endpoint, "--promote", code=1).stderr
    )
    assert "is revoked" in run("endpoints", "rotate-secret", endpoint, "--overlap", "0").stdout


def test_the_replay_command_waits_until_the_replay_is_done(
    server: Server, run: Run, endpoint: str, receiver: RawServer
) -> None:
    enroll(server)
    done = run("endpoints", "replay", endpoint, "--since", BEFORE_ALL_EVENTS, "--status", "succeeded,missing").stdout
    assert done.endswith("is done: 1 events examined, 1 deliveries made due\n")
    receiver.wait_for(2)
    started = run(
        "endpoints", "replay", endpoint, "--since", BEFORE_ALL_EVENTS, "--types", "points.earned", "--no-wait"
    ).stdout
    assert started.startswith("rpl_")


def test_a_refused_call_prints_the_text_of_the_server_and_exits_with_1(run: Run, server: Server) -> None:
    assert "There is no delivery" in run("deliveries", "show", "dlv_" + "0" * 36, code=1).stderr
    assert "is not an event type" in run("endpoints", "add", "https://localhost:1/", "--events", "x", code=1).stderr
    here = f"http://127.0.0.1:{server.port}"
    for arguments, expected in (
        (("--api-key", "lp_wrong_wrong_wrong", "--server", here), "unknown or revoked"),
        (("--api-key", "", "--server", here), "LOYALPRO_API_KEY"),
        (("--api-key", API_KEY, "--server", "http://127.0.0.1:1"), "does not answer"),
        (("--api-key", API_KEY, "--server", "localhost"), "takes the address"),
    ):
        assert expected in run("events", "list", *arguments, code=1).stderr


@pytest.mark.parametrize("noun", ["events", "deliveries", "endpoints", "accounts", "keys"])
def test_the_help_of_every_command_has_an_example(run: Run, noun: str) -> None:
    listed = re.findall(r"^│ ([a-z-]+) ", run(noun, "--help").stdout.partition("Commands")[2], re.MULTILINE)
    assert len(listed) >= 2
    for command in listed:
        assert f"loyalpro {noun} {command}" in run(noun, command, "--help").stdout
