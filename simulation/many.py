"""Runs many seeds on all cores: sums what they counted, collects broken promises, and finds the seed that detects a mutant.

There are two kinds of runs, each with mutants of its own: deliveries, and the loyalty program.
"""

import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from simulation.mutants import MUTANTS
from simulation.mutation import Mutant
from simulation.program_mutants import PROGRAM_MUTANTS
from simulation.program_run import simulate_program
from simulation.run import simulate

_CHUNK = 10


class Outcome(Protocol):
    """What a run of a seed reports."""

    @property
    def violations(self) -> list[str]:
        """Every broken promise."""
        ...

    @property
    def virtual_s(self) -> float:
        """How much time passed in the run."""
        ...

    @property
    def counted(self) -> Counter[str]:
        """How often something happened."""
        ...


@dataclass(frozen=True, slots=True)
class Suite:
    """One kind of runs: what a seed does, and the mutants that it has to detect."""

    simulate: Callable[[int], Outcome]
    mutants: Sequence[Mutant]


SUITES: Final[Mapping[str, Suite]] = {
    "deliveries": Suite(simulate, MUTANTS),
    "program": Suite(simulate_program, PROGRAM_MUTANTS),
}


@dataclass
class Tally:
    """The result of some seeds. `broken`: for each seed that broke promises, their descriptions."""

    seeds: int = 0
    virtual_s: float = 0.0
    counted: Counter[str] = field(default_factory=Counter)
    broken: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Add the results of other seeds."""
        self.seeds += other.seeds
        self.virtual_s += other.virtual_s
        self.counted += other.counted
        self.broken |= other.broken


@dataclass(frozen=True, slots=True)
class Detection:
    """The first seed that detected a mutant, and the promise that it broke; the seed is None if none detected it."""

    mutant: Mutant
    seed: int | None
    violation: str

    @property
    def check(self) -> str:
        """The name of the check that failed."""
        return self.violation.partition(":")[0]


def tallies(seeds: range, suite: str = "deliveries") -> Generator[Tally]:
    """Run these seeds, ten at a time; the results come in any order."""
    with _executor() as executor:
        chunks = [seeds[begin : begin + _CHUNK] for begin in range(0, len(seeds), _CHUNK)]
        for future in as_completed([executor.submit(_tally, chunk, suite) for chunk in chunks]):
            yield future.result()


def detections(mutants: Sequence[Mutant], most_seeds: int, suite: str = "deliveries") -> Iterator[Detection]:
    """The first of so many seeds that detects each of these mutants, in any order.

    Raises `LookupError` for a mutant of which a part has never run.
    """
    with _executor() as executor:
        known = SUITES[suite].mutants
        indexes = [known.index(each) for each in mutants]
        for future in as_completed([executor.submit(_detect, index, most_seeds, suite) for index in indexes]):
            index, seed, violation = future.result()
            yield Detection(known[index], seed, violation)


def broken_by(seed: int, suite: str = "deliveries") -> list[str]:
    """The promises that this seed breaks. A run that ends with an exception breaks the promise `stuck`."""
    tally = Tally()
    _run_seed(seed, tally, suite)
    return tally.broken.get(seed, [])


@contextmanager
def _executor() -> Iterator[Executor]:
    """A process for each core. Leaving cancels what has not begun."""
    executor = ProcessPoolExecutor(os.cpu_count(), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _tally(seeds: range, suite: str) -> Tally:
    tally = Tally()
    for seed in seeds:
        _run_seed(seed, tally, suite)
    return tally


def _run_seed(seed: int, tally: Tally, suite: str) -> None:
    tally.seeds += 1
    try:
        report = SUITES[suite].simulate(seed)
    except Exception:  # noqa: BLE001 - reported with its seed, like a broken promise
        tally.broken[seed] = [f"stuck: {traceback.format_exc()}"]
        return
    tally.virtual_s += report.virtual_s
    tally.counted += report.counted
    if report.violations:
        tally.broken[seed] = report.violations


def _detect(index: int, most_seeds: int, suite: str) -> tuple[int, int | None, str]:
    mutant = SUITES[suite].mutants[index]
    with mutant.in_place():
        for seed in range(most_seeds):
            if broken := broken_by(seed, suite):
                return index, seed, broken[0]
    if unused := mutant.unused():
        raise LookupError(f"{mutant.name}: no process runs {unused}, so the mistake is not in the product")
    return index, None, ""
