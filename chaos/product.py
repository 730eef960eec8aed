"""The processes under test: real `loyalpro` commands, started, killed, frozen and, when they fall, picked up again."""

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
    """One process. Whoever holds `mutex` may make it end; otherwise it ended by itself."""

    name: str
    command: str
    environment: dict[str, str]
    folder: Path
    port: int
    mutex: threading.RLock = field(default_factory=threading.RLock)

    def start(self) -> None:
        """Start it; what it prints goes on in the same file."""
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
        """Where it answers: a server everything, a worker how it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ended(self) -> int | None:
        """Its exit code, if it has ended."""
        return self._process.poll()

    @property
    def is_ready(self) -> bool:
        """Whether it says that it delivers and, if it is a server, accepts."""
        ready = _answers_200(f"{self.address}/readyz")
        self._was_ready = self._was_ready or ready
        return ready

    def wait_until_ready(self, journal: Journal) -> None:
        """Return when it is ready. One that gives up is started again: its database may be down."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            self._pick_up(journal)
            if self.is_ready:
                return
            time.sleep(_POLL_S)
        raise RuntimeError(f"{self.name} did not get ready; see {self.folder / self.name}.log")

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def couriers(self) -> list[int]:
        """The processes that it has started and that live: it sends in one of its own."""
        task = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [pid for pid in map(int, task.read_text().split()) if lives(pid)] if task.exists() else []

    def freeze(self) -> None:
        """Not one instruction more."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on as if nothing had been."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self, journal: Journal) -> None:
        """Ask it to end, and wait. It should end well."""
        if self.ended is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
        if self.ended not in {0, -signal.SIGTERM}:
            self._write_end(journal)

    def look_after(self, journal: Journal) -> None:
        """See whether it has got ready, and start it again if it has ended by itself."""
        if self.mutex.acquire(blocking=False):
            try:
                self._pick_up(journal)
                _ = self._was_ready or self.is_ready
            finally:
                self.mutex.release()

    def _pick_up(self, journal: Journal) -> None:
        if self.ended is not None:
            self._write_end(journal)
            self.start()

    def _write_end(self, journal: Journal) -> None:
        journal.write("ended", began=self._began_ms, product=self.name, exit_code=self.ended, was_ready=self._was_ready)


class Nurse(threading.Thread):
    """Looks after the processes, as an init system would."""

    def __init__(self, products: Sequence[Product], journal: Journal) -> None:
        super().__init__(daemon=True)
        self._products = products
        self._journal = journal
        self._over = threading.Event()

    def run(self) -> None:
        """Until told to stop."""
        while not self._over.wait(0.2):
            for product in self._products:
                product.look_after(self._journal)

    def stop(self) -> None:
        """Leave them alone."""
        self._over.set()
        self.join()


def lives(pid: int) -> bool:
    """Whether a process is there, and not only what its parent has not heard of yet."""
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
