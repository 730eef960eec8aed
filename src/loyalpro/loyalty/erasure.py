"""Erases the past of deleted customers, one bounded piece at a time: events, then purchases, then refunds and notes.

Each piece is one transaction that moves a cursor, so the work may stop anywhere and continues from there. An event whose
delivery is being sent is left for a later piece: its attempt is stored with the receiver's answer when it ends.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from loyalpro.events.tombstone import tombstone
from loyalpro.jobs.periodic_job import BATCH_SIZE, JobKind, PeriodicJob, Piece
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner
from loyalpro.loyalty.entities import Customer, Erasure, StoredBody
from loyalpro.loyalty.ports import ErasureUnit, LoyaltyUnit

ERASURES: Final = JobKind("erasures")

_EVENTS_PER_PIECE: Final = 50


@record
class ErasurePiece(Piece):
    """What one piece erased; `finished` is the erasure if this piece was its last."""

    finished: Erasure | None = None


def begin_erasure(unit: LoyaltyUnit, customer: Customer) -> None:
    """Have everything erased that the customer's events up to now say. `customer`: as it was before it was deleted."""
    erasure = Erasure(
        customer_id=customer.id,
        account_id=customer.account_id,
        through_sequence=customer.event_sequence,
        event_cursor=None,
        transaction_cursor=None,
        events=0,
        canceled=0,
    )
    unit.erasures.insert(erasure, unit.now)
    unit.wake_job(ERASURES)


def erase_next(unit: ErasureUnit, customer_id: str) -> ErasurePiece:
    """Erase the next piece of a customer's past; nothing when another transaction erases it at this moment."""
    erasure = unit.erasures.lock(customer_id)
    if erasure is None:
        return ErasurePiece(items=0)
    if events := unit.erasures.next_events(erasure, _EVENTS_PER_PIECE):
        return _erase_events(unit, erasure, events)
    if purchases := unit.erasures.erase_purchases(customer_id, erasure.transaction_cursor or "", BATCH_SIZE):
        unit.erasures.update(replace(erasure, transaction_cursor=max(purchases)))
        return ErasurePiece(items=len(purchases), more=True)
    if texts := unit.erasures.erase_texts(customer_id, BATCH_SIZE):
        return ErasurePiece(items=texts, more=True)
    unit.erasures.finish(erasure, unit.now)
    return ErasurePiece(items=1, finished=erasure)


def erasure_job(
    units: UnitOfWorkRunner[ErasureUnit], every_s: float, *, on_finished: Callable[[Erasure], None]
) -> PeriodicJob:
    """The job that erases a piece of the past of each deleted customer. `on_finished` reports each finished erasure."""

    async def run_piece(_now: UnixMs) -> Piece:
        customers = await units.read(lambda unit: unit.erasures.list_running(BATCH_SIZE))
        pieces = [await _erase(units, customer_id) for customer_id in customers]
        for piece in pieces:
            if piece.finished is not None:
                on_finished(piece.finished)
        return Piece(items=sum(piece.items for piece in pieces), more=any(piece.more for piece in pieces))

    return PeriodicJob(ERASURES, every_s, run_piece)


async def _erase(units: UnitOfWorkRunner[ErasureUnit], customer_id: str) -> ErasurePiece:
    return await units.change(lambda unit: erase_next(unit, customer_id), "upkeep")


def _erase_events(unit: ErasureUnit, erasure: Erasure, events: Sequence[StoredBody]) -> ErasurePiece:
    """Erase events up to the first one that is being sent."""
    erased, canceled, cursor = 0, 0, erasure.event_cursor
    for event in events:
        if unit.erasures.is_being_sent(event.event_id):
            break
        canceled += unit.erasures.cancel_deliveries(event.event_id, unit.now)
        unit.erasures.erase_event(StoredBody(event.event_id, tombstone(event.body, unit.now)), unit.now)
        erased, cursor = erased + 1, event.event_id
    unit.erasures.update(
        replace(erasure, event_cursor=cursor, events=erasure.events + erased, canceled=erasure.canceled + canceled)
    )
    return ErasurePiece(items=erased, more=erased == len(events))
