"""Whether an event sets fraud rules off: pure functions of the rules, the event and what was measured before it.

Each rule asks for a measure only after everything that is known of the event itself allows it to fire. A signal that is
missing, such as an employee or a device, matches nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from statistics import median
from typing import Any, Final

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.loyalty.expiry import day_of, day_start
from loyalpro.loyalty.fraud.durations import DAY, DurationMs, show_duration
from loyalpro.loyalty.fraud.measure import (
    LIVE,
    OUTLIER_SAMPLE,
    Measures,
    Moment,
    NewCredit,
    NewPurchase,
    NewRedemption,
    NewRefund,
    PurchaseFact,
    Sighting,
    is_live,
    is_within,
)
from loyalpro.loyalty.fraud.rules import (
    Aggregate,
    AmountOutlier,
    ChangeThenRedeem,
    DormantBurst,
    IdentityShared,
    ManualCredits,
    PointsCap,
    ReceiptDuplicate,
    RefundAbuse,
    RefundAfterRedeem,
    Rule,
    RuleSet,
    SelfAccrual,
    VelocityEarn,
    VelocityRedeem,
    number,
)

MOST_EVIDENCE: Final = 20
"""How many ids a case and its event list at most."""

_PERMILLE: Final = 1_000


@record
class Measurement:
    """What was measured, against what. `window`: as the API shows it."""

    aggregate: Aggregate
    value: Fraction | int
    threshold: Fraction | int
    window: str | None
    key_type: str

    @property
    def severity_ratio(self) -> int | float:
        """How many times the threshold the value is; the value itself where the threshold is 0."""
        return number(Fraction(self.value) / self.threshold) if self.threshold else number(self.value)


@record
class Finding:
    """A rule that an event sets off. `key`: what the case is about; `evidence`: ids of objects, oldest first."""

    rule: Rule[Any]
    key: str
    measurement: Measurement
    evidence: tuple[str, ...]
    customer_id: str
    related_customer_ids: tuple[str, ...] = ()


def judge_purchase(
    rules: RuleSet, purchase: NewPurchase, measures: Measures, now: UnixMs, time_zone: str
) -> list[Finding]:
    """The rules that a purchase sets off. One that is imported, or happened more than 48 hours ago, sets none off."""
    if not is_live(purchase.fact.occurred_at, now, imported=purchase.fact.imported):
        return []
    found = [
        _velocity_earn(rules.enabled(VelocityEarn), purchase.fact, measures, now),
        _amount_outlier(rules.enabled(AmountOutlier), purchase.fact, measures),
        _points_cap(rules.enabled(PointsCap), purchase, measures, time_zone),
        _self_accrual(rules.enabled(SelfAccrual), purchase.fact, measures, time_zone),
        _receipt_duplicate(rules.enabled(ReceiptDuplicate), purchase, measures, now),
        *judge_identity(rules, purchase.sightings, purchase.fact.customer_id, purchase.fact.id, measures, now),
    ]
    return [each for each in found if each is not None]


def judge_identity(
    rules: RuleSet, sightings: Iterable[Sighting], customer_id: str, object_id: str, measures: Measures, now: UnixMs
) -> list[Finding]:
    """The values, such as a device or a phone number, that too many customers share with this one."""
    shared, rule = [each for each in sightings if each.kind != "receipt"], rules.enabled(IdentityShared)
    if rule is None or not shared:
        return []
    since = now - rule.params.window
    found = (
        _shared(rule, each, rule.params.threshold, customer_id, object_id, measures, since, each.kind)
        for each in shared
    )
    return [each for each in found if each is not None]


def judge_redemption(rules: RuleSet, redemption: NewRedemption, measures: Measures, now: UnixMs) -> list[Finding]:
    """The rules that a redemption sets off."""
    found = [
        _velocity_redeem(rules.enabled(VelocityRedeem), redemption, measures, now),
        _change_then_redeem(rules.enabled(ChangeThenRedeem), redemption, now),
        _dormant_burst(rules.enabled(DormantBurst), redemption, measures, now),
    ]
    return [each for each in found if each is not None]


def judge_refund(rules: RuleSet, refund: NewRefund, measures: Measures, now: UnixMs, time_zone: str) -> list[Finding]:
    """The rules that a refund sets off, once it is posted."""
    if not is_live(refund.occurred_at, now):
        return []
    found = [
        _refund_abuse(rules.enabled(RefundAbuse), refund, measures, now, time_zone),
        _refund_after_redeem(rules.enabled(RefundAfterRedeem), refund),
    ]
    return [each for each in found if each is not None]


def judge_credit(rules: RuleSet, credit: NewCredit, measures: Measures, now: UnixMs, time_zone: str) -> list[Finding]:
    """The rules that a credit by hand sets off."""
    rule = rules.enabled(ManualCredits)
    if rule is None or credit.points <= 0:
        return []
    most_points, most_entries = rule.params.threshold, rule.params.max_entries
    since = day_start(day_of(now, time_zone), time_zone) - 1
    earlier = measures.credits_by(credit.actor, since, most_entries)
    points, entries = credit.points + sum(each.points for each in earlier), len(earlier) + 1
    if points > most_points:
        measured = _measured(rule, "sum", points, most_points)
    elif entries > most_entries:
        measured = _measured(rule, "count", entries, most_entries)
    else:
        return []
    evidence = _evidence([credit.id, *(each.id for each in earlier)])
    return [Finding(rule, credit.actor, measured, evidence, credit.customer_id)]


# -- purchases -------------------------------------------------------------------------------------------------------


def _velocity_earn(
    rule: Rule[VelocityEarn] | None, fact: PurchaseFact, measures: Measures, now: UnixMs
) -> Finding | None:
    if rule is None or not fact.points:
        return None
    params, earlier = rule.params, measures.purchases_of(fact.customer_id)
    if len(earlier) + 1 < min(params.threshold, params.long_threshold):
        return None
    earning = [fact, *(each for each in earlier if each.points and _counts(each, now))]
    for threshold, window in ((params.threshold, params.window), (params.long_threshold, params.long_window)):
        counted = [each.id for each in earning if is_within(each.occurred_at, window, now)]
        if len(counted) >= threshold and is_within(fact.occurred_at, window, now):
            measured = _measured(rule, "count", len(counted), threshold, window=window)
            return Finding(rule, fact.customer_id, measured, _evidence(counted), fact.customer_id)
    return None


def _amount_outlier(rule: Rule[AmountOutlier] | None, fact: PurchaseFact, measures: Measures) -> Finding | None:
    if rule is None or fact.base_amount <= rule.params.floor:
        return None
    earlier = [each.base_amount for each in measures.purchases_of(fact.customer_id) if each.base_amount]
    sample = earlier[:OUTLIER_SAMPLE]
    if len(sample) < rule.params.min_purchases:
        return None
    limit = outlier_limit(sample, rule.params.threshold, rule.params.floor)
    if fact.base_amount <= limit:
        return None
    measured = _measured(rule, "sum", fact.base_amount, limit)
    return Finding(rule, fact.customer_id, measured, (fact.id,), fact.customer_id)


def outlier_limit(amounts: Sequence[int], deviations: int, floor: int) -> int:
    """The largest amount, in minor units, that is not unusual after these: median + `deviations` * MAD, at least `floor`."""
    middle = median(map(Fraction, amounts))
    deviation = median(abs(amount - middle) for amount in amounts)
    return max(floor, int(middle + deviations * deviation))


def _points_cap(
    rule: Rule[PointsCap] | None, purchase: NewPurchase, measures: Measures, time_zone: str
) -> Finding | None:
    """All points ever earned bound those of a day from above, so most customers need no measure."""
    fact = purchase.fact
    if rule is None or not fact.points or purchase.lifetime_earned + fact.points <= rule.params.threshold:
        return None
    points = measures.points_on(fact.customer_id, day_of(fact.occurred_at, time_zone)) + fact.points
    if points <= rule.params.threshold:
        return None
    measured = _measured(rule, "sum", points, rule.params.threshold)
    return Finding(rule, fact.customer_id, measured, (fact.id,), fact.customer_id)


def _self_accrual(
    rule: Rule[SelfAccrual] | None, fact: PurchaseFact, measures: Measures, time_zone: str
) -> Finding | None:
    if rule is None or fact.employee_id is None or not fact.points:
        return None
    day = day_of(fact.occurred_at, time_zone)
    counted = [fact.id]
    for each in measures.purchases_of(fact.customer_id):
        same = each.employee_id == fact.employee_id and each.points and not each.imported
        if same and day_of(each.occurred_at, time_zone) == day:
            counted.append(each.id)
    if len(counted) < rule.params.threshold:
        return None
    measured = _measured(rule, "count", len(counted), rule.params.threshold)
    key = f"{fact.employee_id}\0{fact.customer_id}"
    return Finding(rule, key, measured, _evidence(counted), fact.customer_id)


def _receipt_duplicate(
    rule: Rule[ReceiptDuplicate] | None, purchase: NewPurchase, measures: Measures, now: UnixMs
) -> Finding | None:
    fact = purchase.fact
    receipts = [each for each in purchase.sightings if each.kind == "receipt"]
    if rule is None or not receipts or fact.base_amount < rule.params.min_amount:
        return None
    threshold = rule.params.threshold
    return _shared(rule, receipts[0], threshold, fact.customer_id, fact.id, measures, now - LIVE, rule.params.key_type)


def _shared(
    rule: Rule[Any],
    sighting: Sighting,
    threshold: int,
    customer_id: str,
    object_id: str,
    measures: Measures,
    since: UnixMs,
    key_type: str,
) -> Finding | None:
    """The customers with whom a value was seen, this one included, if they are `threshold` or more."""
    others = {
        each.customer_id: each.object_id for each in measures.seen(sighting, since) if each.customer_id != customer_id
    }
    if len(others) + 1 < threshold:
        return None
    return Finding(
        rule,
        sighting.hash.hex(),
        Measurement("distinct", len(others) + 1, threshold, rule.window, key_type),
        (*list(others.values())[: MOST_EVIDENCE - 1], object_id),
        customer_id,
        tuple(sorted(others)[:MOST_EVIDENCE]),
    )


# -- redemptions -----------------------------------------------------------------------------------------------------


def _velocity_redeem(
    rule: Rule[VelocityRedeem] | None, redemption: NewRedemption, measures: Measures, now: UnixMs
) -> Finding | None:
    if rule is None:
        return None
    threshold, window = rule.params.threshold, rule.params.window
    earlier = measures.redemptions_of(redemption.customer_id, threshold - 1)
    counted = [redemption.id, *(each.id for each in earlier if is_within(each.at, window, now))]
    if len(counted) < threshold:
        return None
    measured = _measured(rule, "count", len(counted), threshold)
    return Finding(rule, redemption.customer_id, measured, _evidence(counted), redemption.customer_id)


def _change_then_redeem(rule: Rule[ChangeThenRedeem] | None, redemption: NewRedemption, now: UnixMs) -> Finding | None:
    changed_at = redemption.security_changed_at
    if rule is None or changed_at is None or not is_within(changed_at, rule.params.window, now):
        return None
    return _large_share(rule, redemption, rule.params.threshold)


def _dormant_burst(
    rule: Rule[DormantBurst] | None, redemption: NewRedemption, measures: Measures, now: UnixMs
) -> Finding | None:
    if rule is None or is_within(redemption.active_at, rule.params.window, now):
        return None
    found = _large_share(rule, redemption, rule.params.threshold)
    if found and any(_newer(measures.redemptions_of(redemption.customer_id, 1), now - rule.params.window)):
        return None
    return found


def _newer(moments: Sequence[Moment], since: UnixMs) -> Iterator[Moment]:
    return (each for each in moments if each.at > since)


def _large_share(rule: Rule[Any], redemption: NewRedemption, permille: int) -> Finding | None:
    """The finding of a redemption of so large a share of what is available."""
    if not redemption.available or redemption.points * _PERMILLE < redemption.available * permille:
        return None
    share = Fraction(redemption.points, redemption.available)
    measured = _measured(rule, "ratio", share, Fraction(permille, _PERMILLE))
    return Finding(rule, redemption.customer_id, measured, (redemption.id,), redemption.customer_id)


# -- refunds ---------------------------------------------------------------------------------------------------------


def _refund_abuse(
    rule: Rule[RefundAbuse] | None, refund: NewRefund, measures: Measures, now: UnixMs, time_zone: str
) -> Finding | None:
    """The window is made of local days, of which today is the last."""
    if rule is None:
        return None
    first_day = day_of(now, time_zone) - rule.params.window // DAY + 1
    spending = measures.spending_of(refund.customer_id, first_day)
    if spending.purchases < rule.params.min_purchases or not spending.gross:
        return None
    share, threshold = Fraction(spending.refunded, spending.gross), Fraction(rule.params.threshold, _PERMILLE)
    if share < threshold:
        return None
    measured = _measured(rule, "ratio", share, threshold)
    return Finding(rule, refund.customer_id, measured, (refund.id,), refund.customer_id)


def _refund_after_redeem(rule: Rule[RefundAfterRedeem] | None, refund: NewRefund) -> Finding | None:
    if rule is None or refund.debt <= refund.debt_before or refund.debt < rule.params.threshold:
        return None
    measured = _measured(rule, "sum", refund.debt, rule.params.threshold)
    return Finding(rule, refund.customer_id, measured, (refund.id,), refund.customer_id)


# -- what rules share ------------------------------------------------------------------------------------------------


def _counts(fact: PurchaseFact, now: UnixMs) -> bool:
    return is_live(fact.occurred_at, now, imported=fact.imported)


def _measured(
    rule: Rule[Any],
    aggregate: Aggregate,
    value: Fraction | int,
    threshold: Fraction | int,
    *,
    window: DurationMs | None = None,
) -> Measurement:
    """`window`: the one that was measured, for a rule with two."""
    shown = rule.window if window is None else show_duration(window)
    return Measurement(aggregate, value, threshold, shown, rule.params.key_type)


def _evidence(newest_first: Sequence[str]) -> tuple[str, ...]:
    """The newest ids, oldest first."""
    return tuple(reversed(newest_first[:MOST_EVIDENCE]))
