"""Whether there is room to take more in. Ingestion stops before the disk is full, so that what was taken can be finished."""

from typing import Protocol

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import DiskFull

_NO_ROOM = (
    "The server is short of disk space; nothing was written. Repeat it later, with the same Idempotency-Key: writing"
    " resumes by itself when the operator has made room. Reading and deliveries go on."
)


class Room(Protocol):
    """One database's room."""

    @property
    def enough(self) -> bool:
        """Whether more may be taken in."""
        ...

    async def look(self, now: UnixMs) -> bool:
        """Find out anew. A sweeper's duty: there is never more of it to do at once."""
        ...


def require(room: Room) -> None:
    """Refuse to take anything in while there is not enough room."""
    if not room.enough:
        raise DiskFull(_NO_ROOM)
