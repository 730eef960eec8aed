"""Imports: customers, purchases and opening balances from another program, in pieces of 50 rows.

The rows are stored with the job. Each piece is one database transaction that takes over its rows, stores those that it refuses,
removes the piece and moves the cursor. So a crash between two pieces loses no row and imports none twice. A trial run undoes
each piece, and keeps what it has counted. Pieces are small because on SQLite, what callers send has to wait for the one that is
under way.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal

from loyalpro.jobs.periodic_job import Piece
from loyalpro.kernel.errors import InvalidInput, Refused
from loyalpro.kernel.record import record
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner
from loyalpro.loyalty.bulk.cells import Amounts, CellForm, Fields, SourceRow, rows_of, typed
from loyalpro.loyalty.bulk.csv_text import read_csv
from loyalpro.loyalty.bulk.jobs import new_job
from loyalpro.loyalty.customers import EnrollCustomer, EnrollCustomers, enroll_customers
from loyalpro.loyalty.entities import Customer, Job, RowRefusal
from loyalpro.loyalty.fraud.ports import FraudUnit
from loyalpro.loyalty.ledger import MAX_POINTS
from loyalpro.loyalty.opening_balances import OpeningBalance, SetOpeningBalances, set_opening_balances
from loyalpro.loyalty.recording import NewPurchase, Purchase, RecordPurchases, record_purchases

ROWS_PER_PIECE: Final = 50
_PIECES_IN_TURN: Final = 10
"""How many pieces of an import follow each other before other jobs get their turn."""

ImportKind = Literal["customers", "transactions", "balances"]
Earn = Literal["rules", "none", "given"]
KINDS: Final[Mapping[ImportKind, str]] = {
    "customers": "import_customers",
    "transactions": "import_transactions",
    "balances": "import_balances",
}
"""The kind of the job of each kind of import."""

_POINTS: Final = "points"
_NO_ROWS: Final = "There are no rows to import. A CSV has a header and at least one more line."
_WRONG_WIDTH: Final = (
    "This row has another number of cells than the header. Quote cells that contain the delimiter or a line break."
)


@record
class RowFormat:
    """The fields of a row of one kind of import, and what makes a command of the row's object. `read` raises `Refused`."""

    fields: Fields
    read: Callable[[str, Any], Any]


RowFormats = Mapping[ImportKind, RowFormat]


@record
class StartImport:
    """Rows to import: objects as the API takes them, or a CSV text with a header.

    `mapping`: from fields to columns of the CSV. `amounts`: whether amounts of the CSV are in minor or in major units. `earn`:
    whether purchases earn by the rules, nothing, or what their field `points` says. `counts_toward_tier`: of opening balances.
    `upload_id`: the uploaded file that `csv` is the text of; None for rows that were sent at once.
    """

    account_id: str
    kind: ImportKind
    csv: str | None = None
    rows: Sequence[Any] | None = None
    mapping: Mapping[str, str] | None = None
    amounts: Amounts = "minor"
    earn: Earn = "rules"
    counts_toward_tier: bool = False
    dry_run: bool = False
    upload_id: str | None = None


@record
class Prepared:
    """The rows of a piece: the commands of those that can be tried, and those that are refused already."""

    lines: tuple[int, ...]
    commands: tuple[Any, ...]
    refusals: tuple[RowRefusal, ...]


@record
class Imported:
    """What a piece did."""

    done: int
    unchanged: int
    refusals: tuple[RowRefusal, ...]


class _Undo(Exception):
    """Undoes the piece of a trial run."""

    def __init__(self, imported: Imported) -> None:
        super().__init__()
        self.imported = imported


@record
class SourceRows:
    """Rows that are read, and how the cells of a CSV are meant."""

    rows: list[SourceRow]
    comma: bool = False
    is_csv: bool = False


def read_rows(command: StartImport, formats: RowFormats) -> SourceRows:
    """The rows of a command. Raises `InvalidInput` for a text that is not CSV, and for columns that are not known."""
    if (command.csv is None) == (command.rows is None):
        raise InvalidInput("Send exactly one of csv and rows.", code="invalid_field", param="csv")
    if command.earn != "rules" and command.kind != "transactions":
        raise InvalidInput("earn is for imports of transactions.", code="invalid_field", param="earn")
    if command.csv is None:
        found = SourceRows([(line, row) for line, row in enumerate(command.rows or (), 1)])
    else:
        table = read_csv(command.csv)
        fields = _fields(command.kind, command.earn, formats)
        rows = rows_of(table, command.mapping or {}, fields)
        found = SourceRows(rows, comma=table.delimiter == ";", is_csv=True)
    if not found.rows:
        raise InvalidInput(_NO_ROWS, code="empty_import", param="rows" if command.csv is None else "csv")
    return found


def start_import(unit: FraudUnit, command: StartImport, source: SourceRows) -> Job:
    """Store an import with its rows and wake what works on it. `source`: what `read_rows` has made of the command."""
    rules = unit.programs.get(command.account_id).rules
    params: dict[str, Any] = {
        "kind": command.kind,
        "earn": command.earn,
        "counts_toward_tier": command.counts_toward_tier,
        "dry_run": command.dry_run,
        "is_csv": source.is_csv,
        "amounts": command.amounts,
        "comma": source.comma,
        "currency": rules.currency,
        "time_zone": rules.time_zone,
    }
    if command.upload_id is not None:
        params |= {"upload_id": command.upload_id, "mapping": dict(command.mapping or {})}
    job = new_job(unit, command.account_id, KINDS[command.kind], params, total=len(source.rows))
    unit.jobs.add_pieces(job.id, 0, [_content(chunk) for chunk in _chunks(source.rows)])
    unit.audit(job.account_id, "import.created", job.id)
    return job


def prepare(job: Job, content: bytes, formats: RowFormats) -> Prepared:
    """The commands of a stored piece. It needs no database, so it is done outside of the transaction."""
    lines: list[int] = []
    commands: list[Any] = []
    refusals: list[RowRefusal] = []
    for line, row in json.loads(content):
        try:
            commands.append(_command(job, row, formats))
            lines.append(line)
        except Refused as refused:
            refusals.append(_refusal(line, refused))
    return Prepared(tuple(lines), tuple(commands), tuple(refusals))


def import_piece(unit: FraudUnit, job: Job, prepared: Prepared) -> Imported:
    """Take over the rows of a piece; a row that was imported before is unchanged."""
    outcomes = _TAKE_OVER[job.params["kind"]](unit, job, prepared.commands) if prepared.commands else []
    refused = [
        _refusal(line, outcome)
        for line, outcome in zip(prepared.lines, outcomes, strict=True)
        if isinstance(outcome, Refused)
    ]
    refusals = sorted((*prepared.refusals, *refused), key=lambda each: each.line)
    return Imported(outcomes.count("done"), outcomes.count("unchanged"), tuple(refusals))


class Imports:
    """Works on imports, a piece of each at a time. Several processes may do so at once."""

    kinds: Final = tuple(KINDS.values())

    def __init__(self, runner: UnitOfWorkRunner[FraudUnit], formats: RowFormats) -> None:
        self._runner = runner
        self._formats = formats

    async def run_piece(self, job: Job) -> Piece:
        """The next pieces of an import. What callers send meanwhile comes between two of them."""
        first = int(job.cursor or 0)
        contents = await self._runner.read(lambda unit: unit.jobs.pieces(job.id, first, _PIECES_IN_TURN))
        if not contents:
            await self._runner.change(lambda unit: _finish(unit, job), actor=job.actor)
            return Piece(items=0)
        items = 0
        for prepared in await asyncio.to_thread(self._prepare, job, contents):
            after = await self._import(job, prepared)
            if after is None:
                return Piece(items)
            items, job = items + after.done - job.done, after
        return Piece(items, more=True)

    def _prepare(self, job: Job, contents: Sequence[bytes]) -> list[Prepared]:
        return [prepare(job, each, self._formats) for each in contents]

    async def _import(self, job: Job, prepared: Prepared) -> Job | None:
        """The job after its next piece; None when it has ended, or another process works on it."""
        try:
            return await self._runner.change(partial(_take_over, job=job, prepared=prepared), "bulk", actor=job.actor)
        except _Undo as trial:
            return await self._runner.change(
                partial(_count_trial, job=job, imported=trial.imported), "bulk", actor=job.actor
            )


def _take_over(unit: FraudUnit, job: Job, prepared: Prepared) -> Job | None:
    """The job after the piece; None when another process works on the job, or it has ended."""
    if not unit.jobs.lock(job):
        return None
    imported = import_piece(unit, job, prepared)
    if job.params["dry_run"]:
        raise _Undo(imported)
    return _advance(unit, job, imported)


def _count_trial(unit: FraudUnit, job: Job, imported: Imported) -> Job | None:
    return _advance(unit, job, imported) if unit.jobs.lock(job) else None


def _advance(unit: FraudUnit, job: Job, imported: Imported) -> Job:
    """Move the cursor behind the piece, whose rows are not needed any more: they have personal data."""
    number = int(job.cursor or 0) + 1
    after = replace(
        job,
        cursor=str(number),
        done=job.done + imported.done,
        unchanged=job.unchanged + imported.unchanged,
        refused=job.refused + len(imported.refusals),
    )
    unit.jobs.refuse(job.id, imported.refusals)
    unit.jobs.advance(job, after, unit.now)
    unit.jobs.remove_pieces(job.id, before=number)
    return after


def _finish(unit: FraudUnit, job: Job) -> None:
    if unit.jobs.lock(job):
        unit.jobs.finish(job, "done", unit.now)


# -- rows and commands -------------------------------------------------------------------------------------------------


def _fields(kind: ImportKind, earn: Earn, formats: RowFormats) -> Fields:
    fields = formats[kind].fields
    return {**fields, _POINTS: "whole"} if earn == "given" else fields


def _command(job: Job, row: Any, formats: RowFormats) -> Any:
    params = job.params
    if row is None and params["is_csv"]:
        raise InvalidInput(_WRONG_WIDTH, code="invalid_row")
    if params["is_csv"]:
        form = CellForm(params["amounts"], params["comma"], params["currency"], params["time_zone"])
        row = typed(row, _fields(params["kind"], params["earn"], formats), form)
    if params["kind"] == "transactions":
        return _purchase(job, row, formats)
    return formats[params["kind"]].read(job.account_id, row)


def _purchase(job: Job, row: Any, formats: RowFormats) -> NewPurchase:
    """A purchase that earns as the import says. The field `points` exists only where it is given."""
    earn: Earn = job.params["earn"]
    points = 0
    if earn == "given" and isinstance(row, dict):
        points = _points(row.get(_POINTS))
        row = {name: value for name, value in row.items() if name != _POINTS}
    purchase: NewPurchase = formats["transactions"].read(job.account_id, row)
    return replace(purchase, source="import", earn=earn, points_given=points)


def _points(value: Any) -> int:
    """What a purchase has earned elsewhere."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_POINTS:
        code = "missing_field" if value is None else "invalid_field"
        raise InvalidInput("points: Send how many points the purchase has earned, 0 or more.", code=code, param=_POINTS)
    return value


def _customers(unit: FraudUnit, job: Job, commands: Sequence[EnrollCustomer]) -> list[Any]:
    """Enroll the customers whose external id is not there yet; those that are there stay as they are."""
    unit.is_import = True
    imported = [replace(each, source="import") for each in commands]
    return [_enrolled(each) for each in enroll_customers(unit, EnrollCustomers(job.account_id, imported))]


def _enrolled(outcome: Customer | Refused) -> Any:
    if isinstance(outcome, Refused):
        return "unchanged" if outcome.code == "customer_exists" else outcome
    return "done"


def _transactions(unit: FraudUnit, job: Job, commands: Sequence[NewPurchase]) -> list[Any]:
    recorded = record_purchases(unit, RecordPurchases(job.account_id, commands))
    return [_recorded(each) for each in recorded]


def _recorded(outcome: Purchase | Refused) -> Any:
    if isinstance(outcome, Refused):
        return outcome
    return "unchanged" if outcome.replayed else "done"


def _balances(unit: FraudUnit, job: Job, commands: Sequence[OpeningBalance]) -> list[Any]:
    counts = job.params["counts_toward_tier"]
    return list(set_opening_balances(unit, SetOpeningBalances(job.account_id, commands, counts_toward_tier=counts)))


_TAKE_OVER: Final[Mapping[ImportKind, Callable[[FraudUnit, Job, Sequence[Any]], list[Any]]]] = {
    "customers": _customers,
    "transactions": _transactions,
    "balances": _balances,
}


def _refusal(line: int, refused: Refused) -> RowRefusal:
    return RowRefusal(line, refused.code, _storable(refused.detail), refused.param and _storable(refused.param))


def _storable(text: str) -> str:
    """A text that names what was sent, without the one character that PostgreSQL does not store."""
    return text.replace("\x00", "")


def _chunks(rows: Sequence[SourceRow]) -> Iterable[Sequence[SourceRow]]:
    return (rows[start : start + ROWS_PER_PIECE] for start in range(0, len(rows), ROWS_PER_PIECE))


def _content(rows: Sequence[SourceRow]) -> bytes:
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()
