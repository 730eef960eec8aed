"""Finds what does not add up in the stored log of one customer. Pure.

What is checked can be derived twice: from the entries, from the lots and what was taken out of them, from the events, from the
purchases with their refunds, and from the days. The entries of merged customers, which
stay theirs, are added to those of the customer that has their lots.

What may be missing for a good reason is not reported: events that are older than any retention, and the data of erased ones.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any, Final

from loyalpro.kernel.clock import MS_PER_DAY, UnixMs
from loyalpro.loyalty.customer_log import CheckedPurchase, CheckedRefund, CustomerLog, LoggedEvent
from loyalpro.loyalty.day_check import wrong_days
from loyalpro.loyalty.ledger import Entry, Lot, discrepancies

EVENTS_KEPT_MS: Final = 30 * MS_PER_DAY
"""Events are kept for at least so long."""

_SIGN: Final = {"points.earned": 1, "points.adjusted": 1, "points.redeemed": -1, "points.expired": -1}
_ENROLLED: Final = "customer.created"
_TIER_CHANGED: Final = "customer.tier_changed"
_MERGES: Final = ("merge_in", "merge_out")
_BY_HAND: Final = ("adjust", "import")


def faults(log: CustomerLog, now: UnixMs) -> list[str]:
    """What does not add up, a sentence each; empty when everything does."""
    checker = _Checker(log, now - EVENTS_KEPT_MS)
    return [
        *discrepancies(log.customer.balance, log.entries, log.lots, log.of_lots),
        *checker.lifetimes(),
        *checker.sequences(),
        *checker.rebuilt_lots(),
        *checker.events(),
        *checker.tiers(),
        *checker.purchases(),
        *checker.redemptions(),
        *checker.adjustments(),
        *wrong_days(log),
    ]


def is_tier_known(log: CustomerLog) -> bool:
    """Whether the events say which tier the customer has: none was deleted or erased that has to."""
    return (
        _tier_of(next((each for each in reversed(log.events) if each.type in (_ENROLLED, _TIER_CHANGED)), None))
        is not None
    )


class _Checker:
    """The checks of one customer's log. `kept_since`: every event from then on is stored."""

    def __init__(self, log: CustomerLog, kept_since: UnixMs) -> None:
        self._log = log
        self._kept_since = kept_since
        self._all_entries = [*log.inherited, *log.entries]
        self._entries = {entry.id: entry for entry in self._all_entries}
        self._lots = {lot.id: lot for lot in log.lots}

    # -- lifetimes ---------------------------------------------------------------------------------------------------

    def lifetimes(self) -> Iterator[str]:
        """What was ever credited and redeemed is the sum of the entries that do so. A merged customer hands both on."""
        entries = () if self._log.is_gone else self._all_entries
        credited = sum(each.points for each in entries if _is_credit(each))
        redeemed = -sum(each.points for each in entries if each.type in ("redeem", "redeem_reversal"))
        balance = self._log.customer.balance
        if balance.lifetime_earned != credited:
            yield f"{balance.lifetime_earned} points were ever credited, and by the entries {credited}"
        if balance.lifetime_redeemed != redeemed:
            yield f"{balance.lifetime_redeemed} points were ever redeemed, and by the entries {redeemed}"

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
        if self._log.is_gone:  # its lots are with another customer
            return
        taken: Counter[str] = Counter()
        for each in self._log.of_entries:
            taken[each.entry_id] += each.points
            if each.lot_id not in self._lots:
                yield f"entry {each.entry_id} took points out of lot {each.lot_id}, which the customer does not have"
        credited: Counter[str] = Counter()
        for lot in self._log.lots:
            credited[lot.entry_id] += lot.original
            yield from self._lot(lot)
        for _, entries in groupby(self._all_entries, lambda entry: entry.customer_id):
            yield from self._changes(entries, credited, taken)
        yield from self._merges()

    def _lot(self, lot: Lot) -> Iterator[str]:
        """A lot has the origin of the entry that made it."""
        entry = self._entries.get(lot.entry_id)
        if entry is None:
            yield f"lot {lot.id} comes from entry {lot.entry_id}, which the customer does not have"
            return
        if lot.status == "canceled" and lot.remaining:
            yield f"lot {lot.id} is canceled, and holds {lot.remaining}"
        if lot.earned_at != entry.occurred_at:
            yield f"lot {lot.id} was earned at {lot.earned_at}, and by its entry at {entry.occurred_at}"
        source = entry.source_id if entry.source_type == "transaction" else None
        if entry.type == "earn" and lot.transaction_id != source:
            yield f"lot {lot.id} comes from transaction {lot.transaction_id}, and by its entry from {source}"

    def _merges(self) -> Iterator[str]:
        """What was taken from merged customers is what their successors got."""
        moved: Counter[str] = Counter()
        for entry in self._all_entries:
            if entry.type in _MERGES:
                moved[entry.source_id] += entry.points
        for merged, points in moved.items():
            if points:
                yield f"the merge of {merged} brought in {points} points more than it took out"

    @staticmethod
    def _changes(entries: Iterable[Entry], credited: Mapping[str, int], taken: Mapping[str, int]) -> Iterator[str]:
        held = 0
        for entry in entries:
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
        if entry is None or entry.customer_id != self._log.customer.id:
            yield f"event {event.sequence}, {event.type}, tells of entry {data.get('entry_id')}, which is not there"
            return
        if data["points"] * _SIGN[event.type] != entry.points:
            yield f"event {event.sequence}, {event.type} of {data['points']}, tells of entry {entry.id} of {entry.points}"
        counts = entry.qualifying_day is not None
        if entry.type in _BY_HAND and data.get("counts_toward_tier", counts) != counts:
            yield f"event {event.sequence}, {event.type}, {_counts(not counts)}, and entry {entry.id} {_counts(counts)}"
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
        """Each change of the tier begins where the one before ended, or enrollment; the customer has the last tier."""
        known: str | None = None
        for event in self._log.events:
            if event.type == _TIER_CHANGED and event.data is not None and known is not None:
                previous = event.data["previous_tier"]["id"]
                if previous != known:
                    yield f"event {event.sequence} changes the tier from {previous}, and the event before changed it to {known}"
            if event.type in (_ENROLLED, _TIER_CHANGED):
                known = _tier_of(event)
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
            if points != refund.points_clawed_back:
                yield f"refund {refund.id} took back {refund.points_clawed_back}, and its entries {points}"

    def _purchase(
        self, purchase: CheckedPurchase, refunds: Sequence[CheckedRefund], earned: Mapping[str, int]
    ) -> Iterator[str]:
        name, gone = f"transaction {purchase.id}", purchase.points_clawed_back + purchase.points_shortfall
        if earned[purchase.id] != purchase.points_earned:
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
        for entry in self._all_entries:
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
            if -spent[each.id] != each.points:
                yield f"redemption {each.id} is of {each.points}, and its entry of {-spent[each.id]}"
            if not 0 <= each.points_returned <= each.points:
                yield f"of {each.points} points of redemption {each.id}, {each.points_returned} came back"
            if back[each.id] != each.points_returned:
                yield f"{each.points_returned} points of redemption {each.id} came back, and by its entries {back[each.id]}"

    # -- adjustments -------------------------------------------------------------------------------------------------

    def adjustments(self) -> Iterator[str]:
        """An adjustment has the points of its entry, and both count toward tiers or both do not."""
        for each in self._log.adjustments:
            entry = self._entries.get(each.entry_id)
            points = 0 if entry is None else entry.points
            counts = entry is not None and entry.qualifying_day is not None
            if points != each.points:
                yield f"adjustment {each.id} is of {each.points}, and its entry of {points}"
            if counts != each.counts_toward_tier:
                yield f"adjustment {each.id} {_counts(each.counts_toward_tier)}, and its entry {_counts(counts)}"


def _is_credit(entry: Entry) -> bool:
    """Whether the points count toward the limit of all credits. What writes off a debt does not."""
    by_hand = entry.type == "adjust" and entry.points > 0 and entry.source_type == "adjustment"
    return by_hand or entry.type in ("earn", "import")


def _tier_of(event: LoggedEvent | None) -> str | None:
    """The tier of a customer after its enrollment or after a change of the tier; None without the data of that event."""
    if event is None or event.data is None:
        return None
    shown = event.data["customer"] if event.type == _ENROLLED else event.data
    return str(shown["tier"]["id"])


def _counts(does: bool) -> str:  # noqa: FBT001 - a fact, not an option
    return "counts toward the tier" if does else "does not count toward the tier"
