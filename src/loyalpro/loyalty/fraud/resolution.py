"""How cases end: a person resolves one, or it lapses; then the points that it held are released or canceled.

Points that several cases hold are released when the last of them ends well, and canceled when any of them is confirmed. A case
may hold the points of many customers, so it is settled in pieces: it is closed with the first lots, and a job does the rest.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final, Literal

from loyalpro.jobs.periodic_job import BATCH_SIZE, JobKind, PeriodicJob, Piece, in_transaction
from loyalpro.kernel.errors import InvalidInput, NotFound
from loyalpro.kernel.record import record
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner
from loyalpro.loyalty.book import Book
from loyalpro.loyalty.details import change_details
from loyalpro.loyalty.expiry import activates_at, day_of
from loyalpro.loyalty.fraud.cases import RELEASE_VALIDITY, CaseStatus, FraudCase, Resolution, closed, lapses_before
from loyalpro.loyalty.fraud.durations import DAY, DurationMs
from loyalpro.loyalty.fraud.ports import FraudUnit
from loyalpro.loyalty.ledger import Lot
from loyalpro.loyalty.wallet import Adjustment, Cause, Wallet

FRAUD_CASES: Final = JobKind("fraud_cases")

SEEN_KEPT: Final[DurationMs] = 91 * DAY
"""For how long it is kept with which customers a value was seen: a day more than the longest window of a rule."""

_DUTY: Final = "system:fraud"
"""The actor of a case that lapses."""


_CASES_PER_PIECE: Final = 20
"""Each of them may settle a batch of lots."""


@record
class ResolveCase:
    """A case to resolve. `block_earning`, `block_redeeming`: what the customer may not do any more, of a confirmed case."""

    account_id: str
    case_id: str
    resolution: Literal["confirmed", "false_positive"]
    note: str | None = None
    block_earning: bool = False
    block_redeeming: bool = False


@record
class GetCase:
    """A case to read."""

    account_id: str
    case_id: str


@record
class ListCases:
    """Cases to read, newest first: those before `before_id` that match every filter."""

    account_id: str
    status: CaseStatus | None
    rule_code: str | None
    customer_id: str | None
    before_id: str | None
    limit: int


def get_case(unit: FraudUnit, command: GetCase) -> FraudCase:
    """One case. Raises `NotFound`."""
    case = unit.fraud.get_case(command.account_id, command.case_id)
    if case is None:
        raise NotFound(f"There is no fraud case {command.case_id}.", param="id")
    return case


def list_cases(unit: FraudUnit, command: ListCases) -> list[FraudCase]:
    """Cases, newest first."""
    found = unit.fraud.list_cases(
        command.account_id,
        command.status,
        command.rule_code,
        command.customer_id,
        command.before_id,
        command.limit,
    )
    return list(found)


def resolve_case(unit: FraudUnit, command: ResolveCase) -> FraudCase:
    """Close an open case, and settle what it held.

    Emits `customer.updated` when it blocks the customer of the case, and `points.adjusted` for points that are canceled.
    Raises `InvalidInput` for a block of a case that is not confirmed, `NotFound`, and `Conflict` `fraud_case_closed`.
    """
    if (command.block_earning or command.block_redeeming) and command.resolution != "confirmed":
        raise InvalidInput(
            "Only a confirmed case can block its customer; leave the blocks out, or confirm the case.",
            code="invalid_field",
            param="block_earning" if command.block_earning else "block_redeeming",
        )
    case = get_case(unit, GetCase(command.account_id, command.case_id))
    blocks = {
        name: True
        for name, is_set in (("earning_blocked", command.block_earning), ("redeeming_blocked", command.block_redeeming))
        if is_set
    }
    ended = _close(unit, case, command.resolution, unit.actor, command.note, blocks)
    unit.audit(command.account_id, f"fraud_case.{command.resolution}", case.id, blocks or None)
    return ended


def lapse_cases(unit: FraudUnit) -> Piece:
    """Close open cases that had no hit for 90 days, a batch at a time."""
    due = unit.fraud.cases_to_lapse(lapses_before(unit.now), _CASES_PER_PIECE)
    for case in due:
        _close(unit, case, "lapsed", _DUTY, None, {})
    return Piece(len(due), more=len(due) == _CASES_PER_PIECE)


def settle_cases(unit: FraudUnit) -> Piece:
    """Settle a batch of the lots of one closed case."""
    found = unit.fraud.cases_to_settle(1)
    if not found:
        return Piece(0)
    case = found[0]
    held = unit.fraud.lots_held_by(case.id, BATCH_SIZE)
    book = Book(unit, case.account_id, ids=set(held.values()), with_lots=True)
    _settle(unit, book, case, held)
    book.write()
    if len(held) < BATCH_SIZE:
        unit.fraud.settled(case.id)
    return Piece(len(held), more=True)


def forget_seen(unit: FraudUnit) -> Piece:
    """Remove which values were seen with which customers, once no rule counts it any more."""
    removed = unit.fraud.forget_seen(unit.now - SEEN_KEPT, BATCH_SIZE)
    return Piece(removed, more=removed == BATCH_SIZE)


def fraud_job(units: UnitOfWorkRunner[FraudUnit], every_s: float) -> PeriodicJob:
    """The job that lapses cases, settles closed ones, and forgets what was seen long ago; one kind of work in a piece."""

    def work(unit: FraudUnit) -> Piece:
        for kind in (settle_cases, lapse_cases, forget_seen):
            piece = kind(unit)
            if piece.items:
                return replace(piece, more=True)
        return Piece(0)

    return PeriodicJob(FRAUD_CASES, every_s, in_transaction(units, work, "upkeep"))


def _close(
    unit: FraudUnit,
    case: FraudCase,
    resolution: Resolution,
    actor: str,
    note: str | None,
    blocks: dict[str, bool],
) -> FraudCase:
    """Customers are locked first, then the case, which is the order in which purchases lock."""
    held = unit.fraud.lots_held_by(case.id, BATCH_SIZE)
    blocked = {case.customer_id} if blocks and case.customer_id else set()
    book = Book(unit, case.account_id, ids={*held.values(), *blocked}, with_lots=True)
    locked = unit.fraud.get_case(case.account_id, case.id, lock=True) or case
    ended = replace(closed(locked, resolution, actor, note, unit.now), settling=True)
    for customer_id in blocked:
        wallet = book.wallet(customer_id)
        if wallet is not None:
            change_details(wallet, blocks, unit.now, source="api")
    _settle(unit, book, ended, held)
    book.write()
    ended = replace(ended, settling=bool(unit.fraud.lots_held_by(case.id, 1)))
    unit.fraud.close_case(ended)
    if ended.settling:
        unit.wake_job(FRAUD_CASES)
    return ended


def _settle(unit: FraudUnit, book: Book, case: FraudCase, held: Mapping[str, str]) -> None:
    """Release or cancel these lots of a closed case, by id with the customer of each."""
    if not held:
        return
    holders = unit.fraud.holders_of(held)
    ended: list[tuple[str, str]] = []
    for lot_id, customer_id in held.items():
        others = [each for each in holders.get(lot_id, ()) if each != case.id]
        ended.append((case.id, lot_id))
        if case.status == "confirmed":
            ended += [(each, lot_id) for each in others]
        wallet = book.wallet(customer_id)
        lot = None if wallet is None else wallet.lots.get(lot_id)
        if wallet is not None and lot is not None and lot.status == "pending":
            _settle_lot(unit, book, wallet, lot, case, others)
    for customer_id in sorted(set(held.values())):
        wallet = book.wallet(customer_id)
        if wallet is not None:
            book.tiers.upgrade(wallet)  # released points count toward tiers
    unit.fraud.let_go(ended)


def _settle_lot(
    unit: FraudUnit, book: Book, wallet: Wallet, lot: Lot, case: FraudCase, others: Collection[str]
) -> None:
    cause = Cause("lot", lot.id, case.resolved_by or _DUTY, unit.now, reason_code=f"fraud_{case.status}")
    if case.status == "confirmed":
        wallet.cancel(lot, cause, Adjustment("pending_canceled", transaction_id=lot.transaction_id))
    elif others:
        wallet.lots.update(lot, hold_case_id=min(others))
    else:
        _release(unit, book, wallet, lot, cause)


def _release(unit: FraudUnit, book: Book, wallet: Wallet, lot: Lot, cause: Cause) -> None:
    """Make points available that no case holds, or leave them pending if they would still be without the case."""
    rules = book.program.rules
    valid_until = max(lot.expires_at, unit.now + RELEASE_VALIDITY)
    due = activates_at(rules.pending_days, lot.earned_at, rules.time_zone)
    is_pending = due is not None and due > unit.now
    released = wallet.lots.update(
        lot, expires_at=valid_until, hold_case_id=None, activates_at=due if is_pending else None
    )
    wallet.days.add(day_of(lot.earned_at, rules.time_zone), points_qualifying=lot.remaining)
    if not is_pending:
        wallet.activate(released, cause)
    book.tiers.upgrade(wallet)
