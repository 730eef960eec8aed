"""Commands about one pending lot: make its points available before their time, or cancel them."""

from loyalpro.kernel.errors import Conflict, NotFound
from loyalpro.kernel.record import record
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.ledger import Lot
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.wallet import Adjustment, Cause, Wallet


@record
class ChangeLot:
    """A pending lot to activate or cancel."""

    account_id: str
    lot_id: str


def activate_lot(unit: LoyaltyUnit, command: ChangeLot) -> Lot:
    """Make the points of a pending lot available now; they repay debt first, and expire at once if their date has passed.

    No event shows it. A lot that is active already is returned as it is. Raises `NotFound` `lot_not_found`, and `Conflict`
    `lot_not_pending` for a canceled lot and `lot_held` for a lot that a fraud case holds.
    """
    book, wallet, lot = _opened(unit, command)
    if lot.status == "active":
        return lot
    _require_pending(lot)
    wallet.activate(lot, Cause("lot", lot.id, unit.actor, unit.now))
    wallet.settle()
    book.write()
    unit.audit(command.account_id, "lot.activated", lot.id)
    return wallet.lots.current(lot)


def cancel_lot(unit: LoyaltyUnit, command: ChangeLot) -> Lot:
    """Cancel what a pending lot holds. Emits `points.adjusted` of the kind `pending_canceled`.

    What the purchase has counted toward the tier stays. A lot that is canceled already is returned as it is. Raises `NotFound`
    `lot_not_found`, and `Conflict` `lot_not_pending` for an active lot and `lot_held` for a lot that a fraud case holds.
    """
    book, wallet, lot = _opened(unit, command)
    if lot.status == "canceled":
        return lot
    _require_pending(lot)
    adjustment = Adjustment("pending_canceled", transaction_id=lot.transaction_id, reverses_entry_id=lot.entry_id)
    wallet.cancel(lot, Cause("lot", lot.id, unit.actor, unit.now), adjustment)
    book.write()
    unit.audit(command.account_id, "lot.canceled", lot.id)
    return wallet.lots.current(lot)


def _opened(unit: LoyaltyUnit, command: ChangeLot) -> tuple[Book, Wallet, Lot]:
    """The lot under the lock of its customer, as it is after what is due was settled."""
    unlocked = _found(unit, command)
    book = Book(unit, command.account_id, ids=[unlocked.customer_id], with_lots=True)
    wallet = book.wallet(unlocked.customer_id)
    if wallet is None:
        raise _unknown(command.lot_id)
    wallet.lots.know([_found(unit, command)])
    lot = wallet.lots.get(command.lot_id)
    if lot is None or lot.customer_id != wallet.id:
        raise _unknown(command.lot_id)
    return book, wallet, lot


def _found(unit: LoyaltyUnit, command: ChangeLot) -> Lot:
    lots = [each for each in unit.ledger.lots([command.lot_id]) if each.account_id == command.account_id]
    if not lots:
        raise _unknown(command.lot_id)
    return lots[0]


def _require_pending(lot: Lot) -> None:
    if lot.status != "pending":
        raise Conflict(
            f"The lot is {lot.status}; only a pending lot can be activated or canceled.",
            code="lot_not_pending",
            param="id",
        )
    if lot.hold_case_id is not None:
        raise Conflict(
            f"The fraud case {lot.hold_case_id} holds the lot; resolve the case instead.", code="lot_held", param="id"
        )


def _unknown(lot_id: str) -> NotFound:
    return NotFound(f"There is no lot {lot_id} of an active customer.", code="lot_not_found", param="id")
