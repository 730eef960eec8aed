"""`loyalpro demo`, as `make run` starts it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loyalpro.cli.api_client import ApiClient
from support.browser import Browser, Listening

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


def test_a_demo_says_what_it_starts_and_prints_each_delivery(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        until(process, rf"^Starting .*{tmp_path / 'demo'}")
        until(process, r"LoyalPro is running at http://127\.0\.0\.1:\d+")
        until(process, r"API key +lp_demo_\w+")
        until(process, r"verified +points\.earned")


def test_the_owner_of_a_demo_opens_the_dashboard(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        port = int(until(process, r"dashboard +http://127\.0\.0\.1:(\d+)$")[1])
        email, password = until(process, r"e-mail +(\S+)$")[1], until(process, r"password +(\S+)$")[1]
        until(process, r"verified +points\.earned")
        browser = Browser(Listening(port))
        browser.open("/sign-in")
        browser.send("/sign-in", email=email, password=password)
        assert (browser.status, browser.path) == (200, "/developers/webhooks")
        assert "demo receiver" in browser.text


def test_a_second_demo_in_the_same_folder_is_refused_and_the_first_continues(tmp_path: Path) -> None:
    with demo(tmp_path) as first:
        client = ApiClient(until(first, r"running at (\S+)")[1], (tmp_path / "demo" / "api-key").read_text())
        until(first, r"verified +points\.earned")
        endpoints = client.call("GET", "/v1/webhook_endpoints")["data"]
        authority = (tmp_path / "demo" / "ca.pem").read_bytes()
        assert re.search("Another LoyalPro .* LOYALPRO_DATA_DIR", refused(tmp_path))
        assert client.call("GET", "/v1/webhook_endpoints")["data"] == endpoints
        assert (tmp_path / "demo" / "ca.pem").read_bytes() == authority
        client.close()


def test_a_demo_whose_port_is_taken_names_the_variable(tmp_path: Path) -> None:
    with demo(tmp_path / "first") as first:
        port = int(until(first, r"running at http://127\.0\.0\.1:(\d+)")[1])
        assert re.search("Cannot listen on .* LOYALPRO_PORT", refused(tmp_path / "second", port))


def refused(folder: Path, port: int = 0) -> str:
    """The error output of a demo that cannot start."""
    with demo(folder, port) as process:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 1
        return errors
