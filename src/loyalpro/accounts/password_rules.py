"""Which passwords are accepted: 12 characters or more that are not among the first that somebody would guess.

A list of common passwords has few of 12 characters, and those are a common word with an ending, a row of keys, or a
repetition. So these are refused by rules, which also refuse what a list does not have.
"""

import unicodedata
from collections.abc import Iterable
from typing import Final

from loyalpro.kernel.errors import InvalidInput

MIN_PASSWORD: Final = 12
MAX_PASSWORD: Final = 200
_MIN_DIFFERENT: Final = 5
_LONGEST_PERIOD: Final = 6
_MIN_LEFT: Final = 6
"""How many characters have to remain when common words and rows are taken out."""
_MIN_WORD: Final = 4
_ROWS: Final = (
    "abcdefghijklmnopqrstuvwxyz",
    "01234567890123456789",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "yxcvbnm",
    "azertyuiop",
    "qsdfghjklm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm",
    "1q2w3e4r5t6y7u8i9o0p",
    "q1w2e3r4t5y6u7i8o9p0",
)
_WORDS: Final = (
    "password passwort passwd motdepasse contrasena senha parola wachtwoord letmein welcome willkommen bienvenue login admin"
    " administrator root user guest master secret changeme default test testing trustno iloveyou lovely sunshine princess"
    " football baseball basketball superman batman pokemon starwars whatever dragon monkey shadow michael jordan charlie"
    " jennifer ashley daniel computer internet samsung google facebook liverpool chelsea arsenal barcelona juventus"
    " summer winter spring autumn sommer january february march april june july august september october november december"
    " monday tuesday wednesday thursday friday saturday sunday loyalpro loyalty company business correcthorsebatterystaple"
).split()
_LEET: Final = str.maketrans("@4301!$57", "aaeoiisst")


def checked_password(password: str, *, about: Iterable[str] = (), param: str = "password") -> str:
    """`password` if it is accepted. `about`: texts that others know of the person, such as the e-mail address.

    Raises `InvalidInput` that says what is wrong with it, and does not repeat it.
    """
    if len(password) < MIN_PASSWORD:
        raise _refused(f"A password has {MIN_PASSWORD} characters or more.", "password_too_short", param)
    if len(password) > MAX_PASSWORD:
        raise _refused(f"A password has at most {MAX_PASSWORD} characters.", "password_too_long", param)
    text = _plain(password)
    if len(set(text)) < _MIN_DIFFERENT or _is_repetition(text):
        raise _refused(
            "This password repeats itself. Choose another, such as four random words.", "password_too_common", param
        )
    known = [part for each in about for part in _parts(each)]
    if _left(text, known) < _MIN_LEFT:
        raise _refused(
            "This password is one of the first that would be guessed. Choose another, such as four random words.",
            "password_too_common",
            param,
        )
    return password


def _plain(text: str) -> str:
    """The text without case and accents."""
    folded = unicodedata.normalize("NFKD", text).casefold()
    return "".join(each for each in folded if not unicodedata.combining(each))


def _is_repetition(text: str) -> bool:
    return any(text == (text[:period] * len(text))[: len(text)] for period in range(1, _LONGEST_PERIOD + 1))


def _left(text: str, known: Iterable[str]) -> int:
    """How many letters and digits remain without common words, what is known, and rows of four keys or more."""
    words = sorted({*_WORDS, *known}, key=len, reverse=True)
    return min(_rest(variant, words) for variant in (text, text.translate(_LEET)))


def _rest(text: str, words: Iterable[str]) -> int:
    for word in words:
        text = text.replace(word, " ")
    for row in _ROWS:
        for line in (row, row[::-1]):
            text = _without_rows(text, line)
    return sum(each.isalnum() for each in text)


def _without_rows(text: str, line: str) -> str:
    for size in range(len(line), _MIN_WORD - 1, -1):
        for at in range(len(line) - size + 1):
            text = text.replace(line[at : at + size], " ")
    return text


def _parts(text: str) -> list[str]:
    """A text and its words, those of them that are long enough to be recognized."""
    plain = _plain(text)
    words = "".join(each if each.isalnum() else " " for each in plain).split()
    return [each for each in (plain, *words) if len(each) >= _MIN_WORD]


def _refused(detail: str, code: str, param: str) -> InvalidInput:
    return InvalidInput(detail, code=code, param=param)
