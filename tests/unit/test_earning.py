"""What an order earns: the worked examples of the specification, its rules against a plain reading of them, and its properties."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from math import ceil, floor
from typing import Any, TypeVar

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from loyalpro.events.transaction import Item
from loyalpro.kernel.clock import VirtualClock, unix_ms
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty import pricing
from loyalpro.loyalty.earning import Campaign, EarnRule, EarnSettings, ItemMatch, Rate
from loyalpro.loyalty.orders import Order, check, thousandths
from loyalpro.loyalty.pricing import Earner, Priced, base_amount, price, raw
from loyalpro.loyalty.program import Rules, default_program
from loyalpro.loyalty.tiers import Tier
from support.campaigns import new_campaign

DEFAULT = default_program(IdFactory(VirtualClock(), random.Random(1))).rules
T = TypeVar("T")
NOW = unix_ms(datetime(2026, 11, 28, 12, tzinfo=UTC))  # a Saturday

TEA, GIFT_CARD, CUPS = (
    Item(sku="tea", category="drinks", quantity=2, amount=2_000),
    Item(category="gift_card", quantity=1, amount=3_000),
    Item(sku="cups", quantity=4, amount=3_000),
)
BASKET = [TEA, GIFT_CARD, CUPS]
ONE_PER_EURO = EarnRule("rule_1", "1 per 1.00", {"EUR": Rate(1, 100)})
FIVE_FOR_TEA = EarnRule("rule_tea", "5 per 1.00 of tea", {"EUR": Rate(5, 100)}, match=ItemMatch(skus=("tea",)))
TEN_A_PIECE = EarnRule("rule_piece", "10 for each tea", points_per_item=10, match=ItemMatch(skus=("tea",)))
TEA_PAYS_MORE = EarnSettings((FIVE_FOR_TEA, ONE_PER_EURO), exclude=ItemMatch(categories=("gift_card",)))


def rules(settings: EarnSettings | None = None, **changes: Any) -> Rules:
    return replace(DEFAULT, earning=replace(settings or EarnSettings((ONE_PER_EURO,)), **changes))


def tier(permille: int = 1_000) -> Tier:
    return Tier("tier_s", "Silver", 2, 1_000, permille)


def priced(
    order: Order,
    of: Rules,
    *campaigns: Campaign,
    permille: int = 1_000,
    at: int = NOW,
    **earner: Any,
) -> Priced:
    return price(order, of, Earner(tier(permille), **earner), campaigns, at)


def euros(amount: int, items: Sequence[Item] = (), **parts: int) -> Order:
    return Order(amount, "EUR", items=items, **parts)


# -- the worked examples ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("amount", "points"), [(5_600, 56), (99, 0)], ids=["1", "1-less"])
def test_example_1_an_amount_earns_whole_points(amount: int, points: int) -> None:
    found = priced(euros(amount), rules())
    assert (found.points, found.eligible_amount, found.base_amount) == (points, amount, amount)
    assert bool(found.rules) == bool(points)


def test_example_2_currencies_have_rates_and_conversions() -> None:
    many = rules(
        EarnSettings(
            (EarnRule("rule_1", "all", {"JPY": Rate(1, 100), "KWD": Rate(3, 2_500)}),),
            conversion={"JPY": "0.0061", "KWD": "2.99"},
        )
    )
    assert priced(Order(12_345, "JPY"), many).points == 123
    assert priced(Order(12_345, "KWD"), many).points == 14
    assert base_amount(10_000, "JPY", many) == 6_100
    assert priced(Order(12_345, "KWD"), many).base_amount == base_amount(12_345, "KWD", many) == 3_691
    assert base_amount(10_000, "USD", many) == 0


@pytest.mark.parametrize(
    ("amount", "rounding", "points"),
    [
        pytest.param(amount, rounding, points, id=f"3-{amount}-{rounding}")
        for amount, expected in ((3_350, (50, 50, 51)), (3_333, (49, 50, 50)))
        for rounding, points in zip(("floor", "half_up", "ceil"), expected, strict=True)
    ],
)
def test_example_3_an_order_is_rounded_once_after_its_multiplier(amount: int, rounding: str, points: int) -> None:
    by_tier = priced(euros(amount), rules(rounding=rounding), permille=1_500)
    by_campaign = priced(euros(amount), rules(rounding=rounding), new_campaign(multiplier_permille=1_500))
    assert by_tier.points == by_campaign.points == points
    assert [line["points"] for line in by_tier.rules] == [line["points"] for line in by_campaign.rules]
    assert by_campaign.rules[-1]["multiplier"] == 1.5


def test_example_4_tax_earns_unless_it_is_excluded_and_shipping_does_not() -> None:
    order = euros(11_900, tax_amount=1_900, shipping_amount=490)
    without_tax, with_tax = priced(order, rules(tax="excluded")), priced(order, rules())
    assert (without_tax.eligible_amount, without_tax.points) == (9_510, 95)
    assert (with_tax.eligible_amount, with_tax.points) == (11_410, 114)


def test_example_5_items_earn_by_the_best_rule_that_takes_them() -> None:
    found = priced(euros(8_000, BASKET), rules(TEA_PAYS_MORE))
    assert (found.eligible_amount, found.points) == (5_000, 130)
    assert [(line["id"], line["points"]) for line in found.rules] == [("rule_tea", 100), ("rule_1", 30)]


def test_example_6_a_discount_on_the_order_makes_each_line_smaller() -> None:
    discounted = priced(euros(7_200, BASKET), rules(TEA_PAYS_MORE))
    assert (discounted.eligible_amount, discounted.points) == (4_500, 117)
    shipped = priced(euros(8_490, BASKET, shipping_amount=490), rules(TEA_PAYS_MORE))
    assert (shipped.eligible_amount, shipped.points) == (5_000, 130)


def test_example_7_below_a_minimum_spend_nothing_earns() -> None:
    least = rules(min_spend=5_000)
    bonus = new_campaign(points=100, min_spend=5_000)
    assert priced(euros(4_999), least, bonus).points == 0
    assert priced(euros(4_999), least, bonus).rules == ()
    assert priced(euros(5_000), least).points == 50
    assert priced(euros(5_000), least, bonus).points == priced(euros(5_000), rules(), bonus).points == 150


def test_example_8_pieces_earn_beside_amounts() -> None:
    found = priced(euros(8_000, BASKET), rules(EarnSettings((ONE_PER_EURO, TEN_A_PIECE))))
    assert found.points == 100
    assert [(line["id"], line["points"]) for line in found.rules] == [("rule_1", 80), ("rule_piece", 20)]


def test_example_9_the_order_earns_100_points() -> None:
    assert priced(euros(9_999), rules(rounding="half_up")).points == 100
    assert raw(euros(9_999), rules(rounding="half_up"), None) == Fraction(9_999, 100)


def test_example_10_what_is_left_of_an_order_is_worth_what_its_lines_earn() -> None:
    of, without_tea = rules(TEA_PAYS_MORE), [GIFT_CARD, CUPS]
    for order, all_of_it, left in ((euros(8_000, BASKET), 130, 30), (euros(7_200, BASKET), 117, 27)):
        assert raw(order, of, None) == raw(order, of, None, [TEA, CUPS]) == all_of_it
        assert raw(order, of, None, without_tea) == left


def test_example_11_a_refund_of_money_keeps_the_share_of_what_is_left() -> None:
    order, of = euros(8_000, BASKET), rules(TEA_PAYS_MORE)
    left = raw(order, of, None, [GIFT_CARD, CUPS]) / raw(order, of, None)
    assert ceil(130 * left * Fraction(6_000 - 1_500, 6_000)) == 23


# -- parts of an order ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "param"),
    [
        (euros(1_000, tax_amount=500, shipping_amount=300, tip_amount=201), "amount"),
        (euros(0, tip_amount=1), "amount"),
        (euros(1_000, gift_card_amount=1_001), "gift_card_amount"),
    ],
)
def test_parts_are_not_more_than_their_order(order: Order, param: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(order)
    assert (refused.value.code, refused.value.param) == ("amounts_do_not_add_up", param)


def test_parts_may_be_all_of_their_order() -> None:
    check(euros(1_000, tax_amount=500, shipping_amount=300, tip_amount=200, gift_card_amount=1_000))


@pytest.mark.parametrize(
    "quantity", [0, -1, 1, 0.001, -2.125, 0.1, 1.1, 123_456.789, 999_999_999.999, 2**53 - 1, -(2.0**52)]
)
def test_a_quantity_has_up_to_three_decimals(quantity: float) -> None:
    check(euros(1_000, [Item(quantity=quantity, amount=1)]))


@pytest.mark.parametrize(
    "quantity", [0.0001, 1.2345, 1e-300, float("nan"), float("inf"), -float("inf"), 2**53, 1e300, 10**400]
)
def test_another_quantity_is_refused_by_its_place(quantity: float) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(euros(1_000, [TEA, Item(quantity=quantity, amount=1)]))
    assert refused.value.param == "items[1].quantity"


@pytest.mark.parametrize(
    ("changes", "eligible"),
    [
        ({}, 8_600),
        ({"shipping": "earns"}, 9_000),
        ({"tax": "excluded"}, 7_100),
        ({"gift_card": "excluded"}, 6_600),
        ({"shipping": "earns", "tax": "excluded", "gift_card": "excluded"}, 5_500),
    ],
)
def test_the_program_says_which_parts_earn(changes: dict[str, Any], eligible: int) -> None:
    order = euros(10_000, tax_amount=1_500, shipping_amount=400, tip_amount=1_000, gift_card_amount=2_000)
    assert priced(order, rules(**changes)).eligible_amount == eligible


def test_an_order_that_is_all_left_out_earns_nothing() -> None:
    order = euros(1_000, BASKET, tip_amount=400, gift_card_amount=1_000)
    for settings in (EarnSettings((ONE_PER_EURO,)), TEA_PAYS_MORE):
        found = priced(order, rules(settings, gift_card="excluded"), new_campaign(points=100))
        assert (found.points, found.eligible_amount, found.rules) == (0, 0, ())


def test_gifts_and_coupons_are_not_priced() -> None:
    items = [*BASKET, Item(sku="tea", quantity=1, amount=0), Item(sku="tea", quantity=-3, amount=-500)]
    of = rules(EarnSettings((FIVE_FOR_TEA, ONE_PER_EURO, TEN_A_PIECE)))
    assert priced(euros(8_000, items), of) == priced(euros(8_000, BASKET), of)


# -- rules ---------------------------------------------------------------------------------------------------------------


def test_of_rules_that_pay_the_same_the_first_takes_the_line() -> None:
    same = EarnRule("rule_same", "the same for tea", {"EUR": Rate(2, 200)}, match=ItemMatch(skus=("tea",)))
    order = euros(2_000, [TEA])
    assert priced(order, rules(EarnSettings((same, ONE_PER_EURO)))).rules[0]["id"] == "rule_same"
    assert priced(order, rules(EarnSettings((ONE_PER_EURO, same)))).rules[0]["id"] == "rule_1"


def test_a_rule_below_its_minimum_leaves_its_lines_to_the_next() -> None:
    for minimum, points in ((2_000, 100 + 60), (2_001, 20 + 60)):
        least = replace(FIVE_FOR_TEA, min_spend=minimum)
        assert priced(euros(8_000, BASKET), rules(EarnSettings((least, ONE_PER_EURO)))).points == points


def test_a_line_takes_the_rule_for_pieces_that_gives_most() -> None:
    drinks = EarnRule("rule_drinks", "3 a drink", points_per_item=3, match=ItemMatch(categories=("drinks",)))
    found = priced(euros(8_000, BASKET), rules(EarnSettings((ONE_PER_EURO, drinks, TEN_A_PIECE))))
    assert found.points == 80 + 20


def test_pieces_are_rounded_down_once() -> None:
    items = [Item(sku="tea", quantity=0.05, amount=100), Item(sku="tea", quantity=0.06, amount=100)]
    assert priced(euros(200, items), rules(EarnSettings((ONE_PER_EURO, TEN_A_PIECE)))).points == 2 + 1


def test_what_no_item_accounts_for_is_left_to_rules_without_a_match() -> None:
    of = rules(EarnSettings((FIVE_FOR_TEA, ONE_PER_EURO)))
    assert priced(euros(5_000, [TEA]), of).points == 100 + 30
    assert priced(euros(5_000, [TEA]), rules(EarnSettings((FIVE_FOR_TEA,)))).eligible_amount == 2_000


def test_a_rule_counts_for_the_currencies_that_it_has_rates_for() -> None:
    dollars = EarnRule("rule_usd", "2 per 1.00 USD", {"USD": Rate(2, 100)})
    of = rules(EarnSettings((ONE_PER_EURO, dollars)))
    assert (priced(euros(1_000), of).points, priced(Order(1_000, "USD"), of).points) == (10, 20)


def test_a_minimum_in_another_currency_is_compared_by_its_conversion() -> None:
    rate = EarnRule("rule_1", "all", {"JPY": Rate(1, 100)})
    known = rules(EarnSettings((rate,), min_spend=6_100, conversion={"JPY": "0.0061"}))
    assert priced(Order(9_999, "JPY"), known).points == 0
    assert priced(Order(10_000, "JPY"), known).points == 100
    assert priced(Order(10_000_000, "JPY"), rules(EarnSettings((rate,), min_spend=1))).points == 0


def test_limits_cut_what_came_last() -> None:
    limited = rules(max_points_per_order=70, max_points_per_day=100)
    found = priced(euros(5_000), limited, new_campaign())
    assert [(line["id"], line["points"]) for line in found.rules] == [("rule_1", 50), ("camp_1", 20)]
    assert priced(euros(5_000), limited, new_campaign(), earned_that_day=60).points == 40
    assert priced(euros(5_000), limited, new_campaign(), earned_that_day=100).rules == ()
    assert priced(euros(5_000), limited, new_campaign(), earned_that_day=101).points == 0
    assert priced(euros(9_000), limited, earned_that_day=60).rules[0]["points"] == 40


# -- tiers and campaigns -------------------------------------------------------------------------------------------------


def test_the_tier_and_the_highest_campaign_multiply_each_other() -> None:
    two, three = new_campaign(), new_campaign(id="camp_3", multiplier_permille=3_000)
    found = priced(euros(1_000), rules(), two, three, permille=1_500)
    assert [(line["id"], line.get("multiplier"), line["points"]) for line in found.rules] == [
        ("rule_1", None, 10),
        ("tier_s", 1.5, 5),
        ("camp_3", 3, 30),
    ]
    assert found.campaign_ids == ("camp_3",)
    assert priced(euros(1_000), rules(combine="add"), two, three, permille=1_500).points == 60
    assert priced(euros(1_000), rules(combine="add"), two, three).campaign_ids == ("camp_1", "camp_3")


def test_of_campaigns_that_multiply_the_same_the_first_counts() -> None:
    assert priced(euros(1_000), rules(), new_campaign(), new_campaign(id="camp_2")).campaign_ids == ("camp_1",)


def test_a_campaign_multiplies_the_lines_that_match() -> None:
    of_tea = new_campaign(match=ItemMatch(skus=("tea",)))
    assert priced(euros(8_000, BASKET), rules(), of_tea).points == 80 + 20
    assert priced(euros(8_000, BASKET), rules(), of_tea, new_campaign(id="c", multiplier_permille=1_500)).points == 130
    assert priced(euros(8_000, BASKET), rules(TEA_PAYS_MORE), of_tea).points == 130 + 100
    assert priced(euros(8_000), rules(), of_tea).campaign_ids == ()


def test_a_tier_may_multiply_by_less_than_one() -> None:
    found = priced(euros(5_000), rules(), permille=500)
    assert (found.points, [line["id"] for line in found.rules]) == (25, ["rule_1"])
    doubled = priced(euros(5_000), rules(), new_campaign(), permille=500)
    assert [(line["id"], line["points"]) for line in doubled.rules] == [("rule_1", 25), ("camp_1", 25)]


def test_a_bonus_needs_lines_that_match_and_its_minimum() -> None:
    bonus = new_campaign(points=100, match=ItemMatch(categories=("drinks",)), min_spend=2_000)
    assert priced(euros(8_000, BASKET), rules(), bonus).points == 180
    assert priced(euros(7_999, BASKET), rules(), bonus).points == 79
    assert priced(euros(8_000, [CUPS]), rules(), bonus).points == 80
    assert priced(euros(0), rules(), new_campaign(points=100)).points == 0


def test_what_is_excluded_does_not_count_for_campaigns() -> None:
    bonus = new_campaign(points=100, min_spend=5_001)
    assert priced(euros(8_000, BASKET), rules(TEA_PAYS_MORE), bonus).points == 130
    assert priced(euros(8_000, BASKET), rules(TEA_PAYS_MORE), replace(bonus, min_spend=5_000)).points == 230


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"starts_at": NOW}, True),
        ({"starts_at": NOW + 1}, False),
        ({"ends_at": NOW + 1}, True),
        ({"ends_at": NOW}, False),
        ({"status": "paused"}, False),
        ({"status": "archived"}, False),
        ({"weekdays": (5,)}, True),
        ({"weekdays": (0, 1, 2, 3, 4, 6)}, False),
        ({"tags": ("vip", "staff")}, True),
        ({"tags": ("staff",)}, False),
        ({"tier_ids": ("tier_s",)}, True),
        ({"tier_ids": ("tier_g",)}, False),
        ({"limit_per_customer": 3}, True),
        ({"limit_per_customer": 2}, False),
        ({"min_spend": 1_000}, True),
        ({"min_spend": 1_001}, False),
    ],
)
def test_a_campaign_counts_for_whom_and_when_it_says(*, changes: dict[str, Any], counts: bool) -> None:
    found = priced(euros(1_000), rules(), new_campaign(**changes), tags=("vip",), campaign_uses={"camp_1": 2})
    assert found.points == (20 if counts else 10)
    assert (found.campaign_ids, found.frozen is None) == ((("camp_1",), False) if counts else ((), True))


def test_the_weekday_is_that_of_the_program() -> None:
    saturday_evening = unix_ms(datetime(2026, 11, 28, 23, 30, tzinfo=UTC))
    sundays = new_campaign(weekdays=(6,))
    assert priced(euros(1_000), rules(), sundays, at=saturday_evening).points == 10
    in_berlin = replace(rules(), time_zone="Europe/Berlin")
    assert priced(euros(1_000), in_berlin, sundays, at=saturday_evening).points == 20


# -- what is kept for refunds --------------------------------------------------------------------------------------------


def test_an_ordinary_purchase_keeps_nothing() -> None:
    assert priced(euros(8_000, BASKET), rules()).frozen is None
    assert priced(euros(8_000, BASKET), rules(TEA_PAYS_MORE)).frozen is None
    assert priced(euros(8_000), rules(), permille=1_500).frozen == {"tier": 1_500}


def test_a_campaign_is_kept_as_it_was() -> None:
    found = priced(euros(8_000, BASKET), rules(), new_campaign(match=ItemMatch(skus=("tea",)), min_spend=2_000))
    assert found.frozen == {
        "campaigns": [
            {"id": "camp_1", "multiplier": 2_000, "min_spend": 2_000, "match": {"skus": ["tea"], "categories": []}}
        ]
    }
    assert raw(euros(8_000, BASKET), rules(), found.frozen) == 100
    assert raw(euros(8_000, BASKET), rules(), found.frozen, [GIFT_CARD, CUPS]) == 60


def test_a_bonus_is_lost_when_what_is_left_does_not_reach_its_minimum() -> None:
    order = euros(8_000, BASKET)
    kept = priced(order, rules(), new_campaign(points=100, min_spend=6_000)).frozen
    assert raw(order, rules(), kept) == 180
    assert raw(order, rules(), kept, [GIFT_CARD, CUPS]) == 160
    assert raw(order, rules(), kept, [TEA, CUPS]) == 50


def test_what_no_item_accounts_for_shrinks_with_the_items() -> None:
    order = euros(10_000, BASKET)
    assert raw(order, rules(), None, [GIFT_CARD, CUPS]) == 75
    assert raw(order, rules(TEA_PAYS_MORE), None, [TEA]) == 105
    assert raw(order, rules(), None, [replace_amount(TEA, 1_000)]) == Fraction(25, 2)


def replace_amount(item: Item, amount: int) -> Item:
    changed: Any = {**item, "amount": amount}
    made: Item = changed
    return made


# -- properties ----------------------------------------------------------------------------------------------------------


def seldom(strategy: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    """None in most examples, so that most orders earn something."""
    return st.tuples(st.integers(0, 3), strategy).map(lambda drawn: drawn[1] if drawn[0] == 3 else None)


matches = st.builds(
    ItemMatch,
    st.lists(st.sampled_from("abc"), max_size=2, unique=True).map(tuple),
    st.lists(st.sampled_from("xy"), max_size=1).map(tuple),
)
maybe_match = seldom(matches)
rates = st.builds(Rate, st.integers(1, 9), st.integers(1, 300))
minimums = seldom(st.integers(0, 3_000))
rate_rules = st.builds(
    EarnRule, id=st.sampled_from(["rule_1", "rule_2"]), name=st.just("r"), rates=rates.map(lambda rate: {"EUR": rate}),
    match=maybe_match, min_spend=minimums,
)  # fmt: skip
piece_rules = st.builds(
    EarnRule, id=st.just("rule_3"), name=st.just("p"), points_per_item=st.integers(1, 9), match=maybe_match,
    min_spend=minimums,
)  # fmt: skip
campaigns_ = st.lists(
    st.one_of(
        st.builds(new_campaign, multiplier_permille=st.integers(1_001, 4_000), match=maybe_match, min_spend=minimums),
        st.builds(new_campaign, points=st.integers(1, 50), match=maybe_match, min_spend=minimums),
    ),
    max_size=3,
).map(lambda found: [replace(each, id=f"camp_{index}") for index, each in enumerate(found)])
settings_ = st.builds(
    EarnSettings,
    rules=st.lists(rate_rules | piece_rules, min_size=1, max_size=4).map(tuple),
    exclude=seldom(maybe_match),
    min_spend=minimums,
    rounding=st.sampled_from(["floor", "half_up", "ceil"]),
    combine=st.sampled_from(["highest", "add"]),
    tax=st.sampled_from(["included", "excluded"]),
    shipping=st.sampled_from(["excluded", "earns"]),
    gift_card=st.sampled_from(["included", "excluded"]),
)
items_ = st.lists(
    st.builds(
        Item,
        sku=st.sampled_from("abcd"),
        category=st.sampled_from("xyz"),
        quantity=st.integers(-2_000, 5_000).map(lambda count: count / 1_000) | st.integers(-2, 5),
        amount=st.integers(-500, 2_000),
    ),
    max_size=5,
)
permilles = st.sampled_from([0, 500, 1_000, 1_100, 1_500, 3_000])


@st.composite
def orders(draw: st.DrawFn) -> Order:
    amount = draw(st.integers(0, 6_000))
    tax, shipping, tip = (draw(st.integers(0, amount // 4)) for _ in range(3))
    return euros(
        amount,
        draw(items_),
        tax_amount=tax,
        shipping_amount=shipping,
        tip_amount=tip,
        gift_card_amount=draw(seldom(st.integers(0, amount))) or 0,
    )


def limits(settings: EarnSettings, per_order: int | None, per_day: int | None) -> Rules:
    return rules(settings, max_points_per_order=per_order, max_points_per_day=per_day)


def as_specified(order: Order, of: Rules, permille: int, campaigns: Sequence[Campaign]) -> tuple[int, int]:
    """Points without limits and the eligible amount: the steps of the specification, one after the other, in fractions."""
    earning = of.earning
    net = order.amount - order.tip_amount
    net -= 0 if earning.shipping == "earns" else order.shipping_amount
    net -= order.tax_amount if earning.tax == "excluded" else 0
    net -= order.gift_card_amount if earning.gift_card == "excluded" else 0
    net = max(0, net)
    priced_items = [item for item in order.items if item["amount"] > 0]
    total = sum(item["amount"] for item in priced_items)
    k = min(Fraction(1), Fraction(net, total)) if total else Fraction(0)
    lines: list[tuple[Fraction, Item | None]] = [(item["amount"] * k, item) for item in priced_items]
    lines = [(amount, item) for amount, item in [*lines, (net - total * k, None)] if amount > 0]
    if earning.exclude:
        lines = [line for line in lines if not matches_line(earning.exclude, line)]

    def take(candidates: list[EarnRule]) -> dict[int, EarnRule]:
        taken: dict[int, EarnRule] = {}
        for rule in candidates:
            own = [i for i, line in enumerate(lines) if i not in taken and matches_line(rule.match, line)]
            if sum(lines[i][0] for i in own) >= (rule.min_spend or 0):
                taken |= dict.fromkeys(own, rule)
        return taken

    by_rate = [rule for rule in earning.rules if rule.rates]
    by_rate.sort(key=lambda rule: -Fraction(rule.rates["EUR"].points, rule.rates["EUR"].per_amount))
    by_piece = [rule for rule in earning.rules if rule.points_per_item]
    by_piece.sort(key=lambda rule: -(rule.points_per_item or 0))
    rated, pieces = take(by_rate), take(by_piece)
    eligible = sum((lines[i][0] for i in rated), Fraction(0))
    if eligible < (earning.min_spend or 0):
        return 0, floor(eligible)
    met = []
    for each in campaigns:
        own_lines = [line for line in lines if matches_line(each.match, line)]
        if own_lines and sum(line[0] for line in own_lines) >= (each.min_spend or 0):
            met.append(each)
    exact = Fraction(0)
    for i, rule in rated.items():
        found = [Fraction(each.multiplier_permille or 0, 1_000) for each in met if matches_line(each.match, lines[i])]
        found = [multiplier for multiplier in found if multiplier]
        factor = max(found, default=Fraction(1)) if earning.combine == "highest" else 1 + sum(m - 1 for m in found)
        rate = rule.rates["EUR"]
        exact += lines[i][0] * Fraction(rate.points, rate.per_amount) * Fraction(permille, 1_000) * factor
    whole = {"floor": floor(exact), "ceil": ceil(exact), "half_up": floor(exact + Fraction(1, 2))}[earning.rounding]
    of_pieces = Fraction(0)
    for i, rule in pieces.items():
        item = lines[i][1]
        of_pieces += Fraction(0 if item is None else max(0, round(item["quantity"] * 1_000)), 1_000) * (
            rule.points_per_item or 0
        )
    return whole + floor(of_pieces) + sum(each.points or 0 for each in met), floor(eligible)


def matches_line(match: ItemMatch | None, line: tuple[Fraction, Item | None]) -> bool:
    if match is None:
        return True
    item = line[1]
    return item is not None and (item["sku"] in match.skus or item["category"] in match.categories)


@given(orders(), settings_, campaigns_, permilles)
def test_an_order_earns_what_the_specification_says(
    order: Order, settings: EarnSettings, campaigns: list[Campaign], permille: int
) -> None:
    found = priced(order, rules(settings), *campaigns, permille=permille)
    assert (found.points, found.eligible_amount) == as_specified(order, rules(settings), permille, campaigns)


@given(
    orders(), settings_, campaigns_, permilles, st.none() | st.integers(0, 60), st.none() | st.integers(0, 60),
    st.integers(0, 60),
)  # fmt: skip
def test_the_lines_add_up_and_are_above_zero(
    order: Order,
    settings: EarnSettings,
    campaigns: list[Campaign],
    permille: int,
    per_order: int | None,
    per_day: int | None,
    earned: int,
) -> None:
    free = priced(order, rules(settings), *campaigns, permille=permille)
    found = priced(order, limits(settings, per_order, per_day), *campaigns, permille=permille, earned_that_day=earned)
    assert sum(line["points"] for line in found.rules) == found.points
    assert all(line["points"] > 0 for line in found.rules)
    most = [each for each in (per_order, None if per_day is None else max(0, per_day - earned)) if each is not None]
    assert found.points == min(free.points, *most, free.points)


@given(orders(), rates, permilles, st.sampled_from(["floor", "half_up", "ceil"]), st.none() | st.integers(0, 60))
def test_the_short_way_gives_what_the_long_way_gives(
    order: Order, rate: Rate, permille: int, rounding: pricing.Rounding, limit: int | None
) -> None:
    of = limits(replace(EarnSettings((EarnRule("rule_1", "r", {"EUR": rate}),)), rounding=rounding), limit, None)
    earner = Earner(tier(permille))
    assert pricing._only_rule(of.earning, "EUR") is not None
    assert price(order, of, earner, (), NOW) == pricing._price_lines(order, of, earner, ())


@given(orders(), settings_, campaigns_, permilles, st.randoms(use_true_random=False))
def test_the_order_of_lines_does_not_matter(
    order: Order, settings: EarnSettings, campaigns: list[Campaign], permille: int, chance: random.Random
) -> None:
    shuffled = replace(order, items=chance.sample(list(order.items), len(order.items)))
    one, other = (priced(each, rules(settings), *campaigns, permille=permille) for each in (order, shuffled))
    assert one == other


@given(orders(), settings_, campaigns_, permilles, permilles)
def test_a_higher_multiplier_never_earns_less(
    order: Order, settings: EarnSettings, campaigns: list[Campaign], one: int, other: int
) -> None:
    low, high = sorted((one, other))
    of = rules(settings)
    assert priced(order, of, *campaigns, permille=low).points <= priced(order, of, *campaigns, permille=high).points


@given(orders(), settings_, campaigns_, permilles)
def test_one_more_campaign_never_earns_less(
    order: Order, settings: EarnSettings, campaigns: list[Campaign], permille: int
) -> None:
    assume(campaigns)
    of = rules(settings)
    fewer = priced(order, of, *campaigns[1:], permille=permille)
    assert fewer.points <= priced(order, of, *campaigns, permille=permille).points


@given(orders(), st.integers(0, 3_000), settings_, campaigns_, permilles)
def test_a_larger_amount_never_earns_less(
    order: Order, more: int, settings: EarnSettings, campaigns: list[Campaign], permille: int
) -> None:
    larger = replace(order, amount=order.amount + more)
    one, other = (priced(each, rules(settings), *campaigns, permille=permille) for each in (order, larger))
    assert one.points <= other.points
    assert one.eligible_amount <= other.eligible_amount


@given(orders(), st.integers(1, 50), settings_, campaigns_, permilles)
def test_a_smaller_minor_unit_changes_no_points(
    order: Order, scale: int, settings: EarnSettings, campaigns: list[Campaign], permille: int
) -> None:
    """An order with all amounts, rates and minimums in a unit that is `scale` times smaller."""
    scaled_order = Order(
        order.amount * scale,
        "EUR",
        order.tax_amount * scale,
        order.shipping_amount * scale,
        order.tip_amount * scale,
        order.gift_card_amount * scale,
        [replace_amount(item, item["amount"] * scale) for item in order.items],
    )
    scaled_rules = tuple(
        replace(
            rule,
            rates={code: Rate(rate.points, rate.per_amount * scale) for code, rate in rule.rates.items()},
            min_spend=times(rule.min_spend, scale),
        )
        for rule in settings.rules
    )
    scaled = replace(settings, rules=scaled_rules, min_spend=times(settings.min_spend, scale))
    scaled_campaigns = [replace(each, min_spend=times(each.min_spend, scale)) for each in campaigns]
    one = priced(order, rules(settings), *campaigns, permille=permille)
    other = priced(scaled_order, rules(scaled), *scaled_campaigns, permille=permille)
    assert one.rules == other.rules


def times(minimum: int | None, scale: int) -> int | None:
    return None if minimum is None else minimum * scale


@given(st.lists(orders(), min_size=2, max_size=4), rates)
def test_splitting_an_order_never_earns_more(parts: list[Order], rate: Rate) -> None:
    of = rules(EarnSettings((EarnRule("rule_1", "r", {"EUR": rate}),), shipping="earns"))
    whole = euros(sum(each.amount for each in parts), tip_amount=sum(each.tip_amount for each in parts))
    assert sum(priced(each, of).points for each in parts) <= priced(whole, of).points


@given(orders(), settings_, campaigns_, permilles)
def test_what_was_kept_is_worth_the_points_before_rounding(
    order: Order, settings: EarnSettings, campaigns: list[Campaign], permille: int
) -> None:
    """Rounding amounts moves less than a point, and rounding pieces does."""
    of = rules(settings)
    found = priced(order, of, *campaigns, permille=permille)
    stored = json.loads(json.dumps(found.frozen))
    assert abs(raw(order, of, stored) - found.points) < 2
    assert raw(order, of, stored) == raw(order, of, stored, order.items)


@given(orders(), settings_, campaigns_, permilles, st.data())
def test_returning_items_never_makes_an_order_worth_more(
    order: Order, settings: EarnSettings, campaigns: list[Campaign], permille: int, data: st.DataObject
) -> None:
    of = rules(settings)
    kept = priced(order, of, *campaigns, permille=permille).frozen
    some = [item for item in order.items if data.draw(st.booleans())]
    fewer = [item for item in some if data.draw(st.booleans())]
    of_all, of_some, of_fewer = raw(order, of, kept), raw(order, of, kept, some), raw(order, of, kept, fewer)
    assert of_all >= of_some >= of_fewer >= 0
    if any(item["amount"] > 0 for item in order.items):
        assert raw(order, of, kept, []) == 0


@given(st.integers(0, 10**12 - 1), st.decimals("0.0001", "1000", places=4))
def test_a_base_amount_is_rounded_half_up_once(amount: int, rate: Any) -> None:
    of = rules(EarnSettings((ONE_PER_EURO,), conversion={"JPY": str(rate)}))
    exact = amount * Fraction(rate) * 100
    assert base_amount(amount, "JPY", of) == floor(exact + Fraction(1, 2))


@given(st.integers(-(2**60), 2**60))
@example(2**50)
@example(2**40 * 1_000 + 1)
def test_thousandths_of_a_quantity_are_those_of_its_fraction(count: int) -> None:
    quantity = count / 1_000
    assert thousandths(quantity) == round(Fraction(quantity) * 1_000)
