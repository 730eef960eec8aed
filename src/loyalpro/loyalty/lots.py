"""The lots of one customer in memory: which are spent first, what entries take out of them, and when the next one is due."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from loyalpro.kernel.clock import UnixMs
from loyalpro.loyalty.expiry import NEVER, Day, day_of
from loyalpro.loyalty.ledger import Allocation, AllocationKind, Lot, LotStatus


def spending_order(lots: Iterable[Lot]) -> list[Lot]:
    """What expires first, then what was earned first."""
    return sorted(lots, key=lambda lot: (lot.expires_at, lot.earned_at, lot.id))


def held_on(lots: Iterable[Lot], day: Day, time_zone: str) -> int:
    """The points of these lots that fraud cases hold and that were earned on a local day."""
    return sum(
        lot.remaining for lot in lots if lot.hold_case_id is not None and day_of(lot.earned_at, time_zone) == day
    )


class Lots:
    """The lots of a customer, those that an entry made, and the allocations that were made.

    `stored` None: the customer's lots were not read, and only the lots that are added can be used.
    """

    def __init__(self, stored: Iterable[Lot] | None) -> None:
        self._complete = stored is not None
        self._lots: dict[str, Lot] = {}
        self._of_transactions: dict[str | None, list[str]] = {}
        self._new: set[str] = set()
        self._changed: set[str] = set()
        self.allocations: list[Allocation] = []
        self.know(stored or ())

    @property
    def is_complete(self) -> bool:
        """Whether all lots that hold points are here."""
        return self._complete

    @property
    def new(self) -> list[Lot]:
        """Lots that are not stored yet."""
        return [lot for id_, lot in self._lots.items() if id_ in self._new]

    @property
    def changed(self) -> list[Lot]:
        """Stored lots that are to be updated."""
        return [lot for id_, lot in self._lots.items() if id_ in self._changed]

    @property
    def has_changed(self) -> bool:
        """Whether a stored lot is to be updated."""
        return bool(self._changed)

    def add(self, lot: Lot) -> None:
        """A lot that a credit makes."""
        self.know([lot])
        self._new.add(lot.id)

    def know(self, lots: Iterable[Lot]) -> None:
        """Stored lots that were read later, such as lots that hold no points any more. Known ones stay."""
        for lot in lots:
            if lot.id not in self._lots:
                self._lots[lot.id] = lot
                self._of_transactions.setdefault(lot.transaction_id, []).append(lot.id)

    def get(self, lot_id: str) -> Lot | None:
        """A lot that is known here."""
        return self._lots.get(lot_id)

    def current(self, lot: Lot) -> Lot:
        """A lot as it is after what was decided so far."""
        return self._lots[lot.id]

    def holding(self, status: LotStatus) -> list[Lot]:
        """The lots of this status that hold points, in spending order."""
        if not self._complete:
            raise RuntimeError("The book was opened without lots.")
        return spending_order(lot for lot in self._lots.values() if lot.status == status and lot.remaining)

    def of_transaction(self, transaction_id: str) -> list[Lot]:
        """The lots of a purchase that are known here, in spending order."""
        return spending_order(self._lots[id_] for id_ in self._of_transactions.get(transaction_id, ()))

    def update(self, lot: Lot, **fields: Any) -> Lot:
        """Change fields of a lot; the lot as it is then."""
        updated = self._lots[lot.id] = replace(self._lots[lot.id], **fields)
        if lot.id not in self._new:
            self._changed.add(lot.id)
        return updated

    def take(self, lots: Sequence[Lot], points: int, entry_id: str, kind: AllocationKind) -> list[tuple[Lot, int]]:
        """Take points out of these lots, in their order; what was taken out of each. A pending lot left empty is canceled."""
        taken: list[tuple[Lot, int]] = []
        for lot in map(self.current, lots):
            if not points:
                break
            share = min(points, lot.remaining)
            if share:
                remaining = lot.remaining - share
                status: LotStatus = "canceled" if lot.status == "pending" and not remaining else lot.status
                taken.append((self.update(lot, remaining=remaining, status=status), share))
                self.allocations.append(Allocation(entry_id, lot.id, kind, share))
                points -= share
        return taken

    def restore(self, lot: Lot, points: int, entry_id: str) -> Lot:
        """Put points back into a lot."""
        self.allocations.append(Allocation(entry_id, lot.id, "restore", -points))
        return self.update(lot, remaining=self.current(lot).remaining + points)

    @property
    def all(self) -> list[Lot]:
        """Every lot that is known here."""
        return list(self._lots.values())

    def arrive(self, left: "Lots", customer_id: str) -> list[Lot]:
        """The lots of another customer, which does not have them after it, with what was done to them; as they are here."""
        arrived = [replace(lot, customer_id=customer_id) for lot in left.all]
        self.know(arrived)
        self._new |= {lot.id for lot in left.new}
        self._changed |= {lot.id for lot in left.changed}
        self.allocations += left.allocations
        return arrived

    def next_due_at(self, before: UnixMs | None) -> UnixMs | None:
        """No lot becomes active or expires before this instant. `before`: the same for the lots that were not read."""
        due = [instant for lot in self._lots.values() if (instant := due_at(lot)) is not None]
        if not self._complete and before is not None:
            due.append(before)
        return min(due, default=None)


def due_at(lot: Lot) -> UnixMs | None:
    """When a lot becomes active or expires; None for never, and for a lot that is held or holds nothing."""
    if not lot.remaining or lot.status == "canceled":
        return None
    if lot.status == "pending":
        return lot.activates_at
    return lot.expires_at if lot.expires_at < NEVER else None
