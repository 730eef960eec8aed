"""Reports the result of runs: a table on the terminal, and the page bench/CHAOS.md."""

import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from rich.table import Table

from chaos.checker import Kind, Verdict

_MOST_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class RunReport:
    """The run of one store."""

    store: str
    seed: str
    processes: str
    elapsed_s: float
    verdict: Verdict
    behind_nginx: bool = False


def rows(report: RunReport) -> list[tuple[str, str]]:
    """The lines of the table: what was counted, and how much."""
    verdict = report.verdict
    pairs = verdict.counts.get("pairs (event, endpoint)", 0)
    found = [(name, f"{count:,}") for name, count in verdict.counts.items()]
    kinds = [kind for kind in Kind if kind is not Kind.UNANSWERED or report.behind_nginx]
    found += [(kind.value, f"{verdict.found(kind):,}") for kind in kinds]
    explained = sum(verdict.duplicates.values())
    found.append(
        ("duplicates explained", f"{explained:,}" + (f" ({explained / pairs * 1e6:,.0f} per million)" if pairs else ""))
    )
    found += [(f"- {reason}", f"{count:,}") for reason, count in sorted(verdict.duplicates.items())]
    if pairs and verdict.passed:
        found.append(("so, at 95 %, lost is less than", f"{3 / pairs:.2g} (3/{pairs:,})"))
    found += [(f"fired: {name}", f"{verdict.fired[name]} of {asked}") for name, asked in verdict.asked.items()]
    return [*found, *_take_over(verdict), ("took", f"{report.elapsed_s:,.0f} s")]


def _take_over(verdict: Verdict) -> list[tuple[str, str]]:
    """Separates deliveries that were interrupted again during the take-over, because the product sends those last."""
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
        found.append(("the same, interrupted again before it arrived", _spread(again_s, "deliveries")))
    return found


def table(report: RunReport) -> Table:
    """The table for the terminal."""
    passed = report.verdict.passed
    made = Table(title=_title(report), title_style="bold green" if passed else "bold red", show_header=False)
    wrong = {kind.value for kind in Kind if report.verdict.found(kind)}
    for name, value in rows(report):
        made.add_row(name, value, style="bold red" if name in wrong else "")
    return made


def examples(verdict: Verdict) -> list[str]:
    """The first five findings of each kind."""
    lines = []
    for kind in Kind:
        mine = [finding.what for finding in verdict.findings if finding.kind is kind]
        lines += [f"{kind.value}: {what}" for what in mine[:_MOST_EXAMPLES]]
    return lines


def page(reports: Sequence[RunReport], command: str, day: str, machine: str) -> str:
    """One part of bench/CHAOS.md: about runs with receivers behind nginx, or about runs without it."""
    heading, introduction = _NGINX if reports[0].behind_nginx else ("# Chaos", _INTRODUCTION)
    sections = [f"{heading}\n\nCommand: `{command}`, on {day}: {machine}.\n{introduction}"]
    for report in reports:
        lines = [f"## {_title(report)}", "", "| what | count |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in rows(report)]
        lines += ["", *(f"- {line}" for line in examples(report.verdict))]
        sections.append("\n".join(lines).rstrip() + "\n")
    return "\n".join(sections)


def with_part(text: str, part: str) -> str:
    """The text of bench/CHAOS.md with a new part in the place of the one that has the same heading, or at its end."""
    parts = {
        each.partition("\n")[0]: each.rstrip("\n") for each in re.split(r"^(?=# )", text, flags=re.MULTILINE) if each
    }
    parts[part.partition("\n")[0]] = part.rstrip("\n")
    return "\n\n".join(parts.values()) + "\n"


def _spread(waits_s: Sequence[float], what: str) -> str:
    return f"median {statistics.median(waits_s):.1f} s, max {max(waits_s):.1f} s ({len(waits_s)} {what})"


def _title(report: RunReport) -> str:
    where = " behind nginx" if report.behind_nginx else ""
    return f"{report.store}, {report.processes}{where}, seed {report.seed}: {_outcome(report.verdict)}"


def _outcome(verdict: Verdict) -> str:
    if verdict.passed:
        return "nothing lost"
    return "NOT COMPLETE" if {finding.kind for finding in verdict.findings} == {Kind.TOO_FEW} else "FAILED"


_INTRODUCTION = """
Real processes run with real faults. Producers, receivers and the run write journals, and a checker that shares no code with
the product compares them with the database. A duplicate is a request that the receiver accepted although it had accepted the
same delivery before. It is explained if every earlier attempt is recorded as failed, and either the behavior of the receiver
or a fault at that time is the reason. A process that ends before it was ever ready, while its database is broken, is started
again, as a supervisor does; one that ends by itself at any other time has crashed.
"""

_NGINX = (
    "# Chaos behind nginx",
    """
The receivers are behind nginx, over HTTP/2 with its default limits, and nginx is reloaded every 20 seconds. No other fault
concerns the network: processes are killed and frozen, and the database restarts. So every connection that ends was ended by
nginx in an orderly way, and no attempt may have the outcome `connection_lost`: a request that nginx did not begin to answer is
sent again within its attempt. The checks are the same otherwise.
""",
)
