"""Every database call and every step of a small run of the program fails, one in each run; no promise is broken."""

from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from simulation.crash_points import FAULTS, ProcessFault, numbered
from simulation.database import Fault
from simulation.mutation import Mutant
from simulation.program_crash_points import run_call, run_step
from simulation.program_mutants import PROGRAM_MUTANTS
from simulation.program_run import ProgramReport

_COMMANDS = 8
"""Of the script. Each of them and each sweep that changes something is at least one change."""

_PARTS = 4
"""The steps are dealt out to so many tests, each of which is short."""
_SPLIT = (
    "a sweep takes customers off its list first",
    "a reservation ends before its points return",
    "events are committed after their change",
)
"""Mutants that do in two transactions what belongs in one."""


@pytest.mark.parametrize("fault", FAULTS)
def test_no_promise_of_the_program_is_broken_when_one_database_call_fails(fault: Fault) -> None:
    counted, broken = _sums(numbered(partial(run_call, fault)))
    assert not broken, "\n".join(broken)
    assert counted["runs"] > 2 * _COMMANDS
    assert counted[f"db {fault}"] == counted["runs"]
    assert counted["event points.expired"] == 4 * counted["runs"]
    assert counted["redemption expired"] == counted["runs"]


@pytest.mark.parametrize("part", range(_PARTS))
def test_no_promise_of_the_program_is_broken_when_a_process_is_stopped_at_one_step(part: int) -> None:
    counted, broken = _sums(numbered(lambda number: run_step(ProcessFault.STOP, _PARTS * number - part)))
    assert not broken, "\n".join(broken)
    assert counted["runs"] > 100 / _PARTS


@pytest.mark.parametrize(
    "mutant", [each for each in PROGRAM_MUTANTS if each.name in _SPLIT], ids=lambda each: each.name
)
def test_a_crash_between_two_transactions_that_should_be_one_is_detected(mutant: Mutant) -> None:
    with mutant.in_place():
        reports = numbered(partial(run_call, Fault.CRASH_AFTER))
        assert any(report.violations for _, report in reports)


def _sums(reports: Iterator[tuple[int, ProgramReport]]) -> tuple[Counter[str], list[str]]:
    counted: Counter[str] = Counter()
    broken: list[str] = []
    for number, report in reports:
        counted += report.counted
        counted["runs"] += 1
        broken += [f"at {number}: {each}" for each in report.violations]
    return counted, broken
