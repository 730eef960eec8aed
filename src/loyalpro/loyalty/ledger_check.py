"""Finds what does not add up in the stored log of one customer. Pure.

What is checked can be derived twice: from the entries, from the lots and what was taken out of them, from the events, from the
purchases with their refunds, and from the days. What may be missing for a good reason is not reported: events that are older
than any retention, and the data of erased ones.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import Any, Final

from loyalpro.kernel.clock import MS_PER_DAY, UnixMs
from loyalpro.kernel.record import record
from loyalpro.loyalty.entities import DayTotals
from loyalpro.loyalty.expiry import date_of, day_of
from loyalpro.loyalty.ledger import Allocation, Balance, Entry, Lot, discrepancies

EVENTS_KEPT_MS: Final = 30 * MS_PER_DAY
"""Events are kept for at least so long."""

_SIGN: Final = {"points.earned": 1, "points.adjusted": 1, "points.redeemed": -1, "points.expired": -1}
_TIER_CHANGED: Final = "customer.tier_changed"
_MERGES: Final = ("merge_in", "merge_out")
_REDEEMED: Final = ("reserved", "redeemed")
_COUNTED: Final = ("purchases", "spend", "refunds", "refunded", "redemptions", "points_redeemed")


@record
class CheckedCustomer:
    """The columns of a customer that the log has to explain."""

    id: str
    account_id: str
    status: str
    tier_id: str
    balance: Balance
    ledger_sequence: int
    event_sequence: int
    created_at: UnixMs


@record
class LoggedEvent:
    """An event of a customer. `data`: of `points.*` and `customer.tier_changed`; None for other types, and for erased ones."""

    sequence: int
    type: str
    created_at: UnixMs
    data: Mapping[str, Any] | None = field(hash=False)


@record
class CheckedPurchase:
    """The columns of a purchase that its refunds and entries have to explain. Amounts are in minor units."""

    id: str
    status: str
    amount: int
    base_amount: int
    refunded_amount: int
    points_earned: int
    points_clawed_back: int
    points_shortfall: int
    occurred_at: UnixMs


@record
class CheckedRefund:
    """The columns of a refund that its purchase and its entries have to explain."""

    id: str
    transaction_id: str
    amount: int
    points_clawed_back: int
    points_shortfall: int
    points_expired_before: int


@record
class CheckedRedemption:
    """The columns of a redemption that its entries have to explain."""

    id: str
    points: int
    points_returned: int
    status: str
    created_at: UnixMs


@record
class CustomerLog:
    """Everything that is stored about one customer's points. Entries and events are in the order of their sequences.

    `of_entries`: the allocations of its entries; `of_lots`: those of its lots. These differ after a merge. `is_merged`: another
    customer was merged into it. `time_zone`: that of the program; None if it was changed.
    """

    customer: CheckedCustomer
    entries: Sequence[Entry]
    lots: Sequence[Lot]
    of_entries: Sequence[Allocation]
    of_lots: Sequence[Allocation]
    events: Sequence[LoggedEvent]
    purchases: Sequence[CheckedPurchase]
    refunds: Sequence[CheckedRefund]
    redemptions: Sequence[CheckedRedemption]
    days: Sequence[DayTotals]
    is_merged: bool
    time_zone: str | None


def faults(log: CustomerLog, now: UnixMs) -> list[str]:
    """What does not add up, a sentence each; empty when everything does."""
    checker = _Checker(log, now - EVENTS_KEPT_MS)
    return [
        *discrepancies(log.customer.balance, log.entries, log.lots, log.of_lots),
        *checker.sequences(),
        *checker.rebuilt_lots(),
        *checker.events(),
        *checker.tiers(),
        *checker.purchases(),
        *checker.redemptions(),
        *checker.days(),
    ]


class _Checker:
    """The checks of one customer's log. `kept_since`: every event from then on is stored."""

    def __init__(self, log: CustomerLog, kept_since: UnixMs) -> None:
        self._log = log
        self._kept_since = kept_since
        self._entries = {entry.id: entry for entry in log.entries}
        self._lots = {lot.id: lot for lot in log.lots}
        self._is_gone = log.customer.status == "merged"
        self._merged = log.is_merged or self._is_gone

    # -- sequences ---------------------------------------------------------------------------------------------------

    def sequences(self) -> Iterator[str]:
        """The customer has the numbers of its last entry and its last event, and no event is missing in between."""
        customer, events = self._log.customer, self._log.events
        if customer.ledger_sequence != len(self._log.entries):
            yield f"there are {len(self._log.entries)} entries, and there should be {customer.ledger_sequence}"
        if self._recent and self._recent[-1].sequence != customer.event_sequence:
            yield f"the last event is {self._recent[-1].sequence}, and it should be {customer.event_sequence}"
        if not events and customer.event_sequence and customer.created_at >= self._kept_since:
            yield f"there are no events, and the last one should be {customer.event_sequence}"
        numbers = [event.sequence for event in self._recent]
        first = 1 if customer.created_at >= self._kept_since else (numbers or [1])[0]
        for missing in sorted(set(range(first, numbers[-1] + 1)) - set(numbers)) if numbers else ():
            yield f"event {missing} is missing"

    @cached_property
    def _recent(self) -> list[LoggedEvent]:
        """The events behind the first one that is certainly kept."""
        events = self._log.events
        start = min((n for n, each in enumerate(events) if each.created_at >= self._kept_since), default=len(events))
        return list(events[start:])

    # -- lots --------------------------------------------------------------------------------------------------------

    def rebuilt_lots(self) -> Iterator[str]:
        """Each entry changes its lots by as much as it changes what is available and pending."""
        taken: Counter[str] = Counter()
        for each in self._log.of_entries:
            taken[each.entry_id] += each.points
            if each.lot_id not in self._lots and not self._merged:
                yield f"entry {each.entry_id} took points out of lot {each.lot_id}, which the customer does not have"
        credited: Counter[str] = Counter()
        for lot in self._log.lots:
            credited[lot.entry_id] += lot.original
            if lot.entry_id not in self._entries and not self._log.is_merged:
                yield f"lot {lot.id} comes from entry {lot.entry_id}, which the customer does not have"
            if lot.status == "canceled" and lot.remaining:
                yield f"lot {lot.id} is canceled, and holds {lot.remaining}"
        if not self._is_gone:  # else its lots are with another customer
            yield from self._changes(credited, taken)

    def _changes(self, credited: Mapping[str, int], taken: Mapping[str, int]) -> Iterator[str]:
        held = 0
        for entry in self._log.entries:
            before, held = held, max(0, entry.balance_after) + entry.pending_after
            of_lots = credited[entry.id] - taken[entry.id]
            if entry.type not in _MERGES and of_lots != held - before:
                yield (
                    f"entry {entry.id}, {entry.type} of {entry.points}, changes what is available and pending by"
                    f" {held - before}, and what lots hold by {of_lots}"
                )

    # -- events ------------------------------------------------------------------------------------------------------

    def events(self) -> Iterator[str]:
        """Each entry but `activate` has exactly one event, with the same points and balances; each event has its entry."""
        told: dict[str, int] = Counter()
        erased = 0
        for event in self._log.events:
            if event.type in _SIGN and event.data is None:
                erased += 1
            elif event.type in _SIGN and event.data is not None:
                told[str(event.data.get("entry_id"))] += 1
                yield from self._event(event, event.data)
        silent = [
            each for each in self._log.entries if each.created_at >= self._kept_since and self._is_untold(each, told)
        ]
        for entry in silent if len(silent) > erased else ():
            yield f"entry {entry.id}, {entry.type} of {entry.points}, has no event"
        for entry_id, number in told.items():
            if number > 1:
                yield f"entry {entry_id} has {number} events"

    def _is_untold(self, entry: Entry, told: Mapping[str, int]) -> bool:
        return entry.type != "activate" and not told.get(entry.id)

    def _event(self, event: LoggedEvent, data: Mapping[str, Any]) -> Iterator[str]:
        entry = self._entries.get(str(data.get("entry_id")))
        if entry is None:
            yield f"event {event.sequence}, {event.type}, tells of entry {data.get('entry_id')}, which is not there"
            return
        if data["points"] * _SIGN[event.type] != entry.points:
            yield f"event {event.sequence}, {event.type} of {data['points']}, tells of entry {entry.id} of {entry.points}"
        balance = data.get("balance") or {}
        if {"after", "pending", "debt"} <= balance.keys():
            shown = (balance["after"] - balance["debt"], balance["pending"])
            if shown != (entry.balance_after, entry.pending_after):
                yield (
                    f"event {event.sequence}, {event.type}, tells of balances {shown[0]} and {shown[1]}, and entry {entry.id}"
                    f" has {entry.balance_after} and {entry.pending_after}"
                )

    # -- tiers -------------------------------------------------------------------------------------------------------

    def tiers(self) -> Iterator[str]:
        """Each change of the tier begins where the one before ended; the customer has the last tier."""
        changes = [event for event in self._log.events if event.type == _TIER_CHANGED]
        known: str | None = None
        for event in changes:
            data = event.data
            if data is None:
                known = None
                continue
            previous = data["previous_tier"]["id"]
            if known is not None and previous != known:
                yield f"event {event.sequence} changes the tier from {previous}, and the event before changed it to {known}"
            known = data["tier"]["id"]
        if known is not None and known != self._log.customer.tier_id:
            yield f"the last event of a tier changed it to {known}, and the customer has {self._log.customer.tier_id}"

    # -- purchases ---------------------------------------------------------------------------------------------------

    def purchases(self) -> Iterator[str]:
        """A purchase has the sum of its refunds, and lost no more and no fewer points than it earned."""
        refunds: dict[str, list[CheckedRefund]] = defaultdict(list)
        for refund in self._log.refunds:
            refunds[refund.transaction_id].append(refund)
        earned = self._points_by_source("earn")
        taken = self._points_by_source("clawback", "cancel_pending")
        for purchase in self._log.purchases:
            yield from self._purchase(purchase, refunds[purchase.id], earned)
        for refund in self._log.refunds:
            points = -taken[refund.id]
            if points != refund.points_clawed_back and not self._merged:
                yield f"refund {refund.id} took back {refund.points_clawed_back}, and its entries {points}"

    def _purchase(
        self, purchase: CheckedPurchase, refunds: Sequence[CheckedRefund], earned: Mapping[str, int]
    ) -> Iterator[str]:
        name, gone = f"transaction {purchase.id}", purchase.points_clawed_back + purchase.points_shortfall
        if earned[purchase.id] != purchase.points_earned and not self._merged:
            yield f"{name} earned {purchase.points_earned}, and its entry {earned[purchase.id]}"
        for what, said, added in (
            ("refunded", purchase.refunded_amount, sum(each.amount for each in refunds)),
            ("points clawed back", purchase.points_clawed_back, sum(each.points_clawed_back for each in refunds)),
            ("points written off", purchase.points_shortfall, sum(each.points_shortfall for each in refunds)),
        ):
            if said != added:
                yield f"{name} has {said} {what}, and its refunds {added}"
        if gone > purchase.points_earned:
            yield f"{name} earned {purchase.points_earned}, and its refunds took {gone}"
        is_whole = purchase.status == "refunded" and self._log.customer.status == "active"
        if is_whole and gone < purchase.points_earned - self._lost(purchase.id):
            yield f"{name} is refunded and earned {purchase.points_earned}, and its refunds took only {gone}"

    def _points_by_source(self, *types: str) -> Counter[str]:
        points: Counter[str] = Counter()
        for entry in self._log.entries:
            if entry.type in types:
                points[entry.source_id] += entry.points
        return points

    def _lost(self, transaction_id: str) -> int:
        """What expired of the points of a purchase, or was canceled."""
        own = {lot.id for lot in self._log.lots if lot.transaction_id == transaction_id}
        return sum(
            each.points for each in self._log.of_lots if each.lot_id in own and each.kind in ("expire", "cancel")
        )

    # -- redemptions -------------------------------------------------------------------------------------------------

    def redemptions(self) -> Iterator[str]:
        """A redemption has the points of its entry, and no more of them came back than there are."""
        spent, back = self._points_by_source("redeem"), self._points_by_source("redeem_reversal")
        for each in self._log.redemptions:
            if -spent[each.id] != each.points and not self._merged:
                yield f"redemption {each.id} is of {each.points}, and its entry of {-spent[each.id]}"
            if not 0 <= each.points_returned <= each.points:
                yield f"of {each.points} points of redemption {each.id}, {each.points_returned} came back"
            if back[each.id] != each.points_returned and not self._merged:
                yield f"{each.points_returned} points of redemption {each.id} came back, and by its entries {back[each.id]}"

    # -- days --------------------------------------------------------------------------------------------------------

    def days(self) -> Iterator[str]:
        """The days have what happened on them. An account whose time zone changed has days of several."""
        time_zone = self._log.time_zone
        if time_zone is None:
            return
        expected = _days(self._log, time_zone)
        stored = {each.day: each for each in self._log.days}
        for day in sorted({*expected, *stored}):
            for name in (*_COUNTED, *self._qualifying):
                said = getattr(stored[day], name) if day in stored else 0
                if said != expected[day][name]:
                    yield f"day {date_of(day)} has {said} {name}, and what happened on it comes to {expected[day][name]}"

    @property
    def _qualifying(self) -> tuple[str, ...]:
        """Whether the purchases alone explain the points that count toward a tier."""
        others = any(entry.type in ("adjust", "import", *_MERGES) for entry in self._log.entries) or any(
            entry.type == "earn" and entry.source_type != "transaction" for entry in self._log.entries
        )
        is_plain = not others and not self._log.is_merged and all(lot.hold_case_id is None for lot in self._log.lots)
        return ("points_qualifying",) if is_plain else ()


def _days(log: CustomerLog, time_zone: str) -> Mapping[int, Counter[str]]:
    """What purchases, refunds and redemptions add to each day. A refund takes off the day of its purchase."""
    found: dict[int, Counter[str]] = defaultdict(Counter)
    refunds = _by_purchase(log.refunds)
    for purchase in log.purchases:
        own, spend = refunds[purchase.id], _spend_refunded(purchase)
        found[day_of(purchase.occurred_at, time_zone)].update(
            purchases=int(purchase.status != "refunded"),
            spend=purchase.base_amount - spend,
            points_qualifying=purchase.points_earned - sum(map(_accounted, own)),
            refunds=len(own),
            refunded=spend,
        )
    for redemption in log.redemptions:
        found[day_of(redemption.created_at, time_zone)].update(
            redemptions=int(redemption.status in _REDEEMED),
            points_redeemed=redemption.points - redemption.points_returned,
        )
    return found


def _by_purchase(refunds: Iterable[CheckedRefund]) -> Mapping[str, list[CheckedRefund]]:
    found: dict[str, list[CheckedRefund]] = defaultdict(list)
    for refund in refunds:
        found[refund.transaction_id].append(refund)
    return found


def _spend_refunded(purchase: CheckedPurchase) -> int:
    if purchase.status == "completed":
        return 0
    amount = purchase.amount
    return purchase.base_amount * purchase.refunded_amount // amount if amount else purchase.base_amount


def _accounted(refund: CheckedRefund) -> int:
    return refund.points_clawed_back + refund.points_shortfall + refund.points_expired_before
