"""What `make simulate` and `make mutants` write down."""

from collections import Counter
from pathlib import Path

from simulation import mutants
from simulation.many import Catch, Tally
from simulation.mutants import MUTANTS
from simulation.pages import Run, mutants_page, simulation_page, with_seeds

_RUN = Run("make it", "2025-11-24", "2 cores", 1.0)


def test_a_broken_promise_stands_on_the_page_with_its_seed() -> None:
    tally = Tally(seeds=10, counted=Counter(deliveries=300))
    assert "no promise was broken" in simulation_page(tally, _RUN)
    assert "| so, at 95 %, lost is less than | 0.01 (3/300) |" in simulation_page(tally, _RUN)
    tally.add(Tally(seeds=1, broken={42: ["debts: lost: one"]}))
    page = simulation_page(tally, _RUN)
    assert "## 11 seeds: 1 seeds FAILED" in page
    assert "- seed 42: `debts: lost: one`" in page
    assert "at 95 %" not in page


def test_a_mutant_that_no_seed_shows_stands_on_the_page() -> None:
    page = mutants_page([Catch(MUTANTS[0], 0, "debts: lost"), Catch(MUTANTS[1], None, "")], _RUN, 500)
    assert "## 1 of 2 are caught" in page
    assert f"| {MUTANTS[0].name} | debts | 1 |" in page
    assert f"| {MUTANTS[1].name} | **none** | 500 and not caught |" in page


def test_each_seed_is_noted_beside_its_mutant() -> None:
    source = Path(mutants.__file__).read_text()
    assert with_seeds(source, [Catch(each, each.seed, "") for each in MUTANTS]) == source
    names: dict[str, object] = {}
    exec(with_seeds(source, [Catch(each, 1_000 + place, "") for place, each in enumerate(MUTANTS)]), names)
    renewed = names["MUTANTS"]
    assert isinstance(renewed, tuple)
    assert [each.seed for each in renewed] == [1_000 + place for place in range(len(MUTANTS))]
