"""Runs one seed of the loyalty program and checks the result."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from simulation.database import Faults, RandomFaults, memory_folder, open_sqlite
from simulation.loop import VirtualLoop
from simulation.program import PROGRAM_LOCKS, ProgramWorld
from simulation.program_checker import ProgramEvidence, fingerprint, statistics, violations
from simulation.program_profile import ProgramProfile
from simulation.run import logged


@dataclass
class ProgramReport:
    """The result of one run. `calls`: how many calls the database got."""

    profile: ProgramProfile
    violations: list[str]
    fingerprint: str
    virtual_s: float
    calls: int
    counted: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return "\n  ".join([f"seed {self.profile.seed} ({self.profile.pace.name})", *self.violations])


def simulate_program(seed: int) -> ProgramReport:
    """The run of a seed."""
    profile = ProgramProfile.draw(seed)

    def faults(loop: VirtualLoop) -> Faults:
        return RandomFaults(
            seed=f"{seed}/program database",
            rates=profile.database_faults,
            longest_freeze_s=profile.longest_freeze_s,
            longest_latency_s=profile.longest_latency_s,
            outages=profile.database_outages,
            loop=loop,
        )

    return run_program(profile, faults)


def run_program(
    profile: ProgramProfile,
    faults: Callable[[VirtualLoop], Faults],
    *,
    world: type[ProgramWorld] = ProgramWorld,
) -> ProgramReport:
    """One run, in a new database."""
    with memory_folder() as folder, logged() as logs, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        loop.set_exception_handler(lambda _, context: logs.append(f"logged: {context}"))
        database = open_sqlite(loop, folder, faults(loop), PROGRAM_LOCKS)
        try:
            simulated = world(loop, profile, database)
            runner.run(simulated.run())
            evidence = ProgramEvidence.of(simulated)
            counted = simulated.counted + statistics(evidence)
            broken = [*simulated.failures, *logs, *violations(evidence)]
            digest = fingerprint(evidence)
        finally:
            database.close()
    counted.update({f"db {kind}": count for kind, count in database.fired.items()})
    counted["db outage"] = len(profile.database_outages)
    return ProgramReport(profile, broken, digest, loop.time(), database.calls, counted)
