"""An order: what is paid, what of it can earn, and the lines among which that is shared.

An amount that is shared among lines is rarely a whole number of minor units. So the amounts of lines are multiplied by the
scale of their basket, which makes integers of all of them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import field
from fractions import Fraction
from typing import Final

from loyalpro.events.transaction import Item
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.record import record
from loyalpro.loyalty.earning import EarnSettings, ItemMatch

THOUSANDTHS: Final = 1_000
"""A quantity has at most three decimals."""

MAX_QUANTITY: Final = 2**53 - 1

_EXACT: Final = 2**40
"""Up to here, the thousandths of a quantity of three decimals are the integer next to the product of floats."""

MAX_CLOCK_SKEW_MS: Final = 5 * 60_000
"""How far the clock of the caller may be ahead of the clock of the server."""


@record
class Order:
    """What a customer pays. Amounts are in minor units of `currency`.

    `amount` is what is paid in money: discounts are taken off, tax, shipping and tip are included. `gift_card_amount` is the
    part of it that a gift card pays. Where tax does not earn, `shipping_amount` is without its tax.
    """

    amount: int
    currency: str
    tax_amount: int = 0
    shipping_amount: int = 0
    tip_amount: int = 0
    gift_card_amount: int = 0
    items: Sequence[Item] = field(default=(), hash=False)


@record
class Line:
    """A part of an order. `amount`: minor units multiplied by the scale of the basket. `thousandths`: of a piece.

    `item` None: the part of the order that no item accounts for.
    """

    amount: int
    item: Item | None
    thousandths: int = 0


@record
class Basket:
    """The lines of an order that can earn, each above 0. Their amounts are multiplied by `scale`."""

    lines: tuple[Line, ...]
    scale: int


def check(order: Order) -> None:
    """Raise `InvalidInput` for parts that are more than their order (`amounts_do_not_add_up`), and for a wrong quantity."""
    if order.tax_amount + order.shipping_amount + order.tip_amount > order.amount:
        raise InvalidInput(
            f"tax_amount, shipping_amount and tip_amount are {order.tax_amount + order.shipping_amount + order.tip_amount}"
            f" together; amount includes them, so send an amount of at least as much.",
            code="amounts_do_not_add_up",
            param="amount",
        )
    if order.gift_card_amount > order.amount:
        raise InvalidInput(
            f"gift_card_amount is the part of amount that a gift card pays; send at most {order.amount}.",
            code="amounts_do_not_add_up",
            param="gift_card_amount",
        )
    for index, item in enumerate(order.items):
        if not _is_quantity(item["quantity"]):
            raise InvalidInput(
                f"Send a quantity of at most three decimals, from -{MAX_QUANTITY} to {MAX_QUANTITY}.",
                code="invalid_field",
                param=f"items[{index}].quantity",
            )


def time_of(stated: UnixMs | None, now: UnixMs) -> UnixMs:
    """When an order happened: now, if that is not stated. Raises `InvalidInput` `occurred_at_in_future`."""
    if stated is None:
        return now
    if stated > now + MAX_CLOCK_SKEW_MS:
        raise InvalidInput(
            f"occurred_at is in the future; it is {rfc3339(now)} now. Leave it out to mean now.",
            code="occurred_at_in_future",
            param="occurred_at",
        )
    return stated


def net(order: Order, settings: EarnSettings) -> int:
    """What of an order can earn, in minor units: the amount without tip, and without what the program leaves out."""
    left = order.amount - order.tip_amount
    if settings.shipping != "earns":
        left -= order.shipping_amount
    if settings.tax == "excluded":
        left -= order.tax_amount
    if settings.gift_card == "excluded":
        left -= order.gift_card_amount
    return max(0, left)


def basket_of(order: Order, settings: EarnSettings, left: Sequence[Item] | None = None) -> Basket:
    """What can earn of an order, or of the items that are `left` of it after others were returned.

    The net amount is shared among the items in proportion to their amounts, at most as much as each costs. What the items do
    not account for is a line of its own; it becomes smaller as items are returned. An item of 0 or less, such as a coupon, is
    no line.
    """
    amount, total = net(order, settings), _total(order.items)
    if not total:
        return Basket((Line(amount, None),) if amount else (), 1)
    remaining = order.items if left is None else left
    shared, rest = min(amount, total), max(0, amount - total) * _total(remaining)
    lines = [
        Line(item["amount"] * shared, item, max(0, thousandths(item["quantity"])))
        for item in remaining
        if item["amount"] > 0
    ]
    if rest:
        lines.append(Line(rest, None))
    return Basket(tuple(lines) if shared else (), total)


def matcher(match: ItemMatch | None) -> Callable[[Line], bool]:
    """Tells whether the item of a line has one of the SKUs or categories; without `match`, it does for every line."""
    if match is None:
        return lambda _: True
    skus, categories = frozenset(match.skus), frozenset(match.categories)

    def matches(line: Line) -> bool:
        item = line.item
        return item is not None and (item.get("sku") in skus or item.get("category") in categories)

    return matches


def thousandths(quantity: float) -> int:
    """A quantity in thousandths, to the nearest one. A float that is not large is multiplied exactly enough, and fast."""
    if isinstance(quantity, int):
        return quantity * THOUSANDTHS
    is_small = -_EXACT <= quantity <= _EXACT
    return round(quantity * THOUSANDTHS) if is_small else round(Fraction(quantity) * THOUSANDTHS)


def _total(items: Iterable[Item]) -> int:
    return sum(item["amount"] for item in items if item["amount"] > 0)


def _is_quantity(quantity: float) -> bool:
    """A number has three decimals at most if it is what a float makes of its thousandths. NaN is in no range."""
    return -MAX_QUANTITY <= quantity <= MAX_QUANTITY and thousandths(quantity) / THOUSANDTHS == quantity
