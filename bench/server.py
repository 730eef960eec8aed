"""A real `loyalpro serve` in a process of its own, on either database."""

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from loyalpro.cli.api_client import ApiClient

API_KEY = f"lp_bench_{secrets.token_hex(16)}"
_START_S = 60


class Server:
    """Started when made; `client()` talks to it."""

    def __init__(self, database_url: str, ca_file: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        environment = os.environ | {
            "LOYALPRO_DATABASE_URL": database_url,
            "LOYALPRO_DATA_DIR": str(folder),
            "LOYALPRO_PORT": str(port),
            "LOYALPRO_SECRET_KEY": secrets.token_hex(32),
            "LOYALPRO_BOOTSTRAP_API_KEY": API_KEY,
            "LOYALPRO_EGRESS_ALLOW": "127.0.0.0/8,::1/128",
            "LOYALPRO_EGRESS_CA_FILE": ca_file,
        }
        self._log = (folder / "server.log").open("wb")
        self._process = subprocess.Popen([sys.executable, "-m", "loyalpro", "serve"], env=environment, stderr=self._log)
        self._wait_until_ready()

    def client(self) -> ApiClient:
        """A connection of its own."""
        return ApiClient(self.address, API_KEY, timeout_s=120)

    def cpu_s(self) -> float:
        """CPU seconds that the process has used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Stop gracefully."""
        self._process.terminate()
        self._process.wait(30)
        self._log.close()

    def _wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + _START_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.address}/readyz", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"the server did not start; see {self._log.name}")
