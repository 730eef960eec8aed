"""What is written down for people: bench/SIMULATION.md and bench/MUTANTS.md."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from simulation.many import Catch, Tally

CHECKS = {
    "events": "each order that was acknowledged is one event, each event is one order, numbered without gaps",
    "debts": "one delivery for each event and each endpoint that was subscribed when it was committed; no more, no fewer",
    "endings": "`succeeded` means that the receiver has it, `exhausted` that it was tried for the whole window",
    "requests": "every request is of a delivery that is owed, to the right place, signed, with the event's very bytes",
    "records": "attempts are numbered without gaps, sent at most once each, and written down as they were",
    "windows": "nothing is sent after the window, nor after the end",
    "order": "where order is asked for, a customer's events arrive in it",
    "waits": "a `Retry-After` is waited for",
    "leases": "every lease is of a worker that is known, at every commit",
    "done": "without any fault, everything is done within a time that is told beforehand",
    "logged": "the product logs no error; most often a constraint of the database has been hurt",
    "broke": "no process falls by itself",
    "stuck": "nothing waits for ever, and nothing spins",
}
"""What each word before the colon of a violation stands for."""

_COUNTS = {
    "events": ("events",),
    "deliveries (event, endpoint)": ("deliveries",),
    "- succeeded": ("succeeded",),
    "- exhausted": ("exhausted",),
    "- canceled": ("canceled",),
    "attempts": ("requests",),
    "- cut short, and written down so": ("interrupted",),
    "- that came twice, each explained": ("duplicates",),
    "settlements that came too late, and changed nothing": ("fenced",),
    "processes killed": ("crash", "db crash_before", "db crash_after"),
    "processes stopped politely": ("stop",),
    "processes frozen": ("freeze", "db freeze_before", "db freeze_after"),
    "processes frozen for longer than their lease, a request on its way": ("freeze_sending",),
    "ambiguous commits: rolled back, and nobody was told": ("db commit_lost",),
    "ambiguous commits: committed, and nobody was told": ("db answer_lost",),
    "ambiguous commits: committed only later": ("db late_commit",),
    "calls that the database did not answer": ("db unavailable",),
    "calls that found its disk full": ("db disk_full",),
    "outages of the database": ("db outage",),
    "outages of receivers": ("net outage",),
}


@dataclass(frozen=True, slots=True)
class Run:
    """What was called, when, on what, and how long it took."""

    command: str
    day: str
    machine: str
    took_s: float


def rows(tally: Tally, run: Run) -> list[tuple[str, str]]:
    """What was counted, line by line."""
    found = [("seeds", f"{tally.seeds:,}"), ("virtual days", f"{tally.virtual_s / 86_400:,.0f}")]
    found += [(name, f"{sum(tally.counted[key] for key in keys):,}") for name, keys in _COUNTS.items()]
    bad = sum(count for name, count in tally.counted.items() if name.startswith("net ")) - tally.counted["net outage"]
    found.append(("bad answers of receivers", f"{bad - tally.counted['net accept']:,}"))
    deeds = sum(count for name, count in tally.counted.items() if name.startswith("owner "))
    found.append(("deeds of the endpoints' owners", f"{deeds:,}"))
    found.append(("seeds that broke a promise", f"{len(tally.broken):,}"))
    deliveries = tally.counted["deliveries"]
    if deliveries and not tally.broken:
        found.append(("so, at 95 %, lost is less than", f"{3 / deliveries:.2g} (3/{deliveries:,})"))
    return [*found, ("took", f"{run.took_s:,.0f} s")]


def simulation_page(tally: Tally, run: Run) -> str:
    """bench/SIMULATION.md."""
    outcome = f"{len(tally.broken)} seeds FAILED" if tally.broken else "no promise was broken"
    broken = [f"- seed {seed}: `{each}`" for seed, found in sorted(tally.broken.items()) for each in found]
    lines = ["", f"## {tally.seeds:,} seeds: {outcome}", "", *_table(("what", "count"), rows(tally, run))]
    lines += ["", *broken] if broken else []
    return "\n".join([*_head("Simulation", run), *_SIMULATION, *lines, *_checks()]) + "\n"


def mutants_page(catches: Sequence[Catch], run: Run, most_seeds: int) -> str:
    """bench/MUTANTS.md."""
    caught = [each for each in catches if each.seed is not None]
    found = [
        (
            each.mutant.name,
            each.check or "**none**",
            f"{most_seeds} and not caught" if each.seed is None else f"{each.seed + 1}",
        )
        for each in catches
    ]
    lines = ["", f"## {len(caught)} of {len(catches)} are caught", ""]
    lines += _table(("what was broken", "caught by", "after seeds"), found)
    return "\n".join([*_head("Mutants", run), *_MUTANTS, *lines, *_checks()]) + "\n"


def with_seeds(source: str, catches: Sequence[Catch]) -> str:
    """The source of the mutants, with the seed that shows each of them beside its name, where the test reads it."""
    for each in catches:
        if each.seed is not None:
            source = re.sub(rf'("{re.escape(each.mutant.name)}",\s+)\d+', rf"\g<1>{each.seed}", source)
    return source


def _head(title: str, run: Run) -> list[str]:
    return [f"# {title}", "", f"Command: `{run.command}`, on {run.day}: {run.machine}, {run.took_s:,.0f} s.", ""]


def _table(head: Sequence[str], found: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *found)]


def _checks() -> list[str]:
    return ["", "## The checks", "", *_table(("check", "what it wants"), list(CHECKS.items()))]


_SIMULATION = [
    "The engine's own code and SQL, run by several simulated processes that share one SQLite file; the network, the receivers,",
    "the clocks and the way to the database are simulated. Each seed has its own few faults, some of them heavy; when they are",
    "over, everything has to be done within a time that is told beforehand. The checker reads rows and logs only, and",
    "[MUTANTS.md](MUTANTS.md) shows what it would see. A seed decides everything, so it plays the same run again:",
    "`make simulate ARGS='--from 42 --seeds 1 --no-write'`.",
]
_MUTANTS = [
    "Each line is the product with one mistake: a function is replaced by a wrong version, and seeds of `make simulate` are",
    "run until one breaks a promise. The product itself breaks none with the same seeds;",
    "`tests/simulation/test_mutants.py` checks both.",
]
