"""The code under test: the real one, or a mutant of it."""

from collections.abc import Callable
from dataclasses import dataclass

from loyalpro.delivery.engine import Engine, EngineSettings
from loyalpro.delivery.maintenance import delivery_jobs
from loyalpro.delivery.ports import Sign
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.worker_registration import LeaseTimes
from loyalpro.jobs.periodic_job import PeriodicJob
from loyalpro.jobs.scheduler import JobScheduler
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner, Tools
from loyalpro.transport.request import sign_attempt
from loyalpro.webhooks.replays import ReplayJob


@dataclass(frozen=True)
class Product:
    """The classes that a simulated process is made of."""

    engine: type[Engine]
    settings: type[EngineSettings]
    leases: type[LeaseTimes]
    schedule: type[RetrySchedule]
    store: type[DatabaseDeliveryStore]
    scheduler: type[JobScheduler]
    delivery_jobs: Callable[..., list[PeriodicJob]]
    replays: type[ReplayJob]
    runner: type[DatabaseUnitOfWorkRunner]
    tools: type[Tools]
    sign: Sign


REAL = Product(
    engine=Engine,
    settings=EngineSettings,
    leases=LeaseTimes,
    schedule=RetrySchedule,
    store=DatabaseDeliveryStore,
    scheduler=JobScheduler,
    delivery_jobs=delivery_jobs,
    replays=ReplayJob,
    runner=DatabaseUnitOfWorkRunner,
    tools=Tools,
    sign=sign_attempt,
)
