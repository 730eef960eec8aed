"""Commands about purchases: record them, each once and with the points that it earns, and read them."""

from collections.abc import Sequence
from dataclasses import field
from typing import Any, Final

from loyalpro.events.transaction import Item, TransactionCompleted
from loyalpro.events.transaction import Transaction as TransactionShown
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import Conflict, InvalidInput, NotFound, Refused
from loyalpro.kernel.origin import Origin
from loyalpro.kernel.record import record
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.entities import Transaction, TransactionSource
from loyalpro.loyalty.expiry import activates_at, day_of, expires_at
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.program import Program
from loyalpro.loyalty.wallet import Cause, Credit, Earning, Wallet

MAX_CLOCK_SKEW_MS: Final = 5 * 60_000
"""How far the clock of the caller may be ahead of the clock of the server."""


@record
class NewPurchase:
    """A purchase to record. Exactly one of the two customer ids is given. `amount` is in minor units.

    `origin`: its request; the purchases of one database transaction may come from several. `points`: what it has earned
    elsewhere, instead of what the rules give.
    """

    customer_id: str | None
    customer_external_id: str | None
    external_id: str | None
    amount: int
    currency: str
    occurred_at: UnixMs | None
    items: list[Item]
    channel: str | None
    location_id: str | None
    employee_id: str | None
    metadata: dict[str, Any] = field(repr=False)
    origin: Origin | None = None
    points: int | None = None


@record
class RecordPurchases:
    """Purchases of one account to record, in this order. `source`: where they come from."""

    account_id: str
    purchases: Sequence[NewPurchase]
    source: TransactionSource = "api"


@record
class Purchase:
    """A recorded purchase; `replayed` when it had been recorded before and nothing was changed."""

    transaction: Transaction
    replayed: bool


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


def record_purchases(unit: LoyaltyUnit, command: RecordPurchases) -> list[Purchase | Refused]:
    """Record purchases; each emits `transaction.completed`, then `points.earned` if it earns any.

    The result has an outcome for each purchase, in their order. A refused purchase changes nothing, and does not stop the
    others. What all of them need is read in a few statements; each is decided in memory; all changes are written at once.
    """
    recording = _Recording(unit, command)
    outcomes = [recording.outcome(each) for each in command.purchases]
    recording.book.write()
    return outcomes


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


class _Recording:
    """The purchases of one command, against the customers and the purchases that they name."""

    def __init__(self, unit: LoyaltyUnit, command: RecordPurchases) -> None:
        purchases, account_id = command.purchases, command.account_id
        self.book = Book(
            unit,
            account_id,
            ids={each.customer_id for each in purchases if each.customer_id is not None},
            external_ids={each.customer_external_id for each in purchases if each.customer_external_id is not None},
        )
        unit.is_import = command.source == "import"  # what the book has settled was due, and no import caused it
        self._unit = unit
        self._command = command
        self._program = self.book.program
        external_ids = {each.external_id for each in purchases if each.external_id}
        known = unit.transactions.by_external_ids(account_id, external_ids) if external_ids else []
        self._known = {each.external_id: each for each in known}

    def outcome(self, purchase: NewPurchase) -> Purchase | Refused:
        """Record one purchase, or tell why not."""
        try:
            return self._record(purchase)
        except Refused as refusal:
            return refusal

    def _record(self, purchase: NewPurchase) -> Purchase:
        """Every check that may refuse the purchase comes before the first change."""
        self._unit.origin = purchase.origin
        self._program.require_currency(purchase.currency)
        occurred_at = _occurred_at(purchase, self._unit.now)
        wallet = self._wallet(purchase)
        known = self._known.get(purchase.external_id) if purchase.external_id else None
        if known is not None:
            return _replayed(known, purchase, wallet.id)
        points = _points(self._program, purchase) if purchase.points is None else purchase.points
        wallet.require_capacity(points)
        transaction = self._transaction(purchase, wallet.id, points, occurred_at)
        self.book.add_transaction(transaction)
        self._known[transaction.external_id] = transaction
        wallet.note_purchase(occurred_at)
        wallet.days.add(
            day_of(occurred_at, self._program.rules.time_zone),
            purchases=1,
            spend=transaction.base_amount,
            points_qualifying=points,
        )
        wallet.emit(
            TransactionCompleted(
                customer_id=wallet.id,
                customer_external_id=wallet.customer.external_id,
                transaction=_shown(transaction),
                points_earned=points,
                redemption_ids=[],
                source=transaction.source,
            )
        )
        if points:
            cause = Cause("transaction", transaction.id, self._unit.actor, occurred_at)
            wallet.earn(_credit(self._program, transaction), _earning(self._program, transaction), cause)
        return Purchase(transaction, replayed=False)

    def _wallet(self, purchase: NewPurchase) -> Wallet:
        """The wallet of the customer that the purchase names."""
        if purchase.customer_id is not None:
            wallet, param = self.book.wallet(purchase.customer_id), "customer_id"
        else:
            wallet = self.book.wallet_by_external_id(purchase.customer_external_id or "")
            param = "customer_external_id"
        if wallet is None:
            raise NotFound(
                f"There is no customer with this {param}; enroll it first.", code="customer_not_found", param=param
            )
        return wallet

    def _transaction(self, purchase: NewPurchase, customer_id: str, points: int, occurred_at: UnixMs) -> Transaction:
        return Transaction(
            id=self._unit.ids.new("txn"),
            account_id=self._command.account_id,
            customer_id=customer_id,
            external_id=purchase.external_id,
            status="completed",
            currency=purchase.currency,
            amount=purchase.amount,
            items=purchase.items,
            channel=purchase.channel,
            location_id=purchase.location_id,
            employee_id=purchase.employee_id,
            metadata=purchase.metadata,
            points_earned=points,
            occurred_at=occurred_at,
            created_at=self._unit.now,
            actor=self._unit.actor,
            eligible_amount=purchase.amount,
            base_amount=purchase.amount,
            program_version=self._program.version,
            source=self._command.source,
        )


def _occurred_at(purchase: NewPurchase, now: UnixMs) -> UnixMs:
    if purchase.occurred_at is None:
        return now
    if purchase.occurred_at > now + MAX_CLOCK_SKEW_MS:
        raise InvalidInput(
            f"occurred_at is in the future; it is {rfc3339(now)} now. Leave it out to mean now.",
            code="occurred_at_in_future",
            param="occurred_at",
        )
    return purchase.occurred_at


def _replayed(known: Transaction, purchase: NewPurchase, customer_id: str) -> Purchase:
    """The purchase that has this external id already, if it is the same one; a different one is a conflict."""
    same = (customer_id, purchase.amount, purchase.currency) == (known.customer_id, known.amount, known.currency)
    if not same:
        raise Conflict(
            f"external_id {known.external_id!r} belongs to {known.id}, which has another customer, amount or currency.",
            code="transaction_exists",
            param="external_id",
        )
    return Purchase(known, replayed=True)


def _points(program: Program, purchase: NewPurchase) -> int:
    rate = program.rules.earning.rules[0].rates[purchase.currency]
    return purchase.amount * rate.points // rate.per_amount


def _credit(program: Program, transaction: Transaction) -> Credit:
    """Expiry is counted from when the purchase happened, not from when it was recorded."""
    rules, occurred_at = program.rules, transaction.occurred_at
    return Credit(
        points=transaction.points_earned,
        expires_at=expires_at(rules.expiry, occurred_at, rules.time_zone),
        is_pending=bool(rules.pending_days),
        activates_at=activates_at(rules.pending_days, occurred_at, rules.time_zone),
        transaction_id=transaction.id,
    )


def _earning(program: Program, transaction: Transaction) -> Earning:
    rule = program.rules.earning.rules[0]
    return Earning(
        rules=({"id": rule.id, "name": rule.name, "points": transaction.points_earned},),
        transaction_external_id=transaction.external_id,
        source=transaction.source,
    )


def _shown(transaction: Transaction) -> TransactionShown:
    """A purchase as events show it."""
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
