"""One customer's points and events, read under the customer's lock and changed in memory.

A wallet makes the ledger entries, lots and allocations of what happens, counts the two sequences of its customer, and emits
the events. Nothing else counts a sequence. A `Book` reads wallets and writes them.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final, Literal, Protocol

from loyalpro.events.new_event import NewEvent, new_event
from loyalpro.events.payload import Payload
from loyalpro.events.points import AdjustmentKind, AppliedRule, BalanceChange, PointsAdjusted, PointsEarned
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.ids import IdFactory
from loyalpro.kernel.record import record
from loyalpro.loyalty.entities import Customer
from loyalpro.loyalty.ledger import MAX_POINTS, Allocation, Balance, Entry, EntryType, Lot, LotStatus

_NO_EXPIRY: Final = 2**63
"""Sorts after every instant."""


class WalletUnit(Protocol):
    """What a wallet needs of the unit of work."""

    @property
    def now(self) -> UnixMs:
        """The instant of this unit of work."""
        ...

    @property
    def ids(self) -> IdFactory:
        """Makes ids of entries and lots."""
        ...

    def emit(self, event: NewEvent) -> None:
        """Commit the event with what this unit of work changes."""
        ...


@record
class Cause:
    """Why points move: the object that caused it, who did it, and when it happened. `external_id`: of a transaction."""

    source_type: Literal["transaction", "customer"]
    source_id: str
    actor: str
    occurred_at: UnixMs
    reason_code: str | None = None
    external_id: str | None = None


@record
class Earning:
    """Points that a purchase or a promotion earns. `expires_at` None: they do not expire."""

    points: int
    rules: tuple[AppliedRule, ...]
    expires_at: UnixMs | None
    reason: Literal["purchase", "promotion", "referral", "other"] = "purchase"


class Wallet:
    """A customer with balance and lots. `lots` None: they were not read, and nothing can be taken out of them.

    The order of one command's events: `transaction.*`, `points.*` in the order of the ledger, `customer.*`.
    """

    def __init__(self, customer: Customer, unit: WalletUnit, *, lots: Iterable[Lot] | None = None) -> None:
        self.id = customer.id
        self.balance = customer.balance
        self.entries: list[Entry] = []
        self.allocations: list[Allocation] = []
        self._unit = unit
        self._customer = customer
        self._event_sequence = customer.event_sequence
        self._ledger_sequence = customer.ledger_sequence
        self._lots = None if lots is None else {lot.id: lot for lot in lots}
        self._new_lots: dict[str, Lot] = {}
        self._changed_lots: dict[str, Lot] = {}
        self.has_new_details = False

    # -- what happens to a customer ----------------------------------------------------------------------------------

    def emit(self, payload: Payload) -> None:
        """Emit the customer's next event."""
        self._event_sequence += 1
        customer = self._customer
        self._unit.emit(new_event(customer.account_id, payload, customer_id=customer.id, sequence=self._event_sequence))

    def change_details(self, **details: Any) -> None:
        """Change fields of the customer that are neither points nor sequences."""
        self._customer = replace(self._customer, **details)
        self.has_new_details = True

    # -- what happens to points --------------------------------------------------------------------------------------

    def require_capacity(self, points: int) -> None:
        """Raise `InvalidInput` when the customer cannot earn so many points more."""
        if self.balance.lifetime_earned + points > MAX_POINTS:
            raise InvalidInput(
                "The customer would have more points than can be counted.", code="points_limit", param="amount"
            )

    def earn(self, earning: Earning, cause: Cause) -> None:
        """Credit earned points: they repay debt first, the rest is available. Emits `points.earned`."""
        self.require_capacity(earning.points)
        before = self.balance
        entry, lot = self._credit("earn", earning.points, cause, earning)
        self.emit(
            PointsEarned(
                entry_id=entry.id,
                customer_id=self.id,
                customer_external_id=self._customer.external_id,
                points=entry.points,
                status="available",
                activates_at=None,
                expires_at=None if lot.expires_at is None else rfc3339(lot.expires_at),
                lot_id=lot.id,
                transaction_id=cause.source_id if cause.source_type == "transaction" else None,
                transaction_external_id=cause.external_id,
                reason=earning.reason,
                rules=list(entry.rules),
                balance=self._change_since(before),
                occurred_at=rfc3339(entry.occurred_at),
                source="api",
            )
        )

    def forfeit(self, cause: Cause) -> int:
        """Take all points, or write off the debt; return how many points were lost. Emits `points.adjusted` for each entry."""
        before = self.balance
        if before.available:
            self._emit_adjusted("manual", self._take_all("adjust", "active", cause), before)
        elif before.debt:
            self._emit_adjusted("manual", self._credit("adjust", before.debt, cause)[0], before)
        if before.pending:
            without_available = self.balance
            canceled = self._take_all("cancel_pending", "pending", cause)
            self._emit_adjusted("pending_canceled", canceled, without_available)
        return before.available + before.pending

    def _emit_adjusted(self, kind: AdjustmentKind, entry: Entry, before: Balance) -> None:
        self.emit(
            PointsAdjusted(
                entry_id=entry.id,
                customer_id=self.id,
                customer_external_id=self._customer.external_id,
                points=entry.points,
                kind=kind,
                reason_code=entry.reason_code or kind,
                note=entry.note,
                reverses_entry_id=entry.reverses_entry_id,
                transaction_id=None,
                refund_id=None,
                redemption_id=None,
                actor=entry.actor,
                shortfall=0,
                counts_toward_tier=False,
                balance=self._change_since(before),
            )
        )

    def _change_since(self, before: Balance) -> BalanceChange:
        after = self.balance
        return BalanceChange(
            before=before.available,
            after=after.available,
            pending_before=before.pending,
            pending=after.pending,
            debt_before=before.debt,
            debt=after.debt,
        )

    # -- the steps that operations share -----------------------------------------------------------------------------

    def _credit(
        self,
        type_: EntryType,
        points: int,
        cause: Cause,
        earning: Earning | None = None,
    ) -> tuple[Entry, Lot]:
        """Add points to what is available, with a lot for them. Debt absorbs them first."""
        absorbed = min(self.balance.debt, points)
        entry = self._post(type_, points, cause, available=points - absorbed, debt=-absorbed, earning=earning)
        lot = self._put_lot(entry, points - absorbed, None if earning is None else earning.expires_at)
        if absorbed:
            self.allocations.append(Allocation(entry.id, lot.id, absorbed))
        return entry, lot

    def _take_all(self, type_: EntryType, status: LotStatus, cause: Cause) -> Entry:
        """Take everything that is available or pending, and whatever the lots of that status hold."""
        if status == "pending":
            points = self.balance.pending
            entry = self._post(type_, -points, cause, pending=-points)
        else:
            points = self.balance.available
            entry = self._post(type_, -points, cause, available=-points)
        for lot in self._spending_order(status):
            self._take_from(lot, lot.remaining, entry)
        return entry

    def _post(
        self,
        type_: EntryType,
        points: int,
        cause: Cause,
        *,
        available: int = 0,
        pending: int = 0,
        debt: int = 0,
        earning: Earning | None = None,
    ) -> Entry:
        """Append an entry, and change the balances by so much. `earning`: the points count as earned, by its rules."""
        balance = self.balance
        self.balance = Balance(
            available=balance.available + available,
            pending=balance.pending + pending,
            debt=balance.debt + debt,
            lifetime_earned=balance.lifetime_earned + (0 if earning is None else earning.points),
            lifetime_redeemed=balance.lifetime_redeemed,
        )
        self._ledger_sequence += 1
        entry = Entry(
            id=self._unit.ids.new("led"),
            customer_id=self.id,
            sequence=self._ledger_sequence,
            type=type_,
            points=points,
            balance_after=self.balance.net,
            pending_after=self.balance.pending,
            source_type=cause.source_type,
            source_id=cause.source_id,
            actor=cause.actor,
            rules=() if earning is None else earning.rules,
            occurred_at=cause.occurred_at,
            created_at=self._unit.now,
            reason_code=cause.reason_code,
        )
        self.entries.append(entry)
        return entry

    def _put_lot(self, entry: Entry, remaining: int, expires_at: UnixMs | None) -> Lot:
        """A lot for a credit."""
        lot = Lot(
            id=self._unit.ids.new("lot"),
            customer_id=self.id,
            entry_id=entry.id,
            original=entry.points,
            remaining=remaining,
            earned_at=entry.occurred_at,
            activates_at=None,
            expires_at=expires_at,
            status="active",
            created_at=entry.created_at,
        )
        self._new_lots[lot.id] = lot
        return lot

    def _spending_order(self, status: LotStatus) -> list[Lot]:
        """The lots of this status that hold points: what expires first, then what was earned first."""
        if self._lots is None:
            raise RuntimeError("The book was opened without lots.")
        held = [lot for lot in (self._lots | self._new_lots).values() if lot.status == status and lot.remaining]
        return sorted(
            held, key=lambda lot: (_NO_EXPIRY if lot.expires_at is None else lot.expires_at, lot.earned_at, lot.id)
        )

    def _take_from(self, lot: Lot, points: int, entry: Entry) -> None:
        """Take points out of a lot for an entry. A pending lot that holds nothing any more is canceled."""
        remaining = lot.remaining - points
        status: LotStatus = "canceled" if lot.status == "pending" and not remaining else lot.status
        left = replace(lot, remaining=remaining, status=status)
        self.allocations.append(Allocation(entry.id, lot.id, points))
        if lot.id in self._new_lots:
            self._new_lots[lot.id] = left
        elif self._lots is not None:
            self._lots[lot.id] = self._changed_lots[lot.id] = left

    # -- what is to be written ---------------------------------------------------------------------------------------

    @property
    def customer(self) -> Customer:
        """The customer as it is now."""
        if not self.is_changed:
            return self._customer
        return replace(
            self._customer,
            balance=self.balance,
            ledger_sequence=self._ledger_sequence,
            event_sequence=self._event_sequence,
            updated_at=self._unit.now,
        )

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to write: every change emits an event."""
        return self._event_sequence != self._customer.event_sequence

    @property
    def new_lots(self) -> Iterable[Lot]:
        """Lots that are not stored yet."""
        return self._new_lots.values()

    @property
    def changed_lots(self) -> Iterable[Lot]:
        """Stored lots out of which points were taken."""
        return self._changed_lots.values()
