"""The page of results: one section for each measurement, with its date, command, machine and commit.

A run replaces the sections of what it measured and leaves the others as they are, so the page holds the newest result of
each measurement.
"""

import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.measurement import Finding, Goal, Measurement

_ROOT = Path(__file__).parent.parent
_TABLE = "| what | goal | measured | reached |\n|---|---|---|---|"
_VERDICTS = {True: "yes", False: "**no**", None: "not decided"}
_INTRO = """# Results

`make bench` writes every section but four: `make bench-memory` takes an hour, `make bench-import` a quarter of one, and
`make bench-program`, which writes two sections, an hour.
`make bench ARGS='--only isolation'` replaces one section. Each section names its date, its command, its machine and the commit
that was measured.

Clients, server, database and receiver share the cores, so the ratios say more than the rates. Both databases are on one disk, and
every commit waits for it. "Not decided": the run measured less than the goal names, or there is no goal.
"""


@dataclass(frozen=True)
class Outcome:
    """The result of one measurement: a finding, or the error that prevented it."""

    measurement: Measurement
    took_s: float
    finding: Finding | None
    error: str = ""

    @property
    def goals(self) -> Sequence[Goal]:
        """Its rows of the table of goals; a measurement that failed has one row with its error."""
        if self.finding is None:
            return [Goal(self.measurement.title, "", f"FAILED: {self.error}", reached=False)]
        return self.finding.goals


@dataclass(frozen=True)
class Conditions:
    """When, where and on which commit a run measured. `at` is in UTC."""

    at: datetime
    machine: str
    commit: str

    @classmethod
    def now(cls) -> "Conditions":
        """Those of this process."""
        cores, system = os.cpu_count(), f"{platform.system()} {platform.machine()}"
        return cls(datetime.now(UTC), f"{cores} cores, Python {platform.python_version()}, {system}", _commit())


def section(outcome: Outcome, conditions: Conditions, options: Sequence[str] = (), *, small: bool = False) -> str:
    """The section of one measurement in Markdown, with a heading, and the command that repeats it.

    `options`: those of the command besides `--only`. `small`: less was measured than the goals name.
    Raises ValueError for a measurement that failed: the page holds results only.
    """
    if outcome.finding is None:
        raise ValueError(f"{outcome.measurement.title} has no result: {outcome.error}")
    command = f"make bench ARGS='{' '.join(['--only', outcome.measurement.name, *options])}'"
    when = f"Measured on {conditions.at:%Y-%m-%d %H:%M} UTC, on commit {conditions.commit}: {conditions.machine}."
    shrunk = "**A small run: it shows that the measurement works, and decides no goal.**\n\n" if small else ""
    rows = [_row(goal) for goal in outcome.finding.goals]
    table = "\n".join([_TABLE, *rows]) + "\n\n" if rows else ""
    return (
        f"## {outcome.measurement.title}\n\n{when}\nCommand: `{command}`, {outcome.took_s:.0f} s.\n\n"
        f"{shrunk}{table}{outcome.finding.details.strip()}\n"
    )


def updated(text: str, new: Mapping[str, str], titles: Sequence[str]) -> str:
    """A page with some sections replaced or added, by title, and the table of goals made again from all sections.

    `titles`: those of all measurements, in the order of the page. A section with another title is dropped.
    """
    known = sections(text) | dict(new)
    kept = [known[title] for title in titles if title in known]
    goals = [row for each in kept for row in _goal_rows(each)]
    return "\n".join([_INTRO, _TABLE, *goals, "", *kept])


def sections(text: str) -> dict[str, str]:
    """The sections of a page by title, each from its heading to the next one."""
    _, *found = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return {each.partition("\n")[0].removeprefix("## "): each.strip() + "\n" for each in found}


def _row(goal: Goal) -> str:
    return f"| {goal.what} | {goal.goal} | {goal.measured} | {_VERDICTS[goal.reached]} |"


def _goal_rows(text: str) -> list[str]:
    table = text.partition(f"{_TABLE}\n")[2].partition("\n\n")[0]
    return table.splitlines()


def _commit() -> str:
    """The short hash of the checkout, marked when tracked files besides the pages of results differ from it."""
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ":!bench/*.md")
    hash_ = _git("rev-parse", "--short", "HEAD")
    if hash_ is None:
        return "unknown"
    return f"`{hash_}` with changes" if changes else f"`{hash_}`"


def _git(*arguments: str) -> str | None:
    """What git prints; None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
