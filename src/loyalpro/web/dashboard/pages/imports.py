"""Program > Imports: a file, its columns, a trial run that writes nothing, the import, and a file of the refused lines."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, cast, get_args

from fastapi import APIRouter, Path, Query, Request, Response

from loyalpro.accounts.roles import ROLES
from loyalpro.kernel.errors import Conflict, InvalidInput, NotFound, Refused
from loyalpro.kernel.ids import is_id
from loyalpro.loyalty.bulk.cells import Amounts
from loyalpro.loyalty.bulk.csv_text import Table, read_csv
from loyalpro.loyalty.bulk.imports import KINDS, Earn, ImportKind, StartImport, read_rows, start_import
from loyalpro.loyalty.bulk.jobs import JobRef, ListJobs, ListRefusals, cancel_job, get_job, list_jobs, list_refusals
from loyalpro.loyalty.bulk.uploads import (
    MAX_UPLOAD_BYTES,
    StoreUpload,
    checked_text,
    read_upload,
    refused_lines,
    store_upload,
)
from loyalpro.loyalty.entities import Job, RowRefusal
from loyalpro.web.dashboard.actors import names_of
from loyalpro.web.dashboard.forms import Form, SentForm, blank, commit, refused
from loyalpro.web.dashboard.multipart import SentFile
from loyalpro.web.dashboard.render import fragment, page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visit, Visitor
from loyalpro.web.errors import status_of
from loyalpro.web.services import Services, ServicesDep
from loyalpro.web.unit import Unit

PATH: Final = "/imports"
_UPLOAD: Final = f"{PATH}/files/{{upload_id}}"
_ONE: Final = f"{PATH}/{{import_id}}"
_PAGE: Final = 20
_SAMPLE: Final = 20
_REFUSALS: Final = 50
_MOST_REFUSALS: Final = 10_000
_LONGEST_NAME: Final = 255
_JOBS: Final = tuple(KINDS.values())
_KIND_NAMES: Final[Mapping[str, str]] = {
    "customers": "Customers",
    "transactions": "Purchases",
    "balances": "Opening balances",
}
_SAME: Final[Mapping[str, tuple[str, ...]]] = {
    "external_id": ("id", "number", "customerid", "customernumber", "member", "orderid", "order"),
    "customer_external_id": ("customer", "customerid", "customernumber", "member"),
    "email": ("mail", "emailaddress"),
    "phone": ("telephone", "phonenumber", "mobile"),
    "occurred_at": ("date", "time", "orderdate"),
    "amount": ("total",),
    "points": ("balance",),
}
"""What columns are often called, by field."""

JobId = Annotated[str, Path(max_length=64)]

router = APIRouter(route_class=PageRoute)


@router.get(PATH, name="imports")
async def show(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    before: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """The imports, newest first, and the form for one more."""
    return page(
        request,
        "imports/imports.html",
        **await _listed(visitor, services, before),
        form=blank(request, kind="customers"),
    )


@router.post(PATH, name="imports.upload")
async def upload(request: Request, visitor: Visitor, services: ServicesDep, form: SentForm) -> Response:
    """Keep a file, and lead to its columns."""
    sent: SentFile = request.state.files.get("file", SentFile("", b""))
    try:
        if len(sent.content) > MAX_UPLOAD_BYTES:
            raise InvalidInput(
                "A file may have 1 MB. `loyalpro import` takes larger ones.", code="too_large", param="file"
            )
        await services.heavy_work.run_for(len(sent.content), lambda: checked_text(sent.content))
        command = StoreUpload(visitor.account_id, sent.name[:_LONGEST_NAME], sent.content)
        made, _ = await commit(request, form, lambda unit: {"id": store_upload(unit, command).id})
    except Refused as error:
        model = await _listed(visitor, services, None)
        shown = refused(request, form, Refused(error.detail, code=error.code, param="file"), "file")
        return page(request, "imports/imports.html", status=status_of(error), **model, form=shown)
    kind = form.text("kind") if form.text("kind") in KINDS else "customers"
    return redirect(request, f"{PATH}/files/{made['id']}?kind={kind}")


@router.get(_UPLOAD, name="imports.columns")
async def columns(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    upload_id: JobId,
    kind: Annotated[str, Query(max_length=32)] = "customers",
) -> Response:
    """Which column is which field, beside the first 20 rows. Columns with a name that is known are chosen already."""
    wanted: ImportKind = cast("ImportKind", kind) if kind in KINDS else "customers"
    job, text = await _file(visitor, services, upload_id)
    table = await services.heavy_work.run_for(len(text), lambda: read_csv(text))
    fields = _fields(services, wanted)
    chosen = {f"column.{field}": _matching(field, table) for field in fields}
    form = blank(request, kind=wanted, amounts="minor", earn="rules", **chosen)
    return _columns_page(request, job, table, wanted, fields, form)


@router.post(_UPLOAD, name="imports.try")
async def try_import(
    request: Request, visitor: Visitor, services: ServicesDep, upload_id: JobId, form: SentForm
) -> Response:
    """Start a trial run, which finds every error and writes nothing."""
    job, text = await _file(visitor, services, upload_id)
    kind: ImportKind = cast("ImportKind", form.text("kind")) if form.text("kind") in KINDS else "customers"
    fields = _fields(services, kind)
    try:
        command = _command(visitor, job, text, kind, fields, form)
        made = await _started(request, services, form, command)
    except Refused as error:
        table = await services.heavy_work.run_for(len(text), lambda: read_csv(text))
        return _columns_page(request, job, table, kind, fields, refused(request, form, error), status_of(error))
    return redirect(request, f"{PATH}/{made['id']}")


@router.get(_ONE, name="import")
async def show_import(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    import_id: JobId,
    after: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> Response:
    """One import: how far it is, what it found, and every refused row with its line."""
    return page(request, "imports/import.html", **await _one(request, visitor, services, import_id, after))


@router.get(f"{_ONE}/rows", name="import.progress")
async def progress(
    request: Request,
    visitor: Visitor,
    services: ServicesDep,
    import_id: JobId,
    after: Annotated[int, Query(ge=0, le=10**9)] = 0,
) -> Response:
    """The part of an import's page that changes by itself."""
    return fragment(request, "imports/progress.html", **await _one(request, visitor, services, import_id, after))


@router.post(f"{_ONE}/run", name="import.run")
async def run(request: Request, visitor: Visitor, services: ServicesDep, import_id: JobId, form: SentForm) -> Response:
    """Import the rows of a trial run."""
    trial = await services.runner.read(lambda unit: get_job(unit, JobRef(visitor.account_id, import_id, _JOBS)))
    if not _is_finished_trial(trial):
        raise Conflict("Only a finished trial run of an uploaded file can be imported.")
    params = trial.params
    _, text = await _file(visitor, services, params["upload_id"])
    command = StartImport(
        visitor.account_id,
        params["kind"],
        csv=text,
        mapping=params["mapping"],
        amounts=params["amounts"],
        earn=params["earn"],
        counts_toward_tier=params["counts_toward_tier"],
        upload_id=params["upload_id"],
    )
    made = await _started(request, services, form, command)
    return redirect(request, f"{PATH}/{made['id']}")


@router.post(f"{_ONE}/cancel", name="import.cancel")
async def cancel(request: Request, visitor: Visitor, services: ServicesDep, import_id: JobId) -> Response:
    """Stop an import. Rows that are imported already stay."""
    command = JobRef(visitor.account_id, import_id, _JOBS)
    await services.runner.change(lambda unit: cancel_job(unit, command), "control", actor=visitor.actor)
    return redirect(request, f"{PATH}/{import_id}", "The import is canceled. Rows that were imported stay.")


@router.get(f"{_ONE}/refused.csv", name="import.refused")
async def refused_rows(visitor: Visitor, services: ServicesDep, import_id: JobId) -> Response:
    """The refused rows as they were sent, each with its line and with what to do, to be corrected and imported again."""
    ref = JobRef(visitor.account_id, import_id, _JOBS)

    def look(unit: Unit) -> tuple[str, list[RowRefusal]]:
        job = get_job(unit, ref)
        if "upload_id" not in job.params:
            raise NotFound("The rows of this import were not uploaded as a file.")
        _, text = read_upload(unit, visitor.account_id, job.params["upload_id"])
        return text, list_refusals(unit, ListRefusals(ref, 0, _MOST_REFUSALS))

    text, refusals = await services.runner.read(look)
    content = await services.heavy_work.run_for(len(text), lambda: refused_lines(text, refusals))
    headers = {"Content-Disposition": f'attachment; filename="refused-{import_id[-6:]}.csv"'}
    return Response(content, media_type="text/csv; charset=utf-8", headers=headers)


async def _started(request: Request, services: Services, form: Form, command: StartImport) -> Mapping[str, Any]:
    source = await services.heavy_work.run_for(len(command.csv or ""), lambda: read_rows(command, services.row_formats))
    made, _ = await commit(request, form, lambda unit: {"id": start_import(unit, command, source).id})
    return made


def _command(visitor: Visit, job: Job, text: str, kind: ImportKind, fields: list[str], form: Form) -> StartImport:
    """The trial run that a form asks for. Raises `InvalidInput`."""
    mapping = {field: form.text(f"column.{field}") for field in fields if form.text(f"column.{field}")}
    earn = form.text("earn") if kind == "transactions" else "rules"
    if not mapping:
        raise InvalidInput("Choose a column for at least one field.")
    if earn not in get_args(Earn) or form.text("amounts") not in get_args(Amounts):
        raise InvalidInput("Choose how the file is meant.")
    if earn != "given" and kind == "transactions":
        mapping.pop("points", None)
    return StartImport(
        visitor.account_id,
        kind,
        csv=text,
        mapping=mapping,
        amounts=cast("Amounts", form.text("amounts")),
        earn=cast("Earn", earn),
        counts_toward_tier=form.checked("counts_toward_tier"),
        dry_run=True,
        upload_id=job.id,
    )


async def _file(visitor: Visit, services: Services, upload_id: str) -> tuple[Job, str]:
    return await services.runner.read(lambda unit: read_upload(unit, visitor.account_id, upload_id))


def _fields(services: Services, kind: ImportKind) -> list[str]:
    """The fields that a column can be for."""
    return [*services.row_formats[kind].fields, *(("points",) if kind == "transactions" else ())]


def _matching(field: str, table: Table) -> str:
    """The column whose name means this field; empty when none does."""
    wanted = (field.replace("_", ""), *_SAME.get(field, ()))
    plain = {re.sub(r"[\W_]", "", column.lower()): column for column in table.header}
    return next((plain[each] for each in wanted if each in plain), "")


def _columns_page(
    request: Request, job: Job, table: Table, kind: ImportKind, fields: list[str], form: Form, status: int = 200
) -> Response:
    return page(
        request,
        "imports/columns.html",
        title="Columns of the file",
        status=status,
        form=form,
        upload=job,
        kind=kind,
        kinds=list(_KIND_NAMES.items()),
        header=table.header,
        rows=table.rows[:_SAMPLE],
        total=len(table.rows),
        fields=[(field, _words(field)) for field in fields],
        choices=[("", "Not in the file"), *((column, column) for column in table.header if column)],
    )


def _words(field: str) -> str:
    known = {
        "external_id": "Your own id",
        "customer_external_id": "Your own id of the customer",
        "customer_id": "Our id of the customer",
        "email": "E-mail",
        "occurred_at": "When it happened",
    }
    return known.get(field) or field.replace("_", " ").capitalize()


def _is_finished_trial(job: Job) -> bool:
    return bool(job.params["dry_run"]) and job.status == "done" and "upload_id" in job.params


async def _listed(visitor: Visit, services: Services, before: str | None) -> dict[str, Any]:
    account_id = visitor.account_id
    known = before if before is not None and is_id("job", before) else None

    def look(unit: Unit) -> dict[str, Any]:
        jobs = list_jobs(unit, ListJobs(account_id, _JOBS, known, _PAGE + 1))
        return {"jobs": jobs, "names": names_of(unit, account_id, [each.actor for each in jobs])}

    found = await services.runner.read(look)
    jobs = found["jobs"]
    rights = ROLES[visitor.member.membership.role]
    return found | {
        "title": "Imports",
        "jobs": jobs[:_PAGE],
        "kinds": list(_KIND_NAMES.items()),
        "kind_names": _KIND_NAMES,
        "newest": PATH if known else None,
        "older": f"{PATH}?before={jobs[_PAGE - 1].id}" if len(jobs) > _PAGE else None,
        "may_change": "imports.change" in rights,
        "may_export": "export" in rights,
    }


async def _one(request: Request, visitor: Visit, services: Services, import_id: str, after: int) -> dict[str, Any]:
    ref = JobRef(visitor.account_id, import_id, _JOBS)

    def look(unit: Unit) -> dict[str, Any]:
        job = get_job(unit, ref)
        refusals = list_refusals(unit, ListRefusals(ref, after, _REFUSALS + 1))
        return {"job": job, "refusals": refusals, "names": names_of(unit, visitor.account_id, [job.actor])}

    found = await services.runner.read(look)
    job, refusals = found["job"], found["refusals"]
    more = len(refusals) > _REFUSALS
    return found | {
        "title": f"{'Trial run' if job.params['dry_run'] else 'Import'} of {_KIND_NAMES[job.params['kind']].lower()}",
        "refusals": refusals[:_REFUSALS],
        "seen": job.done + job.unchanged + job.refused,
        "is_over": job.status not in ("queued", "running"),
        "is_trial": bool(job.params["dry_run"]),
        "can_run": _is_finished_trial(job) and job.done > 0,
        "has_file": "upload_id" in job.params,
        "after": after,
        "newest": f"{PATH}/{job.id}" if after else None,
        "older": f"{PATH}/{job.id}?after={refusals[_REFUSALS - 1].line}" if more else None,
        "may_change": "imports.change" in ROLES[visitor.member.membership.role],
        "form": blank(request),
    }
