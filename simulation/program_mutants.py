"""Mutants of the loyalty program that nothing but faults and other processes reveal. The checker has to find every one.

Like `simulation.mutants`, this module names private functions of the product.
"""

from collections.abc import Callable, Sequence
from typing import Any

from loyalpro.jobs.periodic_job import Piece
from loyalpro.kernel.errors import StoreError
from loyalpro.kernel.unit_of_work import SYSTEM, WriterName
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.bulk.imports import Imported, Imports, _count_trial, import_piece, prepare
from loyalpro.loyalty.entities import Job
from loyalpro.loyalty.redemption_book import TIMED_OUT, named_redemptions
from loyalpro.loyalty.redemptions import ExpireReservations, expire_reservations
from loyalpro.loyalty.sweeps.reservations import RESERVATIONS
from loyalpro.loyalty.sweeps.settling import EXPIRY
from loyalpro.loyalty.sweeps.sweep import Sweep
from loyalpro.storage.connection import Connection
from loyalpro.storage.tables.adjustments import AdjustmentTables
from loyalpro.storage.tables.jobs import JobTables
from loyalpro.storage.tables.redemptions import RedemptionTables
from loyalpro.storage.tables.refunds import RefundTables
from loyalpro.storage.tables.transactions import TransactionTables
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner, UnitOfWork
from simulation.mutation import Mutant, wrong

Original = Callable[..., Any]


async def _settle_what_was_read(original: Original, sweep: Sweep[Any], account_id: str, ids: Sequence[str]) -> int:
    """The book is opened by one transaction and written by the next."""
    if sweep._kind is not EXPIRY:
        return int(await original(sweep, account_id, ids))
    book = await sweep._units.read(lambda unit: Book(unit, account_id, ids=ids))

    def write(unit: UnitOfWork) -> int:
        book._unit = book._events._unit = unit
        settled = sum(wallet.is_changed for wallet in book.wallets)
        book.write()
        return settled

    return int(await sweep._units.change(write, "upkeep"))


async def _take_off_first(original: Original, sweep: Sweep[Any], account_id: str, ids: Sequence[str]) -> int:
    """Customers are taken off the list of those that are due in a transaction before the one that settles them."""
    if sweep._kind is not EXPIRY:
        return int(await original(sweep, account_id, ids))

    def take_off(unit: UnitOfWork) -> dict[str, int]:
        due = {}
        for id_ in ids:
            [(due[id_],)] = unit.connection.execute("SELECT next_due_at FROM customers WHERE id = ?", (id_,))
            unit.connection.execute("UPDATE customers SET next_due_at = NULL WHERE id = ?", (id_,))
        return due

    def settle(unit: UnitOfWork) -> int:
        for id_, at in due.items():
            unit.connection.execute("UPDATE customers SET next_due_at = ? WHERE id = ?", (at, id_))
        return sweep._change(unit, account_id, ids)

    due = await sweep._units.change(take_off, "upkeep")
    return int(await sweep._units.change(settle, "upkeep"))


async def _end_first(original: Original, sweep: Sweep[Any], account_id: str, ids: Sequence[str]) -> int:
    """Reservations end in a transaction before the one that returns their points."""
    if sweep._kind is not RESERVATIONS:
        return int(await original(sweep, account_id, ids))

    def end(unit: UnitOfWork) -> list[str]:
        return [
            id_
            for id_ in ids
            if unit.connection.change(
                "UPDATE redemptions SET status = 'expired', points_returned = points WHERE id = ? AND status = 'reserved'",
                (id_,),
            )
        ]

    def give_back(unit: UnitOfWork) -> int:
        for id_ in ended:
            unit.connection.execute(
                "UPDATE redemptions SET status = 'reserved', points_returned = 0 WHERE id = ?", (id_,)
            )
        return sweep._change(unit, account_id, ended)

    ended = await sweep._units.change(end, "upkeep")
    return int(await sweep._units.change(give_back, "upkeep"))


def _expire_what_was_found(_: Original, unit: UnitOfWork, command: ExpireReservations) -> int:
    """What was overdue when the sweep looked is ended, also when another process was faster."""
    named = unit.redemptions.by_ids(command.account_id, command.redemption_ids)
    book = Book(unit, command.account_id, ids={each.customer_id for each in named})
    opened = named_redemptions(unit, book, command.redemption_ids)
    found = [each for each in named if book.wallet(each.customer_id) is not None]
    for each in found:
        opened._return(each, each.points, "expired", TIMED_OUT)
    opened.write()
    book.write()
    return len(found)


async def _give_up(original: Original, sweep: Sweep[Any], account_id: str, ids: Sequence[str]) -> int:
    """What the database failed to change once is not tried again by this process."""
    failed: set[str] = vars(sweep).setdefault("failed", set())
    left = [id_ for id_ in ids if id_ not in failed]
    try:
        return int(await original(sweep, account_id, left)) if left else 0
    except StoreError:
        failed.update(left)
        return 0


async def _emit_later(
    _: Original,
    runner: DatabaseUnitOfWorkRunner,
    work: Callable[[UnitOfWork], Any],
    writer: WriterName = "ingest",
    *,
    actor: str = SYSTEM,
) -> Any:
    """The events of a change are committed after it."""

    def change(connection: Connection) -> tuple[Any, UnitOfWork]:
        unit = UnitOfWork(connection, runner._tools, actor=actor)
        return work(unit), unit

    result, unit = await runner._database.write(change, writer)
    await runner._database.write(lambda _: unit.outbox.flush(), writer)
    return result


async def _move_cursor_later(original: Original, imports: Imports, job: Job) -> Piece:
    """The cursor of an import moves in a transaction after the one that takes over its rows."""
    content = await imports._runner.read(lambda unit: unit.jobs.piece(job.id, int(job.cursor or 0)))
    if content is None:
        piece: Piece = await original(imports, job)
        return piece
    prepared = prepare(job, content, imports._formats)
    imported: Imported = await imports._runner.change(lambda unit: import_piece(unit, job, prepared), actor=job.actor)
    await imports._runner.change(lambda unit: _count_trial(unit, job, imported), actor=job.actor)
    return Piece(items=imported.done, more=True)


def _always(_: Original, *__: object) -> bool:
    """Nobody else works on it."""
    return True


def _none(_: Original, *__: object) -> None:
    """Nothing is found."""


def _no_rows(_: Original, *__: object) -> list[Any]:
    """Nothing is found."""
    return []


# generic methods, of which the type checker compares the names only
_TRANSACTION: Original = Sweep._transaction
_CHANGE_ALL: Original = Sweep._change_all
_CHANGE: Original = DatabaseUnitOfWorkRunner.change

PROGRAM_MUTANTS: Sequence[Mutant] = (
    Mutant("a sweep settles what it read before the lock", 0, (wrong(_TRANSACTION, _settle_what_was_read),)),
    Mutant("a sweep takes customers off its list first", 11, (wrong(_TRANSACTION, _take_off_first),)),
    Mutant("a reservation ends before its points return", 8, (wrong(_TRANSACTION, _end_first),)),
    Mutant("a sweep ends a reservation that has ended", 59, (wrong(expire_reservations, _expire_what_was_found),)),
    Mutant("a sweep gives up what failed once", 145, (wrong(_CHANGE_ALL, _give_up),)),
    Mutant("events are committed after their change", 0, (wrong(_CHANGE, _emit_later),)),
    Mutant("an import moves its cursor after its rows", 5, (wrong(Imports.run_piece, _move_cursor_later),)),
    Mutant("two processes continue an import from one place", 12, (wrong(JobTables.lock, _always),)),
    Mutant("a repeated adjustment is not recognized", 14, (wrong(AdjustmentTables.by_external_id, _none),)),
    Mutant("a repeated redemption is not recognized", 5, (wrong(RedemptionTables.by_external_id, _none),)),
    Mutant("a repeated refund is not recognized", 5, (wrong(RefundTables.by_external_ids, _no_rows),)),
    Mutant("a repeated purchase is not recognized", 0, (wrong(TransactionTables.by_external_ids, _no_rows),)),
)
