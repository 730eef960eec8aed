"""What the refunds of a purchase come to: pure functions of the purchase, its refunds and the rules that priced it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction

from loyalpro.kernel.errors import InvalidInput
from loyalpro.loyalty import refund_math
from loyalpro.loyalty.entities import Refund, Transaction
from loyalpro.loyalty.orders import THOUSANDTHS, Order
from loyalpro.loyalty.pricing import raw
from loyalpro.loyalty.program import Rules
from loyalpro.loyalty.refund_math import Paid, Repayment
from loyalpro.loyalty.returned_lines import ReturnedLine, items_left


def money(transaction: Transaction, before: Sequence[Refund], asked: int | None, lines: Sequence[ReturnedLine]) -> int:
    """The money of a refund. Raises `InvalidInput` for more than is left, and for nothing."""
    left = transaction.amount - transaction.refunded_amount
    if transaction.status == "refunded" or (asked or 0) > left:
        raise InvalidInput(
            f"{left} of the transaction's {transaction.amount} can still be refunded, in minor units.",
            code="refund_exceeds_transaction",
            param="amount",
            facts={"remaining_amount": left},
        )
    if asked is not None:
        if asked == 0 < left and not lines:
            raise InvalidInput(
                "Send an amount above 0, or the items that are returned.", code="invalid_field", param="amount"
            )
        return asked
    if not lines:
        return left
    return refund_math.default_amount(paid_for(transaction), repayments(before), sum(each.amount for each in lines))


def refunded(transaction: Transaction, refund: Refund) -> Transaction:
    """The purchase after a refund."""
    amount = transaction.refunded_amount + refund.amount
    return replace(
        transaction,
        status="refunded" if amount == transaction.amount else "partially_refunded",
        refunded_amount=amount,
        points_clawed_back=transaction.points_clawed_back + refund.points_clawed_back,
        points_restored=transaction.points_restored + refund.points_restored,
        points_shortfall=transaction.points_shortfall + refund.points_shortfall,
    )


def paid_for(transaction: Transaction) -> Paid:
    """What was paid for a purchase, and what it earned."""
    return Paid(
        amount=transaction.amount,
        goods=max(0, transaction.amount - transaction.shipping_amount - transaction.tip_amount),
        lines=sum(each["amount"] for each in transaction.items if each["amount"] > 0),
        points=transaction.points_earned,
    )


def repayments(refunds: Iterable[Refund]) -> list[Repayment]:
    """The money of each refund, and what its returned lines cost."""
    return [Repayment(each.amount, sum(item["amount"] for item in each.items)) for each in refunds]


def lines_returned(refunds: Iterable[Refund]) -> list[ReturnedLine]:
    """The lines that refunds have returned."""
    return [
        ReturnedLine(item["line"], round(item["quantity"] * THOUSANDTHS), item["amount"])
        for refund in refunds
        for item in refund.items
    ]


def worth_left(transaction: Transaction, rules: Rules, returned: Iterable[ReturnedLine]) -> Fraction | None:
    """The part of the points of a purchase that the lines which are left would have earned alone.

    `rules`: those that priced the purchase. None for a purchase that earned nothing by them.
    """
    order, frozen = _order(transaction), transaction.priced
    whole = raw(order, rules, frozen)
    return raw(order, rules, frozen, items_left(transaction.items, returned)) / whole if whole else None


def accounted(refund: Refund) -> int:
    """The points that a refund took, wrote off, or found to be lost."""
    return refund.points_clawed_back + refund.points_shortfall + refund.points_expired_before


def spend_refunded(transaction: Transaction) -> int:
    """What refunds took off the spend of a purchase, in minor units of the program's currency."""
    if transaction.status == "completed":
        return 0
    return refund_math.spend_refunded(paid_for(transaction), transaction.base_amount, transaction.refunded_amount)


def _order(transaction: Transaction) -> Order:
    return Order(
        amount=transaction.amount,
        currency=transaction.currency,
        tax_amount=transaction.tax_amount,
        shipping_amount=transaction.shipping_amount,
        tip_amount=transaction.tip_amount,
        gift_card_amount=transaction.gift_card_amount,
        items=transaction.items,
    )
