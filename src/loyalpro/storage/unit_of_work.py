"""One database transaction with everything that it may touch, and the one place where it is committed with its events."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

from loyalpro.accounts.entities import AuditEntry
from loyalpro.events.new_event import NewEvent
from loyalpro.events.outbox import Outbox
from loyalpro.jobs.periodic_job import JobKind
from loyalpro.kernel.clock import Clock
from loyalpro.kernel.ids import IdFactory
from loyalpro.kernel.origin import Origin, current_origin
from loyalpro.kernel.unit_of_work import SYSTEM, WriterName
from loyalpro.storage.connection import Connection
from loyalpro.storage.database import Database
from loyalpro.storage.tables.accounts import AccountTables
from loyalpro.storage.tables.adjustments import AdjustmentTables
from loyalpro.storage.tables.api_keys import ApiKeyTables
from loyalpro.storage.tables.audit_log import AuditTables
from loyalpro.storage.tables.campaigns import CampaignTables
from loyalpro.storage.tables.churn import ChurnTables
from loyalpro.storage.tables.counters import CounterTables
from loyalpro.storage.tables.custom_headers import CustomHeaderTables
from loyalpro.storage.tables.customer_moves import CustomerMoveTables
from loyalpro.storage.tables.customers import CustomerTables
from loyalpro.storage.tables.days import DayTables
from loyalpro.storage.tables.deliveries import DeliveryTables
from loyalpro.storage.tables.endpoints import EndpointTables
from loyalpro.storage.tables.erasures import ErasureTables
from loyalpro.storage.tables.events import EventTables
from loyalpro.storage.tables.exports import ExportTables
from loyalpro.storage.tables.fraud import FraudTables
from loyalpro.storage.tables.health import HealthTables
from loyalpro.storage.tables.idempotency import IdempotencyTables
from loyalpro.storage.tables.invitations import InvitationTables
from loyalpro.storage.tables.job_runs import JobRunTables
from loyalpro.storage.tables.jobs import JobTables
from loyalpro.storage.tables.ledger import LedgerTables
from loyalpro.storage.tables.maintenance import MaintenanceTables
from loyalpro.storage.tables.notices import NoticeTables
from loyalpro.storage.tables.people import PeopleTables
from loyalpro.storage.tables.programs import ProgramTables
from loyalpro.storage.tables.redemptions import RedemptionTables
from loyalpro.storage.tables.refunds import RefundTables
from loyalpro.storage.tables.replays import ReplayTables
from loyalpro.storage.tables.reports import ReportTables
from loyalpro.storage.tables.retention import RetentionTables
from loyalpro.storage.tables.retiers import RetierTables
from loyalpro.storage.tables.rewards import RewardTables
from loyalpro.storage.tables.second_factors import SecondFactorTables
from loyalpro.storage.tables.secrets import SecretTables
from loyalpro.storage.tables.setup_codes import SetupCodeTables
from loyalpro.storage.tables.sign_in_tries import TryTables
from loyalpro.storage.tables.transactions import TransactionTables
from loyalpro.storage.tables.web_sessions import WebSessionTables
from loyalpro.storage.vault import Vault

T = TypeVar("T")


class WakeEndpoints(Protocol):
    """Hints to the engine, after a commit, which endpoints have pending deliveries."""

    def __call__(self, endpoint_ids: Iterable[str], *, urgent: bool = False) -> None:
        """`urgent`: requested manually, so that an open breaker does not hold them back."""
        ...


@dataclass(frozen=True, slots=True)
class Tools:
    """What every unit of work is handed besides its connection."""

    clock: Clock
    ids: IdFactory
    vault: Vault
    random_bytes: Callable[[int], bytes]


class UnitOfWork:
    """The tables of one open database transaction, its events, the time that it calls now, and what it wakes after the commit.

    It satisfies the unit Protocol of each package whose use cases run in it. `origin`: the request that causes the events
    which are emitted from now on. `is_import`: whether that is an import. `actor`: who makes its changes.
    """

    def __init__(
        self, connection: Connection, tools: Tools, origin: Origin | None = None, *, actor: str = SYSTEM
    ) -> None:
        self.connection = connection
        self.actor = actor
        self.ids = tools.ids
        self.vault = tools.vault
        self.random_bytes = tools.random_bytes
        self.origin = origin
        self.is_import = False
        self.now = tools.clock.now_ms()
        self.outbox = Outbox(self.endpoints, self.events, self.deliveries, tools.clock, tools.ids)
        self.woken = Woken()

    def emit(self, event: NewEvent) -> None:
        """Note an event; it is committed with this transaction."""
        self.outbox.emit(event, self.origin, is_import=self.is_import)

    def wake_endpoints(self, endpoint_ids: Iterable[str], *, urgent: bool = False) -> None:
        """After the commit, hint to the engine that these endpoints have something to be sent."""
        (self.woken.urgent if urgent else self.woken.endpoints).update(endpoint_ids)

    def wake_job(self, kind: JobKind) -> None:
        """After the commit, hint to the scheduler that this job has something to do."""
        self.woken.jobs.add(kind)

    def audit(self, account_id: str, action: str, object_id: str, changes: Mapping[str, Any] | None = None) -> None:
        """Store that the actor makes a change, such as `api_key.revoked`; it is committed with this transaction.

        `changes`: values before and after, without personal data.
        """
        origin = self.origin
        self.audit_log.insert(
            AuditEntry(
                id=self.ids.new("aud"),
                account_id=account_id,
                actor=self.actor,
                action=action,
                object_id=object_id,
                created_at=self.now,
                request_id=None if origin is None else origin.request_id,
                address=None if origin is None else origin.address,
                changes=None if changes is None else dict(changes),
            )
        )

    # -- tables ------------------------------------------------------------------------------------------------------

    @property
    def accounts(self) -> AccountTables:
        """Accounts."""
        return AccountTables(self.connection)

    @property
    def people(self) -> PeopleTables:
        """People and their memberships."""
        return PeopleTables(self.connection)

    @property
    def second_factors(self) -> SecondFactorTables:
        """Second factors."""
        return SecondFactorTables(self.connection, self.vault)

    @property
    def web_sessions(self) -> WebSessionTables:
        """Web sessions."""
        return WebSessionTables(self.connection)

    @property
    def invitations(self) -> InvitationTables:
        """Invitations."""
        return InvitationTables(self.connection)

    @property
    def sign_in_tries(self) -> TryTables:
        """Tries to sign in."""
        return TryTables(self.connection)

    @property
    def setup_codes(self) -> SetupCodeTables:
        """Setup codes."""
        return SetupCodeTables(self.connection)

    @property
    def api_keys(self) -> ApiKeyTables:
        """API keys."""
        return ApiKeyTables(self.connection)

    @property
    def audit_log(self) -> AuditTables:
        """The changes that were made, with their actors."""
        return AuditTables(self.connection)

    @property
    def idempotency(self) -> IdempotencyTables:
        """Results of requests with an idempotency key."""
        return IdempotencyTables(self.connection, self.vault)

    @cached_property
    def programs(self) -> ProgramTables:
        """The programs of accounts."""
        return ProgramTables(self.connection)

    @property
    def customers(self) -> CustomerTables:
        """Customers."""
        return CustomerTables(self.connection, self.programs)

    @property
    def customer_moves(self) -> CustomerMoveTables:
        """What else belongs to customers."""
        return CustomerMoveTables(self.connection)

    @property
    def exports(self) -> ExportTables:
        """Everything that is stored about customers."""
        return ExportTables(self.connection)

    @property
    def transactions(self) -> TransactionTables:
        """Purchases."""
        return TransactionTables(self.connection)

    @property
    def refunds(self) -> RefundTables:
        """Refunds of purchases."""
        return RefundTables(self.connection)

    @property
    def days(self) -> DayTables:
        """The days of customers."""
        return DayTables(self.connection)

    @property
    def campaigns(self) -> CampaignTables:
        """Campaigns."""
        return CampaignTables(self.connection)

    @property
    def churn(self) -> ChurnTables:
        """Settings, models, runs and scores of churn."""
        return ChurnTables(self.connection)

    @property
    def ledger(self) -> LedgerTables:
        """Entries, lots and allocations."""
        return LedgerTables(self.connection)

    @property
    def adjustments(self) -> AdjustmentTables:
        """Adjustments by hand."""
        return AdjustmentTables(self.connection)

    @property
    def rewards(self) -> RewardTables:
        """Rewards."""
        return RewardTables(self.connection)

    @property
    def redemptions(self) -> RedemptionTables:
        """Redemptions."""
        return RedemptionTables(self.connection)

    @property
    def fraud(self) -> FraudTables:
        """Fraud rules, cases, and what rules are measured with."""
        return FraudTables(self.connection, self.vault, self.random_bytes)

    @property
    def retiers(self) -> RetierTables:
        """Jobs that apply changed tiers."""
        return RetierTables(self.connection)

    @property
    def erasures(self) -> ErasureTables:
        """Erasures of deleted customers."""
        return ErasureTables(self.connection)

    @property
    def events(self) -> EventTables:
        """Events."""
        return EventTables(self.connection)

    @property
    def endpoints(self) -> EndpointTables:
        """Endpoints."""
        return EndpointTables(self.connection)

    @property
    def deliveries(self) -> DeliveryTables:
        """Deliveries and their attempts."""
        return DeliveryTables(self.connection)

    @property
    def replays(self) -> ReplayTables:
        """Jobs that send a range of past events."""
        return ReplayTables(self.connection)

    @property
    def secrets(self) -> SecretTables:
        """Signing secrets."""
        return SecretTables(self.connection, self.vault)

    @property
    def custom_headers(self) -> CustomHeaderTables:
        """The values of custom headers."""
        return CustomHeaderTables(self.connection, self.vault)

    @property
    def health(self) -> HealthTables:
        """The health of endpoints."""
        return HealthTables(self.connection, self.ids)

    @property
    def counters(self) -> CounterTables:
        """Counts of attempts."""
        return CounterTables(self.connection)

    @property
    def notices(self) -> NoticeTables:
        """Notices to owners of endpoints."""
        return NoticeTables(self.connection)

    @property
    def delivery_maintenance(self) -> MaintenanceTables:
        """Changes of pending deliveries when time has passed."""
        return MaintenanceTables(self.connection)

    @property
    def retention(self) -> RetentionTables:
        """Removes what is too old."""
        return RetentionTables(self.connection)

    @property
    def reports(self) -> ReportTables:
        """Sums and lists for reports and exports."""
        return ReportTables(self.connection, self.programs)

    @property
    def jobs(self) -> JobTables:
        """Imports and exports."""
        return JobTables(self.connection)

    @property
    def job_runs(self) -> JobRunTables:
        """The last run of each periodic job."""
        return JobRunTables(self.connection)


class Woken:
    """What a unit of work wakes once it is committed."""

    def __init__(self) -> None:
        self.endpoints: set[str] = set()
        self.urgent: set[str] = set()
        self.jobs: set[JobKind] = set()


class DatabaseUnitOfWorkRunner:
    """Satisfies `UnitOfWorkRunner`: what work changes and the events that it emits are committed together."""

    def __init__(
        self,
        database: Database,
        tools: Tools,
        *,
        wake_endpoints: WakeEndpoints,
        wake_job: Callable[[JobKind], None],
    ) -> None:
        self._database = database
        self._tools = tools
        self._wake_endpoints = wake_endpoints
        self._wake_job = wake_job

    async def change(self, work: Callable[[UnitOfWork], T], writer: WriterName = "ingest", *, actor: str = SYSTEM) -> T:
        """Commit `work` and its events; then wake what they concern, and note the events with their origins."""
        origin = current_origin()

        def transaction(connection: Connection) -> tuple[T, UnitOfWork]:
            unit = UnitOfWork(connection, self._tools, origin, actor=actor)
            result = work(unit)
            unit.woken.endpoints |= unit.outbox.flush()
            return result, unit

        result, unit = await self._database.write(transaction, writer)
        self._wake(unit.woken)
        for caused_by, event_id in unit.outbox.caused:
            caused_by.events.append(event_id)
        return result

    async def read(self, work: Callable[[UnitOfWork], T]) -> T:
        """Run `work` on a connection that cannot write."""
        return await self._database.read(lambda connection: work(UnitOfWork(connection, self._tools)))

    async def lookup(self, work: Callable[[UnitOfWork], T]) -> T:
        """`read`, for `work` of one statement that finds rows by their keys and runs with every request."""
        return await self._database.lookup(lambda connection: work(UnitOfWork(connection, self._tools)))

    def _wake(self, woken: Woken) -> None:
        if woken.endpoints:
            self._wake_endpoints(woken.endpoints)
        if woken.urgent:
            self._wake_endpoints(woken.urgent, urgent=True)
        for kind in woken.jobs:
            self._wake_job(kind)
