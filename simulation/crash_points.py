"""Small runs in which exactly one database call, step or request fails: the first, then the second, until none is left."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import Context
from dataclasses import replace
from enum import StrEnum

from receivers.behavior import Behavior, random_points
from receivers.receiver import Outage
from simulation.database import Fault, FaultAt, NoFaults
from simulation.loop import PROCESS, Process, VirtualLoop
from simulation.network import Sent, SimulatedReceiver
from simulation.profile import PACES, Profile
from simulation.run import Report, play
from simulation.world import SECRET, TYPES, Order, World

FAULTS = (
    Fault.CRASH_BEFORE,
    Fault.CRASH_AFTER,
    Fault.UNAVAILABLE,
    Fault.COMMIT_LOST,
    Fault.ANSWER_LOST,
    Fault.LATE_COMMIT,
    Fault.FREEZE_BEFORE,
    Fault.FREEZE_AFTER,
)
BEHAVIORS = (Behavior.REFUSE, Behavior.SILENCE, Behavior.LOST_ACCEPT, Behavior.SILENT_ACCEPT, Behavior.GARBAGE)
"""What can become of a request that fails: the first two before it took effect, the next two after it."""
_FREEZES = (Fault.FREEZE_BEFORE, Fault.FREEZE_AFTER)
_PACE = replace(PACES[0], poll_s=10.0, lease_ttl_s=20.0)
_FREEZE_S = 45.0
_PAUSES_S = {
    Fault.COMMIT_LOST: 12.0,
    Fault.ANSWER_LOST: 12.0,
    Fault.LATE_COMMIT: 5.0,
    Fault.FREEZE_BEFORE: _FREEZE_S,
    Fault.FREEZE_AFTER: _FREEZE_S,
}
"""A lost answer is noticed when the retry is due already; a commit comes late while the lease still holds; whoever stands
still for two leases has lost what it held."""


class Deed(StrEnum):
    """What is done to a process: killed before or after what it is at has left it, made to stand still, or told to stop."""

    KILL_BEFORE = "kill_before"
    KILL_AFTER = "kill_after"
    FREEZE = "freeze"
    STOP = "stop"

    @property
    def processes(self) -> int:
        """For somebody who stands still there is another one to take over."""
        return 2 if self is Deed.FREEZE else 1

    def do(self, process: Process) -> None:
        if self is Deed.FREEZE:
            process.freeze(_FREEZE_S)
        else:
            process.kill()


def run_call(kind: Fault, number: int) -> Report | None:
    """The world in which call `number` has this fault; None when there are not so many calls."""
    fault = FaultAt(number, kind, _PAUSES_S.get(kind, 0.0))
    report = play(_profile(processes=2 if kind in _FREEZES else 1), lambda _: fault, world=SmallWorld)
    return report if fault.fired else None


def run_step(deed: Deed, number: int) -> Report | None:
    """The world in which a process is killed, or stands still, at this step; None when there are not so many."""
    worlds: list[SmallWorld] = []

    class StepWorld(SmallWorld):
        def on_step(self, process: Process) -> None:
            self.counted["steps"] += 1
            if self.counted["steps"] == number:
                self.loop.on_step = None
                if deed is Deed.STOP:
                    self.stop(process)
                else:
                    deed.do(process)

        async def play(self) -> None:
            worlds.append(self)
            self.loop.on_step = self.on_step
            await super().play()

    report = play(_profile(processes=deed.processes), _slowly, world=StepWorld)
    return report if worlds[0].counted["steps"] >= number else None


def run_send(deed: Deed | Behavior, number: int) -> Report | None:
    """The world in which request `number` has this fate; None when there are not so many requests."""

    class SendWorld(SmallWorld):
        def _saw(self, sent: Sent) -> None:
            super()._saw(sent)
            self.counted["sends"] += 1
            if self.counted["sends"] != number:
                return
            if isinstance(deed, Behavior):
                sent.forced = deed
            else:
                process = PROCESS.get()
                assert process is not None, "only processes send"
                sent.in_the_wire = deed is not Deed.KILL_BEFORE
                deed.do(process)

    processes = 1 if isinstance(deed, Behavior) else deed.processes
    report = play(_profile(processes=processes), _slowly, world=SendWorld)
    return report if report.counted["sends"] >= number else None


def every(run: Callable[[int], Report | None]) -> Iterator[tuple[int, Report]]:
    """All runs of a kind, until there is nothing left that could go wrong."""
    number = 1
    while (report := run(number)) is not None:
        yield number, report
        number += 1


class SmallWorld(World):
    """Three events of one customer; one endpoint wants them in order, and gives a bad answer to the first request."""

    def _found(self) -> None:
        account_id = self._open_account()
        for number, ordering in enumerate(("none", "customer")):
            bad = [Outage(0.0, 2.0, Behavior.SERVER_ERROR)] if ordering == "customer" else []
            rng = self._chance(ordering)
            receiver = SimulatedReceiver(
                url=f"https://receiver-{number}.test/hook",
                secret=SECRET,
                rng=rng,
                points=random_points(rng),
                outages=bad,
            )
            self._add_endpoint(receiver, account_id=account_id, ordering=ordering)
        for number, at_s in enumerate((0.0, 0.0, 3.0)):
            self.orders.append(Order(f"order-{number}", at_s, account_id, "cus_1", next(iter(TYPES))))

    def stop(self, process: Process) -> None:
        """SIGTERM, from outside."""
        for server in self._servers.values():
            if server.process is process:
                self._trouble.append(Context().run(self.loop.create_task, server.stop()))


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
