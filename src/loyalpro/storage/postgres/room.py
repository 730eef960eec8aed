"""The room on a PostgreSQL server, which only the server knows: it says when there is none, and a try says when there is."""

from collections.abc import Awaitable, Callable

import structlog

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import StoreError
from loyalpro.storage.connection import Connection

_TRY = "CREATE TEMPORARY TABLE loyalpro_room ON COMMIT DROP AS SELECT n FROM generate_series(1, 250000) AS n"
"""About 9 MB, written where the database's tables are, and gone with the transaction."""


class ServerRoom:
    """Satisfies `Room`. `write` runs something in a transaction of its own."""

    def __init__(self, write: Callable[[Callable[[Connection], object]], Awaitable[object]]) -> None:
        self._write = write
        self._log = structlog.get_logger("storage")
        self.enough = True

    def ran_out(self) -> None:
        """The server says that its disk is full: take nothing more in."""
        if self.enough:
            self.enough = False
            self._log.error("ingestion_stopped", reason="the disk of the PostgreSQL server is full")

    async def look(self, now: UnixMs) -> bool:  # noqa: ARG002 - a duty is told the time
        """While it is full, try whether a few megabytes can be written again."""
        if self.enough:
            return False
        try:
            await self._write(lambda connection: connection.execute(_TRY))
        except StoreError:
            return False
        self.enough = True
        self._log.info("ingestion_resumed")
        return False
