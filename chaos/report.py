"""The account for people: a table on the terminal, a page in bench/CHAOS.md."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from rich.table import Table

from chaos.checker import Kind, Verdict

_MOST_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Account:
    """One store's run."""

    store: str
    seed: str
    processes: str
    elapsed_s: float
    verdict: Verdict


def rows(account: Account) -> list[tuple[str, str]]:
    """What was counted, line by line."""
    verdict = account.verdict
    pairs = verdict.counts.get("pairs (event, endpoint)", 0)
    found = [(name, f"{count:,}") for name, count in verdict.counts.items()]
    found += [(kind.value, f"{verdict.found(kind):,}") for kind in Kind]
    explained = sum(verdict.duplicates.values())
    found.append(
        ("duplicates explained", f"{explained:,}" + (f" ({explained / pairs * 1e6:,.0f} per million)" if pairs else ""))
    )
    found += [(f"- {reason}", f"{count:,}") for reason, count in sorted(verdict.duplicates.items())]
    if pairs and verdict.passed:
        found.append(("so, at 95 %, lost is less than", f"{3 / pairs:.2g} (3/{pairs:,})"))
    found += [(f"fired: {name}", f"{verdict.fired[name]} of {asked}") for name, asked in verdict.asked.items()]
    return [*found, *_take_over(verdict), ("took", f"{account.elapsed_s:,.0f} s")]


def _take_over(verdict: Verdict) -> list[tuple[str, str]]:
    """By itself what was cut short again while it was being taken over: that waits behind all others, on purpose."""
    waits_s = defaultdict(list)
    for each in verdict.taken_over:
        if not each.unseen:
            waits_s[each.kill_ms].append(each.waited_s)
    found = []
    if waits_s:
        first_s, every_s = [min(each) for each in waits_s.values()], list(chain(*waits_s.values()))
        found.append(("from a kill to the first delivery taken over", _spread(first_s, "kills")))
        found.append(("from a kill to each delivery taken over", _spread(every_s, "deliveries")))
    again_s = [each.waited_s for each in verdict.taken_over if each.unseen]
    if again_s:
        found.append(("the same, cut short again before the receiver saw it", _spread(again_s, "deliveries")))
    return found


def table(account: Account) -> Table:
    """For the terminal."""
    passed = account.verdict.passed
    made = Table(title=_title(account), title_style="bold green" if passed else "bold red", show_header=False)
    wrong = {kind.value for kind in Kind if account.verdict.found(kind)}
    for name, value in rows(account):
        made.add_row(name, value, style="bold red" if name in wrong else "")
    return made


def examples(verdict: Verdict) -> list[str]:
    """The first few of each kind of finding."""
    lines = []
    for kind in Kind:
        mine = [finding.what for finding in verdict.findings if finding.kind is kind]
        lines += [f"{kind.value}: {what}" for what in mine[:_MOST_EXAMPLES]]
    return lines


def page(accounts: Sequence[Account], command: str, day: str, machine: str) -> str:
    """For bench/CHAOS.md."""
    sections = [f"# Chaos\n\nCommand: `{command}`, on {day}: {machine}.\n{_INTRODUCTION}"]
    for account in accounts:
        lines = [f"## {_title(account)}", "", "| what | count |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in rows(account)]
        lines += ["", *(f"- {line}" for line in examples(account.verdict))]
        sections.append("\n".join(lines).rstrip() + "\n")
    return "\n".join(sections)


def _spread(waits_s: Sequence[float], what: str) -> str:
    return f"median {statistics.median(waits_s):.1f} s, max {max(waits_s):.1f} s ({len(waits_s)} {what})"


def _title(account: Account) -> str:
    return f"{account.store}, {account.processes}, seed {account.seed}: {_outcome(account.verdict)}"


def _outcome(verdict: Verdict) -> str:
    if verdict.passed:
        return "nothing lost"
    return "NOT COMPLETE" if {finding.kind for finding in verdict.findings} == {Kind.TOO_FEW} else "FAILED"


_INTRODUCTION = """
Real processes; producers, a receiver and the run itself write down what they see, and a checker that shares no code with
the product compares that with the database. A duplicate is a request that the receiver took although it had taken the same
delivery before; it is explained when every earlier attempt is recorded as failed, and either the receiver's own manners or
a fault nearby accounts for it. A process that ends before it was ever ready, while its database is broken, is started again,
as a supervisor would; one that ends by itself at any other time has fallen.
"""
