"""One transaction, with everything that it may touch, and the one place where it is committed with its events."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from loyalpro.events.new_event import NewEvent
from loyalpro.events.outbox import Outbox
from loyalpro.jobs.periodic_job import JobKind
from loyalpro.kernel.clock import Clock
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.connection import Connection
from loyalpro.storage.database import Database, Lane
from loyalpro.storage.tables.accounts import AccountTables
from loyalpro.storage.tables.backfills import BackfillTables
from loyalpro.storage.tables.control import ControlTables
from loyalpro.storage.tables.customers import CustomerTables
from loyalpro.storage.tables.deliveries import DeliveryTables
from loyalpro.storage.tables.endpoints import EndpointTables
from loyalpro.storage.tables.erasures import ErasureTables
from loyalpro.storage.tables.events import EventTables
from loyalpro.storage.tables.health import HealthTables
from loyalpro.storage.tables.ledger import LedgerTables
from loyalpro.storage.tables.notices import NoticeTables
from loyalpro.storage.tables.programs import ProgramTables
from loyalpro.storage.tables.replays import ReplayTables
from loyalpro.storage.tables.secrets import SecretTables
from loyalpro.storage.tables.transactions import TransactionTables
from loyalpro.storage.vault import Vault

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tools:
    """What every transaction is handed besides its connection."""

    clock: Clock
    ids: IdFactory
    vault: Vault


class UnitOfWork:
    """The tables of one open transaction, its outbox, and the time that it calls now."""

    def __init__(self, connection: Connection, tools: Tools) -> None:
        self.connection = connection
        self.ids = tools.ids
        self.vault = tools.vault
        self.now = tools.clock.now_ms()
        self.accounts = AccountTables(connection)
        self.events = EventTables(connection)
        self.endpoints = EndpointTables(connection, tools.vault)
        self.deliveries = DeliveryTables(connection)
        self.outbox = Outbox(self.events, tools.clock, tools.ids)
        self.woken_jobs: list[JobKind] = []

    def emit(self, event: NewEvent) -> None:
        """Commit the event with this transaction."""
        self.outbox.emit(event)

    def wake_job(self, kind: JobKind) -> None:
        """Run the job as soon as this transaction is committed."""
        self.woken_jobs.append(kind)

    @cached_property
    def programs(self) -> ProgramTables:
        """The programs of accounts."""
        return ProgramTables(self.connection)

    @property
    def customers(self) -> CustomerTables:
        """Customers."""
        return CustomerTables(self.connection, self.programs)

    @property
    def transactions(self) -> TransactionTables:
        """Purchases."""
        return TransactionTables(self.connection)

    @property
    def ledger(self) -> LedgerTables:
        """Entries, lots and allocations."""
        return LedgerTables(self.connection)

    @property
    def erasures(self) -> ErasureTables:
        """Erasures of deleted customers."""
        return ErasureTables(self.connection)

    @property
    def control(self) -> ControlTables:
        """Deliveries, to be moved by hand."""
        return ControlTables(self.connection)

    @property
    def backfills(self) -> BackfillTables:
        """Events of the past that are owed after all, or once more."""
        return BackfillTables(self.connection)

    @property
    def replays(self) -> ReplayTables:
        """Jobs that send a range of past events."""
        return ReplayTables(self.connection, self.endpoints)

    @property
    def secrets(self) -> SecretTables:
        """What deliveries are signed with."""
        return SecretTables(self.connection, self.vault)

    @property
    def health(self) -> HealthTables:
        """How endpoints are doing."""
        return HealthTables(self.connection, self.ids)

    @property
    def notices(self) -> NoticeTables:
        """What owners are told."""
        return NoticeTables(self.connection)


def _unknown_job(kind: JobKind) -> None:
    raise RuntimeError(f"No scheduler runs the job {kind.name}.")


class Transactions:
    """Runs work against the database. What it changes and the events that this causes are committed together."""

    def __init__(
        self,
        database: Database,
        tools: Tools,
        on_owed: Callable[[frozenset[str]], None],
        wake_job: Callable[[JobKind], None] = _unknown_job,
    ) -> None:
        self._database = database
        self._tools = tools
        self._on_owed = on_owed
        self._wake_job = wake_job

    async def change(self, work: Callable[[UnitOfWork], T], lane: Lane = "ingest") -> T:
        """Commit `work` and its events; then tell the engine which endpoints are owed something."""

        def transaction(connection: Connection) -> tuple[T, frozenset[str], list[JobKind]]:
            unit = UnitOfWork(connection, self._tools)
            result = work(unit)
            return result, unit.outbox.flush(), unit.woken_jobs

        result, owed, jobs = await self._database.write(transaction, lane)
        if owed:
            self._on_owed(owed)
        for kind in jobs:
            self._wake_job(kind)
        return result

    async def read(self, work: Callable[[UnitOfWork], T]) -> T:
        """Run `work` on a connection that cannot write."""
        return await self._database.read(lambda connection: work(UnitOfWork(connection, self._tools)))

    async def lookup(self, work: Callable[[UnitOfWork], T]) -> T:
        """`read`, for `work` of one statement that looks at rows by their keys and is asked for with every request."""
        return await self._database.lookup(lambda connection: work(UnitOfWork(connection, self._tools)))
