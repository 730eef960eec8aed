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

from chaos.journal import Journal

API_KEY = f"lp_chaos_{secrets.token_hex(16)}"
SECRET_KEY = secrets.token_hex(32)
_START_S = 60
_POLL_S = 0.05
_NEWBORN_S = 3
"""A worker has no address to ask: one that lives so long has started."""


@dataclass
class Product:
    """One process. Whoever holds `mutex` may make it end; otherwise an end is a fault of its own."""

    name: str
    command: str
    environment: dict[str, str]
    folder: Path
    port: int | None = None
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
        self._began_s = time.monotonic()
        self._was_ready = False

    @property
    def address(self) -> str:
        """Where its API is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ended(self) -> int | None:
        """Its exit code, if it has ended."""
        return self._process.poll()

    @property
    def is_ready(self) -> bool:
        """Whether it accepts and delivers, as far as one can tell from outside."""
        if self.port is None:
            ready = self.ended is None and time.monotonic() - self._began_s > _NEWBORN_S
        else:
            ready = _answers_200(f"{self.address}/readyz")
        self._was_ready = self._was_ready or ready
        return ready

    def wait_until_ready(self) -> None:
        """Return when it is ready. One that gives up is started again: its database may be down."""
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self.ended is not None:
                self.start()
            if self.is_ready:
                return
            time.sleep(_POLL_S)
        raise RuntimeError(f"{self.name} did not get ready; see {self.folder / self.name}.log")

    def kill(self) -> None:
        """End it as a power cut would."""
        self._process.kill()
        self._process.wait()

    def couriers(self) -> list[int]:
        """The processes that it has started: it sends in one of its own."""
        task = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(pid) for pid in task.read_text().split()] if task.exists() else []

    def freeze(self) -> None:
        """Not one instruction more."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on as if nothing had been."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """Ask it to end, and wait; its exit code."""
        if self.ended is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._process.returncode

    def revive(self, journal: Journal) -> None:
        """Start it again if it has fallen by itself, and write that down, unless it never got up."""
        if self.mutex.acquire(blocking=False):
            try:
                if self.ended is not None:
                    if self._was_ready:
                        journal.write("fell", product=self.name, exit_code=self.ended)
                    self.start()
                elif not self._was_ready:
                    _ = self.is_ready
            finally:
                self.mutex.release()


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
                product.revive(self._journal)

    def stop(self) -> None:
        """Leave them alone."""
        self._over.set()
        self.join()


def _answers_200(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
