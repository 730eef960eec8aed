"""Every command of the program in any order, on both stores: the ledger, the events, the days and the tiers follow from the log."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from support.databases import Databases
from support.program_model import ACTIONS, ProgramModel, SeededChooser

T = TypeVar("T")


class DrawnChooser:
    """Draws from Hypothesis, which makes failures small."""

    def __init__(self, data: Callable[[], st.DataObject]) -> None:
        self._data = data

    def integer(self, low: int, high: int) -> int:
        small = st.integers(low, min(high, low + 60))
        return self._data().draw(small if high <= low + 60 else small | st.integers(low, high))

    def one_of(self, options: Sequence[T]) -> T:
        return self._data().draw(st.sampled_from(list(options)))


def machine(fresh: Callable[[], str]) -> type[RuleBasedStateMachine]:
    """The state machine, each run of which has a database of its own."""

    class Program(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self._data: st.DataObject | None = None
            self._model = ProgramModel(fresh(), DrawnChooser(self._current))

        def _current(self) -> st.DataObject:
            assert self._data is not None
            return self._data

        @rule(data=st.data(), action=st.sampled_from(ACTIONS))
        def act(self, data: st.DataObject, action: str) -> None:
            self._data = data
            getattr(self._model, action)()

        @invariant()
        def everything_adds_up(self) -> None:
            self._model.check()

        def teardown(self) -> None:
            self._model.close()

    return Program


def test_everything_adds_up_after_any_sequence_of_commands(databases: Databases, store: str) -> None:
    examples = settings(
        max_examples=25 if store == "sqlite" else 8,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine(lambda: databases.fresh(store)), settings=examples)


@pytest.mark.parametrize("seed", range(40))
def test_everything_adds_up_after_commands_of_a_seed(databases: Databases, seed: int) -> None:
    model = ProgramModel(databases.fresh("sqlite"), SeededChooser(seed))
    for _ in range(20):
        model.act()
        model.check()
    model.close()
