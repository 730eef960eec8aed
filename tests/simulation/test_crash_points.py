"""Every call of the database, every step between two awaits, and every request, one after the other, is what goes wrong."""

from functools import partial

import pytest

from receivers.behavior import Behavior
from simulation.crash_points import BEHAVIORS, FAULTS, Deed, every, run_call, run_send, run_step, sums
from simulation.database import Fault

_HAPPENS: dict[Fault | Behavior | Deed, tuple[str, ...]] = {
    Fault.CRASH_BEFORE: ("interrupted", "duplicates"),
    Fault.CRASH_AFTER: ("interrupted", "duplicates"),
    Fault.ANSWER_LOST: ("fenced",),
    Fault.LATE_COMMIT: ("fenced",),
    Fault.FREEZE_BEFORE: ("fenced", "interrupted"),
    Fault.FREEZE_AFTER: ("fenced", "interrupted"),
    Behavior.LOST_ACCEPT: ("duplicates",),
    Behavior.SILENT_ACCEPT: ("duplicates",),
    Deed.KILL_BEFORE: ("interrupted",),
    Deed.KILL_AFTER: ("interrupted", "duplicates"),
    Deed.FREEZE: ("fenced", "interrupted"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whichever_call_of_the_database_goes_wrong(fault: Fault) -> None:
    counted, broken = sums(every(partial(run_call, fault)))
    assert not broken, "\n".join(broken)
    assert counted["runs"] > 30
    assert all(counted[each] for each in _HAPPENS.get(fault, ()))


@pytest.mark.parametrize("deed", [Deed.KILL_AFTER, Deed.FREEZE, Deed.STOP])
def test_whichever_step_a_process_is_killed_frozen_or_stopped_at(deed: Deed) -> None:
    counted, broken = sums(every(partial(run_step, deed)))
    assert not broken, "\n".join(broken)
    assert counted["runs"] > 100
    assert all(counted[each] for each in _HAPPENS.get(deed, ()))


@pytest.mark.parametrize("fate", [*BEHAVIORS, Deed.KILL_BEFORE, Deed.KILL_AFTER, Deed.FREEZE])
def test_whichever_request_fails_before_or_after_it_took_effect(fate: Behavior | Deed) -> None:
    counted, broken = sums(every(partial(run_send, fate)))
    assert not broken, "\n".join(broken)
    assert counted["runs"] > 6
    assert all(counted[each] for each in _HAPPENS.get(fate, ()))
