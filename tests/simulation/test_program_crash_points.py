"""Every database call and every step of a small run of the program fails, one in each run; no promise is broken."""

from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from simulation.crash_points import FAULTS, ProcessFault, numbered
from simulation.database import Fault
from simulation.program_crash_points import run_call, run_step
from simulation.program_run import ProgramReport

_COMMANDS = 8
"""Of the script. Each of them and each sweep that changes something is at least one change."""


@pytest.mark.parametrize("fault", FAULTS)
def test_no_promise_of_the_program_is_broken_when_one_database_call_fails(fault: Fault) -> None:
    counted, broken = _sums(numbered(partial(run_call, fault)))
    assert not broken, "\n".join(broken)
    assert counted["runs"] > 2 * _COMMANDS
    assert counted[f"db {fault}"] == counted["runs"]
    assert counted["event points.expired"] == 3 * counted["runs"]
    assert counted["redemption expired"] == counted["runs"]


def test_no_promise_of_the_program_is_broken_when_a_process_is_stopped_at_one_step() -> None:
    counted, broken = _sums(numbered(partial(run_step, ProcessFault.STOP)))
    assert not broken, "\n".join(broken)
    assert counted["runs"] > 100


def _sums(reports: Iterator[tuple[int, ProgramReport]]) -> tuple[Counter[str], list[str]]:
    counted: Counter[str] = Counter()
    broken: list[str] = []
    for number, report in reports:
        counted += report.counted
        counted["runs"] += 1
        broken += [f"at {number}: {each}" for each in report.violations]
    return counted, broken
