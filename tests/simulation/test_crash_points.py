"""Every database call, every step between two awaits and every request fails, one in each run; no promise is broken."""

from functools import partial

import pytest

from receivers.behavior import Behavior
from simulation.crash_points import BEHAVIORS, FAULTS, ProcessFault, numbered, run_call, run_send, run_step, sums
from simulation.database import Fault

_EXPECTED: dict[Fault | Behavior | ProcessFault, tuple[str, ...]] = {
    Fault.CRASH_BEFORE: ("interrupted", "duplicates"),
    Fault.CRASH_AFTER: ("interrupted", "duplicates"),
    Fault.ANSWER_LOST: ("fenced",),
    Fault.LATE_COMMIT: ("fenced",),
    Fault.FREEZE_BEFORE: ("fenced", "interrupted"),
    Fault.FREEZE_AFTER: ("fenced", "interrupted"),
    Behavior.LOST_ACCEPT: ("duplicates",),
    Behavior.SILENT_ACCEPT: ("duplicates",),
    ProcessFault.KILL_BEFORE: ("interrupted",),
    ProcessFault.KILL_AFTER: ("interrupted", "duplicates"),
    ProcessFault.FREEZE: ("fenced", "interrupted"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_no_promise_is_broken_when_one_database_call_fails(fault: Fault) -> None:
    counted, broken = sums(numbered(partial(run_call, fault)))
    assert not broken, "\n".join(broken)
    assert counted["runs"] > 30
    assert all(counted[each] for each in _EXPECTED.get(fault, ()))


@pytest.mark.parametrize("fault", [ProcessFault.KILL_AFTER, ProcessFault.FREEZE, ProcessFault.STOP])
def test_no_promise_is_broken_when_a_process_is_killed_frozen_or_stopped_at_one_step(fault: ProcessFault) -> None:
    counted, broken = sums(numbered(partial(run_step, fault)))
    assert not broken, "\n".join(broken)
    assert counted["runs"] > 100
    assert all(counted[each] for each in _EXPECTED.get(fault, ()))


@pytest.mark.parametrize("fault", [*BEHAVIORS, ProcessFault.KILL_BEFORE, ProcessFault.KILL_AFTER, ProcessFault.FREEZE])
def test_no_promise_is_broken_when_one_request_fails_before_or_after_its_effect(fault: Behavior | ProcessFault) -> None:
    counted, broken = sums(numbered(partial(run_send, fault)))
    assert not broken, "\n".join(broken)
    assert counted["runs"] > 6
    assert all(counted[each] for each in _EXPECTED.get(fault, ()))
