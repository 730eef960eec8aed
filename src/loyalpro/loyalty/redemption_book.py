"""The redemptions that a command may change, as they are after what was decided so far, and the return of their points.

A command opens a `Book`, which locks the customers, and then reads the redemptions; so nothing else changes them. It
writes both.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import Conflict, NotFound
from loyalpro.kernel.record import record
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.entities import Redemption, RedemptionStatus
from loyalpro.loyalty.expiry import day_of, day_start
from loyalpro.loyalty.ledger import Entry, Lot
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.redemption_moves import TRANSITIONS, Move, is_overdue, is_to_be_made
from loyalpro.loyalty.wallet import Adjustment, Cause, Wallet, returns

EXTENSION_DAYS: Final = 30
"""How many local days after today returned points are valid whose own date has passed."""


@record
class PutBack:
    """Why points of a redemption come back. `refund_id`: the refund that returns them."""

    reason_code: str
    actor: str
    refund_id: str | None = None


TIMED_OUT: Final = PutBack("reservation_expired", "system:reservations")
"""Why the points of a reservation come back whose time has passed."""


@dataclass(slots=True)
class _Spending:
    """Of each lot, how many points were taken and did not go back into it. `moved`: how many came back in other lots.

    `returns`: how many times points came back.
    """

    entry_id: str
    left: dict[str, int]
    moved: int
    returns: int


class RedemptionBook:
    """Redemptions of customers of a book. Those of customers that are not in the book can be read, and not changed."""

    def __init__(self, unit: LoyaltyUnit, book: Book, found: Iterable[Redemption]) -> None:
        self._unit = unit
        self._book = book
        self._stored = {each.id: each for each in found}
        self._current = dict(self._stored)
        self._spendings: dict[str, _Spending] | None = None
        self._lots: dict[str, Lot] = {}
        self._to_stock: Counter[str] = Counter()

    def get(self, redemption_id: str) -> Redemption | None:
        """A redemption that was read."""
        return self._current.get(redemption_id)

    def of_transaction(self, transaction_id: str) -> list[Redemption]:
        """The redeemed redemptions that a purchase was paid with, also returned ones, oldest first."""
        return [
            each
            for each in sorted(self._current.values(), key=lambda redemption: redemption.id)
            if each.transaction_id == transaction_id and each.status in ("redeemed", "reversed")
        ]

    # -- moves -------------------------------------------------------------------------------------------------------

    def require_capturable(self, redemption_id: str, wallet: Wallet) -> None:
        """Raise unless a purchase of this customer that is not recorded yet can capture the redemption.

        `NotFound` for a redemption of another customer; `Conflict` `redemption_not_reserved` for one that has ended;
        `redemption_has_transaction` for one that another purchase has.
        """
        redemption = self._current.get(redemption_id)
        if redemption is None or redemption.customer_id != wallet.id:
            raise NotFound(f"The customer has no redemption {redemption_id[:64]!r}.", param="redemption_ids")
        is_to_be_made("capture", redemption, self._unit.now)
        if redemption.transaction_id is not None:
            raise _has_transaction(redemption, param="redemption_ids")

    def capture(self, redemption_id: str, transaction_id: str | None) -> Redemption:
        """Redeem what is reserved, and link it to a purchase if one is given. Redeemed points are linked only.

        Raises `Conflict` `redemption_not_reserved`, and `redemption_has_transaction` when another purchase has it.
        """
        redemption = self._current[redemption_id]
        if is_to_be_made("capture", redemption, self._unit.now):
            redemption = replace(redemption, status="redeemed", captured_at=self._unit.now)
        if transaction_id is not None and redemption.transaction_id not in (None, transaction_id):
            raise _has_transaction(redemption, param="transaction_id")
        return self._keep(replace(redemption, transaction_id=transaction_id or redemption.transaction_id))

    def end(self, redemption_id: str, move: Move, why: PutBack) -> Redemption:
        """Cancel, expire or reverse a redemption whose status allows it: all that did not come back yet comes back."""
        redemption = self._current[redemption_id]
        assert redemption.status == TRANSITIONS[move].leaves
        return self._return(redemption, redemption.points - redemption.points_returned, TRANSITIONS[move].becomes, why)

    def put_back(self, redemption_id: str, points: int, why: PutBack) -> Redemption:
        """Return a part of redeemed points, or all that is left: then the redemption is reversed."""
        redemption = self._current[redemption_id]
        left = redemption.points - redemption.points_returned
        assert redemption.status == "redeemed"
        assert 0 < points <= left
        return self._return(redemption, points, "reversed" if points == left else "redeemed", why)

    def restore_for_refund(self, transaction_id: str, points: int, why: PutBack) -> int:
        """Return points of the redemptions that a purchase was paid with, the oldest first; how many came back.

        They are at most what is left of the redemptions. The customer has to be in the book. Emits `points.adjusted` of the
        kind `redemption_reversal` for each redemption that something comes back of.
        """
        wanted = points
        for redemption in self.of_transaction(transaction_id):
            part = min(wanted, redemption.points - redemption.points_returned)
            if part:
                self.put_back(redemption.id, part, why)
                wanted -= part
        return points - wanted

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to write."""
        return self._current != self._stored

    def write(self) -> None:
        """Store what became of the redemptions, and what returned to the stock of rewards. The book is written as well."""
        changed = [(self._stored[id_], each) for id_, each in self._current.items() if each != self._stored[id_]]
        if changed:
            self._unit.redemptions.update(changed)
        if self._to_stock:
            self._unit.rewards.return_to_stock(self._to_stock, self._unit.now)

    # -- the return of points ----------------------------------------------------------------------------------------

    def _return(self, redemption: Redemption, points: int, status: RedemptionStatus, why: PutBack) -> Redemption:
        wallet = self._book.wallet(redemption.customer_id)
        assert wallet is not None, "the customer of a redemption is in the book"
        self._put_back(wallet, redemption, points, why)
        is_over = status != "redeemed"
        wallet.days.add(redemption.day, redemptions=-int(is_over), points_redeemed=-points)
        if is_over and redemption.reward_id is not None:
            self._to_stock[redemption.reward_id] += 1
        return self._keep(
            replace(
                redemption,
                status=status,
                points_returned=redemption.points_returned + points,
                ended_at=self._unit.now if is_over else None,
            )
        )

    def _put_back(self, wallet: Wallet, redemption: Redemption, points: int, why: PutBack) -> None:
        """Give points back to the lots that they came from, and remember which."""
        spending = self._spending(redemption.id)
        wallet.lots.know(self._lots[lot_id] for lot_id in spending.left)
        spent = [(wallet.lots.current(self._lots[lot_id]), left) for lot_id, left in spending.left.items() if left]
        back = returns(spent, spending.moved, points)
        now = self._unit.now
        cause = Cause("redemption", redemption.id, why.actor, now, why.reason_code, part=spending.returns)
        adjustment = Adjustment(
            "redemption_reversal",
            reverses_entry_id=spending.entry_id,
            transaction_id=redemption.transaction_id,
            refund_id=why.refund_id,
            redemption_id=redemption.id,
        )
        wallet.put_back(points, back, cause, adjustment, self._extended_to)
        for lot, part in back:
            if lot.expires_at > now:
                spending.left[lot.id] -= part
            else:
                spending.moved += part
        spending.returns += 1

    @property
    def _extended_to(self) -> UnixMs:
        """Until when points are valid whose lot has expired."""
        rules = self._book.program.rules
        if rules.refunds.restore_expired == "expire_now":
            return self._unit.now
        return day_start(day_of(self._unit.now, rules.time_zone) + EXTENSION_DAYS + 1, rules.time_zone)

    def _spending(self, redemption_id: str) -> _Spending:
        """What a redemption took, and what came back. The first call reads it for all redemptions, in three statements."""
        if self._spendings is None:
            self._spendings = self._read_spendings()
        return self._spendings[redemption_id]

    def _read_spendings(self) -> dict[str, _Spending]:
        ledger = self._unit.ledger
        entries = ledger.entries_of_sources(self._stored)
        allocations = ledger.allocations_of_entries([each.id for each in entries])
        self._lots = {each.id: each for each in ledger.lots({each.lot_id for each in allocations})}
        spendings = {entry.source_id: _Spending(entry.id, {}, 0, 0) for entry in entries if entry.type == "redeem"}
        sources = {entry.id: entry for entry in entries}
        for each in allocations:
            if each.kind in ("spend", "restore"):
                left = spendings[sources[each.entry_id].source_id].left
                left[each.lot_id] = left.get(each.lot_id, 0) + each.points
        for entry in _reversals(entries):
            spendings[entry.source_id].returns += 1
            spendings[entry.source_id].moved += entry.points
        for each in allocations:
            if each.kind == "restore":
                spendings[sources[each.entry_id].source_id].moved += each.points
        return spendings

    def _keep(self, redemption: Redemption) -> Redemption:
        self._current[redemption.id] = redemption
        return redemption


def linked_redemptions(unit: LoyaltyUnit, book: Book, transaction_ids: Collection[str]) -> RedemptionBook:
    """The redemptions that are linked to purchases, for their refunds. The customers of the purchases are in the book."""
    return RedemptionBook(unit, book, unit.redemptions.of_transactions(transaction_ids) if transaction_ids else ())


def named_redemptions(unit: LoyaltyUnit, book: Book, redemption_ids: Collection[str]) -> RedemptionBook:
    """Redemptions by their ids, read in one statement; those that do not exist are left out."""
    found = unit.redemptions.by_ids(book.account_id, redemption_ids) if redemption_ids else ()
    return RedemptionBook(unit, book, found)


def expire_overdue(unit: LoyaltyUnit, book: Book) -> None:
    """Return the points of all reservations of the book's customers whose time has passed; the book has to be written."""
    reserved = _reserved(unit, book)
    _end_all(unit, book, [each for each in reserved if is_overdue(each, unit.now)])


def cancel_reservations(unit: LoyaltyUnit, book: Book, customer_id: str, reason_code: str) -> None:
    """Return the points of all reservations of one of the book's customers; the book has to be written."""
    _end_all(unit, book, [each for each in _reserved(unit, book) if each.customer_id == customer_id], reason_code)


def _reserved(unit: LoyaltyUnit, book: Book) -> list[Redemption]:
    ids = [wallet.id for wallet in book.wallets]
    return unit.redemptions.reserved_of(ids) if ids else []


def _end_all(unit: LoyaltyUnit, book: Book, reservations: list[Redemption], reason_code: str = "") -> None:
    ending = RedemptionBook(unit, book, reservations)
    for each in reservations:
        if is_overdue(each, unit.now):
            ending.end(each.id, "expire", TIMED_OUT)
        else:
            ending.end(each.id, "cancel", PutBack(reason_code, unit.actor))
    ending.write()


def _reversals(entries: Iterable[Entry]) -> Iterable[Entry]:
    return (entry for entry in entries if entry.type == "redeem_reversal")


def _has_transaction(redemption: Redemption, param: str) -> Conflict:
    return Conflict(
        f"{redemption.id} belongs to the purchase {redemption.transaction_id}; a redemption pays for one purchase.",
        code="redemption_has_transaction",
        param=param,
    )
