"""What refunds take back and give back: the worked examples of the specification, and what holds for every refund."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from loyalpro.events.transaction import Item
from loyalpro.kernel.errors import InvalidInput
from loyalpro.loyalty.earning import EarnRule, EarnSettings, ItemMatch, Rate
from loyalpro.loyalty.program import Rules
from loyalpro.loyalty.refund_decisions import spend_refunded
from loyalpro.loyalty.refund_math import Paid, Repayment, need, restored, share, target
from loyalpro.loyalty.refund_math import spend_refunded as spend_of
from loyalpro.loyalty.returned_lines import Return
from support.refunding import ONE_PER_EURO, Sale, rules, sold

TEA, GIFT_CARD, CUPS = (
    Item(sku="tea", category="drinks", quantity=2, amount=2_000),
    Item(category="gift_card", quantity=1, amount=3_000),
    Item(sku="cups", quantity=4, amount=3_000),
)
BASKET = [TEA, GIFT_CARD, CUPS]
FIVE_FOR_TEA = EarnRule("rule_tea", "5 per 1.00 of tea", {"EUR": Rate(5, 100)}, match=ItemMatch(skus=("tea",)))
BONUS = EarnRule("rule_big", "10 per 1.00 from 50.00", {"EUR": Rate(10, 100)}, min_spend=5_000)
TEN_A_PIECE = EarnRule("rule_piece", "10 for each tea", points_per_item=10, match=ItemMatch(skus=("tea",)))
TEA_PAYS_MORE = rules(EarnSettings((FIVE_FOR_TEA, ONE_PER_EURO), exclude=ItemMatch(categories=("gift_card",))))
PROGRAMS = (
    rules(),
    TEA_PAYS_MORE,
    rules(EarnSettings((BONUS, ONE_PER_EURO))),
    rules(EarnSettings((TEN_A_PIECE, ONE_PER_EURO)), rounding="half_up"),
    rules(EarnSettings((ONE_PER_EURO,)), rounding="ceil", tax="excluded"),
)


# -- the worked examples ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amounts", "taken"),
    [((3_333, 3_333, 3_333), [33, 33, 34]), ((1, 1, 9_997), [0, 0, 100])],
    ids=["9-thirds", "9-cents"],
)
def test_example_9_money_takes_its_part_of_the_points(amounts: Sequence[int], taken: list[int]) -> None:
    sale = sold(9_999, of=rules(rounding="half_up"))
    assert sale.transaction.points_earned == 100
    for amount in amounts:
        sale.refund(amount)
    assert sale.taken == taken
    assert sale.transaction.status == "refunded"


def test_example_10_a_returned_line_takes_what_it_earned() -> None:
    tea = sold(8_000, BASKET, of=TEA_PAYS_MORE)
    assert (tea.transaction.points_earned, tea.refund(None, Return(sku="tea")).amount, tea.taken) == (130, 2_000, [100])
    gift_card = sold(8_000, BASKET, of=TEA_PAYS_MORE)
    assert (gift_card.refund(None, Return(category="gift_card")).amount, gift_card.taken) == (3_000, [0])
    discounted = sold(7_200, BASKET, of=TEA_PAYS_MORE)
    assert discounted.transaction.points_earned == 117
    assert (discounted.refund(None, Return(line=0)).amount, discounted.taken) == (1_800, [90])


def test_example_11_money_after_a_line_takes_its_part_of_what_is_left() -> None:
    sale = sold(8_000, BASKET, of=TEA_PAYS_MORE)
    sale.refund(None, Return(sku="tea"))
    sale.refund(1_500)
    assert sale.taken == [100, 7]


def test_example_15_what_expired_is_not_taken_again() -> None:
    sale = sold(10_000)
    sale.lost = 60
    refund = sale.refund()
    assert (refund.points_clawed_back, refund.points_expired_before) == (40, 60)


def test_example_18_points_that_paid_come_back_in_proportion() -> None:
    paid = Paid(amount=8_000, goods=8_000, lines=0, points=80)
    assert restored(paid, 2_000, 500, 0) == 125
    assert restored(paid, 8_000, 500, 125) == 375


# -- any refunds ---------------------------------------------------------------------------------------------------------

points = st.integers(0, 60) | st.integers(0, 10**9)
amounts = st.integers(1, 60) | st.integers(1, 10**12 - 1)


@st.composite
def splits(draw: st.DrawFn, whole: st.SearchStrategy[int], parts: int = 4) -> list[int]:
    """Whole numbers above 0, and how they add up: a number in up to `parts` parts."""
    total = draw(whole)
    cuts = draw(st.lists(st.integers(1, total), max_size=parts - 1, unique=True))
    ends = sorted({*cuts, total})
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


@given(splits(amounts), points, st.data())
def test_any_split_of_a_money_refund_takes_the_same(parts: list[int], earned: int, data: st.DataObject) -> None:
    more = data.draw(st.just(0) | amounts)
    together, apart = (sold(sum(parts) + more, points=earned) for _ in range(2))
    together.refund(sum(parts))
    for part in parts:
        apart.refund(part)
    assert sum(apart.taken) == sum(together.taken) == earned * sum(parts) // (sum(parts) + more)
    assert spend_refunded(apart.transaction) == spend_refunded(together.transaction)


items = st.builds(
    lambda sku, quantity, amount: Item(sku=sku, quantity=quantity, amount=amount),
    st.sampled_from(("tea", "cups", "gift")),
    st.integers(1, 4) | st.sampled_from((0.125, 0.5, 1.5)),
    st.integers(0, 30) | st.integers(-500, 20_000),
)


@st.composite
def sales(draw: st.DrawFn) -> tuple[int, list[Item], Rules, dict[str, int]]:
    """The amount, items, rules and parts of a purchase."""
    listed = draw(st.lists(items, min_size=1, max_size=5))
    parts = draw(st.sampled_from(({}, {"shipping_amount": 490}, {"tip_amount": 100, "shipping_amount": 200})))
    full = sum(each["amount"] for each in listed if each["amount"] > 0) + sum(parts.values())
    amount = draw(st.just(full) | st.integers(sum(parts.values()), max(full, sum(parts.values())) + 500))
    return max(1, amount), listed, draw(st.sampled_from(PROGRAMS)), parts


def pieces(item: Item) -> list[float]:
    """The pieces of an item, or all of it where it has no whole number of them."""
    quantity = item["quantity"]
    return [1.0] * int(quantity) if quantity == int(quantity) else [quantity]


@given(sales(), st.data())
def test_any_split_of_items_at_default_amounts_takes_the_same(sale: Any, data: st.DataObject) -> None:
    amount, listed, of, parts = sale
    all_pieces = [(line, piece) for line, item in enumerate(listed) for piece in pieces(item) if item["amount"] > 0]
    chosen = data.draw(st.permutations(all_pieces)) if all_pieces else []
    chosen = chosen[: data.draw(st.integers(0, len(chosen)))]
    assume(chosen)
    returns = [Return(line=line, quantity=piece) for line, piece in chosen]
    together, apart = (sold(amount, listed, of=of, **parts) for _ in range(2))
    together.refund(None, *returns)
    for each in returns:
        if apart.transaction.status != "refunded":
            apart.refund(None, each)
    assert apart.transaction.refunded_amount == together.transaction.refunded_amount
    assert sum(apart.taken) == sum(together.taken)


@st.composite
def refunds(draw: st.DrawFn, listed: list[Item]) -> tuple[int | None, list[Return]]:
    """What a refund asks for: money, lines, or both."""
    asked = draw(st.none() | st.integers(1, 3_000))
    lines = [
        Return(line=draw(st.integers(0, len(listed) - 1)), quantity=draw(st.none() | st.integers(1, 2)))
        for _ in range(draw(st.integers(0, 2)))
    ]
    return asked, lines


@given(sales(), st.data())
def test_refunds_take_no_more_than_was_earned_and_all_of_it_in_the_end(sale: Any, data: st.DataObject) -> None:
    amount, listed, of, parts = sale
    one: Sale = sold(amount, listed, of=of, **parts)
    earned = one.transaction.points_earned
    for _ in range(data.draw(st.integers(0, 5))):
        one.lost = min(earned - sum(one.taken), one.lost + data.draw(st.sampled_from((0, 0, 1, earned))))
        asked, lines = data.draw(refunds(listed))
        try:
            one.refund(asked, *lines)
        except InvalidInput:
            continue
        assert min(one.taken) >= 0
        assert min(each.points_expired_before for each in one.refunds) >= 0
        assert sum(one.taken) <= earned
    if one.transaction.status != "refunded":
        one.refund()
    assert (one.transaction.refunded_amount, one.transaction.status) == (amount, "refunded")
    assert earned - one.lost <= sum(one.taken) <= earned
    assert sum(one.taken) + sum(each.points_expired_before for each in one.refunds) == earned
    assert spend_refunded(one.transaction) == amount
    with pytest.raises(InvalidInput) as refused:
        one.refund()
    assert (refused.value.code, refused.value.facts) == ("refund_exceeds_transaction", {"remaining_amount": 0})


@given(splits(amounts), splits(points.map(lambda each: each + 1)), st.data())
def test_any_split_of_a_refund_gives_the_same_points_back(
    parts: list[int], redeemed: list[int], data: st.DataObject
) -> None:
    amount, used = sum(parts) + data.draw(st.just(0) | amounts), sum(redeemed)
    paid = Paid(amount, amount, 0, 0)
    returned = refunded = 0
    for part in parts:
        refunded += part
        back = restored(paid, refunded, used, returned)
        assert 0 <= back <= used - returned
        returned += back
    assert returned == restored(paid, refunded, used, 0) == used * refunded // amount


@given(points, points)
def test_what_came_back_otherwise_does_not_come_back_again(used: int, returned: int) -> None:
    paid = Paid(100, 100, 0, 0)
    assert restored(paid, 100, used, returned) == max(0, used - returned)


@given(points)
def test_a_purchase_that_was_paid_with_points_is_refunded_as_a_whole(used: int) -> None:
    paid = Paid(amount=0, goods=0, lines=0, points=7)
    assert restored(paid, 0, used, 0) == used
    assert target(paid, [Repayment(0)], None) == 7
    assert spend_of(paid, 0, 0) == 0


@given(sales())
def test_lines_share_what_was_paid_without_shipping_and_tip(sale: Any) -> None:
    amount, listed, _of, parts = sale
    lines = sum(each["amount"] for each in listed if each["amount"] > 0)
    goods = amount - sum(parts.values())
    assume(lines and goods >= 0)
    paid = Paid(amount, goods, lines, 0)
    assert sum(share(paid, each["amount"]) for each in listed if each["amount"] > 0) == goods


@given(points, points, points)
def test_a_refund_needs_what_is_neither_lost_nor_taken(wanted: int, lost: int, taken: int) -> None:
    needed = need(wanted, lost, taken)
    assert 0 <= needed <= wanted
    assert needed == 0 or needed + lost + taken == wanted


def test_shipping_and_tip_do_not_go_along_with_a_line() -> None:
    sale = sold(5_790, [TEA, CUPS], shipping_amount=490, tip_amount=300)
    assert sale.refund(None, Return(sku="tea")).amount == 2_000
    assert (sale.refund(None, Return(sku="cups")).amount, sale.transaction.status) == (3_000, "partially_refunded")
    assert sum(sale.taken) == sale.transaction.points_earned == 50


def test_points_that_an_import_gave_are_taken_by_money() -> None:
    """The rules would have given none."""
    excluded = rules(EarnSettings((ONE_PER_EURO,), exclude=ItemMatch(skus=("tea", "cups"))))
    sale = sold(5_000, [TEA, CUPS], of=excluded, points=77)
    assert (sale.refund(None, Return(sku="tea")).amount, sale.taken) == (2_000, [30])
    sale.refund()
    assert sale.taken == [30, 47]


def test_below_its_minimum_spend_what_is_left_keeps_what_it_earns_alone() -> None:
    sale = sold(5_000, [TEA, CUPS], of=rules(EarnSettings((BONUS, ONE_PER_EURO))))
    assert sale.transaction.points_earned == 500
    sale.refund(None, Return(sku="tea"))
    assert sale.taken == [470]


def test_money_beyond_the_share_of_returned_lines_counts_as_money() -> None:
    """The tea costs 20.00, and 30.00 are paid for it: 10.00 of the other 60.00."""
    sale = sold(8_000, [TEA, Item(sku="cups", quantity=1, amount=6_000)])
    sale.refund(3_000, Return(sku="tea"))
    assert sale.taken == [30]
    paid = Paid(8_000, 8_000, 8_000, 80)
    assert target(paid, [Repayment(3_000, 2_000)], Fraction(3, 4)) == 30


def test_once_nothing_is_left_beside_the_refunded_money_all_points_are_taken() -> None:
    sale = sold(8_000, [TEA, Item(sku="cups", quantity=1, amount=6_000)])
    sale.refund(6_000)
    sale.refund(0, Return(sku="tea"))
    assert sum(sale.taken) == 80
    assert sale.transaction.status == "partially_refunded"
