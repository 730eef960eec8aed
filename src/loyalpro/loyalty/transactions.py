"""Purchases: recorded once, earning points in the same transaction."""

from dataclasses import dataclass, field, replace
from typing import Any, Final

from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import Conflict, InvalidInput, NotFound
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.customers import Customer, Emit
from loyalpro.loyalty.expiry import expires_at
from loyalpro.loyalty.ledger import Credit, Entry, Lot, credit
from loyalpro.loyalty.ports import LoyaltyStore
from loyalpro.loyalty.program import Program

CLOCK_SKEW_MS: Final = 60_000
"""A till's clock may be this far ahead of ours."""


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Transaction:
    """A purchase as it is stored."""

    id: str
    account_id: str
    customer_id: str
    external_id: str | None
    status: str
    currency: str
    amount: int
    items: list[dict[str, Any]]
    channel: str | None
    location_id: str | None
    employee_id: str | None
    metadata: dict[str, Any]
    points_earned: int
    occurred_at: UnixMs
    created_at: UnixMs


@dataclass(frozen=True, slots=True)
class Purchase:
    """A recorded purchase; `replayed` when it was there already and nothing was done."""

    transaction: Transaction
    replayed: bool


def record_purchase(
    store: LoyaltyStore, emit: Emit, command: RecordPurchase, *, now: UnixMs, ids: IdFactory
) -> Purchase:
    """Record a purchase, under the lock of its customer. Causes `transaction.completed`, then `points.earned` if any."""
    program = store.program(command.account_id)
    program.require_currency(command.currency)
    occurred_at = _occurred_at(command, now)
    customer = _locked_customer(store, command)
    known = store.transaction_by_external_id(command.account_id, command.external_id) if command.external_id else None
    if known is not None:
        return _same_purchase(known, command, customer)
    points = program.earn.points_for(command.amount)
    transaction = _transaction(command, customer, points, occurred_at, now, ids)
    store.insert_transaction(transaction)
    emit(customer.event("transaction.completed", {"transaction": _data(transaction), "points_earned": points}))
    if points:
        _earn(store, emit, customer, transaction, program, now=now, ids=ids)
    else:
        store.update_balance(replace(customer, event_sequence=customer.event_sequence + 1, updated_at=now))
    return Purchase(transaction, replayed=False)


def _earn(
    store: LoyaltyStore,
    emit: Emit,
    customer: Customer,
    transaction: Transaction,
    program: Program,
    *,
    now: UnixMs,
    ids: IdFactory,
) -> None:
    """Post the entry, its lot and the balance; say so."""
    earned = credit(customer.balance, transaction.points_earned)
    rules = ({"id": program.earn.id, "name": program.earn.name, "points": earned.points},)
    entry = Entry(
        id=ids.new("led"),
        customer_id=customer.id,
        sequence=customer.ledger_sequence + 1,
        type="earn",
        points=earned.points,
        balance_after=earned.balance.net,
        pending_after=earned.balance.pending,
        source_type="transaction",
        source_id=transaction.id,
        actor="api",
        rules=rules,
        occurred_at=transaction.occurred_at,
        created_at=now,
    )
    lot = _lot(entry, earned, program, ids)
    store.insert_entry(entry)
    store.insert_lot(lot, absorbed_by_debt=earned.repaid_debt)
    after = replace(
        customer,
        balance=earned.balance,
        ledger_sequence=entry.sequence,
        event_sequence=customer.event_sequence + 2,
        updated_at=now,
    )
    store.update_balance(after)
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


def _locked_customer(store: LoyaltyStore, command: RecordPurchase) -> Customer:
    if command.customer_id is not None:
        customer, param = store.lock_customer(command.account_id, command.customer_id), "customer_id"
    else:
        wanted = command.customer_external_id or ""
        customer, param = store.lock_customer_by_external_id(command.account_id, wanted), "customer_external_id"
    if customer is None:
        raise NotFound(
            f"There is no customer with this {param}; enrol it first.", code="customer_not_found", param=param
        )
    return customer


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
