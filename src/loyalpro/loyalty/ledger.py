"""The ledger of a customer: entries that are only appended, a lot for each credit, and the balance that both add up to.

An entry changes one of two balances; `balance_after` and `pending_after` tell both after it. `balance_after` is what is
available less the debt. `activate` moves points from pending to available, `cancel_pending` takes from pending, an `earn`
changes either, and so does a merge; every other entry changes what is available. So the points of all entries but `activate`
add up to the sum of both balances.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from loyalpro.events.points import AppliedRule
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.loyalty.expiry import Day

MAX_POINTS: Final = 2**53 - 1
"""The most points a customer can ever earn: JSON numbers carry no larger integer."""

EntryType = Literal[
    "earn",
    "redeem",
    "redeem_reversal",
    "clawback",
    "expire",
    "adjust",
    "activate",
    "cancel_pending",
    "import",
    "merge_out",
    "merge_in",
]
LotStatus = Literal["pending", "active", "canceled"]
AllocationKind = Literal["spend", "absorb", "claw", "expire", "cancel", "restore", "merge"]
SourceType = Literal["transaction", "refund", "redemption", "adjustment", "lot", "customer", "import"]


@record
class Balance:
    """What a customer has. While there is debt, nothing is available: later credits repay the debt first."""

    available: int = 0
    pending: int = 0
    debt: int = 0
    lifetime_earned: int = 0
    lifetime_redeemed: int = 0

    @property
    def net(self) -> int:
        """Available less debt."""
        return self.available - self.debt


@record
class Entry:
    """One line of the ledger. `points` is signed; `balance_after` is net of debt. (source, type, part) is unique.

    `qualifying_day`: the local day on which the points count toward tiers. None: they do not count, or they are those of a
    purchase, which count with it, net of its refunds.
    """

    id: str
    account_id: str
    customer_id: str
    sequence: int
    type: EntryType
    points: int
    balance_after: int
    pending_after: int
    source_type: SourceType
    source_id: str
    actor: str
    rules: tuple[AppliedRule, ...]
    occurred_at: UnixMs
    created_at: UnixMs
    part: int = 0
    reverses_entry_id: str | None = None
    reason_code: str | None = None
    note: str | None = None
    qualifying_day: Day | None = None


@record
class Lot:
    """What remains of one credit, and until when. `expires_at` is `expiry.NEVER` for points that do not expire.

    A pending lot without `activates_at` stays pending until it is released. `hold_case_id`: the first fraud case that holds it.
    """

    id: str
    account_id: str
    customer_id: str
    entry_id: str
    transaction_id: str | None
    hold_case_id: str | None
    original: int
    remaining: int
    earned_at: UnixMs
    activates_at: UnixMs | None
    expires_at: UnixMs
    status: LotStatus
    created_at: UnixMs


@record
class Allocation:
    """The points that an entry took out of a lot; negative where it put points back (`restore`).

    A credit that repays debt takes out of its own lot (`absorb`).
    """

    entry_id: str
    lot_id: str
    kind: AllocationKind
    points: int


@record
class LedgerPosition:
    """The last entry of a customer up to some instant: its sequence, 0 if there is none, and the balances after it."""

    sequence: int = 0
    balance_after: int = 0
    pending_after: int = 0


@record
class EntryTotal:
    """The entries of one type: how many, and the sum of their points."""

    type: EntryType
    entries: int
    points: int


@record
class EntryCause:
    """The purchase, refund or redemption that caused an entry.

    `transaction_id`, `external_id`: of the purchase. `amount`: of the purchase or the refund, in minor units. `reward`: the
    name of what a redemption was for.
    """

    id: str
    transaction_id: str | None
    external_id: str | None
    amount: int | None
    currency: str | None
    reward: str | None


def discrepancies(
    balance: Balance, entries: Sequence[Entry], lots: Sequence[Lot], allocations: Sequence[Allocation]
) -> list[str]:
    """What does not add up in the ledger of one customer, in words; empty when everything does. `entries`: oldest first."""
    return [
        *_of_entries(entries),
        *_of_balance(balance, entries, lots),
        *_of_lots(lots, allocations),
    ]


def _of_entries(entries: Sequence[Entry]) -> Iterator[str]:
    """Sequences are 1, 2, 3 ..., and each entry continues the balances of the one before."""
    net = pending = 0
    for expected, entry in enumerate(entries, 1):
        if entry.sequence != expected:
            yield f"entry {entry.id} has sequence {entry.sequence}, expected {expected}"
        if (entry.balance_after - net, entry.pending_after - pending) not in _moves(entry):
            yield (
                f"entry {entry.id}, {entry.type} of {entry.points}, says {entry.balance_after} and {entry.pending_after}"
                f" after it, and {net} and {pending} were before it"
            )
        net, pending = entry.balance_after, entry.pending_after


def _moves(entry: Entry) -> set[tuple[int, int]]:
    """The changes of the net and the pending balance that an entry may make."""
    points = entry.points
    if entry.type == "activate":
        return {(points, -points)}
    if entry.type == "cancel_pending":
        return {(0, points)}
    return {(points, 0), (0, points)} if entry.type in ("earn", "merge_in", "merge_out") else {(points, 0)}


def _of_balance(balance: Balance, entries: Sequence[Entry], lots: Sequence[Lot]) -> Iterator[str]:
    net, pending = (entries[-1].balance_after, entries[-1].pending_after) if entries else (0, 0)
    if (net, pending) != (balance.net, balance.pending):
        yield f"the entries end with {net} and {pending}, the balance says {balance.net} and {balance.pending}"
    if min(balance.available, balance.pending, balance.debt) < 0 or (balance.debt and balance.available):
        yield f"the balance has {balance.available} available, {balance.pending} pending and a debt of {balance.debt}"
    for status, expected in (("active", balance.available), ("pending", balance.pending)):
        remaining = sum(lot.remaining for lot in lots if lot.status == status)
        if remaining != expected:
            yield f"the {status} lots hold {remaining}, the balance says {expected}"


def _of_lots(lots: Sequence[Lot], allocations: Sequence[Allocation]) -> Iterator[str]:
    """What a lot held at first is what remains and what was taken out."""
    taken: Counter[str] = Counter()
    for each in allocations:
        taken[each.lot_id] += each.points
    for lot in lots:
        if not 0 <= lot.remaining == lot.original - taken[lot.id]:
            yield f"lot {lot.id} had {lot.original}, {taken[lot.id]} were taken out, and it holds {lot.remaining}"
