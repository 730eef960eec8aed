"""What is broken, and how: each fault breaks one thing, waits, and mends it."""

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
from chaos.merchant import Enrolment
from chaos.product import Product, lives
from chaos.proxy import Proxy
from chaos.receiver import ReceiverProcess
from support.postgres import OwnCluster

_LONGEST_HESITATION_S = 0.1
_CUT_WITHIN_S = 20
_NOTICED_S = 60
_COURIER_WITHIN_S = 60
_ENDED_WITHIN_S = 120
_LOOK_S = 0.05


class Fault(Protocol):
    """Breaks something and mends it. What cannot be broken just now is not written down."""

    def fire(self, journal: Journal) -> None:
        """Break, write down, mend."""
        ...


@dataclass
class Kill:
    """`kill -9` of a random process, and a new one at once or a little later."""

    products: Sequence[Product]
    chance: random.Random

    def fire(self, journal: Journal) -> None:
        victim = self.chance.choice(self.products)
        with victim.mutex:
            victim.wait_until_ready(journal)
            began = now_ms()
            victim.kill()
            journal.write("fault", began=began, name="kill", victim=victim.name)
            time.sleep(self.chance.uniform(0, 2))
            victim.start()
            victim.wait_until_ready(journal)
        journal.write("mended", name="kill", victim=victim.name)


@dataclass
class Freeze:
    """SIGSTOP, longer than a lease or a request's time, then SIGCONT: it goes on as if nothing had been."""

    products: Sequence[Product]
    chance: random.Random
    for_s: float

    def fire(self, journal: Journal) -> None:
        victim = self.chance.choice(self.products)
        with victim.mutex:
            victim.wait_until_ready(journal)
            began = now_ms()
            victim.freeze()
            journal.write("fault", began=began, name="freeze", victim=victim.name)
            time.sleep(self.for_s)
            victim.thaw()
            journal.write("mended", name="freeze", victim=victim.name)


@dataclass
class BreakCourier:
    """The process in which one of them sends: killed, or stopped for good, which its server has to find out.

    It finds out by what it has given it to send, so there must be something.
    """

    products: Sequence[Product]
    chance: random.Random
    name: str
    number: signal.Signals

    def fire(self, journal: Journal) -> None:
        victim = self.chance.choice(self.products)
        with victim.mutex:
            courier = _courier_of(victim, journal)
            if courier is None:
                return
            journal.write("fault", name=self.name, victim=victim.name)
            os.kill(courier, self.number)
            gone = _is_gone(courier, _ENDED_WITHIN_S)
        journal.write("mended", name=self.name, victim=victim.name, effect=gone)


@dataclass
class RestartDatabase:
    """`pg_ctl -m immediate`: PostgreSQL falls, and recovers from its log."""

    cluster: OwnCluster
    chance: random.Random

    def fire(self, journal: Journal) -> None:
        journal.write("fault", name="restart")
        self.cluster.halt("immediate")
        time.sleep(self.chance.uniform(0, 3))
        self.cluster.launch()
        journal.write("mended", name="restart")


@dataclass
class Cut:
    """The line to PostgreSQL breaks right after a COMMIT, or in the middle of a transaction."""

    proxies: Sequence[Proxy]
    chance: random.Random
    name: str

    def fire(self, journal: Journal) -> None:
        for proxy in self.chance.sample(self.proxies, len(self.proxies)):  # nothing may pass through the first
            cut = proxy.cut_after_commit if self.name == "cut after commit" else proxy.cut_in_transaction
            if cut(_CUT_WITHIN_S):
                journal.write("fault", name=self.name)
                journal.write("mended", name=self.name)
                return


@dataclass
class Partition:
    """Nothing passes between one process and PostgreSQL, longer than a lease; then everything does."""

    proxies: Sequence[Proxy]
    chance: random.Random
    for_s: float

    def fire(self, journal: Journal) -> None:
        proxy = self.chance.choice(self.proxies)
        journal.write("fault", name="partition")
        proxy.hold()
        time.sleep(self.for_s)
        proxy.release()
        journal.write("mended", name="partition")


@dataclass
class FillDisk:
    """Not one byte is free on the file system of the database, for a while, and until somebody has noticed."""

    folder: Path
    for_s: float
    enrolment: Enrolment

    def fire(self, journal: Journal) -> None:
        ballast = self.folder / "ballast"
        journal.write("fault", name="full disk")
        began_s = time.monotonic()
        noticed = False
        with ballast.open("wb", buffering=0) as file:
            while time.monotonic() < began_s + (self.for_s if noticed else _NOTICED_S):
                _write_until_full(file)  # the product frees some now and then: that too
                noticed = self._is_refused(journal) or noticed
        ballast.unlink()
        self.enrolment.insist(journal)
        journal.write("mended", name="full disk", effect=noticed)

    def _is_refused(self, journal: Journal) -> bool:
        try:
            self.enrolment.attempt(journal)
        except Unknown as unknown:
            return "disk_full" in str(unknown)
        return False


def _courier_of(victim: Product, journal: Journal) -> int | None:
    """One that has ended is followed by another when there is something to send, and there will be."""
    deadline_s = time.monotonic() + _COURIER_WITHIN_S
    while time.monotonic() < deadline_s:
        victim.wait_until_ready(journal)
        if found := victim.couriers():
            return found[0]
        time.sleep(_LOOK_S)
    return None


def _is_gone(pid: int, within_s: float) -> bool:
    """Whether a process ends in time."""
    deadline_s = time.monotonic() + within_s
    while lives(pid):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_LOOK_S)
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
    for_s: float

    def fire(self, journal: Journal) -> None:
        journal.write("fault", name="outage", endpoint=self.endpoint)
        self.receiver.down(self.endpoint)
        time.sleep(self.for_s)
        self.receiver.up(self.endpoint)
        journal.write("mended", name="outage", endpoint=self.endpoint)


@dataclass
class Change:
    """Not a fault: something that the merchant does in the midst of them."""

    name: str
    make: Callable[[], None]

    def fire(self, journal: Journal) -> None:
        self.make()
        journal.write("fault", name=self.name)
        journal.write("mended", name=self.name)


class Lane(threading.Thread):
    """Fires its faults one after the other, each when the run has come that far."""

    def __init__(
        self, faults: Sequence[tuple[float, Fault]], progress: Callable[[], float], journal: Journal, seed: float
    ) -> None:
        super().__init__(daemon=True)
        self._faults = sorted(faults, key=lambda each: each[0])
        self._progress = progress
        self._journal = journal
        self._chance = random.Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        """All of them, or until told to stop. One that cannot be fired does not keep the others from it."""
        for moment, fault in self._faults:
            while self._progress() < moment:
                if self._over.wait(0.02):
                    return
            time.sleep(self._chance.uniform(0, _LONGEST_HESITATION_S))
            try:
                fault.fire(self._journal)
            except Exception as error:  # noqa: BLE001 - it is written down, and the run is not complete
                self._journal.write("missed", why=f"{type(error).__name__}: {error}")

    def stop(self) -> None:
        """No more; wait for the one that is being mended."""
        self._over.set()
        self.join()


def moments(asked: Mapping[str, int], chance: random.Random) -> list[tuple[float, str]]:
    """When each fault is to fire: at random, but spread over the run, so that they do not all fall into one second."""
    found: list[tuple[float, str]] = []
    for name, count in asked.items():
        found += [((n + chance.random()) / count * 0.88 + 0.04, name) for n in range(count)]
    return found


class SmallDisk:
    """A file system of a few bytes in memory, for a database that will find it full. Only root can mount one."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "chaos", str(folder)], check=True)

    @staticmethod
    def is_possible() -> bool:
        """Whether this process may mount."""
        return os.geteuid() == 0

    def remove(self) -> None:
        """Unmount."""
        subprocess.run(["umount", str(self.folder)], check=True)
        self.folder.rmdir()
