"""Fraud rules and their cases in words."""

from collections.abc import Mapping
from typing import Any, Final

from loyalpro.kernel.clock import MS_PER_DAY
from loyalpro.loyalty.fraud.durations import HOUR, MINUTE, parse_duration
from loyalpro.web.dashboard.formats import money, number
from loyalpro.web.dashboard.rule_words import count_of

TITLES: Final[Mapping[str, str]] = {
    "velocity.earn": "Many purchases",
    "velocity.redeem": "Many redemptions",
    "amount.outlier": "An unusual amount",
    "points.cap": "Many points in a day",
    "refund.abuse": "Much is returned",
    "refund.after_redeem": "Refund of points that were spent",
    "account.change_then_redeem": "Redeemed after a change of contact",
    "dormant.burst": "Redeemed after a long silence",
    "identity.shared": "Several customers share a device, card, phone or e-mail",
    "employee.self_accrual": "One employee, one customer",
    "employee.adjustments": "Many points by hand",
    "receipt.duplicate": "One receipt, several customers",
}
"""What each rule is called on pages, by its code."""

MEANINGS: Final[Mapping[str, str]] = {
    "velocity.earn": "A customer makes many purchases that earn within a short time.",
    "velocity.redeem": "A customer redeems many times within a short time.",
    "amount.outlier": "A purchase is far above what the customer usually spends.",
    "points.cap": "The purchases of a customer earn more points in a day than the threshold.",
    "refund.abuse": "A customer returns a large share of what it bought.",
    "refund.after_redeem": "A refund takes back points that were spent already, and leaves a debt.",
    "account.change_then_redeem": "A large share of the points is redeemed soon after e-mail or phone changed.",
    "dormant.burst": "A large share of the points is redeemed after a long time without any activity.",
    "identity.shared": "Several customers have one device, payment card, phone number or e-mail address.",
    "employee.self_accrual": "One employee records several purchases for one customer in a day.",
    "employee.adjustments": "One person or key credits many points by hand in a day.",
    "receipt.duplicate": "Several customers have a purchase with one location, amount and minute.",
}

ACTIONS: Final[Mapping[str, str]] = {
    "flag": "Only opens a case",
    "hold": "Holds the points of the purchase",
    "block": "Refuses the points or the redemption",
}
STATUSES: Final[Mapping[str, tuple[str, str, str]]] = {
    "open": ("wait", "clock", "Open"),
    "confirmed": ("bad", "ok", "Accepted"),
    "false_positive": ("", "off", "Dismissed"),
    "lapsed": ("", "off", "Lapsed"),
}
"""The badge of each status: its tone, its shape and its word."""

SEVERITIES: Final[Mapping[str, tuple[str, str, str]]] = {
    "high": ("bad", "up", "High"),
    "medium": ("wait", "up", "Medium"),
    "low": ("", "info", "Low"),
}
PARAMS: Final[Mapping[str, str]] = {
    "threshold": "Threshold",
    "window": "Window",
    "long_threshold": "Threshold of the long window",
    "long_window": "Long window",
    "floor": "Least amount, in minor units",
    "min_amount": "Least amount, in minor units",
    "min_purchases": "Least number of purchases",
    "max_entries": "Most credits in a day",
}
"""What the parameters are called in forms."""

_SHARES: Final = frozenset({"refund.abuse", "account.change_then_redeem", "dormant.burst"})
_ABOVE: Final = frozenset({"amount.outlier", "points.cap", "employee.adjustments"})
_NOUNS: Final = {
    "employee.adjustments": "point",
    "velocity.earn": "purchase",
    "velocity.redeem": "redemption",
    "points.cap": "point",
    "refund.after_redeem": "point",
    "identity.shared": "customer",
    "employee.self_accrual": "purchase",
    "receipt.duplicate": "customer",
}
_LONG_DAYS: Final = 2


def measured(rule_code: str, found: Mapping[str, Any], currency: str) -> str:
    """What was measured, against what: `6 purchases within 1 hour. The rule points out 5 or more.`."""
    counted = found["aggregate"] == "count" and rule_code == "employee.adjustments"
    noun = "credit" if counted else _NOUNS.get(rule_code)
    value = said(rule_code, found["value"], currency, noun)
    threshold = said(rule_code, found["threshold"], currency, None)
    within = span(found["window"])
    limit = f"more than {threshold}" if rule_code in _ABOVE else f"{threshold} or more"
    return f"{value}{f' within {within}' if within else ''}. The rule points out {limit}."


def said(rule_code: str, value: float, currency: str, noun: str | None) -> str:
    """A measured value with its unit."""
    if rule_code in _SHARES:
        return f"{value * 100:.1f}".removesuffix(".0") + " %"
    if rule_code == "amount.outlier":
        return money(round(value), currency)
    return number(round(value)) if noun is None else count_of(round(value), noun)


def span(text: str | None) -> str:
    """A duration as people say it: `PT1H` -> `1 hour`; empty for None."""
    length = None if text is None else parse_duration(text)
    if length is None:
        return ""
    for unit, noun in ((MS_PER_DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        if length % unit == 0 and (unit != MS_PER_DAY or length >= _LONG_DAYS * MS_PER_DAY):
            return count_of(length // unit, noun)
    return count_of(length // 1_000, "second")
