"""Applies changed tiers to all customers of an account, piece by piece: up at once, down at the next review.

A change of the program stores a job. Its cursor, the id of the last customer, moves in the transaction of each piece, so the
work may stop anywhere and continues from there.
"""

from functools import partial
from typing import Final

from loyalpro.jobs.periodic_job import BATCH_SIZE, PeriodicJob, Piece
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import LockTaken, StoreError
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.entities import Retier
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.program_changes import RETIER
from loyalpro.loyalty.sweeps.sweep import OnFailed

_ACTOR: Final = f"system:{RETIER.name}"


def retier_next(unit: LoyaltyUnit, job: Retier, limit: int = BATCH_SIZE) -> Piece:
    """Apply the tiers to the next customers; nothing when another transaction does it at this moment.

    Emits `customer.tier_changed` with the reason `program_changed` for each customer whose tier changes.
    """
    if not unit.retiers.lock(job):
        return Piece(items=0)
    ids = unit.customers.ids_after(job.account_id, job.cursor, limit)
    if not ids:
        unit.retiers.finish(job, unit.now)
        return Piece(items=1)
    book = Book(unit, job.account_id, ids=ids)
    book.tiers.reevaluate(list(book.wallets))
    book.write()
    unit.retiers.advance(job, ids[-1], len(ids), unit.now)
    return Piece(items=len(ids), more=True)


def skip_next(unit: LoyaltyUnit, job: Retier) -> str | None:
    """Leave out the next customer; its id, or None when another transaction was faster."""
    ids = unit.customers.ids_after(job.account_id, job.cursor, 1) if unit.retiers.lock(job) else []
    if not ids:
        return None
    unit.retiers.advance(job, ids[0], 0, unit.now)
    return ids[0]


def retier_job(units: UnitOfWorkRunner[LoyaltyUnit], every_s: float, on_failed: OnFailed) -> PeriodicJob:
    """The job that does a piece of each change of tiers. A customer that fails is passed over until its review."""

    async def run_piece(_now: UnixMs) -> Piece:
        jobs = await units.read(lambda unit: unit.retiers.unfinished(BATCH_SIZE))
        pieces = [await _next(units, job, on_failed) for job in jobs]
        return Piece(items=sum(piece.items for piece in pieces), more=any(piece.more for piece in pieces))

    return PeriodicJob(RETIER, every_s, run_piece)


async def _next(units: UnitOfWorkRunner[LoyaltyUnit], job: Retier, on_failed: OnFailed) -> Piece:
    """One piece. When it fails, it is tried with one customer, and when that fails, this one is left out."""
    failure: Exception | None = None
    for limit in (BATCH_SIZE, 1):
        try:
            return await units.change(partial(retier_next, job=job, limit=limit), "upkeep", actor=_ACTOR)
        except (StoreError, LockTaken):
            raise
        except Exception as error:  # noqa: BLE001 - reported below; the other customers go on
            failure = error
    skipped = await units.change(partial(skip_next, job=job), "upkeep", actor=_ACTOR)
    if skipped is not None and failure is not None:
        on_failed(RETIER, skipped, failure)
    return Piece(items=1, more=True)
