"""Plays one seed and checks it."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from simulation.checker import Books, fingerprint, statistics, violations
from simulation.database import Faults, RandomFaults, memory_folder, open_sqlite
from simulation.loop import VirtualLoop
from simulation.profile import Profile
from simulation.world import World


@dataclass
class Report:
    """What came of one run."""

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
    """One run, from its seed."""
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

    return play(profile, faults)


def play(
    profile: Profile,
    faults: Callable[[VirtualLoop], Faults],
    *,
    world: type[World] = World,
) -> Report:
    """One run, in a fresh database."""
    with memory_folder() as folder, logged() as logs, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        loop.set_exception_handler(lambda _, context: logs.append(f"logged: {context}"))
        database = open_sqlite(loop, folder, faults(loop))
        try:
            made = world(loop, profile, database)
            runner.run(made.play())
            books = Books.of(made)
        finally:
            database.close()
        return _report(made, books, logs)


def _report(world: World, books: Books, logs: list[str]) -> Report:
    database = world.database
    counted = world.counted + statistics(books)
    counted.update({f"db {kind}": count for kind, count in database.fired.items()})
    counted.update({f"net {behavior}": count for behavior, count in world.network.behaviors.items()})
    counted["db outage"] = len(world.profile.database_outages)
    counted["net outage"] = sum(len(subscriber.receiver.outages) for subscriber in world.subscribers)
    broken = [*world.failures, *logs, *violations(books)]
    return Report(
        world.profile.seed, world.profile, broken, fingerprint(books), world.loop.time(), database.calls, counted
    )


@contextmanager
def logged() -> Iterator[list[str]]:
    """Keep the product's logs off the terminal; what it calls an error is kept: there should be none."""
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
