"""The disk space of a PostgreSQL server.

Only the server knows it. A statement that fails shows that the disk is full, and a trial write shows that it has space again.
"""

from collections.abc import Awaitable, Callable

import structlog

from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import StoreError
from loyalpro.storage.connection import Connection

_TRIAL_WRITE = "CREATE TEMPORARY TABLE loyalpro_trial ON COMMIT DROP AS SELECT n FROM generate_series(1, 250000) AS n"
"""Writes about 9 MB into the tablespace of the database. They are freed when the transaction ends."""


class ServerDiskSpace:
    """Satisfies `DiskSpace`. `write` runs a function of a connection in a transaction of its own."""

    def __init__(self, write: Callable[[Callable[[Connection], object]], Awaitable[object]]) -> None:
        self._write = write
        self._log = structlog.get_logger("storage")
        self.is_enough = True

    def ran_out(self) -> None:
        """The server has reported a full disk: stop ingestion."""
        if self.is_enough:
            self.is_enough = False
            self._log.error("ingestion_stopped", reason="the disk of the PostgreSQL server is full")

    async def check(self, now: UnixMs) -> bool:  # noqa: ARG002 - the signature of a periodic job
        """While the disk is full, try whether a few megabytes can be written."""
        if self.is_enough:
            return False
        try:
            await self._write(lambda connection: connection.execute(_TRIAL_WRITE))
        except StoreError:
            return False
        self.is_enough = True
        self._log.info("ingestion_resumed")
        return False
