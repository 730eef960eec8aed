"""`make simulate` runs many seeds and writes bench/SIMULATION.md; `make mutants` checks that mistakes are detected."""

import argparse
import contextlib
import os
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from simulation import mutants
from simulation.many import Detection, Tally, detections, tallies
from simulation.pages import CommandRun, mutants_page, rows, simulation_page, with_seeds

_BENCH = Path(__file__).parent.parent / "bench"
_MOST_EXAMPLES = 5


def main() -> int:
    """Returns 1 if a promise was broken or a mutant was not detected. Ctrl-C stops early and reports the seeds that are done."""
    options = _options()
    console = Console()
    if options.mutants:
        return _find_mutants(options, console)
    return _run_seeds(options, console)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument(
        "--seeds", type=int, default=5_000, help="how many seeds to run, or to try at most with each mutant"
    )
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--mutants", action="store_true", help="for each mutant, find the first seed that detects it")
    parser.add_argument("--no-write", action="store_true", help="print only")
    return parser.parse_args()


def _run_seeds(options: argparse.Namespace, console: Console) -> int:
    began_s, total = time.monotonic(), Tally()
    seeds = range(options.first, options.first + options.seeds)
    with (
        _progress(console) as progress,
        contextlib.suppress(KeyboardInterrupt),
        contextlib.closing(tallies(seeds)) as each,
    ):
        task = progress.add_task("seeds", total=options.seeds)
        for tally in each:
            total.add(tally)
            progress.advance(task, tally.seeds)
            _print_broken(tally, console)
    run = _command_run("simulate", began_s)
    for name, value in rows(total, run):
        console.print(f"{name:67}{value:>13}", highlight=False)
    if not options.no_write:
        (_BENCH / "SIMULATION.md").write_text(simulation_page(total, run))
    return int(bool(total.broken))


def _print_broken(tally: Tally, console: Console) -> None:
    for seed, found in tally.broken.items():
        console.print(f"seed {seed}", style="bold red")
        for violation in found[:_MOST_EXAMPLES]:
            console.print(f"  {violation}", style="red", markup=False, soft_wrap=True)


def _find_mutants(options: argparse.Namespace, console: Console) -> int:
    began_s, found = time.monotonic(), list[Detection]()
    with _progress(console) as progress:
        task = progress.add_task("mutants", total=len(mutants.MUTANTS))
        for detection in detections(mutants.MUTANTS, options.seeds):
            found.append(detection)
            progress.advance(task)
            console.print(
                f"{detection.mutant.name}: {detection.violation or 'NOT DETECTED'}"[:160], markup=False, highlight=False
            )
    found.sort(key=lambda each: mutants.MUTANTS.index(each.mutant))
    if not options.no_write:
        (_BENCH / "MUTANTS.md").write_text(mutants_page(found, _command_run("mutants", began_s), options.seeds))
        path = Path(mutants.__file__)
        path.write_text(with_seeds(path.read_text(), found))
    return int(any(each.seed is None for each in found))


def _command_run(target: str, began_s: float) -> CommandRun:
    given = " ".join(each for each in sys.argv[1:] if each != "--mutants")
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    command = f"make {target} ARGS='{given}'" if given else f"make {target}"
    return CommandRun(command, str(datetime.now(UTC).date()), machine, time.monotonic() - began_s)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)


if __name__ == "__main__":
    sys.exit(main())
