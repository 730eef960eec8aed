"""`loyalpro serve` and `loyalpro worker` as processes, their logs, and requests to them."""

import http.client
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from support.waiting import until

_LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
os.execv(sys.argv[3], sys.argv[3:])
"""
KEY = "a key for tests of enough characters"


class Running:
    """A started command and the lines of its log."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def logged(self, event: str) -> dict[str, Any]:
        """The next log line of this event. Each line has to arrive within a minute of the previous one."""
        while (line := self._lines.get(timeout=60))["event"] != event:
            pass
        return line

    def limit(self) -> tuple[int, int]:
        """Its soft and its hard limit of open files."""
        return resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)

    def stop(self) -> None:
        """Stop it with SIGTERM, as an operator does, and check that it exits in order."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) in (0, -signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self._reader.join(30)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(json.loads(line))


@contextmanager
def running(command: str, *, files: tuple[int, int] | None = None, **settings: str) -> Iterator[Running]:
    """A command with these settings and these limits of open files, soft and hard."""
    environment = {f"LOYALPRO_{name.upper()}": value for name, value in settings.items()}
    program = [sys.executable, "-m", "loyalpro", command]
    with subprocess.Popen(
        [sys.executable, "-c", _LIMITED, *map(str, files), *program] if files else program,
        env=os.environ | environment | {"LOYALPRO_LOG_FORMAT": "json", "LOYALPRO_SECRET_KEY": KEY},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        started = Running(process)
        try:
            yield started
        finally:
            started.kill()


@dataclass(frozen=True)
class Answer:
    """An HTTP response. The names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The parsed body."""
        return json.loads(self.body)


def ask(address: str, method: str, path: str, body: object = None, **headers: str) -> Answer:
    """Send one request on a new connection, with a body in JSON if there is one."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, response.read())
    finally:
        connection.close()


def get(address: str, path: str, **headers: str) -> tuple[int, bytes]:
    """The status and the body of a `GET`."""
    answer = ask(address, "GET", path, **headers)
    return answer.status, answer.body


def until_ready(address: str, *, ready: bool = True) -> dict[str, Any]:
    """Ask `/readyz` until it says that the process is ready, or that it is not; its JSON."""
    found: dict[str, Any] = until(
        lambda: ask(address, "GET", "/readyz"), lambda answer: (answer.status == 200) == ready
    ).json
    return found
