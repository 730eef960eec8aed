"""What an order earns: one pure function for recording, calculations and previews, and `raw` beside it for refunds.

The order of the steps: what can earn of the order, its lines and what they are worth (`orders`, `worth`), rounding once, points
for pieces and bonuses, then the limits.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from fractions import Fraction
from typing import Any, Final, Literal

from loyalpro.events.points import AppliedRule
from loyalpro.events.transaction import Item
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.loyalty.earning import Campaign, EarnRule, EarnSettings, ItemMatch
from loyalpro.loyalty.expiry import day_of
from loyalpro.loyalty.money import exchange_rate
from loyalpro.loyalty.orders import THOUSANDTHS, Order, basket_of, net
from loyalpro.loyalty.program import Rules
from loyalpro.loyalty.tiers import Tier
from loyalpro.loyalty.worth import ONCE, Offer, Share, Terms, Worth, worth_of

Rounding = Literal["floor", "half_up", "ceil"]

_EPOCH_WEEKDAY: Final = 3
"""1970-01-01 was a Thursday; 0 is Monday."""


@record
class Earner:
    """The customer of an order, as far as it matters to what the order earns.

    `campaign_uses`: how often the customer used each campaign before. `earned_that_day`: what its purchases of the same local
    day have earned so far.
    """

    tier: Tier
    tags: tuple[str, ...] = ()
    campaign_uses: Mapping[str, int] = field(default_factory=dict, hash=False)
    earned_that_day: int = 0


@record
class Priced:
    """What an order earns. `eligible_amount`: what of it earns by amount, in minor units of its currency, rounded down.

    `base_amount`: all of the order in minor units of the program's currency. `rules`: where the points come from; they add up.
    `frozen`: what `raw` needs of the tier and the campaigns, as JSON; None when neither changed anything. `campaign_ids`: the
    campaigns that gave something.
    """

    points: int
    eligible_amount: int
    base_amount: int
    rules: tuple[AppliedRule, ...] = field(hash=False)
    frozen: dict[str, Any] | None = field(default=None, hash=False)
    campaign_ids: tuple[str, ...] = ()


def price(order: Order, rules: Rules, earner: Earner, campaigns: Iterable[Campaign], occurred_at: UnixMs) -> Priced:
    """What an order earns. Of `campaigns`, those count that are for this customer at the time when the order happened."""
    offers = tuple(_offer(each) for each in campaigns if _counts(each, earner, occurred_at, rules.time_zone))
    rule = None if offers else _only_rule(rules.earning, order.currency)
    return _price_lines(order, rules, earner, offers) if rule is None else _price_whole(order, rules, earner, rule)


def raw(order: Order, rules: Rules, frozen: Mapping[str, Any] | None, left: Sequence[Item] | None = None) -> Fraction:
    """The points of an order before rounding and limits: of all of it, or of the items that are `left` of it.

    `rules` and `frozen` are those of its purchase. Minimum spends and bonuses are judged by what is left. An item of which a
    part was returned is left with the rest of its amount and quantity.
    """
    kept = frozen or {}
    offers = tuple(_thawed(each) for each in kept.get("campaigns", ()))
    terms = _terms(order, rules, ("", ""), kept.get("tier", ONCE), offers)
    return worth_of(basket_of(order, rules.earning, left), terms).points


def base_amount(amount: int, currency: str, rules: Rules) -> int:
    """An amount in minor units of the program's currency, rounded half up; 0 without a conversion for its currency."""
    if currency == rules.currency:
        return amount
    exact = amount * _exchange(rules, currency)
    return _rounded(exact.numerator, exact.denominator, "half_up")


def _counts(campaign: Campaign, earner: Earner, occurred_at: UnixMs, time_zone: str) -> bool:
    """Whether a campaign is for this customer at this time. Whether the order meets its conditions is a matter of the lines."""
    limit = campaign.limit_per_customer
    return (
        campaign.status == "active"
        and campaign.starts_at <= occurred_at
        and (campaign.ends_at is None or occurred_at < campaign.ends_at)
        and (not campaign.weekdays or (day_of(occurred_at, time_zone) + _EPOCH_WEEKDAY) % 7 in campaign.weekdays)
        and (not campaign.tier_ids or earner.tier.id in campaign.tier_ids)
        and (not campaign.tags or not set(campaign.tags).isdisjoint(earner.tags))
        and (limit is None or earner.campaign_uses.get(campaign.id, 0) < limit)
    )


# -- one rule for every order, and no campaign -------------------------------------------------------------------------


def _only_rule(settings: EarnSettings, currency: str) -> EarnRule | None:
    """The rule that takes all of every order, if there is one. Then the lines of an order do not matter."""
    if len(settings.rules) != 1 or settings.exclude is not None or settings.min_spend is not None:
        return None
    rule = settings.rules[0]
    takes_all = rule.match is None and rule.min_spend is None and rule.points_per_item is None
    return rule if takes_all and currency in rule.rates else None


def _price_whole(order: Order, rules: Rules, earner: Earner, rule: EarnRule) -> Priced:
    """The result of `_price_lines`, for one rule that takes all of the order, without making lines."""
    settings, tier, rate = rules.earning, earner.tier, rule.rates[order.currency]
    permille = tier.multiplier_permille
    eligible = net(order, settings)
    points = once = _rounded(eligible * rate.points, rate.per_amount, settings.rounding)
    if permille != ONCE:
        points = _rounded(eligible * rate.points * permille, rate.per_amount * ONCE, settings.rounding)
    points = _limited(points, settings, earner)
    by_rule = min(once, points)
    applied: tuple[AppliedRule, ...] = ({"id": rule.id, "name": rule.name, "points": by_rule},) if by_rule else ()
    if points > by_rule:
        applied += (_line(Share(tier.id, tier.name, 0, permille), points - by_rule),)
    return Priced(points, eligible, base_amount(order.amount, order.currency, rules), applied, _frozen(permille, ()))


# -- every other case --------------------------------------------------------------------------------------------------


def _price_lines(order: Order, rules: Rules, earner: Earner, offers: tuple[Offer, ...]) -> Priced:
    settings, tier = rules.earning, earner.tier
    terms = _terms(order, rules, (tier.id, tier.name), tier.multiplier_permille, offers)
    worth = worth_of(basket_of(order, settings), terms)
    parts = list(_parts(worth, settings.rounding))
    points = _limited(sum(points for _, points in parts), settings, earner)
    given = {each.id for each in (*worth.by_amount, *worth.bonuses) if each.worth}
    return Priced(
        points=points,
        eligible_amount=int(worth.eligible),
        base_amount=base_amount(order.amount, order.currency, rules),
        rules=tuple(_applied(parts, points)),
        frozen=_frozen(tier.multiplier_permille, worth.offers),
        campaign_ids=tuple(each.id for each in worth.offers if each.id in given),
    )


def _terms(order: Order, rules: Rules, tier: tuple[str, str], tier_permille: int, offers: tuple[Offer, ...]) -> Terms:
    return Terms(rules.earning, order.currency, _exchange(rules, order.currency), tier, tier_permille, offers)


def _exchange(rules: Rules, currency: str) -> Fraction:
    """What a minor unit of a currency is worth in the program's; 0 when the program has no conversion for it."""
    if currency == rules.currency:
        return Fraction(1)
    rate = rules.earning.conversion.get(currency)
    return Fraction(0) if rate is None else exchange_rate(currency, rules.currency, rate)


def _parts(worth: Worth, rounding: Rounding) -> Iterator[tuple[Share, int]]:
    """The whole points of each share: what the rounded sum of its group grows by when the share is added."""
    for shares, denominator, how in (
        (worth.by_amount, worth.denominator, rounding),
        (worth.by_piece, THOUSANDTHS, "floor"),
        (worth.bonuses, 1, "floor"),
    ):
        before = sum_ = 0
        for share in shares:
            sum_ += share.worth
            after = _rounded(sum_, denominator, how)
            yield share, after - before
            before = after


def _applied(parts: Iterable[tuple[Share, int]], limit: int) -> Iterator[AppliedRule]:
    """The lines that show where points come from. What is beyond the limit is missing from the last ones."""
    for share, points in parts:
        granted = min(points, limit)
        limit -= granted
        if granted:
            yield _line(share, granted)


def _line(share: Share, points: int) -> AppliedRule:
    if share.multiplier_permille is None:
        return {"id": share.id, "name": share.name, "points": points}
    whole, rest = divmod(share.multiplier_permille, ONCE)
    multiplier = share.multiplier_permille / ONCE if rest else whole
    return {"id": share.id, "name": share.name, "multiplier": multiplier, "points": points}


def _limited(points: int, settings: EarnSettings, earner: Earner) -> int:
    """No more points than the program gives for an order, and on a day."""
    if settings.max_points_per_order is not None:
        points = min(points, settings.max_points_per_order)
    if settings.max_points_per_day is not None:
        points = min(points, max(0, settings.max_points_per_day - earner.earned_that_day))
    return points


def _rounded(numerator: int, denominator: int, how: Rounding) -> int:
    if how == "floor":
        return numerator // denominator
    if how == "ceil":
        return -(-numerator // denominator)
    return (2 * numerator + denominator) // (2 * denominator)


# -- what a refund needs to know ---------------------------------------------------------------------------------------


def _frozen(tier_permille: int, offers: tuple[Offer, ...]) -> dict[str, Any] | None:
    """The multiplier of the tier and the campaigns that count, as JSON. It is stored with every purchase, so it is small."""
    kept: dict[str, Any] = {} if tier_permille == ONCE else {"tier": tier_permille}
    if offers:
        kept["campaigns"] = [_frozen_offer(each) for each in offers]
    return kept or None


def _frozen_offer(offer: Offer) -> dict[str, Any]:
    stated: dict[str, Any] = {
        "id": offer.id,
        "multiplier": offer.multiplier_permille,
        "points": offer.points,
        "min_spend": offer.min_spend,
    }
    if offer.match is not None:
        stated["match"] = {"skus": list(offer.match.skus), "categories": list(offer.match.categories)}
    return {name: value for name, value in stated.items() if value is not None}


def _thawed(kept: Mapping[str, Any]) -> Offer:
    match = kept.get("match")
    return Offer(
        id=kept["id"],
        name="",
        multiplier_permille=kept.get("multiplier"),
        points=kept.get("points"),
        match=None if match is None else ItemMatch(tuple(match["skus"]), tuple(match["categories"])),
        min_spend=kept.get("min_spend"),
    )


def _offer(campaign: Campaign) -> Offer:
    return Offer(
        campaign.id, campaign.name, campaign.multiplier_permille, campaign.points, campaign.match, campaign.min_spend
    )
