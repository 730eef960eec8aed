"""Deleting a customer: the points are forfeited, who it was is forgotten, and what is known of its past is erased."""

from dataclasses import replace
from typing import Final

from loyalpro.jobs.periodic_job import JobKind
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import NotFound
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.ledger import Balance, Entry, Lot
from loyalpro.loyalty.ports import Customer, Emit, LoyaltyStore

ERASURES: Final = JobKind("erasures")
_REASON: Final = "customer_deleted"


def delete_customer(
    store: LoyaltyStore, emit: Emit, account_id: str, customer_id: str, *, now: UnixMs, ids: IdFactory
) -> None:
    """Delete an active customer. Causes `points.adjusted` for points or a debt, and for pending points; `customer.deleted`.

    The row stays, without a name: the ledger and the purchases belong to it. Its external id is free again.
    """
    customer = store.lock_customer(account_id, customer_id)
    if customer is None:
        raise NotFound(f"There is no customer {customer_id}.", code="customer_not_found", param="id")
    entries = _write_offs(customer, now, ids)
    store.insert_entries(entries)
    for number, entry in enumerate(entries, 1):
        emit(customer.event("points.adjusted", _adjusted_data(customer, entry), number=number))
        store.empty_lots(entry)
        if entry.points > 0:
            store.insert_lots([(_repayment(entry, ids), entry.points)])
    store.forget_customer(_forgotten(customer, now, entries=len(entries)), known_through=customer.event_sequence)
    emit(customer.event("customer.deleted", _deleted_data(customer, now), number=len(entries) + 1))


def deleted_view(customer_id: str) -> dict[str, object]:
    """A deleted customer as the API shows it."""
    return {"id": customer_id, "deleted": True}


def _write_offs(customer: Customer, now: UnixMs, ids: IdFactory) -> list[Entry]:
    """Entries after which there are neither points nor debt, then no pending points either; one for each, if there are."""
    balance = customer.balance
    amounts = [("adjust", -balance.net, balance.pending), ("cancel_pending", -balance.pending, 0)]
    wanted = [(type_, points, pending) for type_, points, pending in amounts if points]
    return [
        Entry(
            id=ids.new("led"),
            customer_id=customer.id,
            sequence=customer.ledger_sequence + number,
            type=type_,
            points=points,
            balance_after=0,
            pending_after=pending_after,
            source_type="customer",
            source_id=customer.id,
            actor="api",
            rules=(),
            occurred_at=now,
            created_at=now,
            reason_code=_REASON,
        )
        for number, (type_, points, pending_after) in enumerate(wanted, 1)
    ]


def _repayment(entry: Entry, ids: IdFactory) -> Lot:
    """A credit that only repays a debt has a lot with nothing left in it."""
    return Lot(
        id=ids.new("lot"),
        customer_id=entry.customer_id,
        entry_id=entry.id,
        original=entry.points,
        remaining=0,
        earned_at=entry.occurred_at,
        activates_at=None,
        expires_at=None,
        status="active",
        created_at=entry.created_at,
    )


def _forgotten(customer: Customer, now: UnixMs, *, entries: int) -> Customer:
    lifetime = customer.balance
    return replace(
        customer,
        external_id=None,
        email=None,
        phone=None,
        name=None,
        metadata={},
        status="deleted",
        balance=Balance(lifetime_earned=lifetime.lifetime_earned, lifetime_redeemed=lifetime.lifetime_redeemed),
        ledger_sequence=customer.ledger_sequence + entries,
        event_sequence=customer.event_sequence + entries + 1,
        updated_at=now,
    )


def _adjusted_data(customer: Customer, entry: Entry) -> dict[str, object]:
    pending = entry.type == "cancel_pending"
    return {
        "entry_id": entry.id,
        "customer_id": customer.id,
        "points": entry.points,
        "kind": "pending_canceled" if pending else "manual",
        "reason_code": _REASON,
        "note": None,
        "reverses_entry_id": None,
        "transaction_id": None,
        "shortfall": 0,
        "counts_toward_tier": False,
        "balance": {
            "before": 0 if pending else customer.balance.available,
            "after": 0,
            "pending": entry.pending_after,
            "debt": 0,
        },
    }


def _deleted_data(customer: Customer, now: UnixMs) -> dict[str, object]:
    """`external_id` is how receivers know whom to forget; the event carries it until it is too old to be kept."""
    return {
        "customer_id": customer.id,
        "external_id": customer.external_id,
        "deleted_at": rfc3339(now),
        "reason": "merchant_request",
        "erased": True,
        "points_forfeited": customer.balance.available + customer.balance.pending,
        "merged_into": None,
    }
