"""The first seeds of `make simulate`: every kind of fault happens, and no promise is broken."""

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from simulation.database import Fault
from simulation.profile import BEHAVIORS
from simulation.run import Report, simulate

SEEDS = 80
_CHUNK = 10
_HAPPENS = (
    *(f"db {fault}" for fault in Fault),
    *(f"net {behavior}" for behavior in BEHAVIORS),
    *"crash freeze freeze_at_send stop fenced interrupted ended duplicates orders_repeated succeeded exhausted canceled".split(),
    *(f"owner {action}" for action in "pause enable delete add_endpoint retry cancel resend replay".split()),
)
_ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("first", range(0, SEEDS, _CHUNK))
def test_no_promise_is_broken(first: int) -> None:
    broken = [str(report) for report in _reports(first) if report.violations]
    assert not broken, "\n".join(broken)


def test_every_kind_of_fault_happens() -> None:
    """A fault that never happens proves nothing: each one happens, and so does each way to recover from it."""
    counted: Counter[str] = Counter()
    for first in range(0, SEEDS, _CHUNK):
        for report in _reports(first):
            counted += report.counted
    assert [each for each in _HAPPENS if counted[each] < 3] == []


def test_the_same_seed_gives_the_same_run() -> None:
    """Also in another process, where sets have another order."""
    here = [simulate(seed).fingerprint for seed in (3, 28)]
    script = "from simulation.run import simulate\nfor seed in (3, 28): print(simulate(seed).fingerprint)"
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
def _reports(first: int) -> list[Report]:
    return [simulate(seed) for seed in range(first, first + _CHUNK)]
