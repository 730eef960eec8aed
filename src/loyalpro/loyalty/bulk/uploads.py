"""Files that were uploaded to be imported: kept as a job that is done, so that they are removed like one.

A file is read several times: to map its columns, for a trial run, for the import, and for the lines that were refused.
"""

from typing import Final

from loyalpro.kernel.errors import InvalidInput
from loyalpro.kernel.record import record
from loyalpro.loyalty.bulk.csv_text import csv_lines, read_csv
from loyalpro.loyalty.bulk.jobs import JobRef, get_job, new_job
from loyalpro.loyalty.entities import Job, RowRefusal
from loyalpro.loyalty.ports import LoyaltyUnit

UPLOAD: Final = "upload"
KINDS: Final = (UPLOAD,)
MAX_UPLOAD_BYTES: Final = 1024 * 1024


@record
class StoreUpload:
    """A CSV file with a header. `name`: what it is called."""

    account_id: str
    name: str
    content: bytes


def checked_text(content: bytes) -> str:
    """The text of a file that is CSV. Raises `InvalidInput` for another one."""
    if not content:
        raise InvalidInput("Choose a file.", code="missing_field", param="file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput("The file is not UTF-8. Save it as CSV UTF-8.", code="invalid_csv", param="file") from None
    if not read_csv(text).rows:
        raise InvalidInput("The file has a header, and no rows.", code="empty_import", param="file")
    return text


def store_upload(unit: LoyaltyUnit, command: StoreUpload) -> Job:
    """Keep a file for an import. It is removed 7 days later."""
    job = new_job(unit, command.account_id, UPLOAD, {"name": command.name})
    unit.jobs.add_pieces(job.id, 0, [command.content])
    unit.jobs.finish(job, "done", unit.now)
    unit.audit(job.account_id, "upload.created", job.id)
    return job


def read_upload(unit: LoyaltyUnit, account_id: str, upload_id: str) -> tuple[Job, str]:
    """A file that was uploaded, and its text. Raises `NotFound`."""
    job = get_job(unit, JobRef(account_id, upload_id, KINDS))
    content = unit.jobs.piece(job.id, 0) or b""
    return job, content.decode("utf-8-sig", "replace")


def refused_lines(text: str, refusals: list[RowRefusal]) -> str:
    """The refused rows of a file as CSV, each with its line and with what to do behind it."""
    table = read_csv(text)
    why = {each.line: each.detail for each in refusals}
    rows = [[*cells, line, why[line]] for line, cells in table.rows if line in why]
    return csv_lines([[*table.header, "line", "error"], *rows])
