"""Which lines of an order a refund returns, and how much of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from loyalpro.events.transaction import Item
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.record import record
from loyalpro.loyalty.orders import THOUSANDTHS, thousandths

_DESCRIBING: Final = ("sku", "name", "category")


@record
class Return:
    """What a refund names of an order: one of its lines by its place, from 0, or by what describes the line, or by both.

    `quantity` and `amount`: how many pieces are returned, and what they cost in the order, in minor units. Without either, all
    that is left of the line is returned; without one of them, as much of it as of the other.
    """

    line: int | None = None
    sku: str | None = None
    name: str | None = None
    category: str | None = None
    quantity: float | None = None
    amount: int | None = None


@record
class ReturnedLine:
    """What is returned of a line. `thousandths`: of a piece. `amount`: what it cost in the order, in minor units."""

    line: int
    thousandths: int
    amount: int


@dataclass(slots=True)
class _Line:
    """A line of an order, and how much of it was returned."""

    item: Item
    thousandths: int
    amount: int
    returned_thousandths: int = 0
    returned_amount: int = 0

    @property
    def thousandths_left(self) -> int:
        return self.thousandths - self.returned_thousandths

    @property
    def amount_left(self) -> int:
        return self.amount - self.returned_amount

    def part(self, quantity: int | None, amount: int | None) -> tuple[int, int]:
        """The thousandths and the amount that a return takes; the one that it does not name is in proportion to the other."""
        if quantity is None:
            quantity = self._thousandths_for(self.amount_left if amount is None else amount)
        if amount is None:
            amount = self._amount_for(quantity)
        return quantity, amount

    def take(self, part: tuple[int, int]) -> None:
        self.returned_thousandths += part[0]
        self.returned_amount += part[1]

    def _thousandths_for(self, amount: int) -> int:
        if amount == self.amount_left:
            return self.thousandths_left
        return _part(self.thousandths, self.amount, self.returned_amount, amount, self.thousandths_left)

    def _amount_for(self, quantity: int) -> int:
        if quantity == self.thousandths_left:
            return self.amount_left
        return _part(self.amount, self.thousandths, self.returned_thousandths, quantity, self.amount_left)


def returned_lines(
    items: Sequence[Item], before: Iterable[ReturnedLine], wanted: Sequence[Return]
) -> list[ReturnedLine]:
    """What is returned of which line: for each return, the first line that fits and of which as much is left.

    If the return names quantity and amount, a line whose price they fit comes first. `before`: what earlier refunds returned.
    Raises `InvalidInput` `item_not_in_transaction` for what no line has left.
    """
    lines = _lines(items, before)
    found = []
    for index, each in enumerate(wanted):
        quantity = _quantity(each, index)
        number = _find(lines, each, quantity)
        if number is None:
            raise InvalidInput(
                f"No line of the transaction fits items[{index}] and has as much left; GET the transaction and its refunds for"
                " what is.",
                code="item_not_in_transaction",
                param=f"items[{index}]",
            )
        part = lines[number].part(quantity, each.amount)
        lines[number].take(part)
        found.append(ReturnedLine(number, *part))
    return found


def items_left(items: Sequence[Item], returned: Iterable[ReturnedLine]) -> list[Item]:
    """The items of an order with what is left of their quantities and amounts."""
    return [_item(each.item, each.thousandths_left, each.amount_left) for each in _lines(items, returned)]


def returned_item(items: Sequence[Item], returned: ReturnedLine) -> Item:
    """A returned line as events show it: described as in the order, with what was returned of it."""
    return _item(items[returned.line], returned.thousandths, returned.amount)


def _lines(items: Sequence[Item], returned: Iterable[ReturnedLine]) -> list[_Line]:
    lines = [_Line(each, max(0, thousandths(each["quantity"])), max(0, each["amount"])) for each in items]
    for each in returned:
        lines[each.line].take((each.thousandths, each.amount))
    return lines


def _find(lines: Sequence[_Line], wanted: Return, quantity: int | None) -> int | None:
    """The index of the line that a return takes from."""
    fitting = [number for number, line in enumerate(lines) if _fits(number, line, wanted, quantity)]
    if quantity is not None and wanted.amount is not None:
        fitting.sort(key=lambda number: lines[number].part(quantity, None)[1] != wanted.amount)
    return fitting[0] if fitting else None


def _fits(number: int, line: _Line, wanted: Return, quantity: int | None) -> bool:
    stated = {name: getattr(wanted, name) for name in _DESCRIBING}
    return (
        wanted.line in (None, number)
        and all(value is None or line.item.get(name) == value for name, value in stated.items())
        and (line.thousandths_left > 0 or line.amount_left > 0)
        and (quantity is None or quantity <= line.thousandths_left)
        and (wanted.amount is None or wanted.amount <= line.amount_left)
    )


def _part(whole: int, of: int, before: int, part: int, left: int) -> int:
    """The share of `whole` that belongs to `part` of another quantity `of`: what the rounded sum grows by, at most `left`."""
    return min(left, whole * (before + part) // of - whole * before // of) if of else 0


def _item(item: Item, thousandths: int, amount: int) -> Item:
    whole, rest = divmod(thousandths, THOUSANDTHS)
    quantity = thousandths / THOUSANDTHS if rest else whole
    shown: Any = {name: value for name, value in item.items() if name in _DESCRIBING}
    shown |= {"quantity": quantity, "amount": amount}
    described: Item = shown
    return described


def _quantity(wanted: Return, index: int) -> int | None:
    """The thousandths that a return names. Raises `InvalidInput` when it names no line, or more than three decimals."""
    if wanted.line is None and all(getattr(wanted, name) is None for name in _DESCRIBING):
        raise InvalidInput(
            f"items[{index}]: Name the line of the order: by line, its place from 0, or by sku, name or category.",
            code="missing_field",
            param=f"items[{index}].line",
        )
    if wanted.quantity is None:
        return None
    found = thousandths(wanted.quantity)
    if found / THOUSANDTHS != wanted.quantity:
        raise InvalidInput(
            "Send a quantity of at most three decimals.", code="invalid_field", param=f"items[{index}].quantity"
        )
    return found
