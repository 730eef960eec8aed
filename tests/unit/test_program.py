"""The rules of a program: points of an amount, its currency, its tiers."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.kernel.clock import VirtualClock
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.program import EarnRule, ProgramMissing, default_program

PROGRAM = default_program(IdFactory(VirtualClock(), random.Random(1)))

amounts = st.integers(0, 10**12 - 1)
rules = st.builds(EarnRule, st.just("rule_1"), st.just("r"), st.integers(1, 10_000), st.integers(1, 10**6))


@pytest.mark.parametrize(
    ("points", "per_amount", "amount", "expected"),
    [(1, 100, 5_600, 56), (1, 100, 99, 0), (1, 100, 12_345, 123), (3, 2_500, 12_345, 14), (5, 100, 999, 49)],
)
def test_points_are_rounded_down_once(points: int, per_amount: int, amount: int, expected: int) -> None:
    assert EarnRule("rule_1", "r", points, per_amount).points_for(amount) == expected


@given(rules, amounts, amounts)
def test_a_larger_amount_never_earns_fewer_points(rule: EarnRule, one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert rule.points_for(low) <= rule.points_for(high)


@given(rules, amounts, amounts)
def test_splitting_an_order_never_earns_more(rule: EarnRule, one: int, other: int) -> None:
    assert rule.points_for(one) + rule.points_for(other) <= rule.points_for(one + other)


def test_a_program_refuses_other_currencies_than_its_own() -> None:
    PROGRAM.require_currency("EUR")
    for currency, code in (("USD", "currency_not_supported"), ("euro", "unknown_currency")):
        with pytest.raises(InvalidInput) as refused:
            PROGRAM.require_currency(currency)
        assert refused.value.code == code


def test_a_tier_is_found_by_its_id_and_a_missing_one_is_a_typed_error() -> None:
    for tier in PROGRAM.tiers:
        assert PROGRAM.tier(tier.id) == tier
    with pytest.raises(ProgramMissing):
        PROGRAM.tier("tier_gone")
