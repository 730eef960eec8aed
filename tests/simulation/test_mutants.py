"""Each mistake is seen by a seed with which the product itself breaks no promise: so it is the mistake that was seen."""

from functools import cache

import pytest

from simulation.many import broken_by
from simulation.mutants import MUTANTS
from simulation.mutation import Mutant, Patch, product_of
from simulation.pages import CHECKS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_is_seen(mutant: Mutant) -> None:
    broken = broken_by(mutant.seed, product_of(mutant))
    assert broken, f"seed {mutant.seed} no longer shows it: find another with `make mutants`"
    assert {each.partition(":")[0] for each in broken} <= set(CHECKS), broken
    assert _broken_by_the_product(mutant.seed) == []


def test_a_mistake_whose_place_is_gone_is_not_taken_for_one_that_is_not_seen() -> None:
    gone = Mutant("gone", 0, (Patch("loyalpro.delivery.decide", "what stood here once", ""),))
    with pytest.raises(AssertionError, match="write the mutant anew"):
        product_of(gone)


def test_a_mistake_that_no_process_runs_is_not_taken_for_one_that_is_not_seen() -> None:
    elsewhere = Mutant("elsewhere", 0, (Patch("loyalpro.storage.disk_space", "def require", "def  require"),))
    with pytest.raises(AssertionError, match="not in the product"):
        product_of(elsewhere)


@cache
def _broken_by_the_product(seed: int) -> list[str]:
    return broken_by(seed)
