"""A lane of faults: all of them are fired, or it is known that they were not."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from chaos.faults import Change, Lane
from chaos.journal import Journal


@dataclass
class Shop:
    """Changes of a merchant, one of which is impossible."""

    changed: int = 0

    def change(self) -> None:
        self.changed += 1

    def fail(self) -> None:
        raise LookupError("no such endpoint")


def lane(tmp_path: Path, *faults: Change) -> Lane:
    made = Lane([(0.5, each) for each in faults], lambda: 1.0, Journal(tmp_path / "run.jsonl"), seed=7)
    made.start()
    made.join()
    return made


def test_a_lane_is_over_when_every_fault_has_fired(tmp_path: Path) -> None:
    shop = Shop()
    assert lane(tmp_path, Change("join", shop.change), Change("leave", shop.change)).is_over
    assert shop.changed == 2


def test_a_lane_whose_last_fault_could_not_be_fired_says_so(tmp_path: Path) -> None:
    shop = Shop()
    failed = lane(tmp_path, Change("join", shop.change), Change("leave", shop.fail))
    with pytest.raises(LookupError, match="no such endpoint"):
        _ = failed.is_over
