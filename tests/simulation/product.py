"""The code under test: the real one, or a mutant of it."""

from dataclasses import dataclass

from loyalpro.delivery.engine import Engine, EngineSettings
from loyalpro.delivery.ports import Sign
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.sweeper import Sweeper
from loyalpro.delivery.worker_registration import LeaseTimes
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from loyalpro.storage.replay_store import ReplayStore
from loyalpro.storage.sweep_store import SweepStore
from loyalpro.storage.unit_of_work import Tools, Transactions
from loyalpro.transport.request import sign_attempt


@dataclass(frozen=True)
class Product:
    """The classes that a simulated process is made of."""

    engine: type[Engine]
    settings: type[EngineSettings]
    leases: type[LeaseTimes]
    schedule: type[RetrySchedule]
    store: type[DatabaseDeliveryStore]
    sweeper: type[Sweeper]
    sweeps: type[SweepStore]
    replays: type[ReplayStore]
    transactions: type[Transactions]
    tools: type[Tools]
    sign: Sign


REAL = Product(
    engine=Engine,
    settings=EngineSettings,
    leases=LeaseTimes,
    schedule=RetrySchedule,
    store=DatabaseDeliveryStore,
    sweeper=Sweeper,
    sweeps=SweepStore,
    replays=ReplayStore,
    transactions=Transactions,
    tools=Tools,
    sign=sign_attempt,
)
