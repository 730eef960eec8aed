"""`/v1/imports`: many customers, purchases or opening balances from another program, as CSV or JSON."""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import TypedDict

from loyalpro.accounts.scopes import Scope, require_scope
from loyalpro.kernel.clock import rfc3339
from loyalpro.loyalty.bulk import imports, jobs
from loyalpro.loyalty.bulk.cells import CellKind
from loyalpro.loyalty.entities import Job, RowRefusal
from loyalpro.loyalty.ledger import MAX_POINTS
from loyalpro.loyalty.opening_balances import OpeningBalance
from loyalpro.web.answers import Count, JobId, Page, Time, answers
from loyalpro.web.api.customers import CreateCustomer, checked_customer, enrollment
from loyalpro.web.api.transactions import CreateTransaction, purchase, require_one_customer
from loyalpro.web.auth import AccountId, Caller
from loyalpro.web.field_errors import refusal
from loyalpro.web.fields import Body, Cursor, Instant, Limit, LongText, ShortText, Whole, known_id, page
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep, services_of
from loyalpro.web.strict_route import StrictRoute

MAX_IMPORT_BYTES: Final = 1024 * 1024
_KINDS: Final = tuple(imports.KINDS.values())
_SCOPES: Final[dict[str, Scope]] = {"customers": "customers", "transactions": "transactions", "balances": "points"}
"""What an API key needs besides `transactions` for each kind."""


class _ImportRoute(StrictRoute):
    """A route that takes a larger body."""

    max_body_bytes = MAX_IMPORT_BYTES


router = APIRouter(prefix="/v1/imports", tags=["imports"], route_class=_ImportRoute.needing(write="transactions"))


class JobTimes(TypedDict):
    """What every job shows at its end."""

    error: str | None
    created_at: Time
    finished_at: Time | None


class ImportView(JobTimes):
    """An import and its progress."""

    id: JobId
    kind: str
    status: str
    dry_run: bool
    earn: str
    rows: Count | None
    imported: Count
    unchanged: Count
    refused: Count


class RefusedRowView(TypedDict):
    """A row that an import refused."""

    line: Count
    code: str
    detail: str
    param: str | None


class BalanceRow(Body):
    """The opening balance of a customer, who is named by exactly one of `customer_id` and `customer_external_id`."""

    customer_id: ShortText | None = None
    customer_external_id: LongText | None = None
    external_id: LongText | None = None
    points: Annotated[Whole, Field(ge=1, le=MAX_POINTS)]
    earned_at: Instant | None = None
    expires_at: Instant | None = None


class CreateImport(Body):
    """Rows to import: `rows`, each an object as `POST /v1/customers` or `POST /v1/transactions` takes it, or `csv`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "balances",
                    "csv": "Member;Points\nshop-77;120\n",
                    "mapping": {"customer_external_id": "Member", "points": "Points"},
                }
            ]
        }
    )

    kind: Literal["customers", "transactions", "balances"]
    csv: Annotated[str | None, Field(description="A text with a header; `,`, `;` or tab between the cells.")] = None
    rows: Annotated[list[Any] | None, Field(max_length=10_000)] = None
    mapping: Annotated[
        dict[str, str] | None,
        Field(description="From fields to columns of the CSV; other columns are left out.", max_length=100),
    ] = None
    amounts: Annotated[
        Literal["minor", "major"], Field(description="Whether amounts of the CSV are such as 5600 or such as 56.00.")
    ] = "minor"
    earn: Annotated[
        Literal["rules", "none", "given"],
        Field(description="Whether purchases earn by the rules, nothing, or what their field `points` says."),
    ] = "rules"
    counts_toward_tier: Annotated[bool, Field(description="Whether opening balances count toward tiers.")] = False
    dry_run: Annotated[bool, Field(description="Whether to only find out what would be refused.")] = False


@router.post(
    "", status_code=202, summary="Import customers, purchases or opening balances", responses=answers(ImportView, 202)
)
async def create(request: Request, account_id: AccountId, caller: Caller, body: CreateImport) -> Response:
    """The response is a job; read it to follow it. A row whose `external_id` was imported before is left unchanged.

    Besides `transactions`, the API key needs the scope `customers` for customers, and `points` for balances.
    """
    require_scope(caller, _SCOPES[body.kind])
    command = imports.StartImport(account_id, **vars(body))
    size = len(body.csv or "")
    source = await services_of(request).heavy_work.run_for(size, lambda: imports.read_rows(command, ROW_FORMATS))
    return await commit(
        request, account_id, lambda unit: Reply(202, import_view(imports.start_import(unit, command, source)))
    )


@router.get("", summary="List imports, newest first")
async def list_imports(
    account_id: AccountId, services: ServicesDep, limit: Limit = 20, cursor: Cursor = None
) -> Page[ImportView]:
    """One page of jobs with their progress. They are kept for 7 days after they end."""
    before_id = known_id("job", cursor, param="cursor") if cursor else None
    query = jobs.ListJobs(account_id, _KINDS, before_id, limit + 1)
    found = await services.runner.read(lambda unit: jobs.list_jobs(unit, query))
    return page([import_view(each) for each in found], limit)


@router.get("/{import_id}", summary="Get an import and its progress")
async def get(account_id: AccountId, services: ServicesDep, import_id: str) -> ImportView:
    """One job: how many of its `rows` were imported, were there already, and were refused."""
    query = _ref(account_id, import_id)
    return import_view(await services.runner.read(lambda unit: jobs.get_job(unit, query)))


@router.get("/{import_id}/refusals", summary="List the rows that an import refused")
async def list_refusals(
    account_id: AccountId,
    services: ServicesDep,
    import_id: str,
    limit: Limit = 20,
    cursor: Annotated[
        str | None, Query(pattern=r"^\d{1,9}$", description="`next_cursor` of the previous page.")
    ] = None,
) -> Page[RefusedRowView]:
    """One page of lines, each with the error that the call for this row alone would return."""
    query = jobs.ListRefusals(_ref(account_id, import_id), int(cursor or 0), limit + 1)
    found = await services.runner.read(lambda unit: jobs.list_refusals(unit, query))
    shown = found[:limit]
    more = str(shown[-1].line) if len(found) > limit else None
    return {"data": [_refusal_view(each) for each in shown], "next_cursor": more}


@router.post("/{import_id}/cancel", summary="Cancel an import", responses=answers(ImportView))
async def cancel(request: Request, account_id: AccountId, import_id: str) -> Response:
    """Stops the job. Rows that it has imported already stay."""
    command = _ref(account_id, import_id)
    return await commit(
        request, account_id, lambda unit: Reply(200, import_view(jobs.cancel_job(unit, command))), "control"
    )


def import_view(job: Job) -> ImportView:
    """An import and its progress in JSON."""
    params = job.params
    return {
        "id": job.id,
        "kind": params["kind"],
        "status": job.status,
        "dry_run": params["dry_run"],
        "earn": params["earn"],
        "rows": job.total,
        "imported": job.done,
        "unchanged": job.unchanged,
        "refused": job.refused,
        **job_times(job),
    }


def job_times(job: Job) -> JobTimes:
    """What every job shows at its end."""
    return {
        "error": job.result,
        "created_at": rfc3339(job.created_at),
        "finished_at": None if job.finished_at is None else rfc3339(job.finished_at),
    }


def _refusal_view(refused: RowRefusal) -> RefusedRowView:
    return {"line": refused.line, "code": refused.code, "detail": refused.detail, "param": refused.param}


def _ref(account_id: str, import_id: str) -> jobs.JobRef:
    return jobs.JobRef(account_id, known_id("job", import_id), _KINDS)


# -- rows ----------------------------------------------------------------------------------------------------------------


def _balance(row: BalanceRow) -> OpeningBalance:
    require_one_customer(row.customer_id, row.customer_external_id)
    return OpeningBalance(
        customer_id=row.customer_id,
        customer_external_id=row.customer_external_id,
        external_id=row.external_id,
        points=row.points,
        earned_at=row.earned_at,
        expires_at=row.expires_at,
    )


def _format(model: type[BaseModel], command: Callable[[str, Any], Any]) -> imports.RowFormat:
    """Rows have the fields of the call for one object, and its checks."""

    def read(account_id: str, row: Any) -> Any:
        try:
            return command(account_id, model.model_validate(row))
        except ValidationError as error:
            raise refusal(error) from None

    return imports.RowFormat({name: _cell_kind(name) for name in model.model_fields}, read)


_CELLS: Final[dict[str, CellKind]] = {
    "items": "json",
    "metadata": "json",
    "redemption_ids": "words",
    "tags": "words",
    "points": "whole",
    "occurred_at": "instant",
    "earned_at": "instant",
}


def _cell_kind(name: str) -> CellKind:
    return "amount" if name == "amount" or name.endswith("_amount") else _CELLS.get(name, "text")


ROW_FORMATS: Final[imports.RowFormats] = {
    "customers": _format(CreateCustomer, lambda account_id, row: enrollment(account_id, checked_customer(row))),
    "transactions": _format(CreateTransaction, lambda _, row: purchase(row)),
    "balances": _format(BalanceRow, lambda _, row: _balance(row)),
}
"""The fields and checks of each kind of row."""
