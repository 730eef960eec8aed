"""Which events set which rules off: each at its threshold, and not one below it; a missing signal matches nothing."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.loyalty.expiry import day_of, day_start
from loyalpro.loyalty.fraud.durations import DAY, HOUR, MINUTE
from loyalpro.loyalty.fraud.judgment import (
    Finding,
    judge_credit,
    judge_identity,
    judge_purchase,
    judge_redemption,
    judge_refund,
    outlier_limit,
)
from loyalpro.loyalty.fraud.measure import (
    LIVE,
    Credit,
    Moment,
    NewCredit,
    NewPurchase,
    NewRedemption,
    NewRefund,
    PurchaseFact,
    SeenCustomer,
    Sighting,
    Spending,
    newest_purchases,
    purchases_since,
    receipt,
)
from loyalpro.loyalty.fraud.rules import (
    AmountOutlier,
    IdentityShared,
    Params,
    PointsCap,
    RuleSet,
    SelfAccrual,
    VelocityEarn,
    default_rule,
)
from support.fraud import Past

ZONE = "Europe/Berlin"
NOW = 1_795_867_200_000  # 2026-11-28T12:00Z
TODAY = day_of(NOW, ZONE)
ACCOUNT = "acct_01kat6b8z3v2m8d4qk7c5n9x1r"
DEVICE, PHONE, RECEIPT = Sighting("device", b"d" * 32), Sighting("phone", b"p" * 32), Sighting("receipt", b"r" * 32)


def only(*params: Params) -> RuleSet:
    """These rules are enabled, and no other."""
    off = [replace(rule, enabled=False) for rule in RuleSet(ACCOUNT).all]
    on = [replace(default_rule(ACCOUNT, type(each)), params=each) for each in params]
    return RuleSet(ACCOUNT, [*off, *on])


ALL = RuleSet(ACCOUNT)
_ids = count()


def fact(ago: int = 0, **fields: Any) -> PurchaseFact:
    """A purchase so many milliseconds ago."""
    usual: dict[str, Any] = {"customer_id": "cus_1", "occurred_at": NOW - ago, "base_amount": 1_200, "points": 12}
    return PurchaseFact(id=f"txn_{next(_ids):06d}", **(usual | fields))


def purchase(ago: int = 0, *, lifetime: int = 0, sightings: tuple[Sighting, ...] = (), **fields: Any) -> NewPurchase:
    return NewPurchase(fact(ago, **fields), lifetime, NOW, sightings)


def judged(new: NewPurchase, past: Past | None = None, rules: RuleSet = ALL) -> list[Finding]:
    return judge_purchase(rules, new, past or Past(), NOW, ZONE)


def codes(findings: list[Finding]) -> list[str]:
    return [each.rule.code for each in findings]


def measured(finding: Finding) -> tuple[Any, ...]:
    shown = finding.measurement
    return shown.aggregate, shown.value, shown.threshold, shown.window, shown.key_type


# -- velocity.earn ---------------------------------------------------------------------------------------------------


def test_example_28_five_purchases_in_an_hour_set_velocity_earn_off() -> None:
    earlier = [fact(ago) for ago in (59 * MINUTE, 40 * MINUTE, 20 * MINUTE, MINUTE)]
    new = purchase()
    [found] = judged(new, Past(earlier))
    assert measured(found) == ("count", 5, 5, "PT1H", "customer")
    assert found.measurement.severity_ratio == 1
    assert found.evidence == (*(each.id for each in earlier), new.fact.id)
    assert (found.key, found.customer_id) == ("cus_1", "cus_1")


def test_four_purchases_in_an_hour_do_not() -> None:
    assert judged(purchase(), Past([fact(), fact(), fact()])) == []


def test_the_window_is_half_open() -> None:
    inside = [fact(HOUR - 1), fact(), fact(), fact()]
    assert codes(judged(purchase(), Past(inside))) == ["velocity.earn"]
    assert judged(purchase(), Past([fact(HOUR), *inside[1:]])) == []


def test_eight_purchases_in_24_hours_set_it_off_and_seven_do_not() -> None:
    earlier = [fact(2 * HOUR + each) for each in range(7)]
    [found] = judged(purchase(), Past(earlier))
    assert measured(found) == ("count", 8, 8, "PT24H", "customer")
    assert judged(purchase(), Past(earlier[1:])) == []
    assert judged(purchase(), Past([fact(24 * HOUR), *earlier[1:]])) == []


@pytest.mark.parametrize("excluded", [{"points": 0}, {"imported": True}, {"customer_id": "cus_2"}])
def test_purchases_that_do_not_earn_or_are_imported_or_of_others_do_not_count(excluded: dict[str, Any]) -> None:
    assert judged(purchase(), Past([fact(), fact(), fact(), fact(**excluded)])) == []


def test_a_purchase_that_happened_outside_the_window_sets_nothing_off() -> None:
    assert judged(purchase(ago=2 * HOUR), Past([fact() for _ in range(6)])) == []


def test_a_clock_that_is_ahead_does_not_hide_a_purchase() -> None:
    assert codes(judged(purchase(-4 * MINUTE), Past([fact(-4 * MINUTE) for _ in range(4)]))) == ["velocity.earn"]


@pytest.mark.parametrize("late", [{"ago": LIVE}, {"imported": True}])
def test_what_is_not_live_sets_nothing_off(late: dict[str, Any]) -> None:
    rules = only(VelocityEarn(window=2 * DAY, long_window=2 * DAY), PointsCap(threshold=1), AmountOutlier(floor=0))
    past = Past([fact(MINUTE) for _ in range(9)])
    assert judged(purchase(base_amount=90_000, points=900, **late), past, rules) == []
    assert past.asked == []


# -- amount.outlier --------------------------------------------------------------------------------------------------

EXAMPLE_27 = [1200, 1500, 1100, 1300, 1250, 1400, 1350, 1280]


def test_example_27_an_amount_is_unusual_above_the_median_and_six_deviations() -> None:
    assert outlier_limit(EXAMPLE_27, 6, 0) == 1740
    rules = only(AmountOutlier(floor=0))
    past = Past([fact(DAY, base_amount=each) for each in EXAMPLE_27])
    [found] = judged(purchase(base_amount=1741), past, rules)
    assert measured(found) == ("sum", 1741, 1740, None, "customer")
    assert judged(purchase(base_amount=1740), past, rules) == []


def test_it_needs_eight_known_purchases_and_an_amount_above_the_floor() -> None:
    known = [fact(90 * DAY + each, base_amount=1_000) for each in range(8)]
    assert codes(judged(purchase(base_amount=50_001), Past(known))) == ["amount.outlier"]
    assert judged(purchase(base_amount=50_001), Past(known[1:])) == []
    below = Past(known)
    assert judged(purchase(base_amount=50_000), below, only(AmountOutlier())) == []
    assert below.asked == []
    without_conversion = [*known[1:], fact(base_amount=0)]
    assert judged(purchase(base_amount=50_001), Past(without_conversion)) == []


def test_it_looks_at_the_last_20_purchases() -> None:
    past = Past(
        [fact(base_amount=10**9, points=0) for _ in range(30)] + [fact(base_amount=1_000, points=0) for _ in range(20)]
    )
    assert codes(judged(purchase(base_amount=50_001), past)) == ["amount.outlier"]


@given(st.lists(st.integers(0, 60), min_size=1, max_size=20), st.integers(1, 9), st.integers(0, 100))
def test_the_limit_is_the_largest_amount_that_is_not_unusual(amounts: list[int], deviations: int, floor: int) -> None:
    ordered = sorted(map(Fraction, amounts))

    def middle(of: list[Fraction]) -> Fraction:
        half = len(of) // 2
        return of[half] if len(of) % 2 else (of[half - 1] + of[half]) / 2

    exact = middle(ordered) + deviations * middle(sorted(abs(each - middle(ordered)) for each in ordered))
    limit = outlier_limit(amounts, deviations, floor)
    for amount in (limit, limit + 1):
        assert (amount > limit) == (amount > max(Fraction(floor), exact))


# -- points.cap ------------------------------------------------------------------------------------------------------


def test_more_than_10000_points_on_a_local_day_set_points_cap_off() -> None:
    past = Past(points={("cus_1", TODAY): 9_900})
    [found] = judged(purchase(points=101, lifetime=9_900), past)
    assert measured(found) == ("sum", 10_001, 10_000, "P1D", "customer")
    assert judged(purchase(points=100, lifetime=50_000), past) == []


def test_the_day_is_that_of_the_purchase_in_the_zone_of_the_program() -> None:
    midnight = day_start(TODAY, ZONE)
    past = Past(points={("cus_1", TODAY - 1): 10_000})
    rules = only(PointsCap())
    assert codes(judged(purchase(NOW - midnight + 1, points=1, lifetime=10_000), past, rules)) == ["points.cap"]
    assert judged(purchase(NOW - midnight, points=1, lifetime=10_000), past, rules) == []


def test_points_are_measured_only_of_customers_that_ever_earned_enough() -> None:
    past = Past(points={("cus_1", TODAY): 9_900})
    judged(purchase(points=100, lifetime=9_900), past, only(PointsCap()))
    assert past.asked == []


# -- identity.shared -------------------------------------------------------------------------------------------------


def shared(sighting: Sighting, *customers: str) -> Past:
    return Past(sightings={sighting: [SeenCustomer(each, f"txn_of_{each}") for each in customers]})


def test_three_customers_with_one_device_set_identity_shared_off() -> None:
    new = purchase(sightings=(DEVICE,))
    [found] = judged(new, shared(DEVICE, "cus_2", "cus_3"))
    assert measured(found) == ("distinct", 3, 3, "P30D", "device")
    assert found.key == DEVICE.hash.hex()
    assert found.related_customer_ids == ("cus_2", "cus_3")
    assert found.evidence == ("txn_of_cus_2", "txn_of_cus_3", new.fact.id)
    assert judged(new, shared(DEVICE, "cus_2")) == []
    assert judged(new, shared(DEVICE, "cus_2", "cus_1")) == []


def test_each_shared_value_is_a_case_of_its_own() -> None:
    past = Past(sightings=shared(DEVICE, "cus_2", "cus_3").sightings | shared(PHONE, "cus_4", "cus_5").sightings)
    found = judge_identity(ALL, (DEVICE, PHONE), "cus_1", "cus_1", past, NOW)
    assert [each.measurement.key_type for each in found] == ["device", "phone"]
    assert len({each.key for each in found}) == 2


def test_without_a_value_nothing_is_asked() -> None:
    past = Past()
    judged(purchase(), past, only(IdentityShared()))
    assert past.asked == []


@given(st.sets(st.integers(0, 40)), st.integers(2, 20))
def test_it_fires_exactly_when_the_customers_with_this_one_reach_the_threshold(
    others: set[int], threshold: int
) -> None:
    past = shared(DEVICE, *(f"cus_{each}" for each in others))
    found = judged(purchase(sightings=(DEVICE,)), past, only(IdentityShared(threshold=threshold)))
    assert bool(found) == (len(others | {1}) >= threshold)
    assert all(len(each.evidence) <= 20 and len(each.related_customer_ids) <= 20 for each in found)


# -- employee.self_accrual -------------------------------------------------------------------------------------------


def test_four_purchases_of_a_day_by_one_employee_for_one_customer_set_self_accrual_off() -> None:
    earlier = [
        fact(5 * HOUR, employee_id="emp_4"),
        fact(3 * HOUR, employee_id="emp_4"),
        fact(HOUR, employee_id="emp_4"),
    ]
    new = purchase(employee_id="emp_4")
    [found] = judged(new, Past(earlier))
    assert measured(found) == ("count", 4, 4, "P1D", "employee_customer")
    assert found.key == "emp_4\0cus_1"
    assert found.evidence == (*(each.id for each in earlier), new.fact.id)


@pytest.mark.parametrize(
    "other", [{"employee_id": "emp_5"}, {"employee_id": None}, {"ago": 14 * HOUR}, {"points": 0}, {"imported": True}]
)
def test_three_do_not(other: dict[str, Any]) -> None:
    earlier = [fact(employee_id="emp_4"), fact(employee_id="emp_4"), fact(**({"employee_id": "emp_4"} | other))]
    assert judged(purchase(employee_id="emp_4"), Past(earlier), only(SelfAccrual())) == []


def test_purchases_without_an_employee_are_not_those_of_one() -> None:
    past = Past([fact() for _ in range(5)])
    assert judged(purchase(), past, only(SelfAccrual())) == []
    assert past.asked == []


# -- receipt.duplicate -----------------------------------------------------------------------------------------------


def test_a_receipt_of_two_customers_sets_receipt_duplicate_off() -> None:
    new = purchase(base_amount=5_000, sightings=(RECEIPT,))
    [found] = judged(new, shared(RECEIPT, "cus_2"))
    assert measured(found) == ("distinct", 2, 2, "PT1M", "receipt")
    assert judged(new, shared(RECEIPT, "cus_1")) == []
    assert judged(purchase(base_amount=4_999, sightings=(RECEIPT,)), shared(RECEIPT, "cus_2")) == []


def test_a_receipt_has_a_location_an_amount_a_currency_and_a_minute() -> None:
    same = receipt("loc_1", 5_000, "EUR", NOW)
    assert receipt("loc_1", 5_000, "EUR", NOW + 59_999) == same
    others = [receipt("loc_1", 5_000, "EUR", NOW + 60_000), receipt("loc_2", 5_000, "EUR", NOW)]
    others += [receipt("loc_1", 5_001, "EUR", NOW), receipt("loc_1", 5_000, "USD", NOW)]
    assert len({same, *others}) == 5


# -- redemptions -----------------------------------------------------------------------------------------------------


def redemption(
    points: int = 10, available: int = 1_000, *, active_ago: int = 0, changed_ago: int | None = None
) -> NewRedemption:
    changed_at = None if changed_ago is None else NOW - changed_ago
    return NewRedemption("red_9", "cus_1", points, available, NOW - active_ago, changed_at)


def redeemed(new: NewRedemption, *earlier_ago: int) -> list[Finding]:
    past = Past(redemptions=[Moment(f"red_{number}", NOW - ago) for number, ago in enumerate(earlier_ago)])
    return judge_redemption(ALL, new, past, NOW)


def test_three_redemptions_in_an_hour_set_velocity_redeem_off() -> None:
    [found] = redeemed(redemption(), HOUR - 1, 5)
    assert measured(found) == ("count", 3, 3, "PT1H", "customer")
    assert found.evidence == ("red_0", "red_1", "red_9")
    assert redeemed(redemption(), HOUR, 5) == []
    assert redeemed(redemption(), 5) == []


def test_half_of_the_points_soon_after_a_change_of_the_address_set_change_then_redeem_off() -> None:
    [found] = redeemed(redemption(500, changed_ago=24 * HOUR - 1))
    assert found.rule.code == "account.change_then_redeem"
    assert measured(found) == ("ratio", Fraction(1, 2), Fraction(1, 2), "PT24H", "customer")
    assert redeemed(redemption(499, changed_ago=1)) == []
    assert redeemed(redemption(500, changed_ago=24 * HOUR)) == []
    assert redeemed(redemption(500)) == []


def test_most_of_the_points_after_half_a_year_set_dormant_burst_off() -> None:
    [found] = redeemed(redemption(800, active_ago=180 * DAY))
    assert found.rule.code == "dormant.burst"
    assert measured(found) == ("ratio", Fraction(4, 5), Fraction(4, 5), "P180D", "customer")
    assert redeemed(redemption(799, active_ago=180 * DAY)) == []
    assert redeemed(redemption(800, active_ago=180 * DAY - 1)) == []
    assert redeemed(redemption(800, active_ago=180 * DAY), 179 * DAY) == []
    assert codes(redeemed(redemption(800, active_ago=180 * DAY), 180 * DAY)) == ["dormant.burst"]


def test_an_ordinary_redemption_asks_for_one_measure() -> None:
    past = Past()
    assert judge_redemption(ALL, redemption(), past, NOW) == []
    assert past.asked == ["redemptions_of"]


# -- refunds ---------------------------------------------------------------------------------------------------------


def refunded(spending: Spending, *, debt: int = 0, before: int = 0, ago: int = 0) -> list[Finding]:
    return judge_refund(ALL, NewRefund("ref_1", "cus_1", NOW - ago, before, debt), Past(spending=spending), NOW, ZONE)


def test_half_of_the_money_returned_of_four_purchases_sets_refund_abuse_off() -> None:
    [found] = refunded(Spending(4, 10_000, 5_000))
    assert measured(found) == ("ratio", Fraction(1, 2), Fraction(1, 2), "P60D", "customer")
    assert found.evidence == ("ref_1",)
    assert refunded(Spending(4, 10_000, 4_999)) == []
    assert refunded(Spending(3, 10_000, 10_000)) == []
    assert refunded(Spending(4, 0, 0)) == []


def test_a_refund_that_leaves_a_debt_sets_after_redeem_off() -> None:
    [found] = refunded(Spending(), debt=80)
    assert found.rule.code == "refund.after_redeem"
    assert measured(found) == ("sum", 80, 1, None, "customer")
    assert refunded(Spending()) == []
    assert refunded(Spending(), debt=80, before=80) == []


def test_a_refund_that_is_not_live_sets_nothing_off() -> None:
    assert refunded(Spending(4, 10_000, 10_000), debt=80, ago=LIVE) == []


# -- credits by hand -------------------------------------------------------------------------------------------------


def credited(points: int, *earlier: int) -> list[Finding]:
    past = Past(credits=[Credit(f"adj_{number}", each) for number, each in enumerate(earlier)])
    return judge_credit(ALL, NewCredit("adj_new", "cus_1", "user:usr_1", points), past, NOW, ZONE)


def test_more_than_5000_points_credited_by_one_actor_set_employee_adjustments_off() -> None:
    [found] = credited(1, 3_000, 2_000)
    assert measured(found) == ("sum", 5_001, 5_000, "P1D", "actor")
    assert (found.key, found.evidence) == ("user:usr_1", ("adj_0", "adj_1", "adj_new"))
    assert credited(1, 3_000, 1_999) == []


def test_more_than_50_credits_do_as_well() -> None:
    [found] = credited(1, *[1] * 50)
    assert measured(found) == ("count", 51, 50, "P1D", "actor")
    assert len(found.evidence) == 20
    assert credited(1, *[1] * 49) == []


def test_a_debit_is_not_measured() -> None:
    assert credited(-9_000, *[1] * 60) == []


# -- which customers are asked for -----------------------------------------------------------------------------------


def since(rules: RuleSet, last_ago: int | None, **fields: Any) -> int | None:
    new = replace(purchase(**fields), last_purchase_at=None if last_ago is None else NOW - last_ago)
    return purchases_since(rules, new, NOW, ZONE)


def test_an_ordinary_purchase_needs_the_purchases_of_a_day_if_there_is_one() -> None:
    assert since(ALL, None) is None
    assert since(ALL, 24 * HOUR) is None
    assert since(ALL, 24 * HOUR - 1) == NOW - 24 * HOUR + 1
    assert since(ALL, 24 * HOUR, base_amount=50_001) == 0
    assert since(only(SelfAccrual()), 0) is None
    assert since(only(SelfAccrual()), 0, employee_id="emp_4") == day_start(TODAY, ZONE)
    assert since(only(SelfAccrual()), 13 * HOUR + 1, employee_id="emp_4") is None
    assert since(only(), 0) is None
    assert since(ALL, 0, ago=LIVE) is None


def test_as_many_purchases_are_read_as_the_highest_threshold_needs() -> None:
    assert newest_purchases(ALL) == 20
    assert newest_purchases(only(VelocityEarn(long_threshold=60))) == 120


FACTS = st.lists(
    st.builds(
        fact,
        st.integers(-5, 60).map(lambda hours: hours * HOUR),
        points=st.integers(0, 2),
        base_amount=st.sampled_from([0, 900, 1_000, 1_100, 60_000]),
        employee_id=st.sampled_from([None, "emp_4", "emp_5"]),
        imported=st.booleans(),
    ),
    max_size=14,
)


@given(FACTS, st.sampled_from([900, 60_000]), st.sampled_from([None, "emp_4"]), st.integers(0, 50))
def test_purchases_that_are_not_asked_for_change_nothing(
    earlier: list[PurchaseFact], amount: int, employee: str | None, hours: int
) -> None:
    """What `purchases_since` leaves out could not have set a rule off."""
    rules = only(VelocityEarn(2, HOUR, 3, 24 * HOUR), AmountOutlier(min_purchases=2), SelfAccrual(2))
    last = max((each.occurred_at for each in earlier), default=None)
    new = replace(purchase(hours * HOUR, base_amount=amount, employee_id=employee), last_purchase_at=last)
    first = purchases_since(rules, new, NOW, ZONE)
    read = [] if first is None else [each for each in earlier if each.occurred_at >= first]
    everything, enough = (judged(new, Past(facts), rules) for facts in (earlier, read))
    assert codes(everything) == codes(enough)
    assert [each.measurement for each in everything] == [each.measurement for each in enough]


@given(FACTS, st.randoms(use_true_random=False))
def test_a_batch_is_judged_as_its_purchases_one_after_the_other(facts: list[PurchaseFact], rng: Any) -> None:
    """What counts is the past, in whatever order purchases of one instant arrive."""
    past = Past(facts)
    shuffled = Past(rng.sample(facts, len(facts)))
    new = purchase(employee_id="emp_4")
    rules = only(VelocityEarn(2, HOUR, 3, 24 * HOUR), SelfAccrual(2))
    assert [each.measurement for each in judged(new, past, rules)] == [
        each.measurement for each in judged(new, shuffled, rules)
    ]


@given(FACTS)
def test_more_purchases_never_make_it_less_suspicious(facts: list[PurchaseFact]) -> None:
    rules = only(VelocityEarn(2, HOUR, 3, 24 * HOUR), SelfAccrual(2))
    new = purchase(employee_id="emp_4")
    for end in range(len(facts)):
        before, after = (set(codes(judged(new, Past(facts[:size]), rules))) for size in (end, end + 1))
        assert before <= after


@pytest.mark.parametrize("judge", [lambda off: judged(purchase(points=10**6, lifetime=10**6, base_amount=10**6, employee_id="e", sightings=(DEVICE, RECEIPT)), rules=off),
                                   lambda off: judge_redemption(off, redemption(1_000, active_ago=400 * DAY, changed_ago=1), Past(), NOW),
                                   lambda off: judge_refund(off, NewRefund("ref_1", "cus_1", NOW, 0, 9), Past(spending=Spending(9, 9, 9)), NOW, ZONE),
                                   lambda off: judge_credit(off, NewCredit("adj_1", "cus_1", "key:1", 10**6), Past(), NOW, ZONE)])  # fmt: skip
def test_rules_that_are_disabled_measure_nothing(judge: Callable[[RuleSet], list[Finding]]) -> None:
    assert judge(only()) == []
