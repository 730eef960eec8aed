"""Real `loyalpro` processes, on either database."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loyalpro.cli.api_client import ApiClient

API_KEY = f"lp_bench_{secrets.token_hex(16)}"
SECRET_KEY = secrets.token_hex(32)
_START_S = 60
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Process:
    """`loyalpro serve` or `loyalpro worker`. `command`: a module with its arguments."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command], env=os.environ | environment, stderr=stderr
            )
        self.pid = self._process.pid

    def cpu_s(self) -> float:
        """CPU seconds that the process and its children have used so far."""
        return cpu_s(self.pid)

    def cpu_parts(self) -> dict[str, float]:
        """CPU seconds of the event loop, of the threads that talk to the database, and of the sender process."""
        loop_s = _stat_s(Path(f"/proc/{self.pid}/task/{self.pid}/stat"))
        own_s = sum(_stat_s(task / "stat") for task in Path(f"/proc/{self.pid}/task").iterdir())
        return {"event loop": loop_s, "database threads": own_s - loop_s, "sender process": self.cpu_s() - own_s}

    def memory_mb(self) -> float:
        """Its resident memory in MB."""
        line = next(each for each in Path(f"/proc/{self.pid}/status").read_text().splitlines() if "VmRSS" in each)
        return int(line.split()[1]) / 1_024

    def suspend(self) -> None:
        """Stop the process with SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        """End the process with SIGTERM, which lets it finish the deliveries under way."""
        self._process.terminate()
        self._process.wait(30)

    def kill(self) -> None:
        """End the process with SIGKILL."""
        self._process.kill()
        self._process.wait(30)

    def _started(self) -> bool:
        raise NotImplementedError

    def _wait_until_started(self) -> None:
        deadline_s = time.monotonic() + _START_S
        while not self._started():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.kill()
                raise RuntimeError(f"a process did not start: {self._log.read_text()[-2_000:]}")
            time.sleep(0.02)


class Server(Process):
    """A `loyalpro serve`; the constructor returns when it is ready. Raises RuntimeError when it does not start.

    `clock_ahead_ms`: how far its clock is ahead of the machine's.
    """

    def __init__(self, environment: Mapping[str, str], log: Path, clock_ahead_ms: int = 0) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        command = ("bench.clock_ahead", str(clock_ahead_ms)) if clock_ahead_ms else ("loyalpro", "serve")
        super().__init__(command, {**environment, "LOYALPRO_PORT": str(port)}, log)
        self._wait_until_started()

    def client(self, api_key: str = API_KEY) -> ApiClient:
        """A client with a connection of its own."""
        return ApiClient(self.address, api_key, timeout_s=120)

    def in_flight(self) -> int:
        """The number of deliveries under way."""
        with urllib.request.urlopen(f"{self.address}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return int(float(next(each for each in lines if each.startswith("loyalpro_deliveries_in_flight ")).split()[1]))

    def _started(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class Worker(Process):
    """A `loyalpro worker`; the constructor returns when it works. Raises RuntimeError when it does not start."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        super().__init__(("loyalpro", "worker"), environment, log)
        self._wait_until_started()

    def _started(self) -> bool:
        return b'"working"' in self._log.read_bytes()


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its status, what it printed, how long it took, and the most memory that it used."""

    status: int
    output: str
    took_s: float
    peak_mb: float


def run_command(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Finished:
    """Run a `loyalpro` command to its end."""
    began_s = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "loyalpro", *arguments],
            env=os.environ | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took_s = time.perf_counter() - began_s
    return Finished(process.returncode, log.read_text().strip(), took_s, usage.ru_maxrss / 1_024)


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and of all its children, also of those that have ended."""
    own = _stat_s(Path(f"/proc/{pid}/stat"), dead_children=True)
    children = [int(each) for task in Path(f"/proc/{pid}/task").iterdir() for each in _children(task)]
    return own + sum(map(cpu_s, children))


def _stat_s(stat: Path, *, dead_children: bool = False) -> float:
    fields = stat.read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if dead_children else 13])) / _TICKS_PER_S


def _children(task: Path) -> list[str]:
    try:
        return (task / "children").read_text().split()
    except FileNotFoundError:
        return []
