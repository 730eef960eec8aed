"""`make simulate` runs many seeds and writes a page for each suite; `make mutants` checks that mistakes are detected."""

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

from simulation import mutants, program_mutants
from simulation.many import SUITES, Detection, Tally, detections, tallies
from simulation.pages import CommandRun, mutants_page, program_page, program_rows, rows, simulation_page, with_seeds

_BENCH = Path(__file__).parent.parent / "bench"
_PAGES = {
    "deliveries": ("SIMULATION.md", rows, simulation_page),
    "program": ("PROGRAM_SIMULATION.md", program_rows, program_page),
}
_SOURCES = {"deliveries": mutants.__file__, "program": program_mutants.__file__}
_MOST_EXAMPLES = 5


def main() -> int:
    """Returns 1 if a promise was broken or a mutant was not detected. Ctrl-C stops early: it reports the seeds that are done, and writes no page."""
    options = _options()
    console = Console()
    if options.mutants:
        return _find_mutants(options, console)
    return max(_run_seeds(suite, options, console) for suite in options.only or SUITES)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument(
        "--seeds", type=int, default=5_000, help="how many seeds to run, or to try at most with each mutant"
    )
    parser.add_argument("--only", action="append", choices=list(SUITES), help="which runs; both kinds without it")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--mutants", action="store_true", help="for each mutant, find the first seed that detects it")
    parser.add_argument("--no-write", action="store_true", help="print only")
    return parser.parse_args()


def _run_seeds(suite: str, options: argparse.Namespace, console: Console) -> int:
    began_s, total = time.monotonic(), Tally()
    seeds = range(options.first, options.first + options.seeds)
    with (
        _progress(console) as progress,
        contextlib.suppress(KeyboardInterrupt),
        contextlib.closing(tallies(seeds, suite)) as each,
    ):
        task = progress.add_task(f"seeds of {suite}", total=options.seeds)
        for tally in each:
            total.add(tally)
            progress.advance(task, tally.seeds)
            _print_broken(tally, console)
    run = _command_run("simulate", began_s)
    file_name, table, page = _PAGES[suite]
    for name, value in table(total, run):
        console.print(f"{name:67}{value:>13}", highlight=False)
    if not options.no_write and total.seeds == options.seeds:
        (_BENCH / file_name).write_text(page(total, run))
    return int(bool(total.broken))


def _print_broken(tally: Tally, console: Console) -> None:
    for seed, found in tally.broken.items():
        console.print(f"seed {seed}", style="bold red")
        for violation in found[:_MOST_EXAMPLES]:
            console.print(f"  {violation}", style="red", markup=False, soft_wrap=True)


def _find_mutants(options: argparse.Namespace, console: Console) -> int:
    began_s, found = time.monotonic(), list[Detection]()
    for suite in options.only or SUITES:
        found += _find_in(suite, options, console)
    if not options.no_write:
        if not options.only:
            (_BENCH / "MUTANTS.md").write_text(mutants_page(found, _command_run("mutants", began_s), options.seeds))
        for path in map(Path, _SOURCES.values()):
            path.write_text(with_seeds(path.read_text(), found))
    return int(any(each.seed is None for each in found))


def _find_in(suite: str, options: argparse.Namespace, console: Console) -> list[Detection]:
    """The seeds that detect the mutants of a suite, in their order."""
    known, found = SUITES[suite].mutants, list[Detection]()
    with _progress(console) as progress:
        task = progress.add_task(f"mutants of {suite}", total=len(known))
        for detection in detections(known, options.seeds, suite):
            found.append(detection)
            progress.advance(task)
            console.print(
                f"{detection.mutant.name}: {detection.violation or 'NOT DETECTED'}"[:160], markup=False, highlight=False
            )
    return sorted(found, key=lambda each: known.index(each.mutant))


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
