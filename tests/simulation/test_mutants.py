"""A seed detects each mutant; with the same seed the product itself breaks no promise, so the mutant is the cause."""

from functools import cache

import pytest

import loyalpro.delivery.engine
from loyalpro.delivery.decide import decide
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.storage.tables.leases import LeaseTables
from simulation.many import broken_by
from simulation.mutants import MUTANTS
from simulation.mutation import Mutant, wrong, wrong_sql
from simulation.pages import CHECKS, PROGRAM_CHECKS
from simulation.program_mutants import PROGRAM_MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_detected(mutant: Mutant) -> None:
    with mutant.in_place():
        broken = broken_by(mutant.seed)
    assert broken, f"seed {mutant.seed} does not detect it any more: find another with `make mutants`"
    assert {each.partition(":")[0] for each in broken} <= set(CHECKS), broken
    assert mutant.unused() == []
    assert _broken_by_the_product(mutant.seed) == []


@pytest.mark.parametrize("mutant", PROGRAM_MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_of_the_program_is_detected(mutant: Mutant) -> None:
    with mutant.in_place():
        broken = broken_by(mutant.seed, "program")
    assert broken, f"seed {mutant.seed} does not detect it any more: find another with `make mutants`"
    assert {each.partition(":")[0] for each in broken} <= set(PROGRAM_CHECKS), broken
    assert mutant.unused() == []
    assert broken_by(mutant.seed, "program") == []


def test_a_mutant_replaces_functions_in_modules_and_classes_until_its_context_ends() -> None:
    original = RetrySchedule.is_over
    mutant = Mutant("two", 0, (wrong(decide, _fail), wrong(RetrySchedule.is_over, _fail)))
    with mutant.in_place():
        assert vars(loyalpro.delivery.engine)["decide"] is not decide
        with pytest.raises(ZeroDivisionError):
            RetrySchedule().is_over(0, 0)
    assert vars(loyalpro.delivery.engine)["decide"] is decide
    assert RetrySchedule.is_over is original
    assert mutant.unused() == ["decide"]


def test_a_text_that_no_statement_contains_is_reported() -> None:
    mutant = Mutant("gone", 0, (wrong_sql(LeaseTables.expired, ("FROM workers", "FROM workers"), ("FROM x", "")),))
    with mutant.in_place():
        broken_by(0)
    assert mutant.unused() == ["FROM x"]


def _fail(*_: object, **__: object) -> None:
    raise ZeroDivisionError


@cache
def _broken_by_the_product(seed: int) -> list[str]:
    return broken_by(seed)
