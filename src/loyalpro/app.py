"""The composition root: makes all parts of a process, connects them, and starts and stops them."""

import asyncio
import logging
import math
import os
import random
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from fastapi import FastAPI

from loyalpro import bootstrap
from loyalpro.accounts.key_uses import KeyUses
from loyalpro.accounts.passwords import Passwords
from loyalpro.accounts.people_upkeep import people_upkeep
from loyalpro.accounts.request_limits import RequestLimits
from loyalpro.control.administration import Administration
from loyalpro.control.control_socket import ControlSocket, socket_path
from loyalpro.delivery.engine import Engine, EngineSettings
from loyalpro.delivery.maintenance import delivery_jobs
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.jobs.periodic_job import JobKind, JobRun, PeriodicJob
from loyalpro.jobs.ports import record_job_runs
from loyalpro.jobs.scheduler import JobScheduler
from loyalpro.kernel.clock import Clock, SystemClock
from loyalpro.kernel.ids import IdFactory
from loyalpro.log_limit import LogLimit
from loyalpro.loyalty.bulk.exports import Exports
from loyalpro.loyalty.bulk.imports import Imports
from loyalpro.loyalty.bulk.runner import BulkJob
from loyalpro.loyalty.churn.entities import ChurnRun
from loyalpro.loyalty.entities import Erasure
from loyalpro.loyalty.erasure import erasure_job
from loyalpro.loyalty.fraud.resolution import fraud_job
from loyalpro.loyalty.sweeps.churn_run import ChurnJob
from loyalpro.loyalty.sweeps.schedule import loyalty_sweeps
from loyalpro.settings import Settings
from loyalpro.storage.count_job import CountJob
from loyalpro.storage.database import Database
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from loyalpro.storage.disk_space import DiskSpace
from loyalpro.storage.key_file import KeyFile
from loyalpro.storage.maintenance_jobs import MaintenanceJobs, disk_space_job
from loyalpro.storage.measured_database import MeasuredDatabase
from loyalpro.storage.open import open_database
from loyalpro.storage.request_batcher import RequestBatcher
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner, Tools, UnitOfWork
from loyalpro.storage.vault import Vault
from loyalpro.telemetry import Telemetry
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.request import sign_attempt
from loyalpro.transport.sender import CurlSender
from loyalpro.web import http
from loyalpro.web.api.imports import ROW_FORMATS
from loyalpro.web.services import Health, Services
from loyalpro.webhooks.replays import ReplayJob

DRAIN_S = 10.0


class Application:
    """One running LoyalPro: the API, the dashboard and the delivery engine over one database.

    `with_components`: the dashboard has the page of all its parts, for development.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        *,
        with_components: bool = False,
    ) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.rng = rng or random.SystemRandom()
        self.ids = IdFactory(self.clock, self.rng)
        self.policy = AddressPolicy(settings.egress_allow)
        self.telemetry = Telemetry(self.clock)
        opened = open_database(settings.url, self.clock, min_free_bytes=settings.min_free_mb * 2**20)
        self.database: Database = opened
        self._measured = MeasuredDatabase(opened, self.telemetry, self.clock)
        self.disk_space: DiskSpace = opened.disk_space
        self._key_file = None if settings.is_postgres else KeyFile(settings.sqlite_path, random.SystemRandom())
        self.vault = Vault(self._secret_keys(), self.rng.randbytes)
        self.sender = CurlSender(self.policy, ca_file=settings.egress_ca_file, dns_servers=settings.dns_servers)
        self.schedule = RetrySchedule(settings.retry_schedule)
        self.engine = self._engine()
        self.runner = DatabaseUnitOfWorkRunner(
            self._measured,
            Tools(self.clock, self.ids, self.vault, self.rng.randbytes),
            wake_endpoints=self.engine.wake,
            wake_job=self._wake_job,
        )
        self.key_uses = KeyUses()
        self.passwords = Passwords()
        self.scheduler = JobScheduler(
            self._jobs(),
            self.clock,
            process=f"{socket.gethostname()}:{os.getpid()}",
            record=self._record_job_runs,
            metrics=self.telemetry,
        )
        self._watch_parts()
        self.web = http.build(
            self._services(), self.telemetry, self.ids, self._lifespan, with_components=with_components
        )
        self.watch = http.build_watch(
            self._services(works_only=True), self.telemetry, self.ids, lambda _: self.working()
        )

    def _secret_keys(self) -> list[str]:
        """The keys of the environment. On SQLite the key of the file follows; without any, a new one is generated."""
        keys = self.settings.secret_keys
        if self._key_file is None:
            return keys
        kept = self._key_file.read()
        return [*keys, kept] if kept else keys or [self._key_file.generate()]

    def _engine(self) -> Engine:
        return Engine(
            store=DatabaseDeliveryStore(self._measured, self.vault, self.clock, self.ids),
            sender=self.sender,
            sign=sign_attempt,
            clock=self.clock,
            rng=self.rng,
            new_worker_id=lambda: self.ids.new("wrk"),
            metrics=self.telemetry,
            settings=EngineSettings(timeout_s=self.settings.delivery_timeout, schedule=self.schedule),
        )

    def _jobs(self) -> list[PeriodicJob]:
        """Every periodic job of every package."""
        interval_s = self.settings.sweep_interval
        maintenance = MaintenanceJobs(
            self.runner,
            self.database.dialect,
            retention_days=self.settings.retention_days,
            on_exhausted=self.telemetry.exhausted,
        )
        return [
            *delivery_jobs(self.runner, self.schedule, interval_s=interval_s, on_exhausted=self.telemetry.exhausted),
            ReplayJob(self.runner).periodic(),
            BulkJob(self.runner, [Imports(self.runner, ROW_FORMATS), Exports(self.runner)]).periodic(),
            *maintenance.periodic(interval_s),
            erasure_job(self.runner, interval_s, on_finished=_log_erasure),
            *loyalty_sweeps(self.runner, self.clock, interval_s, on_failed=_log_failure),
            fraud_job(self.runner, interval_s),
            ChurnJob(self.runner, on_finished=_log_churn_run, on_fit_failed=_log_failed_fit).periodic(interval_s),
            disk_space_job(self.disk_space, interval_s),
            CountJob(self._measured, self.telemetry).periodic(interval_s),
            self.key_uses.job(self.runner, interval_s),
            people_upkeep(self.runner, interval_s),
        ]

    def _watch_parts(self) -> None:
        """Have the metrics read the state of the parts at each scrape."""
        watch = self.telemetry.watch
        watch("loyalpro_database_up", "1 while the database accepts writes.", lambda: self.database.available)
        watch(
            "loyalpro_database_last_answer_age_seconds",
            "Time since the database last answered.",
            lambda: self.clock.monotonic_s() - self.database.answered_s,
        )
        watch("loyalpro_sender_up", "1 while the sender process can send.", lambda: self.sender.alive)
        watch("loyalpro_engine_up", "1 while the engine claims deliveries.", lambda: self.engine.ready)
        watch(
            "loyalpro_ingestion_stopped",
            "1 while new data is refused, because the disk of the database is nearly full.",
            lambda: not self.disk_space.is_enough,
        )
        if not self.settings.is_postgres:
            folder, least_bytes = self.settings.sqlite_path.parent, self.settings.min_free_mb * 2**20
            watch(
                "loyalpro_data_folder_free_bytes",
                "Free bytes on the disk of the data folder.",
                lambda: _free_bytes(folder),
            )
            watch(
                "loyalpro_data_folder_min_free_bytes",
                "Free bytes below which new data is refused.",
                lambda: least_bytes,
            )
        self.telemetry.watch_process("loyalpro_sender", lambda: self.sender.process_id)
        self.telemetry.describe_build(self.database.dialect.name)

    def _wake_job(self, kind: JobKind) -> None:
        self.scheduler.wake(kind)

    async def _record_job_runs(self, runs: Sequence[JobRun]) -> None:
        await self.runner.change(lambda unit: record_job_runs(unit, runs), "upkeep")

    def _services(self, *, works_only: bool = False) -> Services:
        health: Health = {"delivers": lambda: self.engine.ready and self.sender.alive and self.database.available}
        if not works_only:
            health = {"accepts": lambda: self.database.available and self.disk_space.is_enough, **health}
        return Services(
            runner=self.runner,
            batcher=RequestBatcher(self.runner),
            clock=self.clock,
            policy=self.policy,
            resolve=self.sender.look_up,
            health=health,
            metrics=self.telemetry.render,
            max_endpoints=self.settings.max_endpoints,
            trusted_proxies=self.settings.trusted_proxies,
            request_limits=RequestLimits(self.clock),
            url_check_limits=RequestLimits(self.clock),
            key_uses=self.key_uses,
            passwords=self.passwords,
            public_url=self.settings.public_url or None,
            base_url=self.settings.base_url,
            causes=self._causes,
            retention_days=self.settings.retention_days,
            schedule=self.schedule,
            random_bytes=self.rng.randbytes,
            row_formats=ROW_FORMATS,
        )

    def _causes(self) -> list[str]:
        """What keeps this process from accepting requests or from delivering."""
        parts = {
            "The database does not accept writes.": self.database.available,
            "The disk of the database is nearly full.": self.disk_space.is_enough,
            "The engine does not claim deliveries.": self.engine.ready,
            "The sender process does not respond; it is replaced within seconds.": self.sender.alive,
        }
        return [cause for cause, works in parts.items() if not works]

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """The context of the web server."""
        async with self.running():
            yield

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The context of a server: parts start from the bottom up, and stop from the top down when their work has ended."""
        async with self._open():
            await bootstrap.prepare_first_account(self.runner, self.settings, self.passwords)
            await bootstrap.show_setup_code(self.runner, self.settings.base_url)
            async with self._controlled(), self._delivering():
                yield

    @asynccontextmanager
    async def administering(self) -> AsyncIterator[Administration]:
        """The context of a command on the server's machine: the database alone."""
        await self.database.start()
        try:
            yield Administration(self.runner, self.passwords)
        finally:
            await self.database.stop()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """The context of a worker: the same without the first account, and with a log line when it is ready."""
        async with self._open(), self._delivering():
            structlog.get_logger("worker").info("working")
            yield

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        await self.database.start()
        try:
            await self._require_keys()
            await self.runner.change(_seal_all, "upkeep")
            yield
        finally:
            await self.database.stop()

    async def _require_keys(self) -> None:
        """Check that the secrets in the database can be opened, and store the key that was generated for the first ones."""
        key_ids = await self.runner.read(_sealed)
        if self._key_file is not None:
            await asyncio.to_thread(self._key_file.save, secrets_exist=bool(key_ids))
        self.vault.require(key_ids)

    @asynccontextmanager
    async def _controlled(self) -> AsyncIterator[None]:
        """On SQLite, commands reach the database through the server; PostgreSQL they reach by themselves."""
        if self.settings.is_postgres:
            yield
            return
        answer = Administration(self.runner, self.passwords).answer
        control = ControlSocket(socket_path(self.settings.sqlite_path), answer, self.clock)
        await control.start()
        try:
            yield
        finally:
            await control.stop()

    @asynccontextmanager
    async def _delivering(self) -> AsyncIterator[None]:
        await self.sender.start()
        tasks = [
            asyncio.create_task(self.engine.run(), name="engine"),
            asyncio.create_task(self.scheduler.run(), name="job scheduler"),
        ]
        for task in tasks:
            task.add_done_callback(_log_if_failed)
        try:
            yield
        finally:
            await self.engine.drain(DRAIN_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.sender.stop()


def _sealed(unit: UnitOfWork) -> dict[bytes, str]:
    """What is sealed in the database: of each key of the vault that is in use, a secret that is sealed with it."""
    endpoints = {key: f"endpoint {id_}" for key, id_ in unit.secrets.key_ids(unit.now).items()}
    people = {key: f"person {id_}" for key, id_ in unit.second_factors.sealed_owners().items()}
    return {key: f"account {id_}" for key, id_ in unit.fraud.hash_key_owners().items()} | people | endpoints


def _seal_all(unit: UnitOfWork) -> None:
    """Seal what an older version stored in clear text, and what is sealed with an older key but is needed for ever."""
    unit.custom_headers.seal_all()
    unit.fraud.seal_hash_keys()
    unit.second_factors.seal_all()


def _free_bytes(folder: Path) -> float:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return math.nan


def _log_erasure(erasure: Erasure) -> None:
    """Log that nothing of a deleted customer's past remains to be erased."""
    counts = {"events": erasure.events, "deliveries_canceled": erasure.canceled}
    structlog.get_logger("loyalty").info("customer_erased", customer_id=erasure.customer_id, **counts)


def _log_failure(kind: JobKind, id_: str, error: Exception) -> None:
    """Log what a sweep could not change."""
    structlog.get_logger("loyalty").error("sweep_failed", job=kind.name, id=id_, exc_info=error)


def _log_churn_run(run: ChurnRun) -> None:
    """Log that all customers of an account have been scored, with how many there are at each level."""
    counts = {"low": run.low, "medium": run.medium, "high": run.high, "events": run.events}
    structlog.get_logger("loyalty").info(
        "churn_scored", account_id=run.account_id, run_id=run.id, mode=run.announcement, **counts
    )


def _log_failed_fit(account_id: str, reason: str) -> None:
    """Log that the churn model of an account could not be fitted. The old one stays in use, and the next run tries again."""
    structlog.get_logger("loyalty").warning("churn_fit_failed", account_id=account_id, reason=reason)


def _log_if_failed(task: asyncio.Task[None]) -> None:
    """Log a task that has failed. `/readyz` shows it as well when it is the engine."""
    if not task.cancelled() and (error := task.exception()) is not None:
        structlog.get_logger("server").error("task_ended", task=task.get_name(), exc_info=error)


def configure_logs(settings: Settings) -> None:
    """Log structured lines to stderr: JSON, or columns at a terminal."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    plain = structlog.dev.plain_traceback  # the default shows local variables, and some of those are secret
    renderer = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(exception_formatter=plain)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            LogLimit(SystemClock()),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
