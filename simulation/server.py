"""One simulated LoyalPro process: the product's engine and transactions, wired as its own composition root does it."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.jobs.periodic_job import JobRun, PeriodicJob
from loyalpro.jobs.scheduler import JobScheduler
from loyalpro.kernel.clock import Clock
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.vault import Vault
from simulation.database import ProcessDatabase, SharedDatabase
from simulation.loop import LoopClock, Process, VirtualLoop
from simulation.network import Network, SimulatedSender
from simulation.product import Product
from simulation.profile import Pace

TIMEOUT_S = 10.0
DRAIN_S = 10.0


class CountingMeter:
    """Satisfies `Meter`; what it counts outlives the process."""

    def __init__(self, counted: Counter[str]) -> None:
        self._counted = counted

    def attempted(self, outcome: OutcomeCode, total_ms: float) -> None:  # noqa: ARG002 - `Meter` has them
        self._counted["attempts"] += 1

    def fenced(self) -> None:
        self._counted["fenced"] += 1

    def in_flight(self, count: int) -> None: ...


class NoJobMetrics:
    """Satisfies `JobMetrics`."""

    def job_ran(self, run: JobRun) -> None: ...


async def _record_nothing(runs: Sequence[JobRun]) -> None: ...


def quiet_scheduler(
    jobs: Sequence[PeriodicJob], clock: Clock, scheduler: type[JobScheduler] = JobScheduler
) -> JobScheduler:
    """A scheduler that records and counts no runs."""
    return scheduler(jobs, clock, process="simulated", record=_record_nothing, metrics=NoJobMetrics())


@dataclass(frozen=True)
class Site:
    """What all processes share."""

    loop: VirtualLoop
    database: SharedDatabase
    network: Network
    vault: Vault
    product: Product
    pace: Pace
    counted: Counter[str]


class Server:
    """A process from its start to its end. A restart is a new one."""

    def __init__(
        self, site: Site, name: str, *, skew_ms: int, chance: random.Random, on_death: Callable[[], None]
    ) -> None:
        self.process = Process(site.loop, name, lambda _: on_death())
        clock = LoopClock(site.loop, skew_ms)
        ids = IdFactory(clock, chance)
        database = ProcessDatabase(site.database)
        product, pace = site.product, site.pace
        schedule = product.schedule(window_s=pace.window_s)
        self.engine = product.engine(
            # leases are judged by the database's clock, which all hosts share; everything else by the host's own
            store=product.store(database, site.vault, LoopClock(site.loop), ids),
            sender=SimulatedSender(site.network),
            sign=product.sign,
            clock=clock,
            rng=chance,
            new_worker_id=lambda: ids.new("wrk"),
            metrics=CountingMeter(site.counted),
            settings=product.settings(
                timeout_s=TIMEOUT_S,
                poll_s=pace.poll_s,
                leases=product.leases(ttl_s=pace.lease_ttl_s, renew_s=pace.lease_ttl_s / 4),
                schedule=schedule,
            ),
        )
        self.runner = product.runner(
            database,
            product.tools(clock, ids, site.vault, chance.randbytes),
            wake_endpoints=self.engine.wake,
            wake_job=lambda _: None,
        )
        jobs = [
            *product.delivery_jobs(self.runner, schedule, interval_s=pace.poll_s),
            product.replays(self.runner).periodic(),
        ]
        scheduler = quiet_scheduler([replace(job, every_s=pace.poll_s) for job in jobs], clock, product.scheduler)
        self.mains = [
            self.process.spawn(self.engine.run(), f"{name} engine"),
            self.process.spawn(scheduler.run(), f"{name} jobs"),
        ]

    @property
    def serves(self) -> bool:
        """Whether somebody who knocks is let in; a frozen one lets in, and says nothing."""
        return not self.process.dead

    async def stop(self) -> None:
        """SIGTERM: finish what is under way, give the rest back."""
        await asyncio.wait({self.process.spawn(self._stop(), f"{self.process.name} stop")})
        self.process.kill()

    async def _stop(self) -> None:
        await self.engine.drain(DRAIN_S)
        for main in self.mains:
            main.cancel()
        await asyncio.gather(*self.mains, return_exceptions=True)
