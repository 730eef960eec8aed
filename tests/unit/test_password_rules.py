"""Which passwords are accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.accounts.password_rules import MAX_PASSWORD, MIN_PASSWORD, checked_password
from loyalpro.kernel.errors import InvalidInput

ABOUT = ("ada.lovelace@analytical.example", "Bakery in Lyon")


def refusal(password: str) -> str | None:
    try:
        checked_password(password, about=ABOUT)
    except InvalidInput as error:
        assert error.param == "password"
        assert len(password) < MIN_PASSWORD or password not in error.detail
        return error.code
    return None


@pytest.mark.parametrize(
    "password",
    [
        "seven grey owls at noon",
        "correct staple battery horse",
        "Tr0ub4dor&3-xkcd-936",
        "kX9#mQ2$vL7!",
        "péché mignon du dimanche",
        "日曜日の朝に食べるパンとお茶",
        "my bakery has nine ovens",
    ],
)
def test_a_password_that_nobody_guesses_is_accepted(password: str) -> None:
    assert refusal(password) is None


@pytest.mark.parametrize(
    "password",
    [
        "password1234",
        "Password123!",
        "P@ssw0rd2026!",
        "passwordpassword",
        "qwertyuiop123",
        "1q2w3e4r5t6y",
        "1qaz2wsx3edc",
        "123456789012",
        "098765432109",
        "abcdefghijkl",
        "aaaaaaaaaaaa",
        "abcabcabcabcabc",
        "iloveyou2026",
        "welcome12345",
        "administrator1",
        "Summer2026!!!",
        "letmeinletmein",
        "LoyalPro2026!",
        "adalovelace12",
        "lovelace-2026",
        "Bakery2026!!",
        "correcthorsebatterystaple",
        "footballfootball",
        "            ",
    ],
)
def test_a_password_that_is_guessed_first_is_refused(password: str) -> None:
    assert refusal(password) == "password_too_common"


def test_the_length_counts_characters() -> None:
    assert refusal("kX9#mQ2$vL7") == "password_too_short"
    assert refusal("kX9#mQ2$vL7!" * 20) == "password_too_long"


@given(st.text(min_size=0, max_size=MAX_PASSWORD + 10))
def test_every_text_is_accepted_or_refused(password: str) -> None:
    assert refusal(password) in {None, "password_too_short", "password_too_long", "password_too_common"}
