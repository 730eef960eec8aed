"""Plays one seed and checks it."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from simulation.checker import Books, fingerprint, statistics, violations
from simulation.database import RandomFaults, memory_folder, open_sqlite
from simulation.loop import VirtualLoop
from simulation.product import REAL, Product
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
    counted: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return "\n  ".join([f"seed {self.seed} ({self.profile.pace.name})", *self.violations])


def simulate(seed: int, product: Product = REAL) -> Report:
    """One run, from its seed."""
    profile = Profile.draw(seed)
    with memory_folder() as folder, logged() as logs, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        return _play(runner, loop, profile, product, folder, logs)


def _play(
    runner: asyncio.Runner, loop: VirtualLoop, profile: Profile, product: Product, folder: Path, logs: list[str]
) -> Report:
    faults = RandomFaults(
        seed=f"{profile.seed}/database",
        rates=profile.database_faults,
        longest_freeze_s=profile.longest_freeze_s,
        longest_latency_s=profile.longest_latency_s,
        outages=profile.database_outages,
        loop=loop,
    )
    database = open_sqlite(loop, folder, faults)
    try:
        world = World(loop, profile, product, database)
        runner.run(world.play())
        books = Books.of(world)
    finally:
        database.close()
    counted = world.counted + statistics(books)
    counted.update({f"db {kind}": count for kind, count in database.fired.items()})
    counted.update({f"net {answer}": count for answer, count in world.network.answered.items()})
    broken = [*world.failures, *logs, *violations(books)]
    return Report(profile.seed, profile, broken, fingerprint(books), loop.time(), counted)


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
