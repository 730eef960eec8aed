"""Runs one seed and checks the result."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from simulation.checker import Evidence, fingerprint, statistics, violations
from simulation.database import Faults, RandomFaults, memory_folder, open_sqlite
from simulation.loop import VirtualLoop
from simulation.profile import Profile
from simulation.world import World


@dataclass
class Report:
    """The result of one run. `calls`: how many calls the database got."""

    seed: int
    profile: Profile
    violations: list[str]
    fingerprint: str
    virtual_s: float
    calls: int
    counted: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return "\n  ".join([f"seed {self.seed} ({self.profile.pace.name})", *self.violations])


def simulate(seed: int) -> Report:
    """The run of a seed."""
    profile = Profile.draw(seed)

    def faults(loop: VirtualLoop) -> Faults:
        return RandomFaults(
            seed=f"{seed}/database",
            rates=profile.database_faults,
            longest_freeze_s=profile.longest_freeze_s,
            longest_latency_s=profile.longest_latency_s,
            outages=profile.database_outages,
            loop=loop,
        )

    return run_profile(profile, faults)


def run_profile(
    profile: Profile,
    faults: Callable[[VirtualLoop], Faults],
    *,
    world: type[World] = World,
) -> Report:
    """One run, in a new database."""
    with memory_folder() as folder, logged() as logs, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        loop.set_exception_handler(lambda _, context: logs.append(f"logged: {context}"))
        database = open_sqlite(loop, folder, faults(loop))
        try:
            simulated = world(loop, profile, database)
            runner.run(simulated.run())
            evidence = Evidence.of(simulated)
        finally:
            database.close()
        return _report(simulated, evidence, logs)


def _report(world: World, evidence: Evidence, logs: list[str]) -> Report:
    database = world.database
    counted = world.counted + statistics(evidence)
    counted.update({f"db {kind}": count for kind, count in database.fired.items()})
    counted.update({f"net {behavior}": count for behavior, count in world.network.behaviors.items()})
    counted["db outage"] = len(world.profile.database_outages)
    counted["net outage"] = sum(len(subscriber.receiver.outages) for subscriber in world.subscribers)
    broken = [*world.failures, *logs, *violations(evidence)]
    return Report(
        world.profile.seed, world.profile, broken, fingerprint(evidence), world.loop.time(), database.calls, counted
    )


@contextmanager
def logged() -> Iterator[list[str]]:
    """Drop the product's log lines, except errors, which are collected: there should be none."""
    errors: list[str] = []

    def keep(_: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if method in ("error", "exception", "critical"):
            errors.append(f"logged: {event}")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep], cache_logger_on_first_use=False)
    try:
        yield errors
    finally:
        structlog.configure(**before)
