"""Imports and exports as jobs: read them, list them, cancel them."""

from collections.abc import Collection
from typing import Any, Final

from loyalpro.jobs.periodic_job import JobKind
from loyalpro.kernel.errors import Conflict, NotFound
from loyalpro.kernel.record import record
from loyalpro.loyalty.entities import Job, RowRefusal
from loyalpro.loyalty.ports import LoyaltyUnit

BULK: Final = JobKind("bulk")
"""The periodic job that works on imports and exports."""


@record
class JobRef:
    """Names a job of one of these kinds."""

    account_id: str
    job_id: str
    kinds: Collection[str]


@record
class ListJobs:
    """Jobs of these kinds to read, newest first, before `before_id`."""

    account_id: str
    kinds: Collection[str]
    before_id: str | None
    limit: int


@record
class ListRefusals:
    """Refused rows of an import to read, in the order of their lines, behind `after_line`."""

    job: JobRef
    after_line: int
    limit: int


def new_job(unit: LoyaltyUnit, account_id: str, kind: str, params: dict[str, Any], *, total: int | None = None) -> Job:
    """Store a job and wake what works on it."""
    job = Job(
        id=unit.ids.new("job"),
        account_id=account_id,
        kind=kind,
        status="queued",
        params=params,
        cursor="",
        total=total,
        actor=unit.actor,
        created_at=unit.now,
        updated_at=unit.now,
    )
    unit.jobs.insert(job)
    unit.wake_job(BULK)
    return job


def get_job(unit: LoyaltyUnit, query: JobRef) -> Job:
    """One job. Raises `NotFound`."""
    job = unit.jobs.get(query.account_id, query.job_id)
    if job is None or job.kind not in query.kinds:
        raise NotFound(f"There is no job {query.job_id}. Jobs are kept for 7 days after they end.", param="id")
    return job


def list_jobs(unit: LoyaltyUnit, query: ListJobs) -> list[Job]:
    """Jobs, newest first."""
    return unit.jobs.list_newest(query.account_id, query.kinds, query.before_id, query.limit)


def list_refusals(unit: LoyaltyUnit, query: ListRefusals) -> list[RowRefusal]:
    """Refused rows. Raises `NotFound` for an import that is not there."""
    job = get_job(unit, query.job)
    return unit.jobs.refusals(job.id, query.after_line, query.limit)


def cancel_job(unit: LoyaltyUnit, command: JobRef) -> Job:
    """End a job. What it has done stays; its pieces are removed. Raises `NotFound`, and `Conflict` `job_finished`."""
    job = get_job(unit, command)
    if unit.jobs.finish(job, "canceled", unit.now):
        unit.jobs.remove_pieces(job.id)
        unit.audit(job.account_id, "job.canceled", job.id)
    ended = get_job(unit, command)
    if ended.status != "canceled":
        raise Conflict("This job has ended, so it cannot be canceled.", code="job_finished")
    return ended
