"""The rules of a program: its currencies and its tiers."""

import random

import pytest

from loyalpro.kernel.clock import VirtualClock
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.program import ProgramMissing, default_program

PROGRAM = default_program(IdFactory(VirtualClock(), random.Random(1)))


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
