"""The faults: each one breaks one thing, waits, and repairs it."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from chaos.client import Unknown
from chaos.journal import Journal, now_ms
from chaos.merchant import Enrollment
from chaos.product import Product, lives
from chaos.proxy import Proxy
from chaos.receiver import ReceiverProcess
from support.postgres import OwnCluster

_LONGEST_DELAY_S = 0.1
_CUT_WITHIN_S = 20
_NOTICED_S = 60
_SENDER_WITHIN_S = 60
_ENDED_WITHIN_S = 120
_POLL_S = 0.05


class Fault(Protocol):
    """Breaks one thing and repairs it. A fault that is impossible at the moment is not recorded."""

    def fire(self, journal: Journal) -> None:
        """Break, record, repair."""
        ...


@dataclass
class Kill:
    """`kill -9` of a random process; it is started again up to two seconds later."""

    products: Sequence[Product]
    rng: random.Random

    def fire(self, journal: Journal) -> None:
        victim = self.rng.choice(self.products)
        with victim.mutex:
            victim.wait_until_ready(journal)
            began = now_ms()
            victim.kill()
            journal.write("fault", began=began, name="kill", victim=victim.name)
            time.sleep(self.rng.uniform(0, 2))
            victim.start()
            victim.wait_until_ready(journal)
        journal.write("repaired", name="kill", victim=victim.name)


@dataclass
class Freeze:
    """SIGSTOP for longer than a lease or the timeout of a request, then SIGCONT."""

    products: Sequence[Product]
    rng: random.Random
    duration_s: float

    def fire(self, journal: Journal) -> None:
        victim = self.rng.choice(self.products)
        with victim.mutex:
            victim.wait_until_ready(journal)
            began = now_ms()
            victim.freeze()
            journal.write("fault", began=began, name="freeze", victim=victim.name)
            time.sleep(self.duration_s)
            victim.thaw()
            journal.write("repaired", name="freeze", victim=victim.name)


@dataclass
class BreakSender:
    """A signal to the sender process of a random server: it is killed, or stopped until its server detects that and replaces it.

    The server detects it by requests without result, so there must be something to send.
    """

    products: Sequence[Product]
    rng: random.Random
    name: str
    number: signal.Signals

    def fire(self, journal: Journal) -> None:
        victim = self.rng.choice(self.products)
        with victim.mutex:
            sender = _sender_of(victim, journal)
            if sender is None:
                return
            journal.write("fault", name=self.name, victim=victim.name)
            os.kill(sender, self.number)
            ended = _is_gone(sender, _ENDED_WITHIN_S)
        journal.write("repaired", name=self.name, victim=victim.name, effect=ended)


@dataclass
class RestartDatabase:
    """`pg_ctl -m immediate`: PostgreSQL ends without a checkpoint and recovers from its log."""

    cluster: OwnCluster
    rng: random.Random

    def fire(self, journal: Journal) -> None:
        journal.write("fault", name="restart")
        self.cluster.halt("immediate")
        time.sleep(self.rng.uniform(0, 3))
        self.cluster.launch()
        journal.write("repaired", name="restart")


@dataclass
class Cut:
    """A connection to PostgreSQL breaks right after a COMMIT, or inside a transaction."""

    proxies: Sequence[Proxy]
    rng: random.Random
    name: str

    def fire(self, journal: Journal) -> None:
        for proxy in self.rng.sample(self.proxies, len(self.proxies)):  # one of them may be idle
            cut = proxy.cut_after_commit if self.name == "cut after commit" else proxy.cut_in_transaction
            if cut(_CUT_WITHIN_S):
                journal.write("fault", name=self.name)
                journal.write("repaired", name=self.name)
                return


@dataclass
class Partition:
    """No byte passes between one process and PostgreSQL for longer than a lease; then all of them do."""

    proxies: Sequence[Proxy]
    rng: random.Random
    duration_s: float

    def fire(self, journal: Journal) -> None:
        proxy = self.rng.choice(self.proxies)
        journal.write("fault", name="partition")
        proxy.hold()
        time.sleep(self.duration_s)
        proxy.release()
        journal.write("repaired", name="partition")


@dataclass
class FillDisk:
    """The file system of the database is full for a time, and until a request has been refused for it."""

    folder: Path
    duration_s: float
    enrollment: Enrollment

    def fire(self, journal: Journal) -> None:
        filler = self.folder / "filler"
        journal.write("fault", name="full disk")
        began_s = time.monotonic()
        noticed = False
        with filler.open("wb", buffering=0) as file:
            while time.monotonic() < began_s + (self.duration_s if noticed else _NOTICED_S):
                _write_until_full(file)  # again and again, because the product frees space
                noticed = self._is_refused(journal) or noticed
        filler.unlink()
        self.enrollment.insist(journal)
        journal.write("repaired", name="full disk", effect=noticed)

    def _is_refused(self, journal: Journal) -> bool:
        try:
            self.enrollment.attempt(journal)
        except Unknown as unknown:
            return "disk_full" in str(unknown)
        return False


def _sender_of(victim: Product, journal: Journal) -> int | None:
    """The process id of the sender of a server. If it has ended, wait for the next one; None if there is none in time."""
    deadline_s = time.monotonic() + _SENDER_WITHIN_S
    while time.monotonic() < deadline_s:
        victim.wait_until_ready(journal)
        if found := victim.sender_processes():
            return found[0]
        time.sleep(_POLL_S)
    return None


def _is_gone(pid: int, within_s: float) -> bool:
    """Whether a process ends within this time."""
    deadline_s = time.monotonic() + within_s
    while lives(pid):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_POLL_S)
    return True


def _write_until_full(file: IO[bytes]) -> None:
    for size in (1 << 20, 1 << 12):
        with suppress(OSError):
            while file.write(bytes(size)):
                pass


@dataclass
class Outage:
    """An endpoint refuses connections for a while."""

    receiver: ReceiverProcess
    endpoint: str
    duration_s: float

    def fire(self, journal: Journal) -> None:
        journal.write("fault", name="outage", endpoint=self.endpoint)
        self.receiver.down(self.endpoint)
        time.sleep(self.duration_s)
        self.receiver.up(self.endpoint)
        journal.write("repaired", name="outage", endpoint=self.endpoint)


@dataclass
class Change:
    """Not a fault: a change by the merchant while faults happen."""

    name: str
    make: Callable[[], None]

    def fire(self, journal: Journal) -> None:
        self.make()
        journal.write("fault", name=self.name)
        journal.write("repaired", name=self.name)


class FaultSchedule(threading.Thread):
    """Fires faults one after the other, each when the progress of the run reaches its share."""

    def __init__(
        self, faults: Sequence[tuple[float, Fault]], progress: Callable[[], float], journal: Journal, seed: float
    ) -> None:
        super().__init__(daemon=True)
        self._faults = sorted(faults, key=lambda each: each[0])
        self._progress = progress
        self._journal = journal
        self._rng = random.Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        """Fire all faults, until `stop`. If one raises, it is recorded as missed and the next one is fired."""
        for at, fault in self._faults:
            while self._progress() < at:
                if self._over.wait(0.02):
                    return
            time.sleep(self._rng.uniform(0, _LONGEST_DELAY_S))
            try:
                fault.fire(self._journal)
            except Exception as error:  # noqa: BLE001 - recorded, so that the run counts as incomplete
                self._journal.write("missed", why=f"{type(error).__name__}: {error}")

    def stop(self) -> None:
        """Fire no more faults, and wait until the current one is repaired."""
        self._over.set()
        self.join()


def fault_times(asked: Mapping[str, int], rng: random.Random) -> list[tuple[float, str]]:
    """When each fault fires, as a share of the run: at random, but evenly spread."""
    found: list[tuple[float, str]] = []
    for name, count in asked.items():
        found += [((n + rng.random()) / count * 0.88 + 0.04, name) for n in range(count)]
    return found


class SmallDisk:
    """A small file system in memory, which `FillDisk` can fill. Only root can mount one."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "chaos", str(folder)], check=True)

    @staticmethod
    def is_possible() -> bool:
        """Whether this process may mount a file system."""
        return os.geteuid() == 0

    def remove(self) -> None:
        """Unmount."""
        subprocess.run(["umount", str(self.folder)], check=True)
        self.folder.rmdir()
