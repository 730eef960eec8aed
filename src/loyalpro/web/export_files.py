"""The file of an export as a response, a piece in memory at a time."""

import itertools
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from fastapi.responses import StreamingResponse

from loyalpro.kernel.clock import rfc3339
from loyalpro.loyalty.bulk import exports
from loyalpro.loyalty.entities import Job
from loyalpro.web.services import Services

MEDIA_TYPES: Final = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


def file_of(services: Services, job: Job) -> StreamingResponse:
    """The file of a finished export, to be saved."""
    form = job.params["format"]
    name = f"{job.params['kind']}-{rfc3339(job.created_at)[:10]}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_pieces(services, job.id), headers=headers, media_type=MEDIA_TYPES[form])


async def _pieces(services: Services, job_id: str) -> AsyncIterator[bytes]:
    for number in itertools.count():
        content = await services.runner.read(partial(exports.file_piece, job_id=job_id, number=number))
        if content is None:
            return
        yield content
