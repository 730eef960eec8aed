"""Commands about refunds: record them, each once, with the points that come back and go, and read them.

A refund names a purchase that was paid in money, in points, or both. Points that paid for it come back first; then the points
that it earned are taken. `refund_math` says how many.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import astuple, dataclass, field, replace
from fractions import Fraction
from typing import Final

from loyalpro.events.payload import Payload
from loyalpro.events.transaction import TransactionRefunded
from loyalpro.kernel.clock import rfc3339
from loyalpro.kernel.errors import Conflict, NotFound, Refused
from loyalpro.kernel.record import record
from loyalpro.loyalty import refund_math
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.entities import Refund, Transaction
from loyalpro.loyalty.expiry import day_of
from loyalpro.loyalty.fraud.ports import FraudUnit
from loyalpro.loyalty.fraud.screening import Screening
from loyalpro.loyalty.ledger import Allocation, Lot
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.program import ProgramMissing
from loyalpro.loyalty.redemption_book import PutBack, linked_redemptions
from loyalpro.loyalty.refund_decisions import (
    accounted,
    lines_returned,
    money,
    paid_for,
    refunded,
    repayments,
    spend_refunded,
    worth_left,
)
from loyalpro.loyalty.returned_lines import Return, ReturnedLine, returned_item, returned_lines
from loyalpro.loyalty.transactions import GetTransaction, get_transaction
from loyalpro.loyalty.wallet import Adjustment, Cause, Clawed, Wallet


@record
class NewRefund:
    """A refund to record, of a purchase that is named by exactly one of the two ids.

    `amount`: minor units of the purchase's currency. Without it, the refund pays what was paid for its `items`; without items,
    all that is left. `restore_points` False: the points that paid for the purchase do not come back.
    """

    transaction_id: str | None = None
    transaction_external_id: str | None = None
    amount: int | None = None
    items: tuple[Return, ...] = ()
    external_id: str | None = None
    reason: str | None = None
    restore_points: bool = True


@record
class RefundPurchase:
    """One refund to record."""

    account_id: str
    refund: NewRefund


@record
class RefundPurchases:
    """Refunds of one account to record, in this order."""

    account_id: str
    refunds: Sequence[NewRefund]


@record
class ListRefunds:
    """The refunds of a purchase to read, newest first: those before `before_id`."""

    account_id: str
    transaction_id: str
    before_id: str | None
    limit: int


@record
class Refunded:
    """A recorded refund and its purchase; `replayed` when it had been recorded before and nothing was changed."""

    refund: Refund
    transaction: Transaction
    replayed: bool


def refund_purchase(unit: FraudUnit, command: RefundPurchase) -> Refunded:
    """Record one refund. Emits `transaction.refunded`, then `points.adjusted` for returned points and for taken ones.

    `customer.tier_changed` follows if the program lowers tiers at once, and `fraud.detected` for a new case. Raises
    `NotFound`; `InvalidInput` `refund_exceeds_transaction`, `item_not_in_transaction`; `Conflict` `refund_exists`,
    `transaction_changed`.
    """
    [outcome] = _record(unit, command.account_id, [command.refund])
    if isinstance(outcome, Refused):
        raise outcome
    if not outcome.replayed:
        unit.audit(command.account_id, "transaction.refunded", outcome.transaction.id)
    return outcome


def preview_refund(unit: FraudUnit, command: RefundPurchase) -> Refunded:
    """What `refund_purchase` would do now: the refund with the points that it would move. Nothing is written.

    Raises what `refund_purchase` raises for this command.
    """
    refunding = _Refunding(unit, command.account_id, [command.refund], only_reads=True)
    outcome = refunding.outcome(command.refund)
    if isinstance(outcome, Refused):
        raise outcome
    return outcome


def refund_purchases(unit: FraudUnit, command: RefundPurchases) -> list[Refunded | Refused]:
    """Record refunds; each does what it would do alone, after those before it.

    The result has an outcome for each refund, in their order. A refused refund changes nothing, and does not stop the others.
    What all of them need is read in a few statements; all changes are written at once.
    """
    outcomes = _record(unit, command.account_id, command.refunds)
    new = [each.transaction.id for each in outcomes if isinstance(each, Refunded) and not each.replayed]
    if new:
        unit.audit(command.account_id, "transactions.refunded", new[0], {"refunds": len(new)})
    return outcomes


def list_refunds(unit: LoyaltyUnit, command: ListRefunds) -> tuple[Transaction, list[Refund]]:
    """A purchase and its refunds, newest first. Raises `NotFound`."""
    transaction = get_transaction(unit, GetTransaction(command.account_id, command.transaction_id))
    return transaction, unit.refunds.list_newest(transaction.id, command.before_id, command.limit)


def _record(unit: FraudUnit, account_id: str, refunds: Sequence[NewRefund]) -> list[Refunded | Refused]:
    refunding = _Refunding(unit, account_id, refunds)
    outcomes = [refunding.outcome(each) for each in refunds]
    refunding.write()
    return outcomes


@dataclass(slots=True)
class _Sale:
    """A purchase and what its refunds depend on: as it was read, and as it is after the refunds of this command.

    `lots`: of its points, as stored. `lost`: how many of its points had expired or been canceled otherwise, as stored.
    """

    read: Transaction
    now: Transaction
    refunds: list[Refund] = field(default_factory=list)
    lots: list[Lot] = field(default_factory=list)
    lost: int = 0


@record
class _Moved:
    """What a refund did to points. `qualifying`: what no longer counts toward tiers, lost points included."""

    restored: int
    clawed: Clawed
    expired_before: int
    qualifying: int


_NOTHING: Final = _Moved(0, Clawed(0, 0, 0), 0, 0)


class _Refunding:
    """The refunds of one command, against the purchases and the customers that they name."""

    def __init__(
        self, unit: FraudUnit, account_id: str, refunds: Sequence[NewRefund], *, only_reads: bool = False
    ) -> None:
        """`only_reads`: nothing is locked, and nothing may be written."""
        self._unit = unit
        self._account_id = account_id
        named = _named(unit, account_id, refunds)
        self._book = Book(
            unit,
            account_id,
            ids={each.customer_id for each in named},
            with_lots=True,
            with_deleted=True,
            only_reads=only_reads,
        )
        self._redemptions = linked_redemptions(unit, self._book, {each.id for each in named})
        self._sales = _sales(unit, account_id, {each.id for each in named})
        self._ids = {each.now.external_id: each.now.id for each in self._sales.values() if each.now.external_id}
        external_ids = {each.external_id for each in refunds if each.external_id}
        known = unit.refunds.by_external_ids(account_id, external_ids) if external_ids else []
        self._known = {each.external_id: each for each in known}
        self._made: list[Refund] = []
        self._screening = Screening(unit, self._book)
        self._only_reads = only_reads

    def outcome(self, new: NewRefund) -> Refunded | Refused:
        """Record one refund, or tell why not."""
        try:
            return self._record(new)
        except Refused as refusal:
            return refusal

    def write(self) -> None:
        """Store everything that changed. Raises `Conflict` `transaction_changed`."""
        self._screening.write()
        self._book.write()
        self._redemptions.write()
        self._unit.refunds.insert(self._made)
        changes = [(each.read, each.now) for each in self._sales.values() if each.now is not each.read]
        if not self._unit.transactions.update_refunded(changes):
            raise _changed_meanwhile()

    def _record(self, new: NewRefund) -> Refunded:
        """Every check that may refuse the refund comes before the first change."""
        sale = self._sale(new)
        known = self._known.get(new.external_id) if new.external_id else None
        if known is not None:
            return _replayed(known, new, sale.now)
        wallet = self._book.wallet(sale.now.customer_id)
        if wallet is None:  # the customer was merged into another one before this command locked it
            raise _changed_meanwhile()
        is_deleted = wallet.profile.status == "deleted"
        items = [] if is_deleted else sale.now.items  # those of a deleted customer are erased
        lines = returned_lines(items, lines_returned(sale.refunds) if items else (), new.items)
        amount = money(sale.now, sale.refunds, new.amount, lines)
        reason = None if is_deleted else new.reason  # nothing erases what is said after the deletion
        asked = self._refund(replace(new, reason=reason), sale.now, amount, lines)
        if is_deleted:
            refund = self._complete(wallet, sale, asked, _NOTHING, ())
        else:
            refund = self._refund_points(wallet, sale, asked, restore=new.restore_points)
        self._made.append(refund)
        if refund.external_id is not None:
            self._known[refund.external_id] = refund
        return Refunded(refund, sale.now, replayed=False)

    def _sale(self, new: NewRefund) -> _Sale:
        """The purchase that a refund names."""
        id_ = new.transaction_id or self._ids.get(new.transaction_external_id or "")
        sale = self._sales.get(id_ or "")
        if sale is None:
            param = "transaction_id" if new.transaction_external_id is None else "transaction_external_id"
            raise NotFound(f"There is no transaction with this {param}.", code="transaction_not_found", param=param)
        return sale

    def _refund(self, new: NewRefund, transaction: Transaction, amount: int, lines: Sequence[ReturnedLine]) -> Refund:
        """The refund, before it moves any points."""
        return Refund(
            id=self._unit.ids.new("ref"),
            account_id=self._account_id,
            transaction_id=transaction.id,
            customer_id=transaction.customer_id,
            external_id=new.external_id,
            fingerprint=_fingerprint(new, transaction.id),
            amount=amount,
            items=[{**returned_item(transaction.items, each), "line": each.line} for each in lines],
            reason=new.reason,
            actor=self._unit.actor,
            points_clawed_back=0,
            points_restored=0,
            points_shortfall=0,
            points_expired_before=0,
            occurred_at=self._unit.now,
            created_at=self._unit.now,
        )

    def _refund_points(self, wallet: Wallet, sale: _Sale, asked: Refund, *, restore: bool) -> Refund:
        """Move points, then let the tier and the fraud rules follow; the refund with what it did to points."""
        debt, is_earned = wallet.balance.debt, self._book.tiers.is_earned(wallet)
        with wallet.holding_events() as events:
            moved = self._move_points(wallet, sale, asked, restore=restore)
        refund = self._complete(wallet, sale, asked, moved, events)
        if is_earned:
            self._book.tiers.lower(wallet)
        if not self._only_reads:  # a case changes nothing of this refund, and is locked to be counted
            self._screening.refund(wallet, refund.id, refund.occurred_at, debt_before=debt)
            self._screening.report()
        return refund

    def _complete(self, wallet: Wallet, sale: _Sale, asked: Refund, moved: _Moved, events: Iterable[Payload]) -> Refund:
        """Count the refund, and emit it before the events of the points that it moved."""
        refund = _with_points(asked, moved)
        before, sale.now = sale.now, refunded(sale.now, refund)
        sale.refunds.append(refund)
        self._count(wallet, before, sale.now, moved)
        wallet.emit(_event(wallet, sale.now, refund))
        for event in events:
            wallet.emit(event)
        return refund

    def _move_points(self, wallet: Wallet, sale: _Sale, refund: Refund, *, restore: bool) -> _Moved:
        """Give back the points that paid for the purchase, then take those that it earned."""
        restored = self._restore(sale, refund) if restore else 0
        wallet.lots.know(sale.lots)
        own = wallet.lots.of_transaction(sale.now.id)
        refunds = [*sale.refunds, refund]
        paid = paid_for(sale.now)
        target = refund_math.target(paid, repayments(refunds), self._worth(sale.now, lines_returned(refunds)))
        own_ids = {lot.id for lot in own}
        lost = sale.lost + sum(_lost(each) for each in wallet.allocations if each.lot_id in own_ids)
        need = refund_math.need(target, lost, sale.now.points_clawed_back + sale.now.points_shortfall)
        increase = max(0, target - sum(accounted(each) for each in sale.refunds))
        adjustment = Adjustment(
            "clawback",
            reverses_entry_id=min(own, key=lambda lot: lot.id).entry_id if own else None,
            transaction_id=sale.now.id,
            refund_id=refund.id,
            counts_toward_tier=True,
        )
        policy = self._book.program.rules.refunds.shortfall
        clawed = wallet.claw_back(need, sale.now.id, self._cause(refund), adjustment, policy)
        is_held = any(lot.hold_case_id is not None for lot in own)
        return _Moved(restored, clawed, increase - need, 0 if is_held else increase)

    def _restore(self, sale: _Sale, refund: Refund) -> int:
        """Give back points that paid for the purchase; how many."""
        linked = self._redemptions.of_transaction(sale.now.id)
        points = refund_math.restored(
            paid_for(sale.now),
            sale.now.refunded_amount + refund.amount,
            sum(each.points for each in linked),
            sum(each.points_returned for each in linked),
        )
        why = PutBack("refund", refund.actor, refund.id)
        return self._redemptions.restore_for_refund(sale.now.id, points, why) if points else 0

    def _worth(self, transaction: Transaction, returned: Sequence[ReturnedLine]) -> Fraction | None:
        """The part of the points that the lines which are left would have earned, by the rules of the purchase."""
        if not returned:
            return None
        version = self._unit.programs.version(self._account_id, transaction.program_version)
        if version is None:
            raise ProgramMissing(f"The program has no version {transaction.program_version}.")
        return worth_left(transaction, version.rules, returned)

    def _count(self, wallet: Wallet, before: Transaction, after: Transaction, moved: _Moved) -> None:
        """Take the refund off the day of the purchase. A purchase that is refunded in full does not count."""
        spend = spend_refunded(after) - spend_refunded(before)
        wallet.days.add(
            day_of(after.occurred_at, self._book.program.rules.time_zone),
            purchases=-1 if after.status == "refunded" else 0,
            spend=-spend,
            points_qualifying=-moved.qualifying,
            refunds=1,
            refunded=spend,
        )

    def _cause(self, refund: Refund) -> Cause:
        return Cause("refund", refund.id, refund.actor, refund.occurred_at, "refund")


def _named(unit: LoyaltyUnit, account_id: str, refunds: Sequence[NewRefund]) -> list[Transaction]:
    """The purchases that refunds name, without a lock."""
    ids = {each.transaction_id for each in refunds if each.transaction_id is not None}
    external_ids = {each.transaction_external_id for each in refunds if each.transaction_external_id is not None}
    found = unit.transactions.by_ids(account_id, ids) if ids else []
    return found + (unit.transactions.by_external_ids(account_id, external_ids) if external_ids else [])


def _sales(unit: LoyaltyUnit, account_id: str, ids: Collection[str]) -> dict[str, _Sale]:
    """These purchases with what their refunds depend on. Their customers are locked."""
    if not ids:
        return {}
    sales = {each.id: _Sale(each, each) for each in unit.transactions.by_ids(account_id, ids)}
    for refund in unit.refunds.of_transactions(ids):
        sales[refund.transaction_id].refunds.append(refund)
    lots = {lot.id: lot for lot in unit.ledger.lots_of_transactions(ids)}
    for lot in lots.values():
        sales[lot.transaction_id or ""].lots.append(lot)
    for each in unit.ledger.allocations_of_lots(lots) if lots else ():
        sales[lots[each.lot_id].transaction_id or ""].lost += _lost(each)
    return sales


def _with_points(refund: Refund, moved: _Moved) -> Refund:
    return replace(
        refund,
        points_clawed_back=moved.clawed.clawed_back,
        points_restored=moved.restored,
        points_shortfall=moved.clawed.shortfall,
        points_expired_before=moved.expired_before,
    )


def _lost(allocation: Allocation) -> int:
    """How many points expired, or were canceled otherwise than by a refund."""
    return allocation.points if allocation.kind in ("expire", "cancel") else 0


def _event(wallet: Wallet, transaction: Transaction, refund: Refund) -> TransactionRefunded:
    return TransactionRefunded(
        refund_id=refund.id,
        external_id=refund.external_id,
        transaction_id=transaction.id,
        transaction_external_id=transaction.external_id,
        customer_id=wallet.id,
        customer_external_id=wallet.profile.external_id,
        amount=refund.amount,
        currency=transaction.currency,
        total_refunded=transaction.refunded_amount,
        remaining_amount=transaction.amount - transaction.refunded_amount,
        full=transaction.status == "refunded",
        items=[returned_item(transaction.items, each) for each in lines_returned([refund])],
        points_clawed_back=refund.points_clawed_back,
        points_restored=refund.points_restored,
        points_shortfall=refund.points_shortfall,
        points_expired_before=refund.points_expired_before,
        reason=refund.reason,
        refunded_at=rfc3339(refund.occurred_at),
    )


def _replayed(known: Refund, new: NewRefund, transaction: Transaction) -> Refunded:
    """The refund that has this external id already, if it is the same one; a different one is a conflict."""
    if known.fingerprint != _fingerprint(new, transaction.id):
        raise Conflict(
            f"external_id {known.external_id!r} belongs to {known.id}, which refunds another transaction, amount or items.",
            code="refund_exists",
            param="external_id",
        )
    return Refunded(known, transaction, replayed=True)


def _fingerprint(new: NewRefund, transaction_id: str) -> bytes:
    """SHA-256 of what a request asks for. Its reason only describes it."""
    asked = [transaction_id, new.amount, [astuple(each) for each in new.items], new.restore_points]
    return hashlib.sha256(json.dumps(asked).encode()).digest()


def _changed_meanwhile() -> Conflict:
    return Conflict(
        "Another request changed the transaction or merged its customer at this moment; repeat this one.",
        code="transaction_changed",
    )
