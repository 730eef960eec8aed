"""Which line of an order a refund returns, and how much of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalpro.events.transaction import Item
from loyalpro.kernel.errors import InvalidInput
from loyalpro.loyalty.returned_lines import Return, ReturnedLine, items_left, returned_item, returned_lines

ITEMS = [
    Item(sku="A", name="Shirt", category="tops", quantity=3, amount=1_000),
    Item(sku="B", quantity=0.75, amount=900),
    Item(sku="A", name="Shirt", category="sale", quantity=1, amount=200),
    Item(name="Coupon", quantity=1, amount=-100),
    Item(sku="GIFT", quantity=1, amount=0),
]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Return(line=0), (0, 3_000, 1_000)),
        (Return(sku="A"), (0, 3_000, 1_000)),
        (Return(sku="A", quantity=1), (0, 1_000, 333)),
        (Return(sku="A", quantity=2), (0, 2_000, 666)),
        (Return(sku="A", category="sale"), (2, 1_000, 200)),
        (Return(sku="A", quantity=1, amount=200), (2, 1_000, 200)),
        (Return(sku="A", quantity=1, amount=300), (0, 1_000, 300)),
        (Return(sku="A", amount=500), (0, 1_500, 500)),
        (Return(sku="B", quantity=0.25), (1, 250, 300)),
        (Return(name="Coupon"), (3, 1_000, 0)),
        (Return(sku="GIFT"), (4, 1_000, 0)),
    ],
)
def test_a_return_takes_from_the_first_line_that_fits(wanted: Return, expected: tuple[int, int, int]) -> None:
    assert returned_lines(ITEMS, (), [wanted]) == [ReturnedLine(*expected)]


@pytest.mark.parametrize(
    ("wanted", "code", "param"),
    [
        (Return(), "missing_field", "items[1].line"),
        (Return(sku="C"), "item_not_in_transaction", "items[1]"),
        (Return(line=9), "item_not_in_transaction", "items[1]"),
        (Return(line=0, sku="B"), "item_not_in_transaction", "items[1]"),
        (Return(sku="A", quantity=4), "item_not_in_transaction", "items[1]"),
        (Return(sku="A", amount=1_001), "item_not_in_transaction", "items[1]"),
        (Return(sku="GIFT"), "item_not_in_transaction", "items[1]"),
        (Return(sku="B", quantity=0.0001), "invalid_field", "items[1].quantity"),
    ],
)
def test_what_no_line_has_left_is_refused(wanted: Return, code: str, param: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        returned_lines(ITEMS, (), [Return(sku="GIFT"), wanted])
    assert (refused.value.code, refused.value.param) == (code, param)


def test_what_was_returned_before_is_not_left() -> None:
    before = returned_lines(ITEMS, (), [Return(sku="A", quantity=2)])
    assert returned_lines(ITEMS, before, [Return(line=0)]) == [ReturnedLine(0, 1_000, 334)]
    with pytest.raises(InvalidInput):
        returned_lines(ITEMS, before, [Return(line=0, quantity=2)])
    assert items_left(ITEMS, before)[0] == Item(sku="A", name="Shirt", category="tops", quantity=1, amount=334)
    assert returned_item(ITEMS, before[0]) == Item(sku="A", name="Shirt", category="tops", quantity=2, amount=666)


quantities: Any = st.integers(1, 9) | st.integers(1, 9_000).map(lambda each: each / 1_000)
lines = st.builds(
    lambda quantity, amount: Item(sku="X", quantity=quantity, amount=amount), quantities, st.integers(0, 99)
)


@given(lines, st.lists(st.integers(1, 4), max_size=6), st.booleans())
def test_any_split_of_a_line_returns_the_same(line: Item, weights: list[int], by_amount: bool) -> None:  # noqa: FBT001
    """By quantity or by amount: the other one of both follows, and all of the line is all of both."""
    thousandths = round(line["quantity"] * 1_000)
    whole = line["amount"] if by_amount else thousandths
    before: list[ReturnedLine] = []
    for weight in weights:
        part = whole * weight // 24
        if part:
            wanted = Return(line=0, amount=part) if by_amount else Return(line=0, quantity=part / 1_000)
            before += returned_lines([line], before, [wanted])
    total = (sum(each.thousandths for each in before), sum(each.amount for each in before))
    done = total[1] if by_amount else total[0]
    if done and before:
        at_once = Return(line=0, amount=done) if by_amount else Return(line=0, quantity=done / 1_000)
        [once] = returned_lines([line], (), [at_once])
        assert total == (once.thousandths, once.amount)
    if total != (thousandths, line["amount"]):
        before += returned_lines([line], before, [Return(sku="X")])
    assert sum(each.thousandths for each in before) == thousandths
    assert sum(each.amount for each in before) == line["amount"]
    assert items_left([line], before) == [Item(sku="X", quantity=0, amount=0)]
