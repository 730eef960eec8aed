"""A seed of the program model finds each mistake; with the same seed the program itself breaks nothing."""

import pytest

from simulation.mutation import Mutant
from support.databases import Databases
from support.program_model import ProgramModel, SeededChooser
from support.program_mutants import MUTANTS

STEPS = 20


def run(databases: Databases, seed: int) -> Exception | None:
    """What breaks in the run of a seed; None when everything holds."""
    model: ProgramModel | None = None
    try:
        model = ProgramModel(databases.fresh("sqlite"), SeededChooser(seed))
        for _ in range(STEPS):
            model.act()
            model.check()
    except Exception as broken:  # noqa: BLE001 - a mistake may show as any error
        return broken
    finally:
        if model is not None:
            model.close()
    return None


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mistake_in_the_program_is_found(databases: Databases, mutant: Mutant) -> None:
    with mutant.in_place():
        broken = run(databases, mutant.seed)
    assert broken is not None, f"seed {mutant.seed} does not find it any more"
    assert mutant.unused() == []
    assert run(databases, mutant.seed) is None
