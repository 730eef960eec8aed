"""The names of environment variables. Finds those that no part of LoyalPro reads, which are probably misspelled."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

PREFIX: Final = "LOYALPRO_"
CLIENT_VARIABLES: Final = ("LOYALPRO_API_KEY", "LOYALPRO_SERVER")
"""Variables of the commands that talk to a server."""
OTHER_VARIABLES: Final = ("LOYALPRO_WEBHOOK_SECRET",)
"""Variables that the documentation uses for receivers."""
_TESTS: Final = "LOYALPRO_TEST_"
_SIMILAR: Final = 0.6
_ALMOST_EQUAL: Final = 0.85
"""For names that somebody else may have given: those of other programs, and those of settings in a command without settings."""


@dataclass(frozen=True, slots=True)
class UnknownVariable:
    """The name of a variable that is set and not read, and the name that is probably meant."""

    name: str
    nearest: str | None

    @property
    def advice(self) -> str:
        """What to do about it."""
        return f"Is {self.nearest} meant?" if self.nearest else "Remove it."

    def __str__(self) -> str:
        """A line for people. It has no value, because values may be secret."""
        return f"{self.name} is not a variable of LoyalPro, and has no effect. {self.advice}"


def unknown_variables(names: Iterable[str], known: Collection[str]) -> list[UnknownVariable]:
    """The names with the prefix of LoyalPro that are not known, and those that are almost equal to a known one."""
    known = {*known, *CLIENT_VARIABLES, *OTHER_VARIABLES}
    found = []
    for name in sorted(names):
        upper = name.upper()  # names of settings are not case-sensitive
        if upper in known or upper.startswith(_TESTS):
            continue
        nearest = _nearest(upper, known, _SIMILAR)
        if nearest or upper.startswith(PREFIX):
            found.append(UnknownVariable(name, nearest))
    return found


def _nearest(name: str, known: Collection[str], similarity: float) -> str | None:
    """The most similar known name. Names with the prefix are compared without it, because all of them share it."""
    if not name.startswith(PREFIX):
        return next(iter(get_close_matches(name, known, n=1, cutoff=_ALMOST_EQUAL)), None)
    rests = [each.removeprefix(PREFIX) for each in known]
    found = get_close_matches(name.removeprefix(PREFIX), rests, n=1, cutoff=similarity)
    return PREFIX + found[0] if found else None


def misspelled_client_variables(names: Iterable[str]) -> list[UnknownVariable]:
    """The names that are almost equal to a variable of the commands that talk to a server."""
    found = []
    for name in sorted(names):
        nearest = _nearest(name.upper(), CLIENT_VARIABLES, _ALMOST_EQUAL)
        if nearest and name not in CLIENT_VARIABLES:
            found.append(UnknownVariable(name, nearest))
    return found
