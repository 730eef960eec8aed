"""Points: an append-only ledger, a lot for each credit, and a balance that is always the fold of the ledger.

An entry's points are in one of two heaps, and `balance_after` and `pending_after` say how high both are after it. What is
earned goes to either; `cancel_pending` takes from what is pending, `activate` moves from there to what counts, and all
others change what counts. So the points of all entries but `activate` add up to both heaps together.
"""

from typing import Any, Final

from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.record import record

MOST_POINTS: Final = 2**53 - 1
"""More could not be said in JSON."""


@record
class Balance:
    """What a customer has. While there is debt, nothing is available: later credits repay it first."""

    available: int = 0
    pending: int = 0
    debt: int = 0
    lifetime_earned: int = 0
    lifetime_redeemed: int = 0

    @property
    def net(self) -> int:
        """Available less debt: what the ledger says that counts."""
        return self.available - self.debt


@record
class Entry:
    """One line of the ledger. `points` is signed; `balance_after` is net of debt."""

    id: str
    customer_id: str
    sequence: int
    type: str
    points: int
    balance_after: int
    pending_after: int
    source_type: str
    source_id: str
    actor: str
    rules: tuple[dict[str, Any], ...]
    occurred_at: UnixMs
    created_at: UnixMs
    part: int = 0
    reverses_entry_id: str | None = None
    reason_code: str | None = None
    note: str | None = None


@record
class Lot:
    """What is left of one credit, and until when."""

    id: str
    customer_id: str
    entry_id: str
    original: int
    remaining: int
    earned_at: UnixMs
    activates_at: UnixMs | None
    expires_at: UnixMs | None
    status: str
    created_at: UnixMs


@record
class Credit:
    """What a credit does: the new balance, and how it splits between old debt and new points."""

    balance: Balance
    points: int
    repaid_debt: int

    @property
    def remaining(self) -> int:
        """What the new lot holds."""
        return self.points - self.repaid_debt


def credit(balance: Balance, points: int) -> Credit:
    """Add earned points: debt is repaid first, the rest can be spent."""
    if balance.lifetime_earned + points > MOST_POINTS:
        raise InvalidInput(
            "The customer would have more points than can be counted.", code="points_limit", param="amount"
        )
    repaid = min(balance.debt, points)
    after = Balance(
        available=balance.available + points - repaid,
        pending=balance.pending,
        debt=balance.debt - repaid,
        lifetime_earned=balance.lifetime_earned + points,
        lifetime_redeemed=balance.lifetime_redeemed,
    )
    return Credit(after, points, repaid)


def discrepancies(balance: Balance, entries: list[Entry], lots: list[Lot]) -> list[str]:
    """What does not add up, in words; nothing when all is well. `entries` are in order, oldest first."""
    found = []
    total = net = pending = 0
    for expected, entry in enumerate(entries, 1):
        total += 0 if entry.type == "activate" else entry.points
        net, pending = entry.balance_after, entry.pending_after
        if entry.sequence != expected:
            found.append(f"entry {entry.id} has sequence {entry.sequence}, expected {expected}")
        if net + pending != total:
            found.append(f"entry {entry.id} says {net} and {pending} after it, the entries up to it add up to {total}")
    if (net, pending) != (balance.net, balance.pending):
        found.append(f"the entries end with {net} and {pending}, the balance says {balance.net} and {balance.pending}")
    for status, expected in (("active", balance.available), ("pending", balance.pending)):
        remaining = sum(lot.remaining for lot in lots if lot.status == status)
        if remaining != expected:
            found.append(f"the {status} lots hold {remaining}, the balance says {expected}")
    return found


def entry_view(entry: Entry) -> dict[str, Any]:
    """A ledger entry as the API shows it."""
    return {
        "id": entry.id,
        "sequence": entry.sequence,
        "type": entry.type,
        "points": entry.points,
        "balance_after": entry.balance_after,
        "pending_after": entry.pending_after,
        "source": {"type": entry.source_type, "id": entry.source_id},
        "rules": list(entry.rules),
        "reason_code": entry.reason_code,
        "note": entry.note,
        "actor": entry.actor,
        "occurred_at": rfc3339(entry.occurred_at),
        "created_at": rfc3339(entry.created_at),
    }


def lot_view(lot: Lot) -> dict[str, Any]:
    """A lot as the API shows it."""
    return {
        "id": lot.id,
        "entry_id": lot.entry_id,
        "original": lot.original,
        "remaining": lot.remaining,
        "status": lot.status,
        "earned_at": rfc3339(lot.earned_at),
        "activates_at": None if lot.activates_at is None else rfc3339(lot.activates_at),
        "expires_at": None if lot.expires_at is None else rfc3339(lot.expires_at),
    }
