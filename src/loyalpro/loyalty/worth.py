"""What the lines of an order are worth in points, before anything is rounded or limited.

Each line takes the best-paying rule that it can; the tier and campaigns multiply. Pieces and bonuses earn beside that. Amounts,
rates and multipliers are kept as integers over one denominator, so nothing is lost before the order is rounded once.

A minimum spend is in the program's currency. It is compared with an order in another currency by the program's conversion;
without a conversion for that currency, such an order reaches no minimum.
"""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from math import lcm
from typing import Final

from loyalpro.kernel.record import record
from loyalpro.loyalty.earning import EarnRule, EarnSettings, ItemMatch, Rate
from loyalpro.loyalty.orders import THOUSANDTHS, Basket, Line, matcher

ONCE: Final = 1_000
"""The multiplier 1, in permille."""


@record
class Offer:
    """What a campaign gives that is for the customer of an order: a multiplier for the lines that match, or bonus points."""

    id: str
    name: str
    multiplier_permille: int | None
    points: int | None
    match: ItemMatch | None
    min_spend: int | None


@record
class Terms:
    """What decides about an order besides its lines.

    `exchange`: what a minor unit of the order's currency is worth in the program's; 0 if that is not known. `tier`: its id
    and name.
    """

    settings: EarnSettings
    currency: str
    exchange: Fraction
    tier: tuple[str, str]
    tier_permille: int
    offers: tuple[Offer, ...]


@record
class Share:
    """What one rule, tier or campaign gives of the points of an order. `worth` counts in the unit of its group."""

    id: str
    name: str
    worth: int
    multiplier_permille: int | None = None


@record
class Worth:
    """The points of an order before rounding. Each group is in the order in which it is shown.

    `by_amount`: a point is `denominator`. `by_piece`: thousandths of points. `bonuses`: points. `eligible`: minor units of
    lines that earn by amount. `offers`: the campaigns whose conditions the order meets.
    """

    eligible: Fraction
    denominator: int = 1
    by_amount: tuple[Share, ...] = ()
    by_piece: tuple[Share, ...] = ()
    bonuses: tuple[Share, ...] = ()
    offers: tuple[Offer, ...] = ()

    @property
    def points(self) -> Fraction:
        """The sum, in points."""
        return Fraction(total(self.by_amount), self.denominator) + Fraction(
            total(self.by_piece) + total(self.bonuses) * THOUSANDTHS, THOUSANDTHS
        )


def total(shares: Iterable[Share]) -> int:
    """The sum of shares of one group."""
    return sum(share.worth for share in shares)


def worth_of(basket: Basket, terms: Terms) -> Worth:
    """What a basket is worth. Below the program's minimum spend it is worth nothing."""
    settings, lines = terms.settings, basket.lines
    if settings.exclude is not None:
        excludes = matcher(settings.exclude)
        lines = tuple(line for line in lines if not excludes(line))
    earning = list(_taken(_best_rates(settings, terms.currency), lines, basket, terms))
    eligible = [line for _, own in earning for line in own]
    amount = Fraction(sum(line.amount for line in eligible), basket.scale)
    if not _reached(settings.min_spend, eligible, basket, terms):
        return Worth(amount)
    offers = tuple(each for each in terms.offers if _is_met(each, lines, basket, terms))
    unit = lcm(*(rule.rates[terms.currency].per_amount for rule, _ in earning))
    return Worth(
        eligible=amount,
        denominator=basket.scale * unit * ONCE * ONCE,
        by_amount=tuple(_by_amount(earning, unit, offers, terms)),
        by_piece=tuple(_by_piece(lines, basket, terms)),
        bonuses=tuple(Share(each.id, each.name, each.points) for each in offers if each.points is not None),
        offers=offers,
    )


def _best_rates(settings: EarnSettings, currency: str) -> list[EarnRule]:
    """The rules that have a rate in the currency, best-paying first; of equal ones, the first in the list."""
    rated = [rule for rule in settings.rules if currency in rule.rates]
    return sorted(rated, key=lambda rule: _per_unit(rule.rates[currency]), reverse=True)


def _per_unit(rate: Rate) -> Fraction:
    return Fraction(rate.points, rate.per_amount)


def _taken(
    rules: Iterable[EarnRule], lines: Sequence[Line], basket: Basket, terms: Terms
) -> Iterator[tuple[EarnRule, list[Line]]]:
    """Each rule with the lines that it takes: the first rule takes first, if these lines reach its minimum spend."""
    for rule in rules:
        matches = matcher(rule.match)
        own = [line for line in lines if matches(line)]
        if own and _reached(rule.min_spend, own, basket, terms):
            yield rule, own
            lines = [line for line in lines if not matches(line)]


def _reached(minimum: int | None, lines: Iterable[Line], basket: Basket, terms: Terms) -> bool:
    """Whether lines together reach a minimum spend."""
    if minimum is None:
        return True
    spent = sum(line.amount for line in lines) * terms.exchange.numerator
    return spent >= minimum * basket.scale * terms.exchange.denominator


def _is_met(offer: Offer, lines: Sequence[Line], basket: Basket, terms: Terms) -> bool:
    """Whether there are lines that a campaign matches, and they reach its minimum spend."""
    matches = matcher(offer.match)
    own = [line for line in lines if matches(line)]
    return bool(own) and _reached(offer.min_spend, own, basket, terms)


def _by_amount(
    earning: Sequence[tuple[EarnRule, list[Line]]], unit: int, offers: Iterable[Offer], terms: Terms
) -> Iterator[Share]:
    """What rules give at the multiplier 1, then what the tier adds, then what each campaign adds.

    A tier that multiplies by less than 1 makes what the rules give smaller instead.
    """
    permille = terms.tier_permille
    worths: list[tuple[Line, int]] = []
    for rule, own in earning:
        rate = rule.rates[terms.currency]
        of_rule = [(line, line.amount * rate.points * (unit // rate.per_amount)) for line in own]
        yield Share(rule.id, rule.name, sum(worth for _, worth in of_rule) * min(permille, ONCE) * ONCE)
        worths += of_rule
    if permille > ONCE:
        yield Share(*terms.tier, sum(worth for _, worth in worths) * (permille - ONCE) * ONCE, permille)
    for offer, multiplier, worth in _multiplied(worths, offers, terms.settings):
        yield Share(offer.id, offer.name, worth * permille * (multiplier - ONCE), multiplier)


def _multiplied(
    worths: Sequence[tuple[Line, int]], offers: Iterable[Offer], settings: EarnSettings
) -> list[tuple[Offer, int, int]]:
    """Each campaign that multiplies, its multiplier, and the sum of the lines that it multiplies.

    These are all that match it if campaigns add up. Otherwise, each line is multiplied by the highest campaign that matches it,
    and by the first in the list of equal ones.
    """
    multipliers = [
        (each, each.multiplier_permille, matcher(each.match))
        for each in offers
        if each.multiplier_permille is not None and each.multiplier_permille > ONCE
    ]
    if settings.combine == "highest":
        multipliers.sort(key=lambda each: -each[1])
    found = []
    for offer, multiplier, matches in multipliers:
        found.append((offer, multiplier, sum(worth for line, worth in worths if matches(line))))
        if settings.combine == "highest":
            worths = [(line, worth) for line, worth in worths if not matches(line)]
    return [each for each in found if each[2]]


def _by_piece(lines: Sequence[Line], basket: Basket, terms: Terms) -> Iterator[Share]:
    """What rules give for pieces. As with amounts, a line takes the rule that gives most."""
    rules = [rule for rule in terms.settings.rules if rule.points_per_item is not None]
    rules.sort(key=lambda rule: -(rule.points_per_item or 0))
    for rule, own in _taken(rules, lines, basket, terms):
        yield Share(rule.id, rule.name, sum(line.thousandths for line in own) * (rule.points_per_item or 0))
