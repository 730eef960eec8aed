"""Whether the disk of a database has space for new data.

Ingestion stops before the disk is full, so that the work that was already accepted can be finished.
"""

from typing import Protocol

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import DiskFull

_TOO_LITTLE = (
    "The server is short of disk space; nothing was written. Repeat the request later, with the same Idempotency-Key:"
    " writing resumes by itself when the operator has freed space. Reading and deliveries continue."
)


class DiskSpace(Protocol):
    """The disk space of one database."""

    @property
    def is_enough(self) -> bool:
        """Whether new data is accepted, by the latest check."""
        ...

    async def check(self, now: UnixMs) -> bool:
        """Measure again. Always False: as a periodic job, a check never leaves work for an immediate second run."""
        ...


def require(disk_space: DiskSpace) -> None:
    """Raise `DiskFull` while there is too little space for new data."""
    if not disk_space.is_enough:
        raise DiskFull(_TOO_LITTLE)
