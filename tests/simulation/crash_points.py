"""Not by chance but one after the other: a small world in which exactly one call, or one step, goes wrong; the first, the
second, and so on until there is none left."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from simulation.database import Fault, FaultAt, NoFaults
from simulation.loop import Process, VirtualLoop
from simulation.network import Answer, Outage, Receiver
from simulation.profile import PACES, Profile
from simulation.run import Report, play
from simulation.world import SECRET, TYPES, Order, World

KINDS = (
    Fault.CRASH_BEFORE,
    Fault.CRASH_AFTER,
    Fault.UNAVAILABLE,
    Fault.ANSWER_LOST,
    Fault.LATE_COMMIT,
    Fault.FREEZE_BEFORE,
    Fault.FREEZE_AFTER,
)
_FREEZES = (Fault.FREEZE_BEFORE, Fault.FREEZE_AFTER)
_PACE = replace(PACES[0], poll_s=10.0, lease_ttl_s=20.0)
_PAUSES_S = {Fault.ANSWER_LOST: 12.0, Fault.LATE_COMMIT: 5.0, Fault.FREEZE_BEFORE: 45.0, Fault.FREEZE_AFTER: 45.0}
"""A lost answer is noticed when the retry is due already; a commit comes late while the lease still holds; whoever stands
still for two leases has lost what it held."""


def run_with(kind: Fault, number: int) -> Report | None:
    """The world in which call `number` has this fault; None when there are not so many calls."""
    fault = FaultAt(number, kind, _PAUSES_S.get(kind, 0.0))
    report = play(_profile(processes=2 if kind in _FREEZES else 1), lambda _: fault, world=SmallWorld)
    return report if fault.fired else None


def run_killed_at(step: int) -> Report | None:
    """The world in which the process is killed at this step of its sending; None when there are not so many."""
    killed: list[Process] = []

    class KilledWorld(SmallWorld):
        def on_step(self, process: Process) -> None:
            self.counted["steps"] += self.sends(process)
            if self.counted["steps"] == step:
                killed.append(process)
                self.loop.on_step = None
                process.kill()

        async def play(self) -> None:
            self.loop.on_step = self.on_step
            await super().play()

    report = play(_profile(processes=1), _slowly, world=KilledWorld)
    return report if killed else None


def every(kind: Fault | None, first: int = 1, stride: int = 1) -> Iterator[tuple[int, Report]]:
    """All runs of a kind, or every so many; None is the kill at each step of sending."""
    number = first
    while (report := run_killed_at(number) if kind is None else run_with(kind, number)) is not None:
        yield number, report
        number += stride


class SmallWorld(World):
    """Three events of one customer; one endpoint wants them in order, and gives a bad answer to the first request."""

    def _found(self) -> None:
        account_id = self._open_account()
        for number, ordering in enumerate(("none", "customer")):
            bad = [Outage(0.0, 2.0, Answer.SERVER_ERROR)] if ordering == "customer" else []
            receiver = Receiver(f"https://receiver-{number}.test/hook", SECRET, self._chance(ordering), outages=bad)
            self._add_endpoint(receiver, account_id=account_id, ordering=ordering)
        for number, at_s in enumerate((0.0, 0.0, 3.0)):
            self.orders.append(Order(f"order-{number}", at_s, account_id, "cus_1", next(iter(TYPES))))

    def sends(self, process: Process) -> bool:
        """Whether a process has something on its way."""
        return any(server.process is process and server.engine.in_flight for server in self._servers.values())


class _Slow(NoFaults):
    def latency_s(self) -> float:
        return 0.001


def _slowly(_: VirtualLoop) -> NoFaults:
    return _Slow()


def _profile(*, processes: int) -> Profile:
    return Profile(
        seed=0,
        pace=_PACE,
        processes=processes,
        accounts=1,
        endpoints=2,
        customers=1,
        events=3,
        span_s=3.0,
        heal_s=30.0,
        skew_ms=0,
        database_faults={},
        database_outages=(),
        longest_freeze_s=0.0,
        longest_latency_s=0.0,
        crash_every_s=None,
        freeze_every_s=None,
        stop_every_s=None,
        owner_every_s=None,
        noisy=0.0,
        out=0.0,
        gone=0.0,
        longest_retry_after_s=0,
        freeze_sending=0.0,
    )


def sums(reports: Iterator[tuple[int, Report]]) -> tuple[Counter[str], list[str]]:
    """What there was in all of them, and what was broken in any."""
    counted: Counter[str] = Counter()
    broken: list[str] = []
    for number, report in reports:
        counted += report.counted
        counted["runs"] += 1
        broken += [f"at {number}: {each}" for each in report.violations]
    return counted, broken
