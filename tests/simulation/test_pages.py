"""The pages that `make simulate` and `make mutants` write."""

from collections import Counter
from pathlib import Path

from simulation import mutants
from simulation.many import Detection, Tally
from simulation.mutants import MUTANTS
from simulation.pages import CommandRun, mutants_page, program_page, simulation_page, with_seeds

_RUN = CommandRun("make it", "2025-11-24", "2 cores", 1.0)


def test_the_page_shows_a_broken_promise_with_its_seed() -> None:
    tally = Tally(seeds=10, counted=Counter(deliveries=300))
    assert "no promise was broken" in simulation_page(tally, _RUN)
    assert "| so, at 95 %, lost is less than | 0.01 (3/300) |" in simulation_page(tally, _RUN)
    tally.add(Tally(seeds=1, broken={42: ["deliveries: lost: one"]}))
    page = simulation_page(tally, _RUN)
    assert "## 11 seeds: 1 seeds FAILED" in page
    assert "- seed 42: `deliveries: lost: one`" in page
    assert "at 95 %" not in page


def test_the_page_of_the_program_shows_a_broken_promise_with_its_seed() -> None:
    tally = Tally(seeds=10, counted=Counter({"event points.redeemed": 7, "crash": 2, "db crash_after": 3}))
    page = program_page(tally, _RUN)
    assert "no promise was broken" in page
    assert "| redemptions | 7 |" in page
    assert "| processes killed | 5 |" in page
    tally.add(Tally(seeds=1, broken={42: ["overdue: one"]}))
    page = program_page(tally, _RUN)
    assert "## 11 seeds: 1 seeds FAILED" in page
    assert "- seed 42: `overdue: one`" in page


def test_the_page_shows_a_mutant_that_no_seed_detects() -> None:
    page = mutants_page([Detection(MUTANTS[0], 0, "deliveries: lost"), Detection(MUTANTS[1], None, "")], _RUN, 500)
    assert "## 1 of 2 are detected" in page
    assert f"| {MUTANTS[0].name} | deliveries | 1 |" in page
    assert f"| {MUTANTS[1].name} | **none** | 500, not detected |" in page


def test_each_seed_is_written_after_the_name_of_its_mutant() -> None:
    source = Path(mutants.__file__).read_text()
    assert with_seeds(source, [Detection(each, each.seed, "") for each in MUTANTS]) == source
    names: dict[str, object] = {}
    exec(with_seeds(source, [Detection(each, 1_000 + place, "") for place, each in enumerate(MUTANTS)]), names)
    renewed = names["MUTANTS"]
    assert isinstance(renewed, tuple)
    assert [each.seed for each in renewed] == [1_000 + place for place in range(len(MUTANTS))]
