"""What a refund takes back and gives back, in money and in points: pure functions with exact arithmetic.

Everything is decided by what has been refunded of a purchase in all, with the refund at hand. So it makes no difference into
how many refunds an amount is split, or into how many the lines of an order are.
"""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import ceil, floor

from loyalpro.kernel.record import record

_HALF = Fraction(1, 2)


@record
class Paid:
    """What was paid for a purchase, in minor units, and the points that it earned.

    `goods`: the amount without shipping and tip, which the lines of the order share. `lines`: the sum of the lines above 0,
    which is 0 for a purchase without any.
    """

    amount: int
    goods: int
    lines: int
    points: int


@record
class Repayment:
    """One refund of a purchase. `amount`: minor units. `lines`: what its returned lines cost in the order, in minor units."""

    amount: int
    lines: int = 0


def share(paid: Paid, lines: int) -> Fraction:
    """What was paid for lines that cost so much in the order, in minor units: tax and discounts go along with them."""
    return Fraction(paid.goods * lines, paid.lines) if paid.lines else Fraction(0)


def default_amount(paid: Paid, before: Sequence[Repayment], lines: int) -> int:
    """What is paid for returned lines when the refund names no amount, in minor units: at most what is left."""
    returned = _lines(before)
    exact = _half_up(share(paid, returned + lines)) - _half_up(share(paid, returned))
    return min(paid.amount - _amount(before), exact)


def target(paid: Paid, refunds: Sequence[Repayment], worth: Fraction | None) -> int:
    """How many of the points of a purchase its refunds take in all.

    `worth`: the part of the points that the lines which are left would have earned alone; None when no line counts, either
    because none was returned or because the purchase earned nothing by its lines.
    """
    refunded = _amount(refunds)
    if refunded == paid.amount:
        return paid.points
    if worth is None:
        return paid.points * refunded // paid.amount
    left = paid.amount - share(paid, _lines(refunds))
    beside = _beside_lines(paid, refunds)
    if left <= beside:
        return paid.points
    keep = ceil(paid.points * worth * (left - beside) / left)
    return paid.points - min(keep, paid.points)


def need(target_: int, lost: int, taken: int) -> int:
    """How many points a refund takes.

    `lost`: what expired of the points of the purchase, or was canceled otherwise than by its refunds; it is not taken again.
    `taken`: what its refunds took or wrote off before.
    """
    return max(0, max(0, target_ - lost) - taken)


def restored(paid: Paid, refunded: int, redeemed: int, returned: int) -> int:
    """How many of the points that paid for a purchase a refund gives back.

    `refunded`: the money of all its refunds. `redeemed`: the points that were used on it; `returned`: what of them came back
    before, for whatever reason.
    """
    due = redeemed * refunded // paid.amount if paid.amount else redeemed
    return max(0, due - returned)


def spend_refunded(paid: Paid, base_amount: int, refunded: int) -> int:
    """What refunds of so much take off the spend of a purchase, in minor units of the program's currency, rounded down."""
    return base_amount * refunded // paid.amount if paid.amount else base_amount


def _beside_lines(paid: Paid, refunds: Iterable[Repayment]) -> int:
    """The money that was refunded beside what was paid for returned lines."""
    return sum(max(0, each.amount - ceil(share(paid, each.lines))) for each in refunds)


def _amount(refunds: Iterable[Repayment]) -> int:
    return sum(each.amount for each in refunds)


def _lines(refunds: Iterable[Repayment]) -> int:
    return sum(each.lines for each in refunds)


def _half_up(exact: Fraction) -> int:
    return floor(exact + _HALF)
