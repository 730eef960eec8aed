"""The program in sentences: what each rule, tier, setting and campaign means."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from loyalpro.loyalty.earning import Campaign, EarnRule, EarnSettings, ItemMatch
from loyalpro.loyalty.expiry import ExpiryPolicy
from loyalpro.loyalty.program import ProgramVersion, RefundPolicy
from loyalpro.loyalty.tiers import Tier, TierPolicy, TierWindow
from loyalpro.web.dashboard.amounts import times_over
from loyalpro.web.dashboard.formats import money, number

MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
)  # fmt: skip
WEEKDAYS: Final = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")
_ONCE: Final = 1_000
_ROUNDING: Final = {
    "floor": "The points of a purchase are rounded down.",
    "half_up": "The points of a purchase are rounded to the nearest whole, a half up.",
    "ceil": "The points of a purchase are rounded up.",
}
_COMBINE: Final = {
    "highest": "The multiplier of the tier is multiplied by the highest one of the campaigns.",
    "add": "What the tier and the campaigns give on top is added up.",
}
_SHORTFALL: Final = {
    "allow_negative": "A refund takes back what its purchase earned; what was spent already becomes a debt.",
    "within_balance": "A refund takes back what its purchase earned, as far as the customer still has points.",
    "only_pending": "A refund takes back only points that are still pending.",
}
_RESTORED: Final = {
    "extend": "Points that a refund gives back are valid for 30 days at least.",
    "expire_now": "Points that a refund gives back expire at once if their time is over.",
}
_REFUND_TIER: Final = {
    "at_review": "A refund lowers the tier at the next review.",
    "immediate": "A refund may lower the tier at once.",
}
_METRIC: Final = {"points_earned": "points earned", "spend": "what is spent", "transactions": "purchases"}
_DOWNGRADE: Final = {
    "to_qualified": "At a review a customer moves down to the tier that it qualifies for.",
    "one_level": "At a review a customer moves down by one tier at most.",
    "never": "No customer moves down.",
}


def count_of(count: int, noun: str) -> str:
    """`1 point`, `1,284 points`."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def rule_sentence(rule: EarnRule, currency: str) -> str:
    """What a rule gives: `1 point for each 1.00 EUR spent on items of the category tea, from 50.00 EUR on`."""
    items = items_of(rule.match)
    if rule.points_per_item is not None:
        given = f"{count_of(rule.points_per_item, 'point')} for each piece" + (f" of {items}" if items else "")
    else:
        rates = [
            f"{count_of(rate.points, 'point')} for each {money(rate.per_amount, code)}"
            for code, rate in rule.rates.items()
        ]
        given = listed(rates, "or") + (f" spent on {items}" if items else "")
    return f"{given}{_from(rule.min_spend, currency)}."


def items_of(match: ItemMatch | None) -> str:
    """Which items: `items with the SKU A or of the category tea`; empty for all."""
    if match is None:
        return ""
    parts = []
    if match.skus:
        parts.append(f"with the SKU {listed(match.skus, 'or')}")
    if match.categories:
        parts.append(f"of the category {listed(match.categories, 'or')}")
    return f"items {' or '.join(parts)}"


def listed(parts: Iterable[str], word: str = "and") -> str:
    """`a, b and c`."""
    *first, last = parts
    return f"{', '.join(first)} {word} {last}" if first else last


def tier_sentence(tier: Tier, policy: TierPolicy, currency: str) -> str:
    """How a tier is reached, and what purchases earn in it."""
    if not tier.threshold:
        reached = "Every customer starts here."
    else:
        value = money(tier.threshold, currency) if policy.metric == "spend" else number(tier.threshold)
        noun = {"points_earned": " points earned", "spend": " spent", "transactions": " purchases"}[policy.metric]
        reached = f"Reached with {value}{noun}."
    if tier.multiplier_permille == _ONCE:
        return reached
    return f"{reached} Purchases earn {times_over(tier.multiplier_permille)} times the points."


def tiering_sentence(policy: TierPolicy) -> str:
    """What counts toward tiers, and how customers move down."""
    grace = f" Reviews wait for {count_of(policy.grace_days, 'day')}." if policy.grace_days else ""
    return f"Tiers count {_METRIC[policy.metric]} {window_words(policy.window)}. {_DOWNGRADE[policy.downgrade]}{grace}"


def window_words(window: TierWindow) -> str:
    """The days that count: `in the last 12 months`."""
    if window.kind == "lifetime":
        return "of all time"
    if window.kind == "rolling":
        return f"in the last {count_of(window.n, window.unit.removesuffix('s'))}"
    if window.kind == "anniversary":
        return "in a year from the day of enrollment"
    starts = f" that starts in {MONTHS[window.starts_month - 1]}" if window.starts_month != 1 else ""
    return f"in a calendar {window.period}{starts}"


def expiry_sentence(expiry: ExpiryPolicy) -> str:
    """How long points last."""
    match expiry.kind:
        case "never":
            return "Points do not expire."
        case "inactivity":
            return f"All points expire {count_of(expiry.n, 'month')} after the customer last earned or redeemed any."
        case "date":
            return f"Points expire after the next {_month_day(expiry.month_day or '12-31')}."
        case kind:
            end = "" if expiry.until == "day" else f", and then to the end of the {expiry.until}"
            return f"Points last {count_of(expiry.n, kind.removesuffix('s'))}{end}."


def described(version: ProgramVersion) -> dict[str, str]:
    """Everything that a version says, a sentence for each name."""
    rules = version.rules
    currency = rules.currency
    found = {f"Rule: {each.name}": rule_sentence(each, currency) for each in rules.earning.rules}
    found |= {f"Tier: {each.name}": _whole_tier(each, rules.tiering, currency) for each in version.tiers}
    return found | settings(version)


def settings(version: ProgramVersion) -> dict[str, str]:
    """The settings beside the rules and the tiers, a sentence for each name."""
    rules = version.rules
    found = _earning(rules.earning, rules.currency)
    found["Validity"] = expiry_sentence(rules.expiry)
    found["Usable"] = (
        f"Points are pending for {count_of(rules.pending_days, 'day')}."
        if rules.pending_days
        else "Points can be used at once."
    )
    found["Refunds"] = _refunds(rules.refunds)
    found["Tiers"] = tiering_sentence(rules.tiering)
    if rules.point_value is not None:
        found["What a point is worth"] = f"Reports count a point as {rules.point_value} {rules.currency}."
    return found


def differences(before: ProgramVersion, after: ProgramVersion) -> list[tuple[str, str | None, str | None]]:
    """What differs between two versions: the name, and the sentences before and after; None for what is not there."""
    old, new = _by_id(before), _by_id(after)
    found = []
    for key in [*old, *(key for key in new if key not in old)]:
        was, becomes = old.get(key), new.get(key)
        if was != becomes:
            renamed = was is not None and becomes is not None and was[0] != becomes[0]
            name = (was or becomes or ("", ""))[0]
            found.append((name, _said(was, with_name=renamed), _said(becomes, with_name=renamed)))
    if not found and before.rules.earning.rules != after.rules.earning.rules:
        return [("Order of the rules", listed(rule_names(before)), listed(rule_names(after)))]
    return found


def _said(entry: tuple[str, str] | None, *, with_name: bool) -> str | None:
    if entry is None:
        return None
    return f"{entry[0]}: {entry[1]}" if with_name else entry[1]


def _by_id(version: ProgramVersion) -> dict[str, tuple[str, str]]:
    """The name and the sentence of each rule and tier by its id, and of each setting by its name."""
    rules, tiering, currency = version.rules.earning.rules, version.rules.tiering, version.rules.currency
    found = {each.id: (each.name, rule_sentence(each, currency)) for each in rules}
    found |= {each.id: (each.name, _whole_tier(each, tiering, currency)) for each in version.tiers}
    return found | {name: (name, sentence) for name, sentence in settings(version).items()}


def rule_names(version: ProgramVersion) -> list[str]:
    """The names of the rules in their order."""
    return [each.name for each in version.rules.earning.rules]


def campaign_sentence(campaign: Campaign, currency: str, tiers: Mapping[str, str]) -> str:
    """What a campaign gives, and to whom. `tiers`: names by id."""
    items = items_of(campaign.match)
    if campaign.kind == "multiplier":
        given = f"{times_over(campaign.multiplier_permille or _ONCE)} times the points" + (
            f" on {items}" if items else ""
        )
    else:
        given = f"{count_of(campaign.points or 0, 'point')} on top" + (f" for {items}" if items else "")
    parts = [given + _from(campaign.min_spend, currency)]
    if campaign.weekdays:
        parts.append(f"on {listed(WEEKDAYS[each] for each in campaign.weekdays)}")
    if campaign.tier_ids:
        parts.append(f"for the tier {listed((tiers.get(each, each) for each in campaign.tier_ids), 'or')}")
    if campaign.tags:
        parts.append(f"for customers with the tag {listed(campaign.tags, 'or')}")
    if campaign.limit_per_customer is not None:
        parts.append(f"at most {count_of(campaign.limit_per_customer, 'time')} for a customer")
    return f"{', '.join(parts)}."


def _from(min_spend: int | None, currency: str) -> str:
    return "" if min_spend is None else f", from {money(min_spend, currency)} on"


def _whole_tier(tier: Tier, policy: TierPolicy, currency: str) -> str:
    benefits = f" Benefits: {listed(each.text for each in tier.benefits)}." if tier.benefits else ""
    return tier_sentence(tier, policy, currency) + benefits


def _earning(earning: EarnSettings, currency: str) -> dict[str, str]:
    found = {
        "What earns": _parts(earning),
        "Rounding": _ROUNDING[earning.rounding],
        "Multipliers": _COMBINE[earning.combine],
    }
    if earning.exclude is not None:
        found["Excluded"] = f"Nothing is earned on {items_of(earning.exclude)}."
    if earning.min_spend is not None:
        found["Least amount"] = f"A purchase below {money(earning.min_spend, currency)} earns nothing."
    limits = _limits(earning)
    if limits:
        found["Limits"] = f"At most {listed(limits)}."
    if earning.enrollment_points:
        found["Enrollment"] = f"Enrolling earns {count_of(earning.enrollment_points, 'point')}."
    if earning.conversion:
        rates = [f"1 {code} counts as {rate} {currency}" for code, rate in earning.conversion.items()]
        found["Other currencies"] = f"{listed(rates)}."
    return found


def _limits(earning: EarnSettings) -> Sequence[str]:
    given = ((earning.max_points_per_order, "a purchase"), (earning.max_points_per_day, "a customer's day"))
    return [f"{count_of(most, 'point')} for {what}" for most, what in given if most is not None]


def _parts(earning: EarnSettings) -> str:
    parts = {
        "tax": earning.tax == "included",
        "shipping": earning.shipping == "earns",
        "what a gift card pays": earning.gift_card == "included",
    }
    earns = [part for part, does in parts.items() if does]
    others = [*(part for part, does in parts.items() if not does), "tips"]
    if not earns:
        return _capital(f"{listed(others)} do not earn.")
    verb = "earns" if len(earns) == 1 else "earn"
    return _capital(f"{listed(earns)} {verb} as well; {listed(others)} do not.")


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _refunds(policy: RefundPolicy) -> str:
    return " ".join((_SHORTFALL[policy.shortfall], _RESTORED[policy.restore_expired], _REFUND_TIER[policy.tier]))


def _month_day(text: str) -> str:
    return f"{int(text[3:])} {MONTHS[int(text[:2]) - 1]}"
