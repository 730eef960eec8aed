"""Purchases as they are stored and shown: one, a list, and the form that events have."""

from loyalpro.events.transaction import Transaction as TransactionShown
from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.errors import NotFound
from loyalpro.kernel.record import record
from loyalpro.loyalty.entities import Transaction
from loyalpro.loyalty.orders import Order
from loyalpro.loyalty.ports import LoyaltyUnit


@record
class GetTransaction:
    """A purchase to read."""

    account_id: str
    transaction_id: str


@record
class ListTransactions:
    """Purchases to read, newest first: those before `before_id`, of this customer, with this external id."""

    account_id: str
    customer_id: str | None
    external_id: str | None
    before_id: str | None
    limit: int


def get_transaction(unit: LoyaltyUnit, command: GetTransaction) -> Transaction:
    """One purchase. Raises `NotFound`."""
    found = unit.transactions.get(command.account_id, command.transaction_id)
    if found is None:
        raise NotFound(f"There is no transaction {command.transaction_id}.", param="id")
    return found


def list_transactions(unit: LoyaltyUnit, command: ListTransactions) -> list[Transaction]:
    """Purchases, newest first."""
    return unit.transactions.list_newest(
        command.account_id, command.customer_id, command.external_id, command.before_id, command.limit
    )


def order_of(transaction: Transaction) -> Order:
    """What was paid, as it is priced."""
    return Order(
        amount=transaction.amount,
        currency=transaction.currency,
        tax_amount=transaction.tax_amount,
        shipping_amount=transaction.shipping_amount,
        tip_amount=transaction.tip_amount,
        gift_card_amount=transaction.gift_card_amount,
        items=transaction.items,
    )


def shown(transaction: Transaction) -> TransactionShown:
    """A new purchase as its event shows it."""
    return TransactionShown(
        id=transaction.id,
        external_id=transaction.external_id,
        customer_id=transaction.customer_id,
        status="completed",
        currency=transaction.currency,
        amount=transaction.amount,
        eligible_amount=transaction.eligible_amount,
        tax_amount=transaction.tax_amount,
        shipping_amount=transaction.shipping_amount,
        tip_amount=transaction.tip_amount,
        gift_card_amount=transaction.gift_card_amount,
        points_discount_amount=transaction.points_discount_amount,
        items=transaction.items,
        channel=transaction.channel,
        location_id=transaction.location_id,
        employee_id=transaction.employee_id,
        metadata=transaction.metadata,
        completed_at=rfc3339(transaction.occurred_at),
    )
