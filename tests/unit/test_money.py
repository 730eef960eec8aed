"""Minor units of currencies."""

import pytest

from loyalpro.kernel.errors import InvalidInput
from loyalpro.loyalty.money import MINOR_DIGITS, minor_units


@pytest.mark.parametrize(("currency", "expected"), [("EUR", 100), ("JPY", 1), ("KWD", 1_000), ("ISK", 1)])
def test_a_currency_has_its_number_of_minor_units(currency: str, expected: int) -> None:
    assert minor_units(currency) == expected


def test_every_listed_currency_has_a_code_of_three_letters() -> None:
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in MINOR_DIGITS)
    assert set(MINOR_DIGITS.values()) == {0, 2, 3}


@pytest.mark.parametrize("text", ["eur", "EURO", "", "XXX", "E" * 10_000])
def test_an_unknown_currency_is_refused_with_a_short_message(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        minor_units(text)
    assert (refused.value.code, refused.value.param) == ("unknown_currency", "currency")
    assert len(refused.value.detail) < 100
