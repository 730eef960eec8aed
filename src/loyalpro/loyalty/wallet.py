"""One customer's points and events, read under the customer's lock and changed in memory.

A wallet makes the ledger entries, lots and allocations of what happens, counts the two sequences of its customer, and emits
the events. Nothing else counts a sequence. A `Book` reads wallets and writes them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, Literal, Protocol

from loyalpro.events.new_event import NewEvent, new_event
from loyalpro.events.payload import Payload
from loyalpro.events.points import (
    MAX_EXPIRED_LOTS,
    AdjustmentKind,
    AppliedRule,
    BalanceChange,
    EarnReason,
    ExpiredLot,
    PointsAdjusted,
    PointsEarned,
    PointsExpired,
    PointsRedeemed,
    Reward,
)
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.ids import IdFactory
from loyalpro.kernel.record import record, with_fields
from loyalpro.loyalty.days import Days
from loyalpro.loyalty.entities import Customer, TransactionSource
from loyalpro.loyalty.expiry import NEVER, day_of, inactive_at
from loyalpro.loyalty.ledger import MAX_POINTS, Allocation, AllocationKind, Balance, Entry, EntryType, Lot, SourceType
from loyalpro.loyalty.lots import Lots, spending_order
from loyalpro.loyalty.program import Program

EXPIRY: Final = "system:expiry"
"""The actor of what happens to points because their time has come."""


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
    """Why points move: the object that caused it, what did it, and when it happened.

    `part` counts the entries of one type that one source makes.
    """

    source_type: SourceType
    source_id: str
    actor: str
    occurred_at: UnixMs
    reason_code: str | None = None
    note: str | None = None
    part: int = 0


@record
class Credit:
    """Points that are given, and until when. `expires_at` is `expiry.NEVER` for points that do not expire.

    `is_pending`: they become active at `activates_at`, or when they are released if that is None. `hold_case_id`: the fraud
    case that holds them.
    """

    points: int
    expires_at: UnixMs
    is_pending: bool = False
    activates_at: UnixMs | None = None
    transaction_id: str | None = None
    hold_case_id: str | None = None


@record
class Earning:
    """What `points.earned` shows besides the points.

    `counts_toward_tier`: the points count by themselves; those of a purchase count with it.
    """

    rules: tuple[AppliedRule, ...] = ()
    reason: EarnReason = "purchase"
    transaction_external_id: str | None = None
    source: TransactionSource = "api"
    counts_toward_tier: bool = False


@record
class Redeemed:
    """What `points.redeemed` shows besides the points. `reserved_until` None: the points are redeemed, not reserved."""

    redemption_id: str
    reward: Reward | None
    transaction_id: str | None
    code: str | None
    reserved_until: UnixMs | None


@record
class Adjustment:
    """What `points.adjusted` shows besides the points. `kind` decides about `reason_code` if the cause has none."""

    kind: AdjustmentKind
    reverses_entry_id: str | None = None
    transaction_id: str | None = None
    refund_id: str | None = None
    redemption_id: str | None = None
    counts_toward_tier: bool = False


@record
class Clawed:
    """What a clawback did: pending points that were canceled, active points and debt, and what was written off."""

    canceled: int
    taken: int
    shortfall: int

    @property
    def clawed_back(self) -> int:
        """What the refund took back in all."""
        return self.canceled + self.taken


@record
class Estate:
    """Everything that a customer hands to another one when both are merged. `net`: available less debt."""

    net: int
    pending: int
    lifetime_earned: int
    lifetime_redeemed: int
    lots: Lots


ShortfallPolicy = Literal["allow_negative", "within_balance", "only_pending"]


class Wallet:
    """A customer with balance, lots and days. `lots` None: they were not read, and nothing can be taken out of them.

    The order of one command's events: `transaction.*`, `points.*` in the order of the ledger, `customer.*`, `fraud.detected`.
    """

    def __init__(
        self, customer: Customer, unit: WalletUnit, program: Program, *, lots: Sequence[Lot] | None = None
    ) -> None:
        self.id = customer.id
        self.balance = customer.balance
        self.entries: list[Entry] = []
        self.lots = Lots(lots)
        self.days = Days(customer.account_id, customer.id)
        self.has_new_details = False
        self._unit = unit
        self._program = program
        self._stored = customer
        self._customer = customer
        self._held: list[Payload] | None = None
        self._event_sequence = customer.event_sequence
        self._ledger_sequence = customer.ledger_sequence
        self._first_purchase_at = customer.first_purchase_at
        self._last_purchase_at = customer.last_purchase_at

    # -- what happens to a customer ----------------------------------------------------------------------------------

    def emit(self, payload: Payload) -> None:
        """Emit the customer's next event."""
        if self._held is not None:
            self._held.append(payload)
            return
        self._event_sequence += 1
        customer = self._customer
        self._unit.emit(new_event(customer.account_id, payload, customer_id=customer.id, sequence=self._event_sequence))

    @contextmanager
    def holding_events(self) -> Iterator[list[Payload]]:
        """Collect the events of the block in a list instead of emitting them.

        For a command that emits an event first which tells what the others did.
        """
        held: list[Payload] = []
        self._held = held
        try:
            yield held
        finally:
            self._held = None

    def change_details(self, **details: Any) -> None:
        """Change what describes the customer: names, tags, metadata, status, blocks."""
        self._customer = replace(self._customer, **details)
        self.has_new_details = True

    def change_state(self, **fields: Any) -> None:
        """Change fields that no command sets directly: the tier and its dates, times of purchases."""
        self._customer = replace(self._customer, **fields)

    def note_purchase(self, occurred_at: UnixMs) -> None:
        """Remember the first and the last purchase."""
        first, last = self._first_purchase_at, self._last_purchase_at
        self._first_purchase_at = occurred_at if first is None else min(first, occurred_at)
        self._last_purchase_at = occurred_at if last is None else max(last, occurred_at)

    # -- points that come --------------------------------------------------------------------------------------------

    def require_capacity(self, points: int, *, param: str = "amount") -> None:
        """Raise `InvalidInput` when the customer cannot be credited so many points more."""
        if self.balance.lifetime_earned + points > MAX_POINTS:
            raise InvalidInput(
                "The customer would have more points than can be counted.", code="points_limit", param=param
            )

    def earn(self, credit: Credit, earning: Earning, cause: Cause) -> Lot:
        """Credit earned points. Active ones repay debt first, and expire at once if their date has passed already."""
        before = self.balance
        entry, lot = self._credit("earn", credit, cause, rules=earning.rules, qualifies=earning.counts_toward_tier)
        self._touch()
        self.emit(
            PointsEarned(
                entry_id=entry.id,
                customer_id=self.id,
                customer_external_id=self._customer.external_id,
                points=entry.points,
                status="pending" if credit.is_pending else "available",
                activates_at=None if credit.activates_at is None else rfc3339(credit.activates_at),
                expires_at=_shown(credit.expires_at),
                lot_id=lot.id,
                transaction_id=credit.transaction_id,
                transaction_external_id=earning.transaction_external_id,
                reason=earning.reason,
                rules=list(entry.rules),
                balance=self._change_since(before),
                occurred_at=rfc3339(entry.occurred_at),
                source=earning.source,
            )
        )
        self._expire_if_past(lot)
        return lot

    def give(self, credit: Credit, adjustment: Adjustment, cause: Cause) -> Lot:
        """Credit points by hand, or the opening balance of an import. They repay debt first."""
        before = self.balance
        type_: EntryType = "import" if adjustment.kind == "import" else "adjust"
        entry, lot = self._credit(type_, credit, cause, qualifies=adjustment.counts_toward_tier)
        self._begin_inactivity()
        self._emit_adjusted(adjustment, entry, before)
        self._expire_if_past(lot)
        return lot

    def put_back(
        self, points: int, spent: Sequence[tuple[Lot, int]], cause: Cause, adjustment: Adjustment, extend_to: UnixMs
    ) -> Entry:
        """Return redeemed points to the lots that they came from, as `returns` orders them, and then repay debt from them.

        `spent`: the lots, and how much to return to each. A lot whose date has passed is not revived: its points come in a new
        lot that is valid until `extend_to`.
        """
        before = self.balance
        absorbed = min(before.debt, points)
        entry = self._post(
            "redeem_reversal",
            points,
            cause,
            available=points - absorbed,
            debt=-absorbed,
            reverses=adjustment.reverses_entry_id,
        )
        self.balance = replace(self.balance, lifetime_redeemed=self.balance.lifetime_redeemed - points)
        self._begin_inactivity()
        returned = [self._return_to(lot, share, entry, extend_to) for lot, share in spent]
        self.lots.take(spending_order(returned), absorbed, entry.id, "absorb")
        self._emit_adjusted(adjustment, entry, before)
        for lot in returned:
            self._expire_if_past(lot)
        return entry

    def activate(self, lot: Lot, cause: Cause) -> None:
        """Make what a pending lot holds available; it repays debt first. The ledger shows it, and no event does."""
        points = lot.remaining
        absorbed = min(self.balance.debt, points)
        entry = self._post("activate", points, cause, available=points - absorbed, pending=-points, debt=-absorbed)
        active = self.lots.update(lot, status="active", activates_at=None, hold_case_id=None)
        self.lots.take([active], absorbed, entry.id, "absorb")

    # -- points that go ----------------------------------------------------------------------------------------------

    def require_available(self, points: int) -> None:
        """Raise `InvalidInput` `insufficient_points` when fewer points are available."""
        available = self.balance.available
        if points > available:
            raise InvalidInput(
                f"The customer has {available} points available, which is fewer than {points}.",
                code="insufficient_points",
                param="points",
                facts={"available": available},
            )

    def redeem(self, points: int, redeemed: Redeemed, cause: Cause) -> Entry:
        """Take points in spending order. Raises `InvalidInput` `insufficient_points`; then nothing is changed."""
        self.require_available(points)
        before = self.balance
        entry = self._post("redeem", -points, cause, available=-points)
        self.balance = replace(self.balance, lifetime_redeemed=self.balance.lifetime_redeemed + points)
        self.lots.take(self.lots.holding("active"), points, entry.id, "spend")
        self._touch()
        until = redeemed.reserved_until
        self.emit(
            PointsRedeemed(
                entry_id=entry.id,
                redemption_id=redeemed.redemption_id,
                customer_id=self.id,
                customer_external_id=self._customer.external_id,
                points=points,
                reward=redeemed.reward,
                transaction_id=redeemed.transaction_id,
                code=redeemed.code,
                status="redeemed" if until is None else "reserved",
                reserved_until=None if until is None else rfc3339(until),
                balance=self._change_since(before),
            )
        )
        return entry

    def deduct(self, points: int, adjustment: Adjustment, cause: Cause, *, allow_negative: bool) -> Entry:
        """Take points by hand, in spending order; beyond what is available they become debt, if that is allowed."""
        if not allow_negative:
            self.require_available(points)
        before = self.balance
        taken = min(points, before.available)
        if before.debt + points - taken > MAX_POINTS:
            raise InvalidInput("The debt would be more than can be counted.", code="points_limit", param="points")
        qualifies = adjustment.counts_toward_tier
        entry = self._post("adjust", -points, cause, available=-taken, debt=points - taken, qualifies=qualifies)
        self.lots.take(self.lots.holding("active"), taken, entry.id, "spend")
        self._emit_adjusted(adjustment, entry, before)
        return entry

    def claw_back(
        self, points: int, transaction_id: str, cause: Cause, adjustment: Adjustment, policy: ShortfallPolicy
    ) -> Clawed:
        """Take back what a purchase has earned: out of its pending lots, its active lots, other active lots, then by policy.

        The lots of the purchase must be known. What is taken is allocated as `claw`, also from a pending lot: `cancel` is for
        what was canceled otherwise. Emits `points.adjusted` for each entry, the last with the shortfall.
        """
        own = self.lots.of_transaction(transaction_id)
        pending = [lot for lot in own if lot.status == "pending"]
        canceled = min(points, sum(lot.remaining for lot in pending))
        active = [lot for lot in own if lot.status == "active" and lot.remaining]
        rest = points - canceled
        taken = 0 if policy == "only_pending" else min(rest, self.balance.available)
        owed = rest - taken if policy == "allow_negative" else 0
        shortfall = rest - taken - owed
        if canceled:
            at_end = 0 if taken + owed else shortfall
            self._take("cancel_pending", canceled, pending, "claw", cause, adjustment, shortfall=at_end)
        if taken + owed:
            if taken > sum(lot.remaining for lot in active):
                active += [lot for lot in self.lots.holding("active") if lot.transaction_id != transaction_id]
            self._take("clawback", taken + owed, active, "claw", cause, adjustment, owed=owed, shortfall=shortfall)
        return Clawed(canceled, taken + owed, shortfall)

    def cancel(self, lot: Lot, cause: Cause, adjustment: Adjustment) -> None:
        """Cancel what a pending lot holds."""
        self._take("cancel_pending", lot.remaining, [lot], "cancel", cause, adjustment)

    def forfeit(self, cause: Cause) -> int:
        """Take all points, or write off the debt; return how many points were lost. Emits `points.adjusted` for each entry."""
        lost = self.balance
        if lost.pending:
            pending = self.lots.holding("pending")
            self._take("cancel_pending", lost.pending, pending, "cancel", cause, Adjustment("pending_canceled"))
        if lost.available:
            active = self.lots.holding("active")
            self._take("adjust", lost.available, active, "spend", cause, Adjustment("manual"))
        elif lost.debt:
            before = self.balance
            entry, _ = self._credit("adjust", Credit(lost.debt, NEVER), cause, is_counted=False)
            self._emit_adjusted(Adjustment("manual"), entry, before)
        return lost.available + lost.pending

    # -- what time does ----------------------------------------------------------------------------------------------

    @property
    def is_due(self) -> bool:
        """Whether points have to be activated or expired before anything else is decided."""
        return _has_come(self._customer.next_due_at, self._unit.now)

    def settle(self) -> None:
        """Activate the pending lots whose time has come, then expire what is due."""
        now = self._unit.now
        for lot in self.lots.holding("pending"):
            if _has_come(lot.activates_at, now):
                self.activate(lot, Cause("lot", lot.id, EXPIRY, now))
        inactive = _has_come(self._customer.points_expire_at, now)
        undated_only = self._program.rules.expiry.kind != "inactivity"  # the policy has changed since
        self._expire(
            [
                lot
                for lot in self.lots.holding("active")
                if lot.expires_at <= now or (inactive and (lot.expires_at >= NEVER or not undated_only))
            ]
        )
        if inactive:
            self.change_state(points_expire_at=None)

    def _expire(self, lots: Sequence[Lot]) -> None:
        """Expire what is left of these lots, with an entry and an event for each 100 of them. The first lot is the source."""
        for start in range(0, len(lots), MAX_EXPIRED_LOTS):
            chunk = lots[start : start + MAX_EXPIRED_LOTS]
            before, points = self.balance, sum(lot.remaining for lot in chunk)
            cause = Cause("lot", chunk[0].id, EXPIRY, self._unit.now, part=self._expiry_part(chunk[0]))
            entry = self._post("expire", -points, cause, available=-points)
            self.lots.take(chunk, points, entry.id, "expire")
            self.emit(
                PointsExpired(
                    entry_id=entry.id,
                    customer_id=self.id,
                    customer_external_id=self._customer.external_id,
                    points=points,
                    lots=[self._expired(lot) for lot in chunk],
                    policy=self._program.rules.expiry.name,
                    balance=self._change_since(before),
                )
            )

    def _expiry_part(self, lot: Lot) -> int:
        """Points can return to a lot that inactivity has emptied, so it can expire more than once; past its date it cannot."""
        return 0 if lot.expires_at <= self._unit.now else self._ledger_sequence + 1

    def _expired(self, lot: Lot) -> ExpiredLot:
        at = min(lot.expires_at, self._customer.points_expire_at or lot.expires_at, self._unit.now)
        return ExpiredLot(lot_id=lot.id, points=lot.remaining, earned_at=rfc3339(lot.earned_at), expired_at=rfc3339(at))

    def _expire_if_past(self, lot: Lot) -> None:
        """Points of an old purchase may have expired when it arrives: they are earned and expired in one transaction."""
        current = self.lots.current(lot)
        if current.status == "active" and current.remaining and current.expires_at <= self._unit.now:
            self._expire([current])

    def _touch(self) -> None:
        """Under a policy of inactivity, earning and redeeming keep all points valid for another period."""
        rules = self._program.rules
        if rules.expiry.kind == "inactivity":
            self.change_state(points_expire_at=inactive_at(rules.expiry, self._unit.now, rules.time_zone))

    def _begin_inactivity(self) -> None:
        """Points that come in another way, to a customer without any date, last as if they had been earned now."""
        if self._customer.points_expire_at is None:
            self._touch()

    # -- merging -----------------------------------------------------------------------------------------------------

    def move_out(self, cause: Cause) -> Estate:
        """Hand everything to another customer: the balance is zero after it, and the lots belong to the other one.

        The lots that hold points are handed over here. The store moves the others.
        """
        balance, before = self.balance, self.balance
        if balance.net:
            available, debt = -balance.available, -balance.debt
            entry = self._post("merge_out", -balance.net, cause, available=available, debt=debt)
            self._emit_adjusted(Adjustment("merge"), entry, before)
        if balance.pending:
            before = self.balance
            entry = self._post("merge_out", -balance.pending, replace(cause, part=1), pending=-balance.pending)
            self._emit_adjusted(Adjustment("merge"), entry, before)
        self.balance = Balance()
        self.change_state(points_expire_at=None)
        lots, self.lots = self.lots, Lots(())
        return Estate(balance.net, balance.pending, balance.lifetime_earned, balance.lifetime_redeemed, lots)

    def move_in(self, estate: Estate, cause: Cause) -> None:
        """Take over everything of another customer. What is available on one side repays the debt of the other."""
        self.require_capacity(estate.lifetime_earned, param="into")
        arrived = self.lots.arrive(estate.lots, self.id)
        if estate.net:
            before, net = self.balance, self.balance.net + estate.net
            available, debt = max(net, 0), max(-net, 0)
            if debt > MAX_POINTS:
                raise InvalidInput("The debt would be more than can be counted.", code="points_limit", param="into")
            entry = self._post(
                "merge_in",
                estate.net,
                cause,
                available=available - before.available,
                debt=debt - before.debt,
            )
            if estate.net > 0:
                active = [lot for lot in arrived if lot.status == "active"]
                self.lots.take(spending_order(active), before.debt - debt, entry.id, "absorb")
            else:
                self.lots.take(self.lots.holding("active"), before.available - available, entry.id, "merge")
            self._emit_adjusted(Adjustment("merge"), entry, before)
        if estate.pending:
            before = self.balance
            entry = self._post("merge_in", estate.pending, replace(cause, part=1), pending=estate.pending)
            self._emit_adjusted(Adjustment("merge"), entry, before)
        self.balance = replace(
            self.balance,
            lifetime_earned=self.balance.lifetime_earned + estate.lifetime_earned,
            lifetime_redeemed=self.balance.lifetime_redeemed + estate.lifetime_redeemed,
        )

    # -- the steps that operations share -----------------------------------------------------------------------------

    def _credit(
        self,
        type_: EntryType,
        credit: Credit,
        cause: Cause,
        *,
        rules: tuple[AppliedRule, ...] = (),
        is_counted: bool = True,
        qualifies: bool = False,
    ) -> tuple[Entry, Lot]:
        """Add points with a lot for them. Debt absorbs active ones first.

        `is_counted`: toward the limit of all credits. `qualifies`: toward tiers.
        """
        points = credit.points
        if is_counted:
            self.require_capacity(points, param="points")
        earned = points if is_counted else 0
        absorbed = 0 if credit.is_pending else min(self.balance.debt, points)
        entry = self._post(
            type_,
            points,
            cause,
            available=0 if credit.is_pending else points - absorbed,
            pending=points if credit.is_pending else 0,
            debt=-absorbed,
            earned=earned,
            rules=rules,
            qualifies=qualifies,
        )
        lot = self._new_lot(entry, credit)
        self.lots.take([lot], absorbed, entry.id, "absorb")
        return entry, self.lots.current(lot)

    def _take(
        self,
        type_: EntryType,
        points: int,
        lots: Sequence[Lot],
        kind: AllocationKind,
        cause: Cause,
        adjustment: Adjustment,
        *,
        owed: int = 0,
        shortfall: int = 0,
    ) -> None:
        """Take points out of lots with one entry and its `points.adjusted`. `owed`: how many of them become debt."""
        before = self.balance
        if type_ == "cancel_pending":
            entry = self._post(type_, -points, cause, pending=-points, reverses=adjustment.reverses_entry_id)
        else:
            entry = self._post(
                type_, -points, cause, available=owed - points, debt=owed, reverses=adjustment.reverses_entry_id
            )
        self.lots.take(lots, points - owed, entry.id, kind)
        self._emit_adjusted(adjustment, entry, before, shortfall=shortfall)

    def _return_to(self, lot: Lot, points: int, entry: Entry, extend_to: UnixMs) -> Lot:
        if self.lots.current(lot).expires_at > self._unit.now:
            return self.lots.restore(lot, points, entry.id)
        return self._new_lot(entry, Credit(points, extend_to, transaction_id=lot.transaction_id))

    def _post(
        self,
        type_: EntryType,
        points: int,
        cause: Cause,
        *,
        available: int = 0,
        pending: int = 0,
        debt: int = 0,
        earned: int = 0,
        rules: tuple[AppliedRule, ...] = (),
        reverses: str | None = None,
        qualifies: bool = False,
    ) -> Entry:
        """Append an entry, and change the balances by so much.

        `earned`: what counts toward the limit of all credits. `qualifies`: the points count toward tiers on the local day of
        what caused them.
        """
        balance = self.balance
        self.balance = Balance(
            available=balance.available + available,
            pending=balance.pending + pending,
            debt=balance.debt + debt,
            lifetime_earned=balance.lifetime_earned + earned,
            lifetime_redeemed=balance.lifetime_redeemed,
        )
        self._ledger_sequence += 1
        entry = Entry(
            id=self._unit.ids.new("led"),
            account_id=self._customer.account_id,
            customer_id=self.id,
            sequence=self._ledger_sequence,
            type=type_,
            points=points,
            balance_after=self.balance.net,
            pending_after=self.balance.pending,
            source_type=cause.source_type,
            source_id=cause.source_id,
            actor=cause.actor,
            rules=rules,
            occurred_at=cause.occurred_at,
            created_at=self._unit.now,
            part=cause.part,
            reverses_entry_id=reverses,
            reason_code=cause.reason_code,
            note=cause.note,
            qualifying_day=day_of(cause.occurred_at, self._program.rules.time_zone) if qualifies else None,
        )
        if entry.qualifying_day is not None:
            self.days.add(entry.qualifying_day, points_qualifying=points)
        self.entries.append(entry)
        return entry

    def _new_lot(self, entry: Entry, credit: Credit) -> Lot:
        """A lot that holds all of a credit."""
        lot = Lot(
            id=self._unit.ids.new("lot"),
            account_id=entry.account_id,
            customer_id=self.id,
            entry_id=entry.id,
            transaction_id=credit.transaction_id,
            hold_case_id=credit.hold_case_id,
            original=credit.points,
            remaining=credit.points,
            earned_at=entry.occurred_at,
            activates_at=credit.activates_at,
            expires_at=credit.expires_at,
            status="pending" if credit.is_pending else "active",
            created_at=entry.created_at,
        )
        self.lots.add(lot)
        return lot

    def _emit_adjusted(self, adjustment: Adjustment, entry: Entry, before: Balance, *, shortfall: int = 0) -> None:
        self.emit(
            PointsAdjusted(
                entry_id=entry.id,
                customer_id=self.id,
                customer_external_id=self._customer.external_id,
                points=entry.points,
                kind=adjustment.kind,
                reason_code=entry.reason_code or adjustment.kind,
                note=entry.note,
                reverses_entry_id=adjustment.reverses_entry_id,
                transaction_id=adjustment.transaction_id,
                refund_id=adjustment.refund_id,
                redemption_id=adjustment.redemption_id,
                actor=entry.actor,
                shortfall=shortfall,
                counts_toward_tier=adjustment.counts_toward_tier,
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

    # -- what is to be written ---------------------------------------------------------------------------------------

    @property
    def customer(self) -> Customer:
        """The customer as it is after what was decided so far."""
        if not self.is_changed:
            if not self.has_new_due_time:
                return self._customer
            return with_fields(self._customer, next_due_at=self._next_due_at())
        return with_fields(
            self._customer,
            balance=self.balance,
            ledger_sequence=self._ledger_sequence,
            event_sequence=self._event_sequence,
            next_due_at=self._next_due_at(),
            first_purchase_at=self._first_purchase_at,
            last_purchase_at=self._last_purchase_at,
            updated_at=self._unit.now,
        )

    @property
    def profile(self) -> Customer:
        """The customer as it is now, without what this transaction changes of its balance, its sequences and `next_due_at`.

        It costs nothing, and `customer` makes a record at each call.
        """
        return self._customer

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to write."""
        return (
            self._event_sequence != self._stored.event_sequence
            or bool(self.entries)
            or self._customer is not self._stored
            or self.lots.has_changed
        )

    @property
    def has_new_due_time(self) -> bool:
        """Whether something is due at another time than is stored.

        A command that did not read the lots keeps the earlier time, at which nothing may be due any more. Once that has come,
        the lots are read.
        """
        return self._next_due_at() != self._stored.next_due_at

    @property
    def has_new_standing(self) -> bool:
        """Whether anything of the customer changed beside its balance, its sequences and its purchases."""
        return self._customer is not self._stored

    @property
    def allocations(self) -> list[Allocation]:
        """What was taken out of lots and put back into them."""
        return self.lots.allocations

    def _next_due_at(self) -> UnixMs | None:
        lots_due, inactive = self.lots.next_due_at(self._stored.next_due_at), self._customer.points_expire_at
        return min((each for each in (lots_due, inactive) if each is not None), default=None)


def returns(spent: Sequence[tuple[Lot, int]], returned: int, points: int) -> list[tuple[Lot, int]]:
    """How many of `points` go back to which lot. What expires last comes back first.

    `spent`: the lots that a redemption took its points from, and how many of each did not go back into it. `returned`: how many
    of them came back in other lots, because their own had expired.
    """
    found: list[tuple[Lot, int]] = []
    for lot, share in sorted(spent, key=lambda each: (each[0].expires_at, each[0].earned_at, each[0].id), reverse=True):
        skipped = min(returned, share)
        returned -= skipped
        part = min(points, share - skipped)
        if part:
            found.append((lot, part))
            points -= part
    return found


def _has_come(instant: UnixMs | None, now: UnixMs) -> bool:
    return instant is not None and instant <= now


def _shown(expires_at: UnixMs) -> str | None:
    return None if expires_at >= NEVER else rfc3339(expires_at)
