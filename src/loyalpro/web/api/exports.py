"""`/v1/exports`: customers, purchases, ledger entries or expiring points as a file."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field

from loyalpro.kernel.errors import InvalidInput
from loyalpro.loyalty.bulk import exports, jobs
from loyalpro.loyalty.entities import Job
from loyalpro.web.answers import Count, JobId, Page, answers
from loyalpro.web.api.imports import JobTimes, job_times
from loyalpro.web.auth import AccountId
from loyalpro.web.export_files import MEDIA_TYPES, file_of
from loyalpro.web.fields import Body, Cursor, Instant, Limit, known_id, page
from loyalpro.web.idempotency import Reply, commit
from loyalpro.web.services import ServicesDep
from loyalpro.web.strict_route import StrictRoute

router = APIRouter(prefix="/v1/exports", tags=["exports"], route_class=StrictRoute.needing(write="read"))


class ExportView(JobTimes):
    """An export and its progress."""

    id: JobId
    kind: str
    format: str
    status: str
    rows: Count


_FILTERS: Final[dict[str, set[str]]] = {
    "customers": {"tier_id"},
    "transactions": {"customer_id", "since", "until"},
    "ledger": {"customer_id", "since", "until"},
    "expiring": {"days"},
}


class CreateExport(Body):
    """What to export, and which of it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kind": "ledger", "format": "csv", "since": "2026-01-01T00:00:00Z"}]}
    )

    kind: Literal["customers", "transactions", "ledger", "expiring"]
    format: Literal["csv", "jsonl"] = "csv"
    customer_id: Annotated[
        str | None, Field(max_length=64, description="Transactions and ledger: of one customer.")
    ] = None
    tier_id: Annotated[str | None, Field(max_length=64, description="Customers: those in this tier.")] = None
    since: Annotated[Instant | None, Field(description="Transactions and ledger: recorded at this time or later.")] = (
        None
    )
    until: Annotated[Instant | None, Field(description="Transactions and ledger: recorded before this time.")] = None
    days: Annotated[int | None, Field(ge=1, le=3_660, description="Expiring: within so many days; 30 by default.")] = (
        None
    )


@router.post("", status_code=202, summary="Export to a file", responses=answers(ExportView, 202))
async def create(request: Request, account_id: AccountId, body: CreateExport) -> Response:
    """The response is a job; read it until its status is `done`, then get its file. Both are kept for 7 days."""
    given = {name for name in ("customer_id", "tier_id", "since", "until", "days") if getattr(body, name) is not None}
    for name in sorted(given - _FILTERS[body.kind]):
        raise InvalidInput(f"{name} is no filter for an export of {body.kind}.", code="invalid_field", param=name)
    days = (body.days or 30) if body.kind == "expiring" else None
    command = exports.StartExport(
        account_id,
        body.kind,
        body.format,
        body.customer_id and known_id("cus", body.customer_id, param="customer_id"),
        body.tier_id and known_id("tier", body.tier_id, param="tier_id"),
        body.since,
        body.until,
        days,
    )
    return await commit(request, account_id, lambda unit: Reply(202, export_view(exports.start_export(unit, command))))


@router.get("", summary="List exports, newest first")
async def list_exports(
    account_id: AccountId, services: ServicesDep, limit: Limit = 20, cursor: Cursor = None
) -> Page[ExportView]:
    """One page of jobs."""
    before_id = known_id("job", cursor, param="cursor") if cursor else None
    query = jobs.ListJobs(account_id, exports.KINDS, before_id, limit + 1)
    found = await services.runner.read(lambda unit: jobs.list_jobs(unit, query))
    return page([export_view(each) for each in found], limit)


@router.get("/{export_id}", summary="Get an export and its progress")
async def get(account_id: AccountId, services: ServicesDep, export_id: str) -> ExportView:
    """One job. `rows` counts the rows that its file has so far."""
    query = _ref(account_id, export_id)
    return export_view(await services.runner.read(lambda unit: jobs.get_job(unit, query)))


@router.get(
    "/{export_id}/file",
    summary="Get the file of an export",
    response_class=StreamingResponse,
    responses={
        200: {"content": {each.partition(";")[0]: {"schema": {"type": "string"}} for each in MEDIA_TYPES.values()}}
    },
)
async def get_file(account_id: AccountId, services: ServicesDep, export_id: str) -> Response:
    """The file. Texts that a spreadsheet would run as a formula have an apostrophe in front."""
    query = _ref(account_id, export_id)
    job = await services.runner.read(lambda unit: exports.finished_export(unit, query))
    return file_of(services, job)


@router.post("/{export_id}/cancel", summary="Cancel an export", responses=answers(ExportView))
async def cancel(request: Request, account_id: AccountId, export_id: str) -> Response:
    """Stops the job, and removes what it has made."""
    command = _ref(account_id, export_id)
    return await commit(
        request, account_id, lambda unit: Reply(200, export_view(jobs.cancel_job(unit, command))), "control"
    )


def export_view(job: Job) -> ExportView:
    """An export and its progress in JSON."""
    return {
        "id": job.id,
        "kind": job.params["kind"],
        "format": job.params["format"],
        "status": job.status,
        "rows": job.done,
        **job_times(job),
    }


def _ref(account_id: str, export_id: str) -> jobs.JobRef:
    return jobs.JobRef(account_id, known_id("job", export_id), exports.KINDS)
