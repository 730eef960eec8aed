"""The loyalty program with one mistake at a time: the checks of `program_model` have to find every one of them.

This module names private functions of the program. A mutant names functions, not source text, so the type checker finds a
changed name.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from loyalpro.kernel.clock import MS_PER_DAY
from loyalpro.loyalty import refund_math
from loyalpro.loyalty.book import Book, _EventBuffer
from loyalpro.loyalty.days import Days
from loyalpro.loyalty.fraud.resolution import _release, _settle_lot
from loyalpro.loyalty.ledger import Lot
from loyalpro.loyalty.lots import Lots, due_at, spending_order
from loyalpro.loyalty.recording import _Recording, _replayed
from loyalpro.loyalty.redemption_book import expire_overdue
from loyalpro.loyalty.redemption_moves import is_overdue, is_to_be_made
from loyalpro.loyalty.refund_decisions import refunded
from loyalpro.loyalty.tier_moves import TierMoves
from loyalpro.loyalty.wallet import Wallet
from loyalpro.storage.tables.customer_moves import CustomerMoveTables
from loyalpro.storage.tables.customers import CustomerTables
from loyalpro.storage.tables.ledger import LedgerTables
from simulation.mutation import Mutant, wrong

Original = Callable[..., Any]


def _nothing(_: Original, *__: object, **___: object) -> None:
    """A step that is forgotten."""


def _last_first(original: Original, lots: Any) -> list[Lot]:
    found: list[Lot] = original(lots)
    return found[::-1]


def _take_unwritten(original: Original, lots: Lots, *args: Any) -> Any:
    before = len(lots.allocations)
    taken = original(lots, *args)
    del lots.allocations[before:]
    return taken


def _restore_unwritten(original: Original, lots: Lots, *args: Any) -> Any:
    restored = original(lots, *args)
    lots.allocations.pop()
    return restored


def _debt_stays(original: Original, wallet: Wallet, lot: Lot, cause: Any) -> None:
    debt = wallet.balance.debt
    wallet.balance = replace(wallet.balance, debt=0)
    original(wallet, lot, cause)
    wallet.balance = replace(wallet.balance, debt=debt)


def _twice_the_points(original: Original, wallet: Wallet, points: int, *args: Any, **fields: Any) -> Any:
    return original(wallet, 2 * points, *args, **fields)


def _always(_: Original, *__: object) -> bool:
    return True


def _never(_: Original, *__: object) -> bool:
    return False


def _not_due(_: Original, __: Lot) -> None:
    return None


def _forgets_what_was_taken(_: Original, target: int, lost: int, __: int) -> int:
    return max(0, target - lost)


def _one_too_few(original: Original, *args: Any) -> int:
    return max(0, int(original(*args)) - 1)


def _one_too_many(original: Original, *args: Any) -> int:
    return int(original(*args)) + 1


def _same_amount(original: Original, purchase: Any, refund: Any) -> Any:
    return replace(original(purchase, refund), refunded_amount=purchase.refunded_amount)


def _without_days(_: Original, __: Book) -> Sequence[Any]:
    return ()


def _forgets_refunds(original: Original, days: Days, day: int, **counted: int) -> None:
    if not counted.get("refunds"):
        original(days, day, **counted)


def _emits_twice(original: Original, buffer: _EventBuffer) -> None:
    buffer._kept.extend(buffer._kept[:1])
    original(buffer)


def _without_pending(original: Original, wallet: Wallet, estate: Any, cause: Any) -> None:
    original(wallet, replace(estate, pending=0), cause)


def _keeps_the_lots(original: Original, wallet: Wallet, cause: Any) -> Any:
    return replace(original(wallet, cause), lots=Lots(()))


def _forfeits_what_is_available(_: Original, wallet: Wallet, cause: Any) -> int:
    pending, wallet.balance = wallet.balance.pending, replace(wallet.balance, pending=0)
    lost: int = _FORFEIT(wallet, cause)
    wallet.balance = replace(wallet.balance, pending=pending)
    return lost


_FORFEIT = Wallet.forfeit


def _releases_always(original: Original, unit: Any, book: Any, wallet: Any, lot: Any, case: Any, _: Any) -> None:
    original(unit, book, wallet, lot, replace(case, status="false_positive"), ())


def _silent(original: Original, moves: TierMoves, wallet: Wallet, *args: Any) -> None:
    with wallet.holding_events():
        original(moves, wallet, *args)


def _counts_by_hand_nothing(original: Original, days: Days, day: int, **counted: int) -> None:
    if counted.keys() != {"points_qualifying"} or counted["points_qualifying"] > 0:
        original(days, day, **counted)


def _qualifies_never(original: Original, *args: Any, qualifies: bool = False, **fields: Any) -> Any:
    return original(*args, **fields)


def _loses_points_of_days(original: Original, moves: CustomerMoveTables, gone: str, into: str) -> None:
    moves._connection.execute("UPDATE customer_days SET points_qualifying = 0 WHERE customer_id = ?", (gone,))
    original(moves, gone, into)


def _counts_held_points(
    original: Original, recording: Any, purchase: Any, sale: Any, wallet: Wallet, *args: Any
) -> None:
    original(recording, purchase, sale, wallet, *args)
    if args[-1] is not None:
        wallet.days.add(sale.occurred_at // MS_PER_DAY, points_qualifying=sale.points_earned)


def _releases_uncounted(original: Original, unit: Any, book: Any, wallet: Wallet, lot: Lot, cause: Any) -> None:
    wallet.days.add(lot.earned_at // MS_PER_DAY, points_qualifying=-lot.remaining)
    original(unit, book, wallet, lot, cause)


MUTANTS: Sequence[Mutant] = (
    Mutant("points that expire last are spent first", 13, (wrong(spending_order, _last_first),)),
    Mutant("points are taken without an allocation", 2, (wrong(Lots.take, _take_unwritten),)),
    Mutant("points are put back without an allocation", 9, (wrong(Lots.restore, _restore_unwritten),)),
    Mutant("an activation does not repay debt", 36, (wrong(Wallet.activate, _debt_stays),)),
    Mutant("nothing that is due is settled", 46, (wrong(Wallet.settle, _nothing),)),
    Mutant("no lot is ever due", 46, (wrong(due_at, _not_due),)),
    Mutant("points of an old purchase stay", 2, (wrong(Wallet._expire_if_past, _nothing),)),
    Mutant("a refund takes twice the points", 4, (wrong(Wallet.claw_back, _twice_the_points),)),
    Mutant("a refund forgets what refunds took before", 40, (wrong(refund_math.need, _forgets_what_was_taken),)),
    Mutant("a full refund leaves a point", 4, (wrong(refund_math.target, _one_too_few),)),
    Mutant("a refund takes a point too many", 0, (wrong(refund_math.target, _one_too_many),)),
    Mutant("a refund does not change its purchase", 0, (wrong(refunded, _same_amount),)),
    Mutant("a refund does not change the day", 0, (wrong(Days.add, _forgets_refunds),)),
    Mutant("days are not written", 0, (wrong(Book._days, _without_days),)),
    Mutant("a redemption ends twice", 9, (wrong(is_to_be_made, _always),)),
    Mutant("no reservation times out", 9, (wrong(is_overdue, _never),)),
    Mutant("a command does not end overdue reservations", 22, (wrong(expire_overdue, _nothing),)),
    Mutant("a merge loses pending points", 98, (wrong(Wallet.move_in, _without_pending),)),
    Mutant("a merge leaves the lots", 43, (wrong(Wallet.move_out, _keeps_the_lots),)),
    Mutant("a deletion leaves pending points", 209, (wrong(Wallet.forfeit, _forfeits_what_is_available),)),
    Mutant("a confirmed case releases its points", 33, (wrong(_settle_lot, _releases_always),)),
    Mutant("an event is emitted twice", 0, (wrong(_EventBuffer.release, _emits_twice),)),
    Mutant("a change of the tier has no event", 4, (wrong(TierMoves._move, _silent),)),
    Mutant("a repeated purchase is recorded again", 0, (wrong(_replayed, _nothing),)),
    Mutant("what remains of lots is not written", 2, (wrong(LedgerTables.update_lots, _nothing),)),
    Mutant("the state of customers is not written", 0, (wrong(CustomerTables.update_state, _nothing),)),
    Mutant("the points of customers are not written", 0, (wrong(CustomerTables.update_points, _nothing),)),
    Mutant("points taken by hand stay on their day", 2, (wrong(Days.add, _counts_by_hand_nothing),)),
    Mutant("points by hand never count toward tiers", 2, (wrong(Wallet._post, _qualifies_never),)),
    Mutant("a merge loses the points of days", 4, (wrong(CustomerMoveTables.move, _loses_points_of_days),)),
    Mutant("held points count toward tiers", 33, (wrong(_Recording._complete, _counts_held_points),)),
    Mutant("released points do not count toward tiers", 325, (wrong(_release, _releases_uncounted),)),
)
