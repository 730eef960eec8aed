"""Every call and every step, one after the other, is the one that goes wrong."""

import pytest

from simulation.crash_points import KINDS, every, sums
from simulation.database import Fault

_HAPPENS = {
    Fault.CRASH_BEFORE: ("interrupted", "duplicates"),
    Fault.CRASH_AFTER: ("interrupted", "duplicates"),
    Fault.ANSWER_LOST: ("fenced",),
    Fault.LATE_COMMIT: ("fenced",),
    Fault.FREEZE_BEFORE: ("fenced", "interrupted"),
    Fault.FREEZE_AFTER: ("fenced", "interrupted"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_whichever_call_of_the_database_goes_wrong(kind: Fault) -> None:
    counted, broken = sums(every(kind))
    assert not broken, "\n".join(broken)
    assert counted["runs"] > 30
    assert all(counted[each] for each in _HAPPENS.get(kind, ()))


def test_whichever_step_of_its_sending_a_process_is_killed_at() -> None:
    counted, broken = sums(every(None))
    assert not broken, "\n".join(broken)
    assert counted["runs"] > 30
    assert counted["interrupted"]
    assert counted["duplicates"]
