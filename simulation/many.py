"""Many seeds on all cores: what there was in all of them, and what was broken in any; and which seed catches a mutant."""

import os
import signal
import traceback
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field

from simulation.mutants import MUTANTS
from simulation.mutation import Mutant
from simulation.run import simulate

_CHUNK = 10


@dataclass
class Tally:
    """What came of some seeds. `broken` has the broken promises of each seed that broke any."""

    seeds: int = 0
    virtual_s: float = 0.0
    counted: Counter[str] = field(default_factory=Counter)
    broken: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Count these, too."""
        self.seeds += other.seeds
        self.virtual_s += other.virtual_s
        self.counted += other.counted
        self.broken |= other.broken


@dataclass(frozen=True, slots=True)
class Catch:
    """The first seed that showed a mutant, and how; None when none of them did."""

    mutant: Mutant
    seed: int | None
    violation: str

    @property
    def check(self) -> str:
        """Which of the checks saw it."""
        return self.violation.partition(":")[0]


def tallies(seeds: range) -> Generator[Tally]:
    """All these seeds, a few at a time, in any order."""
    with _executor() as executor:
        chunks = [seeds[begin : begin + _CHUNK] for begin in range(0, len(seeds), _CHUNK)]
        for future in as_completed([executor.submit(_tally, chunk) for chunk in chunks]):
            yield future.result()


def catches(mutants: Sequence[Mutant], most_seeds: int) -> Iterator[Catch]:
    """The first of so many seeds that finds each of these mutants, in any order.

    Raises `LookupError` for a mutant of which a part has never run.
    """
    with _executor() as executor:
        indexes = [MUTANTS.index(each) for each in mutants]
        for future in as_completed([executor.submit(_catch, index, most_seeds) for index in indexes]):
            index, seed, violation = future.result()
            yield Catch(MUTANTS[index], seed, violation)


def broken_by(seed: int) -> list[str]:
    """The promises that this seed breaks; a simulation that breaks down itself has kept none."""
    tally = Tally()
    _play(seed, tally)
    return tally.broken.get(seed, [])


@contextmanager
def _executor() -> Iterator[Executor]:
    """Processes for all cores. Whoever has heard enough leaves: what has not begun then never does."""
    executor = ProcessPoolExecutor(os.cpu_count(), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def _tally(seeds: range) -> Tally:
    tally = Tally()
    for seed in seeds:
        _play(seed, tally)
    return tally


def _play(seed: int, tally: Tally) -> None:
    tally.seeds += 1
    try:
        report = simulate(seed)
    except Exception:  # noqa: BLE001 - told with its seed, like everything else that goes wrong
        tally.broken[seed] = [f"stuck: {traceback.format_exc()}"]
        return
    tally.virtual_s += report.virtual_s
    tally.counted += report.counted
    if report.violations:
        tally.broken[seed] = report.violations


def _catch(index: int, most_seeds: int) -> tuple[int, int | None, str]:
    mutant = MUTANTS[index]
    with mutant.in_place():
        for seed in range(most_seeds):
            if broken := broken_by(seed):
                return index, seed, broken[0]
    if unused := mutant.unused():
        raise LookupError(f"{mutant.name}: no process runs {unused}, so the mistake is not in the product")
    return index, None, ""
