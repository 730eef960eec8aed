"""The code under test: the real one, or a mutant of it."""

from dataclasses import dataclass

from loyalpro.delivery.engine import Engine, EngineSettings, Sign
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from loyalpro.storage.unit_of_work import Tools, Transactions
from loyalpro.transport.request import sign_attempt


@dataclass(frozen=True)
class Product:
    """The classes that a simulated process is made of."""

    engine: type[Engine]
    settings: type[EngineSettings]
    schedule: type[RetrySchedule]
    store: type[DatabaseDeliveryStore]
    transactions: type[Transactions]
    tools: type[Tools]
    sign: Sign


REAL = Product(Engine, EngineSettings, RetrySchedule, DatabaseDeliveryStore, Transactions, Tools, sign_attempt)
