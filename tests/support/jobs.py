"""The periodic jobs of an open database, run once without a scheduler: each until no work is left."""

import asyncio
from typing import Any

from loyalpro.delivery.maintenance import delivery_jobs
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.kernel.clock import SystemClock, UnixMs, VirtualClock
from loyalpro.loyalty.erasure import erasure_job
from loyalpro.loyalty.sweeps.churn_run import ChurnJob
from loyalpro.storage.database import Database
from loyalpro.storage.maintenance_jobs import RETENTION_DAYS, MaintenanceJobs
from loyalpro.storage.open import open_database
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner
from support.units import tools, wake_nothing


class Jobs:
    """Jobs at the time `now`."""

    def __init__(self, database: Database, now: UnixMs, retention_days: int = RETENTION_DAYS) -> None:
        self.database = database
        self.now = now
        runner = DatabaseUnitOfWorkRunner(
            database, tools(7, clock=VirtualClock(now)), wake_endpoints=wake_nothing, wake_job=lambda _: None
        )
        jobs = [
            *delivery_jobs(runner, RetrySchedule(), interval_s=60),
            *MaintenanceJobs(runner, database.dialect, retention_days=retention_days).periodic(60),
            erasure_job(runner, 60, on_finished=lambda _: None),
            ChurnJob(runner, on_finished=lambda _: None, on_fit_failed=lambda *_: None).periodic(60),
        ]
        self._jobs = {job.kind.name: job for job in jobs}

    async def run(self, *names: str) -> None:
        """Run each of these jobs until no work is left, or all jobs when none is named."""
        for name in names or self._jobs:
            while (await self._jobs[name].run_piece(self.now)).more:
                pass


async def opened(url: str, use: Any) -> Any:
    """What `use` returns for an open database."""
    database = open_database(url, SystemClock())
    await database.start()
    try:
        return await use(database)
    finally:
        await database.stop()


def run_jobs(url: str, now: UnixMs, *names: str) -> None:
    """Run these jobs of a database, or all."""
    asyncio.run(opened(url, lambda database: Jobs(database, now).run(*names)))
