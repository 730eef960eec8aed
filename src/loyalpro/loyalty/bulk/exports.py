"""Exports: customers, purchases, entries or expiring points as a file, which is made and stored in pieces.

Each piece is read in a transaction of its own, so the file shows each row as it was when its piece was made.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from loyalpro.jobs.periodic_job import BATCH_SIZE, Piece
from loyalpro.kernel.clock import UnixMs, rfc3339
from loyalpro.kernel.errors import Conflict
from loyalpro.kernel.ids import floor
from loyalpro.kernel.record import record
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner
from loyalpro.loyalty.bulk.csv_text import csv_lines
from loyalpro.loyalty.bulk.jobs import JobRef, get_job, new_job
from loyalpro.loyalty.customers import GetCustomer, get_customer
from loyalpro.loyalty.entities import Customer, Job, Transaction
from loyalpro.loyalty.ledger import Entry
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.reports import ExpiringPoints, ListExpiring, list_expiring

EXPORT: Final = "export"
KINDS: Final = (EXPORT,)
ExportKind = Literal["customers", "transactions", "ledger", "expiring"]
Format = Literal["csv", "jsonl"]
_ROWS_PER_PIECE: Final = 1_000
_CUSTOMERS_PER_PAGE: Final = 256
Line = dict[str, Any]


@record
class StartExport:
    """What to export.

    `tier_id`: of customers. `customer_id`: of purchases and entries, and `since` and `until` when these were recorded. `days`:
    of expiring points.
    """

    account_id: str
    kind: ExportKind
    format: Format
    customer_id: str | None = None
    tier_id: str | None = None
    since: UnixMs | None = None
    until: UnixMs | None = None
    days: int | None = None


@record
class Portion:
    """Some lines of a file, and the cursor behind them; None at the end of the file."""

    lines: Sequence[Line]
    cursor: str | None


def start_export(unit: LoyaltyUnit, command: StartExport) -> Job:
    """Store an export and wake what works on it. Raises `NotFound` `customer_not_found`."""
    if command.customer_id is not None:
        get_customer(unit, GetCustomer(command.account_id, command.customer_id))
    params = {
        "kind": command.kind,
        "format": command.format,
        "customer_id": command.customer_id,
        "tier_id": command.tier_id,
        "since": command.since,
        "until": command.until,
        "days": command.days,
    }
    job = new_job(unit, command.account_id, EXPORT, params)
    unit.audit(job.account_id, "export.created", job.id)
    return job


def finished_export(unit: LoyaltyUnit, query: JobRef) -> Job:
    """An export whose file is complete. Raises `NotFound`, and `Conflict` `export_not_finished`."""
    job = get_job(unit, query)
    if job.status != "done":
        raise Conflict(
            f"This export is {job.status}, so it has no file. Read it until its status is done.",
            code="export_not_finished",
        )
    return job


def take_export(unit: LoyaltyUnit, query: JobRef) -> Job:
    """`finished_export` for a person who saves the file, which is audited."""
    job = finished_export(unit, query)
    unit.audit(job.account_id, "export.downloaded", job.id)
    return job


def file_piece(unit: LoyaltyUnit, *, job_id: str, number: int) -> bytes | None:
    """A piece of the file of an export; None behind the last one."""
    return unit.jobs.piece(job_id, number)


class Exports:
    """Works on exports, a piece of each at a time. Several processes may do so at once."""

    kinds: Final = KINDS

    def __init__(self, runner: UnitOfWorkRunner[LoyaltyUnit]) -> None:
        self._runner = runner

    async def run_piece(self, job: Job) -> Piece:
        """The next piece of an export: read without a lock, and stored if the job has not moved."""
        portion = await self._runner.read(lambda unit: next_portion(unit, job))
        return await self._runner.change(lambda unit: _store(unit, job, portion), actor=job.actor)


def next_portion(unit: LoyaltyUnit, job: Job) -> Portion:
    """The next lines of an export."""
    return _PORTIONS[job.params["kind"]](unit, job, job.cursor.partition("/")[2])


def _store(unit: LoyaltyUnit, job: Job, portion: Portion) -> Piece:
    """Store a piece of the file. The cursor is the number of the next piece, and where the list continues."""
    if not unit.jobs.lock(job):
        return Piece(items=0)
    number = int(job.cursor.partition("/")[0] or 0)
    unit.jobs.add_pieces(job.id, number, [_content(job, portion.lines, is_first=number == 0)])
    after = replace(job, cursor=f"{number + 1}/{portion.cursor or ''}", done=job.done + len(portion.lines))
    unit.jobs.advance(job, after, unit.now)
    if portion.cursor is None:
        unit.jobs.finish(job, "done", unit.now)
    return Piece(items=len(portion.lines), more=portion.cursor is not None)


def _content(job: Job, lines: Sequence[Line], *, is_first: bool) -> bytes:
    """Lines as CSV, the first piece with the header, or as JSON, an object a line."""
    if job.params["format"] == "jsonl":
        return "".join(f"{json.dumps(line, ensure_ascii=False, separators=(',', ':'))}\n" for line in lines).encode()
    header = [_COLUMNS[job.params["kind"]]] if is_first else []
    return csv_lines([*header, *([_cell(value) for value in line.values()] for line in lines)]).encode()


def _cell(value: Any) -> Any:
    """A list of tags as words between `|`, and any other list or object as JSON; empty ones as an empty cell."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return "|".join(value)
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value else None
    return value


# -- the kinds of exports --------------------------------------------------------------------------------------------------


def _customers(unit: LoyaltyUnit, job: Job, after: str) -> Portion:
    found = unit.reports.customers_after(job.account_id, job.params["tier_id"], after, _ROWS_PER_PIECE)
    return _portion([_customer(each) for each in found], _ROWS_PER_PIECE)


def _transactions(unit: LoyaltyUnit, job: Job, after: str) -> Portion:
    params = job.params
    first = max(after, floor("txn", params["since"] or 0))
    before = None if params["until"] is None else floor("txn", params["until"])
    found = unit.reports.transactions_between(job.account_id, params["customer_id"], first, before, _ROWS_PER_PIECE)
    return _portion([_transaction(each) for each in found], _ROWS_PER_PIECE)


def _ledger(unit: LoyaltyUnit, job: Job, after: str) -> Portion:
    """The entries of the next customers. The place is the last customer and the number of its last entry that was read."""
    customer_id, _, number = after.partition(":")
    place = (customer_id, int(number or 0))
    named = job.params["customer_id"]
    following = [named] if named else unit.reports.customer_ids_after(job.account_id, customer_id, _CUSTOMERS_PER_PAGE)
    ids = [each for each in {customer_id, *following} if each]
    found = unit.reports.entries_after(job.account_id, ids, place, _ROWS_PER_PIECE) if ids else []
    lines = [_entry(each) for each in found if _is_between(each.created_at, job.params)]
    if len(found) == _ROWS_PER_PIECE:
        return Portion(lines, f"{found[-1].customer_id}:{found[-1].sequence}")
    is_last = named is not None or len(following) < _CUSTOMERS_PER_PAGE
    return Portion(lines, None if is_last else f"{following[-1]}:{_ALL_ENTRIES}")


_ALL_ENTRIES: Final = 2**53 - 1
"""Stands for the number of the last entry of a customer whose entries have all been read."""


def _is_between(instant: UnixMs, params: Mapping[str, Any]) -> bool:
    since, until = params["since"], params["until"]
    return (since is None or instant >= since) and (until is None or instant < until)


def _expiring(unit: LoyaltyUnit, job: Job, after: str) -> Portion:
    instant, _, customer_id = after.partition(":")
    place = (int(instant), customer_id) if after else None
    page = list_expiring(unit, ListExpiring(job.account_id, job.params["days"] or 0, place, BATCH_SIZE))
    cursor = None if page.place is None else f"{page.place[0]}:{page.place[1]}"
    return Portion([expiring_line(each) for each in page.customers], cursor)


def _portion(lines: Sequence[Line], limit: int) -> Portion:
    return Portion(lines, str(lines[-1]["id"]) if len(lines) == limit else None)


_PORTIONS: Final[Mapping[ExportKind, Callable[[LoyaltyUnit, Job, str], Portion]]] = {
    "customers": _customers,
    "transactions": _transactions,
    "ledger": _ledger,
    "expiring": _expiring,
}

# -- lines -----------------------------------------------------------------------------------------------------------------


def _customer(customer: Customer) -> Line:
    return {
        "id": customer.id,
        "external_id": customer.external_id,
        "email": customer.email,
        "phone": customer.phone,
        "name": customer.name,
        "tags": list(customer.tags),
        "tier_id": customer.tier.id,
        "tier": customer.tier.name,
        "points_available": customer.balance.available,
        "points_pending": customer.balance.pending,
        "points_debt": customer.balance.debt,
        "metadata": customer.metadata,
        "enrolled_at": rfc3339(customer.created_at),
    }


def _transaction(transaction: Transaction) -> Line:
    return {
        "id": transaction.id,
        "external_id": transaction.external_id,
        "customer_id": transaction.customer_id,
        "status": transaction.status,
        "currency": transaction.currency,
        "amount": transaction.amount,
        "eligible_amount": transaction.eligible_amount,
        "tax_amount": transaction.tax_amount,
        "shipping_amount": transaction.shipping_amount,
        "tip_amount": transaction.tip_amount,
        "gift_card_amount": transaction.gift_card_amount,
        "points_discount_amount": transaction.points_discount_amount,
        "refunded_amount": transaction.refunded_amount,
        "points_earned": transaction.points_earned,
        "points_clawed_back": transaction.points_clawed_back,
        "items": list(transaction.items),
        "channel": transaction.channel,
        "location_id": transaction.location_id,
        "employee_id": transaction.employee_id,
        "metadata": transaction.metadata,
        "source": transaction.source,
        "occurred_at": rfc3339(transaction.occurred_at),
        "recorded_at": rfc3339(transaction.created_at),
    }


def _entry(entry: Entry) -> Line:
    return {
        "id": entry.id,
        "customer_id": entry.customer_id,
        "sequence": entry.sequence,
        "type": entry.type,
        "points": entry.points,
        "balance_after": entry.balance_after,
        "pending_after": entry.pending_after,
        "source_type": entry.source_type,
        "source_id": entry.source_id,
        "reason_code": entry.reason_code,
        "actor": entry.actor,
        "occurred_at": rfc3339(entry.occurred_at),
        "recorded_at": rfc3339(entry.created_at),
    }


def expiring_line(expiring: ExpiringPoints) -> Line:
    """A customer with points that expire, for a file or a list."""
    return {
        "customer_id": expiring.customer.id,
        "customer_external_id": expiring.customer.external_id,
        "points": expiring.points,
        "first_expires_at": rfc3339(expiring.first_expires_at),
    }


_COLUMNS: Final[Mapping[ExportKind, Sequence[str]]] = {
    "customers": (
        *(
            "id",
            "external_id",
            "email",
            "phone",
            "name",
            "tags",
            "tier_id",
            "tier",
            "points_available",
            "points_pending",
        ),
        *("points_debt", "metadata", "enrolled_at"),
    ),
    "transactions": (
        *("id", "external_id", "customer_id", "status", "currency", "amount", "eligible_amount", "tax_amount"),
        *("shipping_amount", "tip_amount", "gift_card_amount", "points_discount_amount", "refunded_amount"),
        *(
            "points_earned",
            "points_clawed_back",
            "items",
            "channel",
            "location_id",
            "employee_id",
            "metadata",
            "source",
        ),
        *("occurred_at", "recorded_at"),
    ),
    "ledger": (
        *(
            "id",
            "customer_id",
            "sequence",
            "type",
            "points",
            "balance_after",
            "pending_after",
            "source_type",
            "source_id",
        ),
        *("reason_code", "actor", "occurred_at", "recorded_at"),
    ),
    "expiring": ("customer_id", "customer_external_id", "points", "first_expires_at"),
}
"""The columns of a file, in the order of its lines; a file without lines has them as well."""
