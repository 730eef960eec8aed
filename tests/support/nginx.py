"""A real nginx for tests: HTTP/2 over TLS with its default limits."""

import os
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from support.debian import program
from support.postgres import free_port
from support.receivers import Authority

ANSWERS_200 = "return 200 '{}';"
_STARTS_WITHIN_S = 20.0
_CONFIGURATION = """
daemon off;
{user}
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    {http}
    server {{
        listen 127.0.0.1:{port} ssl{http2} backlog=1024;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        location / {{ {location} }}
    }}
}}
"""


class Nginx:
    """A running nginx. `location` is what it does with a request; `http` are more directives, for example a limit.

    Its limits are the defaults: 1,000 requests on a connection, 128 streams at once, 75 seconds for an idle connection.
    """

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        location: str = ANSWERS_200,
        *,
        http: str = "",
        http2: bool = True,
    ) -> None:
        self._folder = folder
        self._program = str(program("nginx", "nginx-light"))
        self.port = free_port()
        text = _CONFIGURATION.format(
            user="user root;" if os.geteuid() == 0 else "",  # its workers may otherwise not read the folder of a test
            http=http,
            port=self.port,
            http2=" http2" if http2 else "",
            certificate=authority.certificate_file(),
            location=location,
        )
        (folder / "nginx.conf").write_text(text)
        self._process = subprocess.Popen([self._program, *self._arguments()])
        self._wait_until_it_listens()

    @property
    def url(self) -> str:
        """The URL of a webhook path."""
        return f"https://localhost:{self.port}/hook"

    def reload(self) -> None:
        """Start new worker processes; the old ones end their connections as soon as they have answered."""
        command = [self._program, *self._arguments(), "-s", "reload"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """End it at once."""
        self._process.terminate()
        self._process.wait(20)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _arguments(self) -> list[str]:
        return ["-p", str(self._folder), "-c", "nginx.conf", "-e", "stderr"]

    def _wait_until_it_listens(self) -> None:
        deadline_s = time.monotonic() + _STARTS_WITHIN_S
        while self._process.poll() is None and time.monotonic() < deadline_s:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
        self._process.kill()
        raise AssertionError(f"nginx did not start: exit code {self._process.wait()}")
