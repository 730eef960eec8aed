"""A lane of faults: each is fired, or it is written down that it was not."""

from pathlib import Path

from chaos import journal
from chaos.faults import Change, Lane
from chaos.journal import Journal


def test_a_fault_that_cannot_be_fired_is_written_down_and_the_next_one_is_fired(tmp_path: Path) -> None:
    def leave() -> None:
        raise LookupError("no such endpoint")

    faults = [Change("join", lambda: None), Change("leave", leave), Change("pause", lambda: None)]
    lane = Lane([(0.5, each) for each in faults], lambda: 1.0, Journal(tmp_path / "run.jsonl"), seed=7)
    lane.start()
    lane.join()
    lines = list(journal.read(tmp_path / "run.jsonl"))
    assert [line["name"] for line in lines if line["kind"] == "fault"] == ["join", "pause"]
    assert [line["why"] for line in lines if line["kind"] == "missed"] == ["LookupError: no such endpoint"]
