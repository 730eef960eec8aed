"""`make bench`: measure, print the results, and write them into bench/RESULTS.md."""

import argparse
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from bench.attempts_behind import attempts_behind
from bench.depth import depth
from bench.first_import import first_import
from bench.growth import growth
from bench.hot_account import hot_account
from bench.ingest import ingest
from bench.isolation import isolation
from bench.kills import kills
from bench.large_program import large_program
from bench.latency import latency
from bench.measurement import QUICK, Measurement, Scale
from bench.memory import memory
from bench.outage import outage
from bench.results import Conditions, Outcome, section, updated
from bench.stage import Machine, Report, Stage
from bench.throughput import throughput
from bench.window import window

RESULTS = Path(__file__).parent / "RESULTS.md"
_STORES = ("sqlite", "postgres")
MEASUREMENTS = [
    Measurement("throughput", "Throughput", throughput),
    Measurement("latency", "Latency", latency),
    Measurement("isolation", "Isolation", isolation),
    Measurement("hot-account", "A hot account", hot_account),
    Measurement("depth", "Depth", depth),
    Measurement("growth", "Growth: a second worker", growth),
    Measurement("memory", "Growth: memory", memory, long=True),
    Measurement("attempts", "Growth: old attempts", attempts_behind),
    Measurement("kills", "Recovery: a killed worker", kills),
    Measurement("outage", "Recovery: an endpoint that was down", outage),
    Measurement("schedule", "Schedule", window),
    Measurement("ingest", "Ingestion alone", ingest),
    Measurement("import", "A first import", first_import, long=True),
    Measurement("program-sqlite", "A large program: SQLite", partial(large_program, store="sqlite"), long=True),
    Measurement("program-postgres", "A large program: PostgreSQL", partial(large_program, store="postgres"), long=True),
]


def main() -> int:
    """Measure everything, or the measurements that are named; 1 when one of them failed."""
    options = _options()
    _prepare_process()
    scale = _scale(options)
    conditions = Conditions.now()
    outcomes = _measure(chosen(options.only, quick=options.quick), options.stores.split(","), scale)
    new = {
        each.measurement.title: section(each, conditions, _repeated(options), small=scale.small)
        for each in outcomes
        if each.finding is not None
    }
    Console().print(Markdown("\n".join(new.values())))
    if output := _output(options):
        write(output, new)
    return int(any(each.finding is None for each in outcomes))


def chosen(only: str | None, *, quick: bool) -> list[Measurement]:
    """The measurements that `--only` names; without it all, except that a normal run leaves out the long ones."""
    if only:
        return [each for each in MEASUREMENTS if each.name in only.split(",")]
    return [each for each in MEASUREMENTS if quick or not each.long]


def write(page: Path, new: dict[str, str]) -> None:
    """Replace these sections of a page, by title; a measurement that failed keeps its old section."""
    text = page.read_text("utf-8") if page.exists() else ""
    page.write_text(updated(text, new, [each.title for each in MEASUREMENTS]), "utf-8")


def _prepare_process() -> None:
    """What child processes inherit: no settings of the caller, enough open files, compiled modules."""
    settings = [name for name in os.environ if name.startswith("LOYALPRO_") and "_TEST_" not in name]
    for name in [*settings, "PYTHONDONTWRITEBYTECODE"]:
        os.environ.pop(name, None)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _options() -> argparse.Namespace:
    names = ",".join(each.name for each in MEASUREMENTS)
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only", help=f"some of: {names} (default: all but memory, import and program-*, which take long)"
    )
    parser.add_argument("--stores", default=",".join(_STORES), help="one database only; writes no page (default: both)")
    parser.add_argument("--quick", action="store_true", help="everything small, to see that it works; writes no page")
    parser.add_argument("--memory-minutes", type=float, help="how long memory is watched (default: 60)")
    parser.add_argument("--rows", type=int, help="how many purchases the large program has (default: 1000000)")
    parser.add_argument(
        "--output", type=Path, help="the page in which sections are replaced (default: bench/RESULTS.md)"
    )
    options = parser.parse_args()
    unknown = set((options.only or names).split(",")) - set(names.split(","))
    unknown |= set(options.stores.split(",")) - set(_STORES)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    return options


def _scale(options: argparse.Namespace) -> Scale:
    scale = QUICK if options.quick else Scale()
    if options.memory_minutes:
        scale = replace(scale, memory_s=options.memory_minutes * 60)
    if options.rows:
        customers = max(1, options.rows * Scale.program_customers // Scale.program_purchases)
        scale = replace(scale, program_purchases=options.rows, program_customers=customers)
    return scale


def _repeated(options: argparse.Namespace) -> list[str]:
    """The options that change what a measurement does, for the command that repeats it."""
    stores = ["--stores", options.stores] if options.stores != ",".join(_STORES) else []
    minutes = ["--memory-minutes", f"{options.memory_minutes:g}"] if options.memory_minutes else []
    rows = ["--rows", str(options.rows)] if options.rows else []
    return [*stores, *(["--quick"] if options.quick else []), *minutes, *rows]


def _output(options: argparse.Namespace) -> Path | None:
    """The page to write. Without `--output`, a run on one database, or a small one, leaves the page as it is."""
    whole = set(options.stores.split(",")) == set(_STORES) and not options.quick
    page: Path | None = options.output or (RESULTS if whole else None)
    return page


def _measure(measurements: Sequence[Measurement], stores: list[str], scale: Scale) -> list[Outcome]:
    """One after the other. A failure or an interrupt keeps the results of the measurements before it."""
    outcomes: list[Outcome] = []
    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
    with Progress(*columns) as progress, Machine() as machine:
        task = progress.add_task("", total=len(measurements))
        for each in measurements:
            stage = Stage(machine, stores, _reporter(progress, task, f"{each.title}: ", len(outcomes)))
            outcomes.append(_outcome(each, stage, scale))
            progress.update(task, completed=len(outcomes))
            progress.console.print(_line(outcomes[-1]))
            if outcomes[-1].error == "interrupted":
                break
    return outcomes


def _reporter(progress: Progress, task: TaskID, prefix: str, done: int) -> Report:
    """Shows the progress of a measurement after so many others."""

    def report(text: str, share: float = 0.0) -> None:
        progress.update(task, description=prefix + text, completed=done + share)

    return report


def _outcome(measurement: Measurement, stage: Stage, scale: Scale) -> Outcome:
    began_s = time.monotonic()
    stage.report("preparing")
    try:
        with stage:
            finding = measurement.measure(stage, scale)
    except KeyboardInterrupt:
        return Outcome(measurement, time.monotonic() - began_s, None, "interrupted")
    except Exception as error:  # noqa: BLE001 - reported as the outcome of this measurement
        Console(stderr=True).print_exception()
        return Outcome(measurement, time.monotonic() - began_s, None, f"{type(error).__name__}: {_first_line(error)}")
    return Outcome(measurement, time.monotonic() - began_s, finding)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].replace("|", "/")


def _line(outcome: Outcome) -> str:
    measured = "; ".join(f"{each.what}: {each.measured}" for each in outcome.goals)
    return f"{outcome.measurement.title} ({outcome.took_s:.0f} s): {measured or 'done'}"
