"""One simulated LoyalPro process: the engine, the jobs and the transactions, connected as the product's own root does it."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.engine import Engine, EngineSettings
from loyalpro.delivery.lag import WaitsFor
from loyalpro.delivery.maintenance import delivery_jobs
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.settlement import Settlement
from loyalpro.delivery.worker_registration import LeaseTimes
from loyalpro.jobs.periodic_job import JobRun, PeriodicJob
from loyalpro.jobs.scheduler import JobScheduler, RecordRuns
from loyalpro.kernel.clock import Clock, UnixMs
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner, Tools
from loyalpro.storage.vault import Vault
from loyalpro.transport.request import sign_attempt
from loyalpro.webhooks.replays import ReplayJob
from simulation.database import ProcessDatabase, SharedDatabase
from simulation.loop import LoopClock, Process, VirtualLoop
from simulation.network import Network, SimulatedSender
from simulation.profile import Pace

TIMEOUT_S = 10.0
DRAIN_S = 10.0


class CountingMetrics:
    """Satisfies `Metrics`. The counts outlive the process."""

    def __init__(self, counted: Counter[str]) -> None:
        self._counted = counted

    def attempted(self, outcome: OutcomeCode, total_ms: float) -> None:  # noqa: ARG002 - `Metrics` has them
        self._counted["attempts"] += 1

    def fenced(self) -> None:
        self._counted["fenced"] += 1

    def in_flight(self, count: int) -> None: ...

    def settled(self, settlement: Settlement) -> None: ...

    def oldest_due(self, due_at: Mapping[WaitsFor, UnixMs]) -> None: ...


class NoJobMetrics:
    """Satisfies `JobMetrics`, and counts nothing."""

    def job_ran(self, run: JobRun) -> None: ...


async def _record_nothing(runs: Sequence[JobRun]) -> None: ...


async def record_forever(_runs: Sequence[JobRun]) -> None:
    """Take runs, and never ask for more: a recorder that wakes up every minute would fill a run of months."""
    await asyncio.Event().wait()


def quiet_scheduler(jobs: Sequence[PeriodicJob], clock: Clock, record: RecordRuns = _record_nothing) -> JobScheduler:
    """A scheduler that records and counts no runs."""
    return JobScheduler(jobs, clock, process="simulated", record=record, metrics=NoJobMetrics())


@dataclass(frozen=True)
class Site:
    """What all processes of a run share."""

    loop: VirtualLoop
    database: SharedDatabase
    network: Network
    vault: Vault
    pace: Pace
    counted: Counter[str]


class Server:
    """A process from its start to its end. After a restart there is a new one."""

    def __init__(
        self, site: Site, name: str, *, skew_ms: int, rng: random.Random, on_death: Callable[[], None]
    ) -> None:
        self.process = Process(site.loop, name, lambda _: on_death())
        clock = LoopClock(site.loop, skew_ms)
        ids = IdFactory(clock, rng)
        database = ProcessDatabase(site.database)
        pace = site.pace
        schedule = RetrySchedule(window_s=pace.window_s)
        self.engine = Engine(
            # leases are judged by the database's clock, which all hosts share; everything else by the host's own
            store=DatabaseDeliveryStore(database, site.vault, LoopClock(site.loop), ids),
            sender=SimulatedSender(site.network),
            sign=sign_attempt,
            clock=clock,
            rng=rng,
            new_worker_id=lambda: ids.new("wrk"),
            metrics=CountingMetrics(site.counted),
            settings=EngineSettings(
                timeout_s=TIMEOUT_S,
                poll_s=pace.poll_s,
                leases=LeaseTimes(ttl_s=pace.lease_ttl_s, renew_s=pace.lease_ttl_s / 4),
                schedule=schedule,
            ),
        )
        self.runner = DatabaseUnitOfWorkRunner(
            database,
            Tools(clock, ids, site.vault, rng.randbytes),
            wake_endpoints=self.engine.wake,
            wake_job=lambda _: None,
        )
        jobs = [*delivery_jobs(self.runner, schedule, interval_s=pace.poll_s), ReplayJob(self.runner).periodic()]
        scheduler = quiet_scheduler([replace(job, every_s=pace.poll_s) for job in jobs], clock)
        self.main_tasks = [
            self.process.spawn(self.engine.run(), f"{name} engine"),
            self.process.spawn(scheduler.run(), f"{name} jobs"),
        ]

    @property
    def is_running(self) -> bool:
        """Whether it accepts requests; a frozen one does, and does not answer."""
        return not self.process.dead

    async def stop(self) -> None:
        """SIGTERM: finish the deliveries in flight and release the others."""
        await asyncio.wait({self.process.spawn(self._stop(), f"{self.process.name} stop")})
        self.process.kill()

    async def _stop(self) -> None:
        await self.engine.drain(DRAIN_S)
        for task in self.main_tasks:
            task.cancel()
        await asyncio.gather(*self.main_tasks, return_exceptions=True)
