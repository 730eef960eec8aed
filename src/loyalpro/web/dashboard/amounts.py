"""Amounts of money, numbers and times as people write them: shown on pages, and read from forms."""

import re
from datetime import UTC, datetime, tzinfo
from fractions import Fraction
from typing import Final

from loyalpro.kernel.clock import MS_PER_S, UnixMs
from loyalpro.kernel.errors import InvalidInput
from loyalpro.loyalty.money import MINOR_DIGITS, minor_units
from loyalpro.web.dashboard.formats import number

_DECIMAL: Final = re.compile(r"\d{1,12}(?:\.\d{1,6})?", re.ASCII)
_WHOLE: Final = re.compile(r"\d{1,15}", re.ASCII)
_FULL: Final = 100
_PERMILLE: Final = 1_000


def plain_money(amount: int, currency: str) -> str:
    """Minor units as a number that a form takes: `5600` EUR -> `56.00`."""
    units = minor_units(currency)
    whole, rest = divmod(abs(amount), units)
    digits = MINOR_DIGITS[currency]
    return f"{'-' if amount < 0 else ''}{whole}" + (f".{rest:0{digits}d}" if digits else "")


def times_over(permille: int) -> str:
    """A multiplier: `1500` -> `1.5`."""
    return f"{permille / _PERMILLE:.3f}".rstrip("0").rstrip(".")


def change(before: int, after: int) -> str:
    """By how much a sum changes: `4.2 % more`, `12 % less`, `the same`."""
    if before == after:
        return "the same"
    if not before:
        return f"{number(after)} more"
    percent = abs(Fraction(_FULL * (after - before), before))
    shown = "less than 0.1" if percent < Fraction(1, 10) else f"{float(percent):,.1f}".removesuffix(".0")
    return f"{shown} % {'more' if after > before else 'less'}"


def read_money(text: str, currency: str, param: str) -> int | None:
    """Minor units of an amount such as `56.00`; None for an empty field. Raises `InvalidInput` that names `param`."""
    if not text:
        return None
    amount = Fraction(text) * minor_units(currency) if _DECIMAL.fullmatch(text) else None
    if amount is None or amount.denominator != 1:
        raise InvalidInput(
            f"Write an amount such as {plain_money(minor_units(currency), currency)}.",
            code="invalid_field",
            param=param,
        )
    return amount.numerator


def read_whole(text: str, param: str) -> int | None:
    """A whole number; None for an empty field. Raises `InvalidInput` that names `param`."""
    if not text:
        return None
    if not _WHOLE.fullmatch(text):
        raise InvalidInput("Write a whole number, without separators.", code="invalid_field", param=param)
    return int(text)


def read_times(text: str, param: str) -> int | None:
    """The permille of a multiplier such as `1.5`; None for an empty field. Raises `InvalidInput` that names `param`."""
    if not text:
        return None
    permille = Fraction(text) * _PERMILLE if _DECIMAL.fullmatch(text) else None
    if permille is None or permille.denominator != 1:
        raise InvalidInput("Write a number with up to three decimals, such as 1.5.", code="invalid_field", param=param)
    return permille.numerator


def read_instant(text: str, zone: tzinfo, param: str) -> str | None:
    """A time of a form, which is one of the reader's zone, in RFC 3339; None for an empty field. Raises `InvalidInput`."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        raise InvalidInput("Write a date and a time of day.", code="invalid_field", param=param) from None


def form_instant(at: UnixMs | None, zone: tzinfo) -> str:
    """A time as the field of a form has it, in the reader's zone; empty for None."""
    if at is None:
        return ""
    return f"{datetime.fromtimestamp(at // MS_PER_S, UTC).astimezone(zone):%Y-%m-%dT%H:%M}"


def read_list(text: str) -> list[str]:
    """The values of a field with one on each line, or between commas."""
    return [each.strip() for each in re.split(r"[\n,]", text) if each.strip()]
