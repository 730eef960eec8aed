"""Small runs in which exactly one database call, step or request fails: the first, then the second, until none is left."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import Context
from dataclasses import replace
from enum import StrEnum
from typing import TypeVar

from receivers.behavior import Behavior, random_points
from receivers.receiver import Outage
from simulation.database import Fault, FaultAt, NoFaults
from simulation.loop import PROCESS, Process, VirtualLoop
from simulation.network import Sent, SimulatedReceiver
from simulation.profile import PACES, Profile
from simulation.run import Report, run_profile
from simulation.world import SECRET, TYPES, Order, World

T = TypeVar("T")
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
"""How a request can fail: in the first two cases before it took effect, in the next two after it."""
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
"""A lost answer is detected when the retry is due already. A late commit comes while the lease holds. A process that is frozen
for longer than two leases has lost its leases."""


class ProcessFault(StrEnum):
    """What happens to a process: killed before or after its current request is sent, frozen, or stopped with SIGTERM."""

    KILL_BEFORE = "kill_before"
    KILL_AFTER = "kill_after"
    FREEZE = "freeze"
    STOP = "stop"

    @property
    def processes(self) -> int:
        """How many processes run: with a frozen one there is another to take over its deliveries."""
        return 2 if self is ProcessFault.FREEZE else 1

    def do(self, process: Process) -> None:
        if self is ProcessFault.FREEZE:
            process.freeze(_FREEZE_S)
        else:
            process.kill()


def run_call(kind: Fault, number: int) -> Report | None:
    """The run in which call `number` has this fault; None if there are fewer calls."""
    fault = FaultAt(number, kind, _PAUSES_S.get(kind, 0.0))
    report = run_profile(_profile(processes=2 if kind in _FREEZES else 1), lambda _: fault, world=SmallWorld)
    return report if fault.fired else None


def run_step(fault: ProcessFault, number: int) -> Report | None:
    """The run in which a process has this fault at step `number`; None if there are fewer steps."""
    worlds: list[SmallWorld] = []

    class StepWorld(SmallWorld):
        def on_step(self, process: Process) -> None:
            self.counted["steps"] += 1
            if self.counted["steps"] == number:
                self.loop.on_step = None
                if fault is ProcessFault.STOP:
                    self.stop(process)
                else:
                    fault.do(process)

        async def run(self) -> None:
            worlds.append(self)
            self.loop.on_step = self.on_step
            await super().run()

    report = run_profile(_profile(processes=fault.processes), _slowly, world=StepWorld)
    return report if worlds[0].counted["steps"] >= number else None


def run_send(fault: ProcessFault | Behavior, number: int) -> Report | None:
    """The run in which this happens to request `number`, or its process; None if there are fewer requests."""

    class SendWorld(SmallWorld):
        def _on_sent(self, sent: Sent) -> None:
            super()._on_sent(sent)
            self.counted["sends"] += 1
            if self.counted["sends"] != number:
                return
            if isinstance(fault, Behavior):
                sent.forced = fault
            else:
                process = PROCESS.get()
                assert process is not None, "only processes send"
                sent.in_the_wire = fault is not ProcessFault.KILL_BEFORE
                fault.do(process)

    processes = 1 if isinstance(fault, Behavior) else fault.processes
    report = run_profile(_profile(processes=processes), _slowly, world=SendWorld)
    return report if report.counted["sends"] >= number else None


def numbered(run: Callable[[int], T | None]) -> Iterator[tuple[int, T]]:
    """The runs with the numbers 1, 2, 3 ... until there is none."""
    number = 1
    while (report := run(number)) is not None:
        yield number, report
        number += 1


class SmallWorld(World):
    """Three events of one customer, and two endpoints; the ordered one answers the first requests with 500."""

    def _create(self) -> None:
        account_id = self._open_account()
        for number, ordering in enumerate(("none", "customer")):
            bad = [Outage(0.0, 2.0, Behavior.SERVER_ERROR)] if ordering == "customer" else []
            rng = self._rng(ordering)
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
        """Send SIGTERM to a process."""
        for server in self._servers.values():
            if server.process is process:
                self._fault_tasks.append(Context().run(self.loop.create_task, server.stop()))


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
        highest_error_share=0.0,
        outage_probability=0.0,
        gone_share=0.0,
        longest_retry_after_s=0,
        freeze_at_send=0.0,
        ended_connections=0.0,
    )


def sums(reports: Iterator[tuple[int, Report]]) -> tuple[Counter[str], list[str]]:
    """The sums of all counts, and all broken promises."""
    counted: Counter[str] = Counter()
    broken: list[str] = []
    for number, report in reports:
        counted += report.counted
        counted["runs"] += 1
        broken += [f"at {number}: {each}" for each in report.violations]
    return counted, broken
