"""The first seeds of the loyalty program: every kind of fault and command happens, and no promise is broken."""

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from simulation.database import Fault
from simulation.program_commands import KINDS
from simulation.program_run import ProgramReport, simulate_program

SEEDS = 100
_CHUNK = 20
_HAPPENS = (
    *(f"db {fault}" for fault in Fault),
    *(f"command {kind}" for kind in KINDS),
    *("db outage", "crash", "freeze", "stop", "requests repeated", "repeated later", "requests refused"),
    *(f"redemption {status}" for status in "redeemed reversed canceled expired".split()),
    *(f"entry {type_}" for type_ in "earn activate expire redeem redeem_reversal clawback adjust merge_in".split()),
    *(f"event {type_}" for type_ in "customer.tier_changed customer.deleted fraud.detected".split()),
)
_ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("first", range(0, SEEDS, _CHUNK))
def test_no_promise_of_the_program_is_broken(first: int) -> None:
    broken = [str(report) for report in _reports(first) if report.violations]
    assert not broken, "\n".join(broken)


def test_every_kind_of_fault_and_command_happens() -> None:
    """A fault that never happens proves nothing, and neither does a command that is never sent."""
    counted: Counter[str] = Counter()
    for first in range(0, SEEDS, _CHUNK):
        for report in _reports(first):
            counted += report.counted
    assert [each for each in _HAPPENS if counted[each] < 3] == []


def test_the_same_seed_gives_the_same_run_of_the_program() -> None:
    """Also in another process, where sets have another order."""
    here = [simulate_program(seed).fingerprint for seed in (3, 28)]
    script = (
        "from simulation.program_run import simulate_program\n"
        "for seed in (3, 28): print(simulate_program(seed).fingerprint)"
    )
    there = subprocess.run(
        [sys.executable, "-c", script],
        cwd=_ROOT,
        env=os.environ | {"PYTHONHASHSEED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    assert there.stdout.split() == here


@cache
def _reports(first: int) -> list[ProgramReport]:
    return [simulate_program(seed) for seed in range(first, first + _CHUNK)]
