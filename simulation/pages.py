"""The generated pages bench/SIMULATION.md and bench/MUTANTS.md."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulation.many import Detection, Tally

CHECKS = {
    "events": "each acknowledged order is one event, each event is one order, and sequence numbers have no gaps",
    "deliveries": "one delivery for each event and each endpoint that was subscribed when the event was committed; no more, no fewer",
    "outcomes": "`succeeded` means that the receiver accepted it, `exhausted` that it was tried for the whole window",
    "requests": "every request belongs to a delivery, goes to the right URL, is signed, and has the exact bytes of the event",
    "records": "attempts are numbered without gaps, and recorded with each request that was sent and with their true outcome",
    "counters": "each attempt is counted once, for its endpoint and its outcome",
    "windows": "no request is sent after the window, or after the delivery has ended",
    "order": "an ordered endpoint gets the events of each customer in order",
    "waits": "the next attempt waits for the `Retry-After` of the last response",
    "leases": "at every commit, every lease belongs to a registered worker",
    "done": "once the faults have ended, everything is done within a time that is computed beforehand",
    "logged": "the product logs no error (most errors are violated constraints of the database)",
    "crashed": "no process ends by itself",
    "stuck": "no run waits forever, and no loop spins",
}
"""What each check wants. A violation begins with the name of its check and a colon."""

PROGRAM_CHECKS = {
    "answers": "all answers to a request name the same thing, which is in the database and is as they say",
    "refusals": "what was refused, and never done, had no effect",
    "effects": "each purchase, refund, redemption and adjustment has exactly one event, and each of these events has its row",
    "customers": "each customer is created once, and ends at most once",
    "imports": "each row of an import is counted once, and there is as much as was taken over",
    "sequences": "the events of each customer are 1, 2, 3 ... in the order in which they were committed",
    "ledger": "lots, balances, events, purchases, redemptions and days follow from the entries of each customer",
    "overdue": "nothing is left undone whose time came before the last sweeps",
    "sweeps": "a sweep fails only because the database does",
    "logged": CHECKS["logged"],
    "crashed": "no process ends by itself, and each request is answered with a result or a refusal",
    "stuck": "every request is answered, and no loop spins",
}
"""What each check of the loyalty program wants."""

_COUNTS = {
    "events": ("events",),
    "deliveries (event, endpoint)": ("deliveries",),
    "- succeeded": ("succeeded",),
    "- exhausted": ("exhausted",),
    "- canceled": ("canceled",),
    "requests": ("requests",),
    "- whose connection ended without an answer": ("ended",),
    "attempts recorded as interrupted": ("interrupted",),
    "requests accepted more than once, each explained": ("duplicates",),
    "settlements after the loss of the lease, without effect": ("fenced",),
    "processes killed": ("crash", "db crash_before", "db crash_after"),
    "processes stopped with SIGTERM": ("stop",),
    "processes frozen": ("freeze", "db freeze_before", "db freeze_after"),
    "processes frozen for longer than their lease, with a request in flight": ("freeze_at_send",),
    "unknown commits: rolled back": ("db commit_lost",),
    "unknown commits: committed": ("db answer_lost",),
    "unknown commits: committed later": ("db late_commit",),
    "calls to an unavailable database": ("db unavailable",),
    "calls to a database with a full disk": ("db disk_full",),
    "outages of the database": ("db outage",),
    "outages of receivers": ("net outage",),
}


_PROGRAM_COUNTS = {
    "events": ("events",),
    "purchases": ("event transaction.completed",),
    "refunds": ("event transaction.refunded",),
    "redemptions": ("event points.redeemed",),
    "- whose reservation timed out": ("redemption expired",),
    "activations": ("entry activate",),
    "expirations": ("entry expire",),
    "changes of a tier": ("event customer.tier_changed",),
    "customers merged or deleted": ("event customer.deleted",),
    "cases of fraud that lapsed": ("cases lapsed",),
    "requests sent again without an answer": ("requests repeated",),
    "requests sent again after their answer": ("repeated later",),
    **{
        name: keys
        for name, keys in _COUNTS.items()
        if name.startswith(("processes", "unknown", "calls", "outages of the database"))
        and "freeze_at_send" not in keys
    },
}


@dataclass(frozen=True, slots=True)
class CommandRun:
    """One run of a make target: the command, the day, the machine and the duration."""

    command: str
    day: str
    machine: str
    took_s: float


def rows(tally: Tally, run: CommandRun) -> list[tuple[str, str]]:
    """The lines of the table: what was counted, and how much."""
    found = [("seeds", f"{tally.seeds:,}"), ("virtual days", f"{tally.virtual_s / 86_400:,.0f}")]
    found += [(name, f"{sum(tally.counted[key] for key in keys):,}") for name, keys in _COUNTS.items()]
    bad = sum(count for name, count in tally.counted.items() if name.startswith("net ")) - tally.counted["net outage"]
    found.append(("failures of receivers", f"{bad - tally.counted['net accept']:,}"))
    actions = sum(count for name, count in tally.counted.items() if name.startswith("owner "))
    found.append(("actions of endpoint owners", f"{actions:,}"))
    found.append(("seeds that broke a promise", f"{len(tally.broken):,}"))
    deliveries = tally.counted["deliveries"]
    if deliveries and not tally.broken:
        found.append(("so, at 95 %, lost is less than", f"{3 / deliveries:.2g} (3/{deliveries:,})"))
    return [*found, ("took", f"{run.took_s:,.0f} s")]


def program_rows(tally: Tally, run: CommandRun) -> list[tuple[str, str]]:
    """The lines of the table of the loyalty program."""
    found = [("seeds", f"{tally.seeds:,}"), ("virtual days", f"{tally.virtual_s / 86_400:,.0f}")]
    found += [(name, f"{sum(tally.counted[key] for key in keys):,}") for name, keys in _PROGRAM_COUNTS.items()]
    return [*found, ("seeds that broke a promise", f"{len(tally.broken):,}"), ("took", f"{run.took_s:,.0f} s")]


def program_page(tally: Tally, run: CommandRun) -> str:
    """The text of bench/PROGRAM_SIMULATION.md."""
    outcome = f"{len(tally.broken)} seeds FAILED" if tally.broken else "no promise was broken"
    broken = [f"- seed {seed}: `{each}`" for seed, found in sorted(tally.broken.items()) for each in found]
    lines = ["", f"## {tally.seeds:,} seeds: {outcome}", "", *_table(("what", "count"), program_rows(tally, run))]
    lines += ["", *broken] if broken else []
    return (
        "\n".join([*_head("Simulation of the loyalty program", run), *_PROGRAM, *lines, *_checks(PROGRAM_CHECKS)])
        + "\n"
    )


def simulation_page(tally: Tally, run: CommandRun) -> str:
    """The text of bench/SIMULATION.md."""
    outcome = f"{len(tally.broken)} seeds FAILED" if tally.broken else "no promise was broken"
    broken = [f"- seed {seed}: `{each}`" for seed, found in sorted(tally.broken.items()) for each in found]
    lines = ["", f"## {tally.seeds:,} seeds: {outcome}", "", *_table(("what", "count"), rows(tally, run))]
    lines += ["", *broken] if broken else []
    return "\n".join([*_head("Simulation", run), *_SIMULATION, *lines, *_checks()]) + "\n"


def mutants_page(detections: Sequence[Detection], run: CommandRun, most_seeds: int) -> str:
    """The text of bench/MUTANTS.md."""
    caught = [each for each in detections if each.seed is not None]
    found = [
        (
            each.mutant.name,
            each.check or "**none**",
            f"{most_seeds}, not detected" if each.seed is None else f"{each.seed + 1}",
        )
        for each in detections
    ]
    lines = ["", f"## {len(caught)} of {len(detections)} are detected", ""]
    lines += _table(("mutant", "detected by", "after seeds"), found)
    checks = [*_checks(), *_checks(PROGRAM_CHECKS, "The checks of the loyalty program")]
    return "\n".join([*_head("Mutants", run), *_MUTANTS, *lines, *checks]) + "\n"


def with_seeds(source: str, detections: Sequence[Detection]) -> str:
    """The source of mutants.py with the seed that detects each mutant after its name, where the test reads it."""
    for each in detections:
        if each.seed is not None:
            source = re.sub(rf'("{re.escape(each.mutant.name)}",\s+)\d+', rf"\g<1>{each.seed}", source)
    return source


def _head(title: str, run: CommandRun) -> list[str]:
    return [f"# {title}", "", f"Command: `{run.command}`, on {run.day}: {run.machine}, {run.took_s:,.0f} s.", ""]


def _table(head: Sequence[str], found: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *found)]


def _checks(checks: Mapping[str, str] = CHECKS, title: str = "The checks") -> list[str]:
    return ["", f"## {title}", "", *_table(("check", "what it wants"), list(checks.items()))]


_SIMULATION = [
    "Several simulated processes run the engine's own code and SQL on one SQLite file; the network, the receivers, the clocks",
    "and the connections to the database are simulated. Each seed draws a few kinds of faults, some of them frequent. Once they",
    "have ended, everything has to be done within a time that is computed beforehand. The checker reads rows and logs only;",
    "[MUTANTS.md](MUTANTS.md) shows which mistakes it detects. A seed repeats its run exactly:",
    "`make simulate ARGS='--from 42 --seeds 1 --no-write'`.",
]
_PROGRAM = [
    "Several simulated processes run the sweeps of the loyalty program, and answer clients, on one SQLite file; the clocks and the",
    "connections to the database are simulated. Clients repeat each command with the same external id until it is answered, while",
    "months pass. Once the faults have ended, and the sweeps have run, rows, events and answers have to agree.",
    "A seed repeats its run exactly: `make simulate ARGS='--only program --from 42 --seeds 1 --no-write'`.",
]
_MUTANTS = [
    "Each line is the product with one mistake: a function is replaced by a wrong version, and seeds of `make simulate` are",
    "run until one breaks a promise. The product itself breaks none with the same seeds;",
    "`tests/simulation/test_mutants.py` checks both.",
]
