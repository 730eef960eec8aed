"""How much one transaction of a paced job does."""

from functools import partial

import pytest

from loyalpro.jobs.pace import LEAST, TRANSACTION_S, Pace, next_size
from loyalpro.kernel.clock import VirtualClock


def sizes(pace: Pace, clock: VirtualClock, items: int, each_s: float) -> list[int]:
    """The sizes of the transactions for so many items, each of which takes so long."""
    found: list[int] = []
    done: list[int] = []
    for chunk in pace.chunks(range(items)):
        pace.timed(len(chunk), partial(clock.advance, each_s * len(chunk)))
        found.append(len(chunk))
        done += chunk
    assert done == list(range(items))
    return found


def test_transactions_become_as_long_as_they_may_be() -> None:
    clock = VirtualClock()
    assert sizes(Pace(clock), clock, 200, TRANSACTION_S / 50) == [10, 20, 40, 50, 50, 30]


def test_work_that_costs_more_is_divided_into_smaller_transactions_of_few_items_at_least() -> None:
    clock = VirtualClock()
    pace = Pace(clock)
    assert sizes(pace, clock, 24, TRANSACTION_S / 8.5) == [10, 8, 6]
    assert sizes(pace, clock, 12, TRANSACTION_S * 40) == [8, LEAST - 1]
    assert sizes(pace, clock, 12, TRANSACTION_S * 40) == [LEAST, LEAST, 2]


def test_the_wait_between_two_transactions_says_nothing_about_their_cost() -> None:
    clock = VirtualClock()
    pace = Pace(clock)
    found = []
    for chunk in pace.chunks(range(70)):
        found.append(len(chunk))
        pace.timed(len(chunk), partial(clock.advance, TRANSACTION_S / 80 * len(chunk)))
        clock.advance(10)
    assert found == [10, 20, 40]


def test_work_that_costs_nothing_is_done_in_ever_larger_transactions() -> None:
    clock = VirtualClock()
    assert sizes(Pace(clock), clock, 200, 0) == [10, 20, 40, 80, 50]


@pytest.mark.parametrize(
    ("items", "took_s", "size"), [(100, 0.05, 50), (100, 0.01, 200), (10, 60.0, LEAST), (3, 0.0, 6), (1, 0.0, LEAST)]
)
def test_the_next_transaction_follows_the_cost_of_the_last_one(items: int, took_s: float, size: int) -> None:
    assert next_size(items, took_s) == size
