"""The program in forms: what each form shows at first, and the patch of the program that it asks for.

The patch has the form of `PATCH /v1/program`, which checks it; the names of the fields are the places in it.
"""

from collections.abc import Sequence
from datetime import tzinfo
from typing import Any, Final

from fastapi import Request

from loyalpro.kernel.errors import InvalidInput
from loyalpro.loyalty.earning import Campaign, EarnRule, ItemMatch
from loyalpro.loyalty.money import MINOR_DIGITS
from loyalpro.loyalty.program import ProgramVersion
from loyalpro.loyalty.tiers import Tier, TierPolicy
from loyalpro.web.dashboard.amounts import (
    form_instant,
    plain_money,
    read_instant,
    read_list,
    read_money,
    read_times,
    read_whole,
    times_over,
)
from loyalpro.web.dashboard.forms import Form, blank
from loyalpro.web.documents.program import program_content

RULE_FIELDS: Final = (
    "name",
    "kind",
    "points",
    "per_amount",
    "others",
    "points_per_item",
    "skus",
    "categories",
    "min_spend",
)
SETTINGS_FIELDS: Final = (
    "earning.tax", "earning.shipping", "earning.gift_card", "earning.rounding", "earning.combine", "earning.min_spend",
    "earning.max_points_per_order", "earning.max_points_per_day", "earning.enrollment_points", "earning.exclude.skus",
    "earning.exclude.categories", "earning.conversion", "expiry.kind", "expiry.n", "expiry.until", "expiry.month_day",
    "pending.days", "refunds.shortfall", "refunds.restore_expired", "refunds.tier", "tiering.metric", "tiering.window.kind",
    "tiering.window.n", "tiering.window.unit", "tiering.window.period", "tiering.window.starts_month", "tiering.downgrade",
    "tiering.grace_days", "point_value",
)  # fmt: skip
CAMPAIGN_FIELDS: Final = (
    "name", "kind", "multiplier_permille", "points", "skus", "categories", "min_spend", "tags", "tier_ids", "weekdays",
    "starts_at", "ends_at", "limit_per_customer",
)  # fmt: skip
_MOST_TIERS: Final = 20
_WHOLE: Final = (
    "earning.max_points_per_order", "earning.max_points_per_day", "earning.enrollment_points", "expiry.n", "pending.days",
    "tiering.window.n", "tiering.window.starts_month", "tiering.grace_days",
)  # fmt: skip
_TEXTS: Final = (
    "earning.tax", "earning.shipping", "earning.gift_card", "earning.rounding", "earning.combine", "expiry.kind",
    "expiry.until", "refunds.shortfall", "refunds.restore_expired", "refunds.tier", "tiering.metric", "tiering.window.kind",
    "tiering.window.unit", "tiering.window.period", "tiering.downgrade",
)  # fmt: skip


# -- one rule ----------------------------------------------------------------------------------------------------------


def rule_form(request: Request, rule: EarnRule | None, currency: str) -> Form:
    """The form of a rule; None for a new one."""
    if rule is None:
        return blank(request, kind="amount", points="1", per_amount=plain_money(100, currency))
    rate = rule.rates.get(currency)
    match = rule.match or ItemMatch()
    return blank(
        request,
        name=rule.name,
        kind="piece" if rule.points_per_item is not None else "amount",
        points=str(rate.points) if rate else "",
        per_amount=plain_money(rate.per_amount, currency) if rate else "",
        others="\n".join(
            f"{code} {each.points} per {plain_money(each.per_amount, code)}"
            for code, each in rule.rates.items()
            if code != currency
        ),
        points_per_item=_shown(rule.points_per_item),
        skus="\n".join(match.skus),
        categories="\n".join(match.categories),
        min_spend="" if rule.min_spend is None else plain_money(rule.min_spend, currency),
    )


def rule_of(form: Form, rule_id: str | None, currency: str) -> dict[str, Any]:
    """The rule of a form, as a patch has it. Raises `InvalidInput` that names the field."""
    rule: dict[str, Any] = {
        "name": form.text("name"),
        "min_spend": read_money(form.text("min_spend"), currency, "min_spend"),
    }
    if rule_id is not None:
        rule["id"] = rule_id
    if form.text("kind") == "piece":
        rule["points_per_item"] = read_whole(form.text("points_per_item"), "points_per_item")
    else:
        rule["rates"] = _rates(form, currency)
    rule["match"] = _match(form, "skus", "categories")
    return rule


def _rates(form: Form, currency: str) -> dict[str, Any]:
    rates: dict[str, Any] = {}
    points = read_whole(form.text("points"), "points")
    per_amount = read_money(form.text("per_amount"), currency, "per_amount")
    if points is not None or per_amount is not None:
        rates[currency] = {"points": points, "per_amount": per_amount}
    for line in filter(None, map(str.strip, form.raw("others").splitlines())):
        words = line.split()
        if len(words) != 4 or words[2] != "per":
            raise _wrong("Write each currency on a line: JPY 1 per 100", "others")
        if words[0] not in MINOR_DIGITS:
            raise _wrong(f"{words[0][:16]} is not an ISO 4217 currency code, such as JPY.", "others")
        rates[words[0]] = {
            "points": read_whole(words[1], "others"),
            "per_amount": read_money(words[3], words[0], "others"),
        }
    return rates


def rules_patch(version: ProgramVersion, place: int, rule: dict[str, Any] | None) -> dict[str, Any]:
    """The patch with a rule at its place, or without it for None. A place behind the last one adds a rule."""
    content: Any = program_content(version)
    rules: list[Any] = list(content["earning"]["rules"])
    rules[place : place + 1] = [] if rule is None else [rule]
    return {"earning": {"rules": rules}}


def rule_param(param: str | None, place: int) -> str | None:
    """The field of the form that a place in the patch belongs to."""
    inside = (param or "").removeprefix(f"earning.rules[{place}].")
    if inside.startswith("rates."):
        return "points" if inside.endswith(".points") else "per_amount" if inside.endswith(".per_amount") else "others"
    return {"rates": "kind", "match": "skus"}.get(inside.partition(".")[0], inside)


# -- tiers ---------------------------------------------------------------------------------------------------------------


def tiers_form(request: Request, tiers: Sequence[Tier], policy: TierPolicy, currency: str) -> Form:
    """The form of all tiers, with an empty row for one more."""
    values: dict[str, str | Sequence[str] | None] = {}
    for place, tier in enumerate(tiers):
        values[f"tiers[{place}].id"] = tier.id
        values[f"tiers[{place}].name"] = tier.name
        values[f"tiers[{place}].threshold"] = (
            plain_money(tier.threshold, currency) if policy.metric == "spend" else str(tier.threshold)
        )
        values[f"tiers[{place}].multiplier_permille"] = times_over(tier.multiplier_permille)
        values[f"tiers[{place}].benefits"] = "\n".join(f"{each.code}: {each.text}" for each in tier.benefits)
    return blank(request, **values)


def tier_places(form: Form) -> list[int]:
    """The rows of a form of tiers: those that it has, and an empty one."""
    filled = [place for place in range(_MOST_TIERS) if f"tiers[{place}].name" in form.fields]
    return [*filled, len(filled)] if len(filled) < _MOST_TIERS and all(map(_has_name(form), filled)) else filled


def _has_name(form: Form) -> Any:
    return lambda place: bool(form.text(f"tiers[{place}].name"))


def tiers_of(form: Form, policy: TierPolicy, currency: str) -> dict[str, Any]:
    """The patch with the tiers of a form. A row without a name is left out. Raises `InvalidInput` that names the field."""
    found = []
    for place in range(_MOST_TIERS):
        at = f"tiers[{place}]"
        if not form.text(f"{at}.name"):
            continue
        threshold = form.text(f"{at}.threshold")
        tier: dict[str, Any] = {
            "name": form.text(f"{at}.name"),
            "threshold": read_money(threshold, currency, f"{at}.threshold")
            if policy.metric == "spend"
            else read_whole(threshold, f"{at}.threshold"),
            "multiplier_permille": read_times(
                form.text(f"{at}.multiplier_permille") or "1", f"{at}.multiplier_permille"
            ),
            "benefits": _benefits(form.raw(f"{at}.benefits"), f"{at}.benefits"),
        }
        found.append(tier | ({"id": form.text(f"{at}.id")} if form.text(f"{at}.id") else {}))
    return {"tiers": found}


def _benefits(text: str, param: str) -> list[dict[str, str]]:
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        code, colon, words = line.partition(":")
        if not colon or not words.strip():
            raise _wrong("Write each benefit on a line: code: text", param)
        found.append({"code": code.strip(), "text": words.strip()})
    return found


# -- everything else -----------------------------------------------------------------------------------------------------


def settings_form(request: Request, version: ProgramVersion) -> Form:
    """The form of the settings beside rules and tiers."""
    content: Any = program_content(version)
    currency, earning = version.rules.currency, version.rules.earning
    exclude = earning.exclude or ItemMatch()
    values: dict[str, str | Sequence[str] | None] = {name: _shown(_at(content, name)) for name in (*_TEXTS, *_WHOLE)}
    values |= {
        "earning.min_spend": "" if earning.min_spend is None else plain_money(earning.min_spend, currency),
        "earning.exclude.skus": "\n".join(exclude.skus),
        "earning.exclude.categories": "\n".join(exclude.categories),
        "earning.conversion": "\n".join(f"{code} {rate}" for code, rate in earning.conversion.items()),
        "expiry.month_day": version.rules.expiry.month_day,
        "point_value": version.rules.point_value or "",
    }
    return blank(request, **values)


def settings_of(form: Form, currency: str) -> dict[str, Any]:
    """The patch of a form of settings. Raises `InvalidInput` that names the field."""
    patch: dict[str, Any] = {}
    for name in _TEXTS:
        _put(patch, name, form.text(name))
    for name in _WHOLE:
        _put(patch, name, read_whole(form.text(name), name))
    _put(patch, "earning.min_spend", read_money(form.text("earning.min_spend"), currency, "earning.min_spend"))
    _put(patch, "earning.exclude", _match(form, "earning.exclude.skus", "earning.exclude.categories"))
    _put(
        patch,
        "expiry.month_day",
        (form.text("expiry.month_day") or None) if form.text("expiry.kind") == "date" else None,
    )
    _put(patch, "point_value", form.text("point_value") or None)
    return patch


def conversion_of(form: Form, version: ProgramVersion) -> dict[str, str | None]:
    """The rates of other currencies in a form, as a patch has them: null for one that is not there any more."""
    found: dict[str, str | None] = dict.fromkeys(version.rules.earning.conversion)
    for line in filter(None, map(str.strip, form.raw("earning.conversion").splitlines())):
        code, _, rate = line.partition(" ")
        if not rate.strip():
            raise _wrong("Write each currency on a line: JPY 0.0061", "earning.conversion")
        found[code] = rate.strip()
    return found


# -- campaigns -----------------------------------------------------------------------------------------------------------


def campaign_form(request: Request, campaign: Campaign | None, currency: str, zone: tzinfo) -> Form:
    """The form of a campaign; None for a new one."""
    if campaign is None:
        return blank(request, kind="multiplier", multiplier_permille="2")
    match = campaign.match or ItemMatch()
    permille = campaign.multiplier_permille
    return blank(
        request,
        name=campaign.name,
        kind=campaign.kind,
        multiplier_permille="" if permille is None else times_over(permille),
        points=_shown(campaign.points),
        skus="\n".join(match.skus),
        categories="\n".join(match.categories),
        min_spend="" if campaign.min_spend is None else plain_money(campaign.min_spend, currency),
        tags=", ".join(campaign.tags),
        tier_ids=list(campaign.tier_ids),
        weekdays=[str(each) for each in campaign.weekdays],
        starts_at=form_instant(campaign.starts_at, zone),
        ends_at=form_instant(campaign.ends_at, zone),
        limit_per_customer=_shown(campaign.limit_per_customer),
    )


def campaign_of(form: Form, currency: str, zone: tzinfo) -> dict[str, Any]:
    """The fields of a campaign in a form, as `/v1/campaigns` has them. Raises `InvalidInput` that names the field."""
    is_multiplier = form.text("kind") != "bonus"
    times = read_times(form.text("multiplier_permille"), "multiplier_permille")
    return {
        "name": form.text("name"),
        "kind": "multiplier" if is_multiplier else "bonus",
        "multiplier_permille": times if is_multiplier else None,
        "points": None if is_multiplier else read_whole(form.text("points"), "points"),
        "match": _match(form, "skus", "categories"),
        "min_spend": read_money(form.text("min_spend"), currency, "min_spend"),
        "tags": read_list(form.raw("tags")),
        "tier_ids": form.texts("tier_ids"),
        "weekdays": form.texts("weekdays"),
        "starts_at": read_instant(form.text("starts_at"), zone, "starts_at"),
        "ends_at": read_instant(form.text("ends_at"), zone, "ends_at"),
        "limit_per_customer": read_whole(form.text("limit_per_customer"), "limit_per_customer"),
    }


# -- shared ----------------------------------------------------------------------------------------------------------------


def _match(form: Form, skus: str, categories: str) -> dict[str, list[str]] | None:
    match = {"skus": read_list(form.raw(skus)), "categories": read_list(form.raw(categories))}
    return match if any(match.values()) else None


def _at(content: Any, name: str) -> Any:
    for step in name.split("."):
        content = content[step] if isinstance(content, dict) else getattr(content, step)
    return content


def _put(patch: dict[str, Any], name: str, value: Any) -> None:
    *outer, last = name.split(".")
    for step in outer:
        patch = patch.setdefault(step, {})
    patch[last] = value


def _shown(value: object) -> str:
    return "" if value is None else str(value)


def _wrong(detail: str, param: str) -> InvalidInput:
    return InvalidInput(detail, code="invalid_field", param=param)
