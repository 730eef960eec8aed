"""The fit: on the published customers, on simulated ones, and which customers it takes."""

import itertools
import random
from collections.abc import Iterable
from dataclasses import astuple
from math import exp, log
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.loyalty.churn.features import Features, History
from loyalpro.loyalty.churn.fit import MOST_CUSTOMERS, Sample, fit
from loyalpro.loyalty.churn.mbg_nbd import Model, Parameters, bg_nbd, log_likelihood, mbg_nbd
from loyalpro.loyalty.churn.nelder_mead import Point, minimize

Published: TypeAlias = tuple[History, ...]

ONE = History(0, 0, 100)
AGAIN = History(2, 40, 100)


def simulated(fitted: Parameters, count: int, chance: random.Random) -> list[History]:
    """Customers that buy and leave as MBG/NBD says, seen at ages of up to 1,000 days."""
    return [_simulated(fitted, chance.randrange(1, 1_000), chance) for _ in range(count)]


def _simulated(fitted: Parameters, age: int, chance: random.Random) -> History:
    rate = chance.gammavariate(fitted.r, 1 / fitted.alpha)
    leaves = chance.betavariate(fitted.a, fitted.b)
    repeats, recency = 0, 0.0
    while chance.random() >= leaves and (at := recency + chance.expovariate(rate)) < age:
        repeats, recency = repeats + 1, at
    return History(repeats, round(recency), age)


@pytest.mark.parametrize(
    ("model", "expected", "likelihood"),
    [
        pytest.param(bg_nbd, (0.24259, 4.41353, 0.79289, 2.42575), -9582.4256, id="32-BG/NBD"),
        pytest.param(mbg_nbd, (0.52484, 6.18299, 0.89136, 1.61400), -9582.1327, id="32-MBG/NBD"),
    ],
)
def test_example_32(published: Published, model: Model, expected: tuple[float, ...], likelihood: float) -> None:
    found = fit(published, model)
    assert found is not None
    fitted = found.parameters
    assert tuple(round(each, 5) for each in (fitted.r, fitted.alpha, fitted.a, fitted.b)) == expected
    assert round(found.log_likelihood, 4) == likelihood
    assert found.customers == 2_357


def test_the_grouped_likelihood_is_the_sum_over_the_customers(published: Published) -> None:
    found = fit(published)
    assert found is not None
    total = sum(log_likelihood(mbg_nbd, found.parameters, each) for each in published)
    assert found.log_likelihood == pytest.approx(total, abs=1e-8)


def test_another_unit_of_time_gives_the_same_model(published: Published) -> None:
    in_weeks = fit(published)
    in_days = fit([History(each.repeats, each.recency * 7, each.age * 7) for each in published])
    assert in_weeks is not None
    assert in_days is not None
    weekly, daily = in_weeks.parameters, in_days.parameters
    assert (daily.r, daily.alpha / 7, daily.a, daily.b) == pytest.approx(
        (weekly.r, weekly.alpha, weekly.a, weekly.b), rel=1e-5
    )


@pytest.mark.parametrize("count", [3_000, 12_000])
def test_no_parameters_near_those_of_a_fit_are_more_likely(count: int) -> None:
    """The search for 12,000 customers, with 7,000 different histories, begins where that for a part of them ends."""
    histories = simulated(Parameters(0.8, 40.0, 1.0, 2.5), count, random.Random(3))
    assert (len(set(histories)) > 5_000) == (count > 5_000)
    found = fit(histories)
    assert found is not None
    best, values = found.log_likelihood, astuple(found.parameters)
    assert best == pytest.approx(likelihood(found.parameters, histories), abs=1e-6)
    for place, factor in itertools.product(range(4), (0.9999, 1.0001)):
        nearby = Parameters(*(each * factor if n == place else each for n, each in enumerate(values)))
        assert likelihood(nearby, histories) < best


def likelihood(parameters: Parameters, histories: Iterable[History]) -> float:
    """The logarithm of the likelihood of all customers, one by one."""
    return sum(log_likelihood(mbg_nbd, parameters, each) for each in histories)


def test_a_fit_finds_the_parameters_that_customers_were_simulated_with() -> None:
    true = Parameters(0.8, 40.0, 1.0, 2.5)
    found = fit(simulated(true, 10_000, random.Random(7)))
    assert found is not None
    fitted = found.parameters
    assert (fitted.r, fitted.alpha) == pytest.approx((true.r, true.alpha), rel=0.12)
    assert fitted.a / (fitted.a + fitted.b) == pytest.approx(true.a / (true.a + true.b), rel=0.12)


@pytest.mark.parametrize(
    ("customers", "repeat_customers", "enough"), [(200, 50, True), (199, 100, False), (200, 49, False)]
)
def test_a_fit_needs_200_customers_and_50_that_bought_again(
    customers: int, repeat_customers: int, *, enough: bool
) -> None:
    found = fit([ONE] * (customers - repeat_customers) + [AGAIN] * repeat_customers)
    assert (found is not None) == enough


@pytest.mark.parametrize(
    "histories",
    [
        [AGAIN] * 200,
        [History(99, 99, 99)] * 200,
        [History(99, 99, 10_000)] * 200,
        [History(1, 1, 1)] * 100 + [History(0, 0, 0)] * 100,
        [History(0, 0, age) for age in range(200)] + [History(1, 1, 4_000)] * 50,
        [History(1_000, 1_000, 1_000)] * 100 + [History(0, 0, 1_000)] * 100,
    ],
    ids=["equal", "daily", "daily-then-gone", "days-old", "one-timers", "extremes"],
)
def test_a_program_of_few_kinds_of_customers_gets_parameters_within_the_bounds(histories: list[History]) -> None:
    found = fit(histories)
    assert found is not None
    fitted, unit = found.parameters, max(each.age for each in histories)
    for each in (fitted.r, fitted.alpha / unit, fitted.a, fitted.b):
        assert -12.0001 < log(each) < 12.0001


def test_a_fit_is_the_same_in_every_order() -> None:
    histories = simulated(Parameters(0.5, 40.0, 1.0, 2.0), 400, random.Random(1))
    found, reverse = fit(histories), fit(histories[::-1])
    assert found is not None
    assert reverse is not None
    assert found.log_likelihood == pytest.approx(reverse.log_likelihood, abs=1e-6)


def sampled(numbers: Iterable[int], most: int = MOST_CUSTOMERS, *, piece: int = 1_000) -> list[int]:
    """The numbers of the customers that a sample has after all were added in pieces. A customer has its number of repeats."""
    sample, left = Sample(most), iter(numbers)
    while some := list(itertools.islice(left, piece)):
        sample.add((f"cus_{number}", Features(number, number, number, None)) for number in some)
    return [each.repeat_purchases for each in sample.customers()]


def test_a_sample_is_small_and_does_not_depend_on_the_order_or_on_pieces() -> None:
    shuffled = random.Random(3).sample(range(1_000), 1_000)
    chosen = sampled(range(1_000), 100)
    assert chosen == sampled(shuffled, 100) == sampled(shuffled, 100, piece=7)
    assert len(set(chosen)) == 100
    assert sampled(range(1_000), 3) == [153, 446, 754]


def test_a_sample_of_few_has_all() -> None:
    assert sorted(sampled(range(10))) == list(range(10))
    assert MOST_CUSTOMERS == 20_000


@given(st.sets(st.integers(0, 10_000), min_size=1), st.integers(1, 50), st.randoms(use_true_random=False))
def test_a_customer_leaves_a_sample_only_for_smaller_hashes(
    numbers: set[int], most: int, chance: random.Random
) -> None:
    fewer = {each for each in sorted(numbers) if chance.random() < 0.5}
    kept = set(sampled(numbers, most, piece=10)) & fewer
    assert kept <= set(sampled(fewer, most))


def test_the_minimum_of_a_curved_valley_is_found() -> None:
    def rosenbrock(point: Point) -> float:
        x, y = point
        return (1 - x) ** 2 + 100 * (y - x * x) ** 2

    value, point = minimize(rosenbrock, [(-1.2, 1.0)], bound=12, tolerance=1e-8)
    assert value < 1e-14
    assert point == pytest.approx((1, 1), abs=1e-6)


def test_a_minimum_outside_of_the_bounds_is_sought_at_the_bounds() -> None:
    value, point = minimize(lambda at: exp(at[0]) + (at[1] - 3) ** 2, [(0.0, 0.0)], bound=12, tolerance=1e-8)
    assert point == pytest.approx((-12, 3), abs=1e-3)
    assert min(point) >= -12
    assert value == pytest.approx(exp(-12), abs=1e-6)


def test_the_lowest_of_several_valleys_is_found_from_a_start_in_it() -> None:
    def valleys(point: Point) -> float:
        return min((point[0] - 5) ** 2, (point[0] + 5) ** 2 - 1)

    value, point = minimize(valleys, [(4.0,), (-4.0,)], bound=12, tolerance=1e-8)
    assert value == pytest.approx(-1)
    assert point == pytest.approx((-5,), abs=1e-4)


def test_a_simplex_that_became_flat_at_a_bound_leaves_it_again() -> None:
    def bowl(point: Point) -> float:
        pairs = zip((0.25, 1, 6, 1), point, (0, 6, 7, 6), strict=True)
        return sum(k * (each - low) ** 2 for k, each, low in pairs)

    _, point = minimize(bowl, [(0.0,) * 4], bound=12, tolerance=1e-8)
    assert point == pytest.approx((0, 6, 7, 6), abs=1e-5)


@given(st.tuples(*[st.floats(-10, 10)] * 4), st.tuples(*[st.floats(0.1, 10)] * 4))
def test_the_minimum_of_a_bowl_is_found(bottom: Point, steepness: Point) -> None:
    def bowl(point: Point) -> float:
        return sum(k * (each - low) ** 2 for k, each, low in zip(steepness, point, bottom, strict=True))

    value, point = minimize(bowl, [(0.0,) * 4], bound=12, tolerance=1e-8)
    assert point == pytest.approx(bottom, abs=1e-5)
    assert value == pytest.approx(0, abs=1e-8)
