"""Program > Imports > Exports: customers, purchases, the ledger and expiring points as a file."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Path, Request, Response

from loyalpro.loyalty.bulk.exports import KINDS, ExportKind, StartExport, start_export, take_export
from loyalpro.loyalty.bulk.jobs import JobRef, ListJobs, list_jobs
from loyalpro.web.dashboard.actors import names_of
from loyalpro.web.dashboard.forms import SentForm, blank, commit
from loyalpro.web.dashboard.render import page, redirect
from loyalpro.web.dashboard.routes import PageRoute
from loyalpro.web.dashboard.visits import Visitor
from loyalpro.web.export_files import file_of
from loyalpro.web.services import ServicesDep
from loyalpro.web.unit import Unit

PATH: Final = "/exports"
_PAGE: Final = 20
_DAYS: Final = 30
_KIND_NAMES: Final[Mapping[str, str]] = {
    "customers": "Customers",
    "transactions": "Purchases",
    "ledger": "Ledger",
    "expiring": "Points that expire within 30 days",
}

router = APIRouter(route_class=PageRoute)


@router.get(PATH, name="exports")
async def show(request: Request, visitor: Visitor, services: ServicesDep) -> Response:
    """The exports of the last 7 days, and the form for one more."""

    def look(unit: Unit) -> dict[str, Any]:
        jobs = list_jobs(unit, ListJobs(visitor.account_id, KINDS, None, _PAGE))
        return {"jobs": jobs, "names": names_of(unit, visitor.account_id, [each.actor for each in jobs])}

    found = await services.runner.read(look)
    form = blank(request, kind="customers", format="csv")
    return page(
        request,
        "imports/exports.html",
        title="Exports",
        form=form,
        kinds=list(_KIND_NAMES.items()),
        kind_names=_KIND_NAMES,
        **found,
    )


@router.post(PATH, name="exports.start")
async def start(request: Request, visitor: Visitor, form: SentForm) -> Response:
    """Start an export."""
    kind = form.text("kind") if form.text("kind") in _KIND_NAMES else "customers"
    command = StartExport(
        visitor.account_id,
        cast("ExportKind", kind),
        "jsonl" if form.text("format") == "jsonl" else "csv",
        days=_DAYS if kind == "expiring" else None,
    )
    await commit(request, form, lambda unit: {"id": start_export(unit, command).id})
    return redirect(request, PATH, "The export is being made. Its file is kept for 7 days.")


@router.get(f"{PATH}/{{export_id}}/file", name="export.file")
async def get_file(visitor: Visitor, services: ServicesDep, export_id: Annotated[str, Path(max_length=64)]) -> Response:
    """The file of an export. That it was taken is noted in the audit log."""
    query = JobRef(visitor.account_id, export_id, KINDS)
    job = await services.runner.change(lambda unit: take_export(unit, query), "control", actor=visitor.actor)
    return file_of(services, job)
