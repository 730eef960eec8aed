"""A schedule fires each of its faults, or records it as missed."""

from pathlib import Path

from chaos import journal
from chaos.faults import Change, FaultSchedule
from chaos.journal import Journal


def test_a_fault_that_raises_is_recorded_and_the_next_one_is_fired(tmp_path: Path) -> None:
    def leave() -> None:
        raise LookupError("no such endpoint")

    faults = [Change("join", lambda: None), Change("leave", leave), Change("pause", lambda: None)]
    schedule = FaultSchedule([(0.5, each) for each in faults], lambda: 1.0, Journal(tmp_path / "run.jsonl"), seed=7)
    schedule.start()
    schedule.join()
    lines = list(journal.read(tmp_path / "run.jsonl"))
    assert [line["name"] for line in lines if line["kind"] == "fault"] == ["join", "pause"]
    assert [line["why"] for line in lines if line["kind"] == "missed"] == ["LookupError: no such endpoint"]
