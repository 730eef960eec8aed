"""`loyalpro demo`, as `make run` starts it."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loyalpro.cli.api_client import ApiClient
from loyalpro.cli.demo.history import NEWSLETTER, RECEIVER, WAREHOUSE
from loyalpro.cli.demo.week import DAYS
from loyalpro.kernel.clock import MS_PER_DAY
from support.browser import Browser, Listening
from support.doctor import found
from support.history import query

Demo = subprocess.Popen[str]


@contextmanager
def demo(folder: Path, port: int = 0) -> Iterator[Demo]:
    """A running demo, which is stopped as by Ctrl-C."""
    with subprocess.Popen(
        [sys.executable, "-m", "loyalpro", "demo", "--port", str(port)],
        env=os.environ | {"LOYALPRO_DATA_DIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def until(process: Demo, pattern: str) -> re.Match[str]:
    """The match in the next line of output that contains the pattern."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"the demo ended without printing {pattern}")


@dataclass(frozen=True)
class Made:
    """A demo that ran before: its folder, and what it printed."""

    folder: Path
    output: Sequence[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A demo that ran until the first delivery."""
    folder, output = tmp_path_factory.mktemp("made"), list[str]()
    with demo(folder) as process:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
            if "verified" in line:
                return Made(folder, output)
    raise AssertionError(f"no delivery arrived: {output}")


def test_a_demo_says_what_it_starts_and_prints_each_delivery(made: Made) -> None:
    text = "".join(made.output)
    assert re.search(rf"^Starting .*{made.folder / 'demo'}", text)
    assert re.search(r"LoyalPro is running at http://127\.0\.0\.1:\d+", text)
    assert re.search(r"API key +lp_demo_\w+", text)
    assert re.search(r"verified +(transaction\.completed|points\.earned)", text)


def test_the_past_is_what_a_server_would_have_stored(folder: Path) -> None:
    url = f"sqlite:///{folder / 'demo' / 'loyalpro.db'}"
    [(last,)] = query(url, "SELECT MAX(created_at) FROM events")
    assert found(url, last + MS_PER_DAY) == []
    assert {str(each) for (each,) in query(url, "SELECT DISTINCT type FROM events")} >= {
        *("customer.created", "customer.tier_changed", "fraud.detected", "points.adjusted", "points.earned"),
        *("points.redeemed", "transaction.completed", "transaction.refunded"),
    }
    [(first,)] = query(url, "SELECT MIN(created_at) FROM events")
    assert last - first > (DAYS - 1) * MS_PER_DAY
    assert {str(each) for (each,) in query(url, "SELECT DISTINCT status FROM fraud_cases")} == {
        "open",
        "false_positive",
    }
    failed = "SELECT endpoint_id FROM attempts JOIN deliveries ON id = delivery_id WHERE response_status = 503"
    assert names(url, failed) == {RECEIVER.name, NEWSLETTER.name}
    assert query(url, "SELECT 1 FROM attempts WHERE outcome <> 'succeeded' AND response_status <> 503") == []
    assert names(url, "SELECT endpoint_id FROM deliveries WHERE status = 'pending'") == {
        NEWSLETTER.name,
        WAREHOUSE.name,
    }
    recent = f"SELECT endpoint_id FROM deliveries WHERE status = 'succeeded' AND finished_at > {last - MS_PER_DAY}"
    assert names(url, recent) >= {RECEIVER.name, NEWSLETTER.name}


def names(url: str, endpoint_ids: str) -> set[str]:
    """The names of the endpoints that a statement selects."""
    return {str(name) for (name,) in query(url, f"SELECT description FROM endpoints WHERE id IN ({endpoint_ids})")}


@pytest.fixture
def folder(made: Made, tmp_path: Path) -> Path:
    """A copy of its folder."""
    return Path(shutil.copytree(made.folder, tmp_path / "copy"))


def test_a_demo_has_a_past_and_continues_it_in_later_runs(folder: Path) -> None:
    with demo(folder) as process:
        client = ApiClient(until(process, r"running at (\S+)")[1], (folder / "demo" / "api-key").read_text())
        until(process, r"verified +points\.earned")
        states = {each["description"]: each["health"]["state"] for each in endpoints_of(client)}
        assert states["demo receiver"] == "healthy"
        assert states["Newsletter"] in ("failing", "open")
        assert [each["status"] for each in endpoints_of(client) if each["description"] == "Data warehouse"] == [
            "paused"
        ]
        client.close()


def test_the_owner_of_a_demo_opens_the_dashboard(folder: Path) -> None:
    with demo(folder) as process:
        port = int(until(process, r"dashboard +http://127\.0\.0\.1:(\d+)$")[1])
        email, password = until(process, r"e-mail +(\S+)$")[1], until(process, r"password +(\S+)$")[1]
        until(process, r"verified +points\.earned")
        browser = Browser(Listening(port))
        browser.open("/sign-in")
        browser.send("/sign-in", email=email, password=password)
        assert (browser.status, browser.path) == (200, "/")
        assert "Newsletter" in browser.text


def test_a_second_demo_in_the_same_folder_is_refused_and_the_first_continues(folder: Path) -> None:
    with demo(folder) as first:
        client = ApiClient(until(first, r"running at (\S+)")[1], (folder / "demo" / "api-key").read_text())
        until(first, r"verified +points\.earned")
        known = ids_of(client)
        authority = (folder / "demo" / "ca.pem").read_bytes()
        assert re.search("Another LoyalPro .* LOYALPRO_DATA_DIR", refused(folder))
        assert ids_of(client) == known
        assert (folder / "demo" / "ca.pem").read_bytes() == authority
        client.close()


def test_a_demo_whose_port_is_taken_names_the_variable(folder: Path, made: Made) -> None:
    with demo(folder) as first:
        port = int(until(first, r"running at http://127\.0\.0\.1:(\d+)")[1])
        assert re.search("Cannot listen on .* LOYALPRO_PORT", refused(made.folder, port))


def endpoints_of(client: ApiClient) -> list[dict[str, Any]]:
    """The endpoints of the demo."""
    found: list[dict[str, Any]] = client.call("GET", "/v1/webhook_endpoints")["data"]
    return found


def ids_of(client: ApiClient) -> list[str]:
    """The ids of its endpoints."""
    return [each["id"] for each in endpoints_of(client)]


def refused(folder: Path, port: int = 0) -> str:
    """The error output of a demo that cannot start."""
    with demo(folder, port) as process:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        return errors
