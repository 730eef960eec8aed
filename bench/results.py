"""The page of results."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.measurement import Finding, Goal, Measurement


@dataclass(frozen=True)
class Outcome:
    """What came of one measurement: a finding, or why there is none."""

    measurement: Measurement
    took_s: float
    finding: Finding | None
    error: str = ""

    @property
    def goals(self) -> Sequence[Goal]:
        """Its lines of the table; a measurement that failed has reached nothing."""
        if self.finding is None:
            return [Goal(self.measurement.title, "", f"FAILED: {self.error}", reached=False)]
        return self.finding.goals


_VERDICTS = {True: "yes", False: "**no**", None: "not decided"}


def page(title: str, outcomes: Sequence[Outcome], arguments: Sequence[str], *, small: bool) -> str:
    """All of it, in Markdown. `arguments`: the command's, so that it can be repeated, as a whole or one by one."""
    goals = [_row(goal) for each in outcomes for goal in each.goals]
    table = "\n".join(["| what | goal | measured | reached |", "|---|---|---|---|", *goals])
    sections = [section(each, _others(arguments)) for each in outcomes]
    return "\n".join([_intro(title, outcomes, _command(arguments), small=small), table, "", *sections])


def section(outcome: Outcome, arguments: Sequence[str]) -> str:
    """One measurement, and how to repeat it alone. `arguments`: those besides."""
    name, title = outcome.measurement.name, outcome.measurement.title
    details = outcome.finding.details if outcome.finding else f"It failed, so nothing is known: `{outcome.error}`\n"
    command = _command(["--only", name, *arguments])
    return f"## {title}\n\nCommand: `{command}`, {outcome.took_s:.0f} s.\n\n{details}"


def _row(goal: Goal) -> str:
    return f"| {goal.what} | {goal.goal} | {goal.measured} | {_VERDICTS[goal.reached]} |"


def _command(arguments: Sequence[str]) -> str:
    return f"make bench ARGS='{' '.join(arguments)}'" if arguments else "make bench"


def _others(arguments: Sequence[str]) -> list[str]:
    """Without what says which measurements, and where to."""
    named = [at for at, each in enumerate(arguments) if each in {"--only", "--output"}]
    return [each for at, each in enumerate(arguments) if at not in named and at - 1 not in named]


def _intro(title: str, outcomes: Sequence[Outcome], command: str, *, small: bool) -> str:
    now = datetime.now(UTC)
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    minutes = sum(each.took_s for each in outcomes) / 60
    shrunk = (
        "\n**Everything was made small in this run: it shows that the measurements work, not what the goals ask.**\n"
        if small
        else ""
    )
    return f"""# {title}

Command: `{command}`, {minutes:.1f} minutes. Measured on {now:%Y-%m-%d %H:%M} UTC: {machine}.
Clients, server, database and receiver share the cores, so look at the ratios; both databases are on the same disk, and every
commit waits for it.
{shrunk}
"Not decided": this run measures less than the goal speaks of, or there is no goal.
"""
