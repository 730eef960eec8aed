"""The sweeper's duties, each a short transaction on the delivery lane of the database."""

from collections.abc import Callable
from typing import TypeVar

from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.sweeper import Duty
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.database import Database
from loyalpro.storage.tables.sweeps import SweepTables

T = TypeVar("T")


class SweepStore:
    """Housekeeping on either database."""

    def __init__(self, database: Database, schedule: RetrySchedule) -> None:
        self._database = database
        self._schedule = schedule

    def duties(self, interval_s: float) -> list[Duty]:
        """What is to be done, and how often; `interval_s` is the operator's."""
        return [
            Duty("windows", min(interval_s, 5.0), self.close_windows),
            Duty("orphans", interval_s, self.cancel_orphans),
        ]

    async def close_windows(self, now: UnixMs) -> bool:
        """Exhaust what has run out of its window while it waited."""
        closed_since = self._schedule.closed_since(now)
        return await self._write(lambda connection: SweepTables(connection).close_windows(now, closed_since))

    async def cancel_orphans(self, now: UnixMs) -> bool:
        """Cancel what a deleted endpoint was owed."""
        return await self._write(lambda connection: SweepTables(connection).cancel_orphans(now))

    async def _write(self, work: Callable[[Connection], T]) -> T:
        return await self._database.write(work, lane="delivery")
