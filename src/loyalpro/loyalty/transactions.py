"""Purchases: recorded once, earning points in the same transaction."""

from collections.abc import Sequence
from dataclasses import field, replace
from typing import Any, Final

from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import Conflict, InvalidInput, NotFound, Refused
from loyalpro.kernel.ids import IdFactory
from loyalpro.kernel.record import record
from loyalpro.loyalty.expiry import expires_at
from loyalpro.loyalty.ledger import Credit, Entry, Lot, credit
from loyalpro.loyalty.ports import Customer, Emit, LoyaltyStore, Transaction
from loyalpro.loyalty.program import Program

CLOCK_SKEW_MS: Final = 60_000
"""A till's clock may be this far ahead of ours."""


@record
class RecordPurchase:
    """A purchase to record; the customer is named by exactly one of the two ids. `amount` is in minor units."""

    account_id: str
    customer_id: str | None
    customer_external_id: str | None
    external_id: str | None
    amount: int
    currency: str
    occurred_at: UnixMs | None
    items: list[dict[str, Any]]
    channel: str | None
    location_id: str | None
    employee_id: str | None
    metadata: dict[str, Any] = field(repr=False)


@record
class Purchase:
    """A recorded purchase; `replayed` when it was there already and nothing was done."""

    transaction: Transaction
    replayed: bool


def record_purchases(
    store: LoyaltyStore,
    emit: Emit,
    account_id: str,
    commands: Sequence[RecordPurchase],
    *,
    now: UnixMs,
    ids: IdFactory,
) -> list[Purchase | Refused]:
    """Record an account's purchases in their order; each causes `transaction.completed`, then `points.earned` if any.

    Each is judged by itself: of one that is refused, nothing is left. What they need is read at once, under the locks of
    their customers; then each is decided in memory, and what they change is written at once.
    """
    book = _Book(store, account_id, commands, now, ids)
    outcomes = [_decided(book, emit, command) for command in commands]
    book.write(store)
    return outcomes


class _Book:
    """Customers as they are after the purchases that were decided so far, and the rows that are still to be written."""

    def __init__(
        self,
        store: LoyaltyStore,
        account_id: str,
        commands: Sequence[RecordPurchase],
        now: UnixMs,
        ids: IdFactory,
    ) -> None:
        self.program = store.program(account_id)
        self.now = now
        self.ids = ids
        ours = {each.customer_id for each in commands if each.customer_id is not None}
        theirs = {each.customer_external_id for each in commands if each.customer_external_id is not None}
        found = store.lock_customers(account_id, ours) + store.lock_customers_by_external_id(account_id, theirs)
        self._customers = {each.id: each for each in found}
        self._ids = {each.external_id: each.id for each in found if each.external_id is not None}
        numbers = {each.external_id for each in commands if each.external_id}
        self._known: dict[str | None, Transaction] = {
            each.external_id: each for each in store.transactions_by_external_id(account_id, numbers)
        }
        self._changed: dict[str, Customer] = {}
        self._transactions: list[Transaction] = []
        self._entries: list[Entry] = []
        self._lots: list[tuple[Lot, int]] = []

    def customer_of(self, command: RecordPurchase) -> Customer | None:
        """The locked customer whom the command names."""
        ours = command.customer_id or self._ids.get(command.customer_external_id or "")
        return self._customers.get(ours) if ours else None

    def known(self, external_id: str | None) -> Transaction | None:
        """The purchase that has this number already, be it from this very group."""
        return self._known.get(external_id) if external_id else None

    def add_purchase(self, transaction: Transaction) -> None:
        """It is recorded."""
        self._transactions.append(transaction)
        self._known[transaction.external_id] = transaction

    def add_credit(self, entry: Entry, lot: Lot, repaid_debt: int) -> None:
        """It has earned points."""
        self._entries.append(entry)
        self._lots.append((lot, repaid_debt))

    def change(self, customer: Customer) -> None:
        """The customer from here on."""
        self._customers[customer.id] = self._changed[customer.id] = customer

    def write(self, store: LoyaltyStore) -> None:
        """Store everything."""
        store.insert_transactions(self._transactions)
        store.insert_entries(self._entries)
        store.insert_lots(self._lots)
        store.update_balances(list(self._changed.values()))


def _decided(book: _Book, emit: Emit, command: RecordPurchase) -> Purchase | Refused:
    try:
        return _decide(book, emit, command)
    except Refused as refusal:
        return refusal


def _decide(book: _Book, emit: Emit, command: RecordPurchase) -> Purchase:
    """Everything that may be refused comes before anything that changes the book."""
    book.program.require_currency(command.currency)
    occurred_at = _occurred_at(command, book.now)
    customer = book.customer_of(command)
    if customer is None:
        raise _nobody(command)
    known = book.known(command.external_id)
    if known is not None:
        return _same_purchase(known, command, customer)
    points = book.program.earn.points_for(command.amount)
    earned = credit(customer.balance, points)
    transaction = _transaction(command, customer, points, occurred_at, book.now, book.ids)
    book.add_purchase(transaction)
    emit(customer.event("transaction.completed", {"transaction": _data(transaction), "points_earned": points}))
    if points:
        _earn(book, emit, customer, transaction, earned)
    else:
        book.change(replace(customer, event_sequence=customer.event_sequence + 1, updated_at=book.now))
    return Purchase(transaction, replayed=False)


def _earn(book: _Book, emit: Emit, customer: Customer, transaction: Transaction, earned: Credit) -> None:
    """Post the entry, its lot and the balance; say so."""
    earn = book.program.earn
    entry = Entry(
        id=book.ids.new("led"),
        customer_id=customer.id,
        sequence=customer.ledger_sequence + 1,
        type="earn",
        points=earned.points,
        balance_after=earned.balance.net,
        pending_after=earned.balance.pending,
        source_type="transaction",
        source_id=transaction.id,
        actor="api",
        rules=({"id": earn.id, "name": earn.name, "points": earned.points},),
        occurred_at=transaction.occurred_at,
        created_at=book.now,
    )
    lot = _lot(entry, earned, book.program, book.ids)
    book.add_credit(entry, lot, earned.repaid_debt)
    after = replace(
        customer,
        balance=earned.balance,
        ledger_sequence=entry.sequence,
        event_sequence=customer.event_sequence + 2,
        updated_at=book.now,
    )
    book.change(after)
    emit(customer.event("points.earned", _earned_data(entry, lot, customer, after, transaction), number=2))


def _lot(entry: Entry, earned: Credit, program: Program, ids: IdFactory) -> Lot:
    """Expiry runs from when the purchase happened, not from when we heard of it."""
    months = program.points_valid_months
    return Lot(
        id=ids.new("lot"),
        customer_id=entry.customer_id,
        entry_id=entry.id,
        original=earned.points,
        remaining=earned.remaining,
        earned_at=entry.occurred_at,
        activates_at=None,
        expires_at=None if months is None else expires_at(entry.occurred_at, months, program.time_zone),
        status="active",
        created_at=entry.created_at,
    )


def _occurred_at(command: RecordPurchase, now: UnixMs) -> UnixMs:
    if command.occurred_at is None:
        return now
    if command.occurred_at > now + CLOCK_SKEW_MS:
        raise InvalidInput(
            f"occurred_at is in the future; it is {rfc3339(now)} now. Leave it out to mean now.",
            code="occurred_at_in_future",
            param="occurred_at",
        )
    return command.occurred_at


def _nobody(command: RecordPurchase) -> NotFound:
    param = "customer_external_id" if command.customer_id is None else "customer_id"
    return NotFound(f"There is no customer with this {param}; enrol it first.", code="customer_not_found", param=param)


def _same_purchase(known: Transaction, command: RecordPurchase, customer: Customer) -> Purchase:
    """A till that repeats itself gets what it got; a different purchase may not take the same number."""
    same = (customer.id, command.amount, command.currency) == (known.customer_id, known.amount, known.currency)
    if not same:
        raise Conflict(
            f"external_id {known.external_id!r} belongs to {known.id}, which has another customer, amount or currency.",
            code="transaction_exists",
            param="external_id",
        )
    return Purchase(known, replayed=True)


def _transaction(
    command: RecordPurchase, customer: Customer, points: int, occurred_at: UnixMs, now: UnixMs, ids: IdFactory
) -> Transaction:
    return Transaction(
        id=ids.new("txn"),
        account_id=command.account_id,
        customer_id=customer.id,
        external_id=command.external_id,
        status="completed",
        currency=command.currency,
        amount=command.amount,
        items=command.items,
        channel=command.channel,
        location_id=command.location_id,
        employee_id=command.employee_id,
        metadata=command.metadata,
        points_earned=points,
        occurred_at=occurred_at,
        created_at=now,
    )


def transaction_view(transaction: Transaction) -> dict[str, Any]:
    """A purchase as the API shows it."""
    return {
        "id": transaction.id,
        "external_id": transaction.external_id,
        "customer_id": transaction.customer_id,
        "status": transaction.status,
        "currency": transaction.currency,
        "amount": transaction.amount,
        "eligible_amount": transaction.amount,
        "items": transaction.items,
        "channel": transaction.channel,
        "location_id": transaction.location_id,
        "employee_id": transaction.employee_id,
        "metadata": transaction.metadata,
        "points_earned": transaction.points_earned,
        "occurred_at": rfc3339(transaction.occurred_at),
        "created_at": rfc3339(transaction.created_at),
    }


def _data(transaction: Transaction) -> dict[str, Any]:
    """A purchase as events show it."""
    return {
        "id": transaction.id,
        "external_id": transaction.external_id,
        "customer_id": transaction.customer_id,
        "status": transaction.status,
        "currency": transaction.currency,
        "amount": transaction.amount,
        "eligible_amount": transaction.amount,
        "points_discount_amount": 0,
        "items": transaction.items,
        "channel": transaction.channel,
        "location_id": transaction.location_id,
        "employee_id": transaction.employee_id,
        "metadata": transaction.metadata,
        "completed_at": rfc3339(transaction.occurred_at),
    }


def _earned_data(entry: Entry, lot: Lot, before: Customer, after: Customer, transaction: Transaction) -> dict[str, Any]:
    return {
        "entry_id": entry.id,
        "customer_id": entry.customer_id,
        "points": entry.points,
        "status": "available",
        "activates_at": None,
        "expires_at": None if lot.expires_at is None else rfc3339(lot.expires_at),
        "lot_id": lot.id,
        "transaction_id": transaction.id,
        "reason": "purchase",
        "rules": list(entry.rules),
        "balance": {
            "before": before.balance.available,
            "after": after.balance.available,
            "pending": after.balance.pending,
            "debt": after.balance.debt,
        },
        "occurred_at": rfc3339(entry.occurred_at),
    }
