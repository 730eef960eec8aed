"""What a program must satisfy as a whole, beyond the types and ranges of its fields. Each refusal names the field."""

from collections.abc import Sequence
from functools import cache
from zoneinfo import available_timezones

from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.nearest import nearest
from loyalpro.loyalty.earning import EarnRule, EarnSettings
from loyalpro.loyalty.expiry import ExpiryPolicy
from loyalpro.loyalty.money import minor_units
from loyalpro.loyalty.program import Rules
from loyalpro.loyalty.tiers import Tier

_LONGEST_MONTHS = {1: 31, 2: 29, 3: 31, 4: 30, 5: 31, 6: 30, 7: 31, 8: 31, 9: 30, 10: 31, 11: 30, 12: 31}


def check_rules(rules: Rules) -> None:
    """Raise `InvalidInput` for rules that cannot be in force."""
    minor_units(rules.currency)
    _check_time_zone(rules.time_zone)
    _check_earning(rules.earning, rules.currency)
    _check_expiry(rules.expiry)


def check_tiers(tiers: Sequence[Tier]) -> None:
    """Raise `InvalidInput` for tiers, lowest first, that leave a customer without a tier or with two."""
    if not tiers or tiers[0].threshold:
        raise _wrong("A program needs a tier with threshold 0, in which customers begin.", "tiers")
    for index, tier in enumerate(tiers):
        before = tiers[:index]
        if any(tier.threshold == each.threshold for each in before):
            raise _wrong(f"Two tiers have the threshold {tier.threshold}; give each its own.", "tiers")
        if any(tier.name == each.name for each in before):
            raise _wrong(f"Two tiers have the name {tier.name!r}; give each its own.", "tiers")


def _check_time_zone(name: str) -> None:
    if name not in _time_zones():
        near = nearest(name, sorted(_time_zones()))
        hint = f"Did you mean {near}?" if near else "An example is Europe/Berlin."
        raise InvalidInput(
            f"{name[:64]!r} is not the name of an IANA time zone. {hint}", code="unknown_time_zone", param="time_zone"
        )


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime"})


def _check_earning(earning: EarnSettings, currency: str) -> None:
    for index, rule in enumerate(earning.rules):
        _check_rule(rule, f"earning.rules[{index}]")
        if any(rule.id == each.id for each in earning.rules[:index]):
            raise _wrong(
                f"Two rules have the id {rule.id}; leave out the id of the new one.", f"earning.rules[{index}].id"
            )
    if not any(currency in rule.rates for rule in earning.rules):
        raise _wrong(f"No rule has a rate for {currency}, the program's currency; add one.", "earning.rules")
    for code in earning.conversion:
        _check_currency(code, f"earning.conversion.{code[:16]}")
    if currency in earning.conversion:
        raise _wrong(f"{currency} is the program's currency; it needs no conversion.", f"earning.conversion.{currency}")


def _check_rule(rule: EarnRule, param: str) -> None:
    if bool(rule.rates) == (rule.points_per_item is not None):
        raise _wrong("A rule has either rates or points_per_item; send one of them.", f"{param}.rates")
    for code in rule.rates:
        _check_currency(code, f"{param}.rates.{code[:16]}")


def _check_currency(code: str, param: str) -> None:
    try:
        minor_units(code)
    except InvalidInput as error:
        raise InvalidInput(error.detail, code=error.code, param=param) from None


def _check_expiry(expiry: ExpiryPolicy) -> None:
    if (expiry.kind == "date") != (expiry.month_day is not None):
        raise _wrong(
            "month_day is the day of the kind `date`, such as 12-31, and of no other kind.", "expiry.month_day"
        )
    if expiry.month_day is not None:
        month, day = int(expiry.month_day[:2]), int(expiry.month_day[3:])
        if not 1 <= day <= _LONGEST_MONTHS.get(month, 0):
            raise _wrong(
                f"There is no day {expiry.month_day}; send a month and a day, such as 12-31.", "expiry.month_day"
            )


def _wrong(detail: str, param: str) -> InvalidInput:
    return InvalidInput(detail, code="invalid_field", param=param)
