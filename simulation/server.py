"""One simulated LoyalPro process: the product's engine and transactions, wired as its own composition root does it."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.engine import Engine, EngineSettings
from loyalpro.delivery.membership import LeaseTimes
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.sweeper import Sweeper
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from loyalpro.storage.replay_store import ReplayStore
from loyalpro.storage.sweep_store import SweepStore
from loyalpro.storage.unit_of_work import Tools, Transactions
from loyalpro.storage.vault import Vault
from loyalpro.transport.request import sign_attempt
from simulation.database import ProcessDatabase, SharedDatabase
from simulation.loop import LoopClock, Process, VirtualLoop
from simulation.network import Network, SimulatedSender
from simulation.profile import Pace

TIMEOUT_S = 10.0
DRAIN_S = 10.0
DUTIES = frozenset({"windows", "orphans", "stray leases", "replays"})
"""What is done here of all that the sweeper does: nothing becomes so old that it would be removed."""


class CountingMeter:
    """Satisfies `Meter`; what it counts outlives the process."""

    def __init__(self, counted: Counter[str]) -> None:
        self._counted = counted

    def attempted(self, outcome: OutcomeCode, total_ms: float) -> None:  # noqa: ARG002 - `Meter` has them
        self._counted["attempts"] += 1

    def fenced(self) -> None:
        self._counted["fenced"] += 1

    def in_flight(self, count: int) -> None: ...


@dataclass(frozen=True)
class Site:
    """What all processes share."""

    loop: VirtualLoop
    database: SharedDatabase
    network: Network
    vault: Vault
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
        pace = site.pace
        schedule = RetrySchedule(window_s=pace.window_s)
        self.engine = Engine(
            # leases are judged by the database's clock, which all hosts share; everything else by the host's own
            store=DatabaseDeliveryStore(database, site.vault, LoopClock(site.loop), ids),
            sender=SimulatedSender(site.network),
            sign=sign_attempt,
            clock=clock,
            chance=chance,
            new_worker_id=lambda: ids.new("wrk"),
            meter=CountingMeter(site.counted),
            settings=EngineSettings(
                timeout_s=TIMEOUT_S,
                poll_s=pace.poll_s,
                leases=LeaseTimes(ttl_s=pace.lease_ttl_s, renew_s=pace.lease_ttl_s / 4),
                schedule=schedule,
            ),
        )
        self.transactions = Transactions(
            database, Tools(clock, ids, site.vault), lambda owed: self.engine.wake(sorted(owed))
        )
        duties = [
            *SweepStore(database, schedule, ids).duties(pace.poll_s),
            ReplayStore(database, site.vault, self.engine.wake).duty(),
        ]
        sweeper = Sweeper([replace(duty, every_s=pace.poll_s) for duty in duties if duty.name in DUTIES], clock)
        self.mains = [
            self.process.spawn(self.engine.run(), f"{name} engine"),
            self.process.spawn(sweeper.run(), f"{name} sweeper"),
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
