"""`make bench`: measure, print, and write bench/RESULTS.md."""

import argparse
import os
import resource
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench.attempts_behind import attempts_behind
from bench.depth import depth
from bench.growth import growth
from bench.hot_account import hot_account
from bench.ingest import ingest
from bench.isolation import isolation
from bench.kills import kills
from bench.latency import latency
from bench.measurement import FULL, QUICK, Measurement, Scale
from bench.memory import memory
from bench.outage import outage
from bench.results import Outcome, page
from bench.stage import Machine, Stage
from bench.throughput import throughput
from bench.window import window

_RESULTS = Path(__file__).parent / "RESULTS.md"
_STORES = ("sqlite", "postgres")
_MEASUREMENTS = [
    Measurement("throughput", "Throughput", throughput),
    Measurement("latency", "Latency", latency),
    Measurement("isolation", "Isolation", isolation),
    Measurement("hot-account", "A hot account", hot_account),
    Measurement("depth", "Depth", depth),
    Measurement("growth", "Growth: a second worker", growth),
    Measurement("memory", "Growth: memory", memory),
    Measurement("attempts", "Growth: old attempts", attempts_behind),
    Measurement("kills", "Recovery: a killed worker", kills),
    Measurement("outage", "Recovery: an endpoint that was away", outage),
    Measurement("schedule", "Schedule", window),
    Measurement("ingest", "Ingest alone", ingest),
]


def main() -> int:
    """Measure everything, or what is named; 1 when something could not be measured."""
    options = _options()
    _prepare_process()
    chosen = [each for each in _MEASUREMENTS if not options.only or each.name in options.only.split(",")]
    scale = _scale(options)
    outcomes = _measure(chosen, options.stores.split(","), scale)
    title = ", ".join(each.title for each in chosen) if options.only else "Results"
    text = page(title, outcomes, sys.argv[1:], small=scale.small)
    Console().print(Markdown(text))
    output = options.output or (_RESULTS if chosen == _MEASUREMENTS and not options.quick else None)
    if output:
        output.write_text(text)
    return int(any(each.finding is None for each in outcomes))


def _prepare_process() -> None:
    """What the processes that we start inherit: no settings of the caller's, enough open files, compiled modules."""
    ours = [name for name in os.environ if name.startswith("LOYALPRO_") and "_TEST_" not in name]
    for name in [*ours, "PYTHONDONTWRITEBYTECODE"]:
        os.environ.pop(name, None)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _options() -> argparse.Namespace:
    names = ",".join(each.name for each in _MEASUREMENTS)
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", help=f"some of: {names}")
    parser.add_argument("--stores", default=",".join(_STORES), help="which databases (default: both)")
    parser.add_argument("--quick", action="store_true", help="everything small, to see that it works; writes no page")
    parser.add_argument("--full", action="store_true", help="10 million rows on SQLite too, and old attempts")
    parser.add_argument("--memory-minutes", type=float, help="how long memory is watched")
    parser.add_argument("--output", type=Path, help="the page (default: bench/RESULTS.md when everything is measured)")
    options = parser.parse_args()
    unknown = set((options.only or names).split(",")) - set(names.split(","))
    unknown |= set(options.stores.split(",")) - set(_STORES)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    return options


def _scale(options: argparse.Namespace) -> Scale:
    scale = QUICK if options.quick else FULL if options.full else Scale()
    return replace(scale, memory_s=options.memory_minutes * 60) if options.memory_minutes else scale


def _measure(chosen: list[Measurement], stores: list[str], scale: Scale) -> list[Outcome]:
    """One after the other. One that fails, or is interrupted, does not take the others' results with it."""
    outcomes: list[Outcome] = []
    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()]
    with Progress(*columns) as progress, Machine() as machine:
        task = progress.add_task("", total=len(chosen))
        for each in chosen:
            said = f"{each.title}: "
            stage = Stage(machine, stores, lambda text, said=said: progress.update(task, description=said + text))  # type: ignore[misc]
            outcomes.append(_outcome(each, stage, scale))
            progress.advance(task)
            progress.console.print(_line(outcomes[-1]))
            if outcomes[-1].error == "interrupted":
                break
    return outcomes


def _outcome(measurement: Measurement, stage: Stage, scale: Scale) -> Outcome:
    began_s = time.monotonic()
    stage.say("getting ready")
    try:
        with stage:
            finding = measurement.measure(stage, scale)
    except KeyboardInterrupt:
        return Outcome(measurement, time.monotonic() - began_s, None, "interrupted")
    except Exception as error:  # noqa: BLE001 - it is written into the results
        Console(stderr=True).print_exception()
        return Outcome(measurement, time.monotonic() - began_s, None, f"{type(error).__name__}: {_first_line(error)}")
    return Outcome(measurement, time.monotonic() - began_s, finding)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0].replace("|", "/")


def _line(outcome: Outcome) -> str:
    measured = "; ".join(f"{each.what}: {each.measured}" for each in outcome.goals)
    return f"{outcome.measurement.title} ({outcome.took_s:.0f} s): {measured or 'done'}"
