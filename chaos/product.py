"""The processes under test: real `loyalpro` commands that are started, killed, frozen and restarted."""

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chaos.journal import Journal, now_ms

API_KEY = f"lp_chaos_{secrets.token_hex(16)}"
SECRET_KEY = secrets.token_hex(32)
_START_S = 120
_POLL_S = 0.05


@dataclass
class Product:
    """One process. A thread that ends it holds `mutex`; a process that ends while `mutex` is free has ended by itself."""

    name: str
    command: str
    environment: dict[str, str]
    folder: Path
    port: int
    mutex: threading.RLock = field(default_factory=threading.RLock)

    def start(self) -> None:
        """Start it. All starts write their output to one file."""
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "loyalpro", self.command],
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._began_ms = now_ms()
        self._was_ready = False

    @property
    def address(self) -> str:
        """The address of the API of a server, or of the health checks of a worker."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ended(self) -> int | None:
        """Its exit code, if it has ended."""
        return self._process.poll()

    @property
    def is_ready(self) -> bool:
        """Whether its readiness check succeeds."""
        ready = _answers_200(f"{self.address}/readyz")
        self._was_ready = self._was_ready or ready
        return ready

    def wait_until_ready(self, journal: Journal) -> None:
        """Wait until it is ready. If it ends before, it is started again, because its database may be down."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            self._restart_if_ended(journal)
            if self.is_ready:
                return
            time.sleep(_POLL_S)
        raise RuntimeError(f"{self.name} did not get ready; see {self.folder / self.name}.log")

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def sender_processes(self) -> list[int]:
        """The ids of its living child processes; it sends requests in one."""
        task = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [pid for pid in map(int, task.read_text().split()) if lives(pid)] if task.exists() else []

    def freeze(self) -> None:
        """Stop it with SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue it with SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self, journal: Journal) -> None:
        """End it with SIGTERM and wait. Another exit code than 0 is recorded."""
        if self.ended is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
        if self.ended not in {0, -signal.SIGTERM}:
            self._write_end(journal)

    def supervise(self, journal: Journal) -> None:
        """Note whether it is ready, and start it again if it has ended by itself."""
        if self.mutex.acquire(blocking=False):
            try:
                self._restart_if_ended(journal)
                _ = self._was_ready or self.is_ready
            finally:
                self.mutex.release()

    def _restart_if_ended(self, journal: Journal) -> None:
        if self.ended is not None:
            self._write_end(journal)
            self.start()

    def _write_end(self, journal: Journal) -> None:
        journal.write("ended", began=self._began_ms, product=self.name, exit_code=self.ended, was_ready=self._was_ready)


class Supervisor(threading.Thread):
    """Restarts processes that end by themselves, as an init system does."""

    def __init__(self, products: Sequence[Product], journal: Journal) -> None:
        super().__init__(daemon=True)
        self._products = products
        self._journal = journal
        self._over = threading.Event()

    def run(self) -> None:
        """Supervise until `stop`."""
        while not self._over.wait(0.2):
            for product in self._products:
                product.supervise(self._journal)

    def stop(self) -> None:
        """Stop the supervision."""
        self._over.set()
        self.join()


def lives(pid: int) -> bool:
    """Whether a process is alive; a zombie is not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def _answers_200(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
