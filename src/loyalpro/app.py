"""The composition root: the one place that knows every part and wires them together."""

import asyncio
import contextlib
import logging
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from fastapi import FastAPI

from loyalpro import bootstrap
from loyalpro.delivery.engine import Engine, EngineSettings
from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.sweeper import Duty, Sweeper
from loyalpro.kernel.clock import Clock, SystemClock
from loyalpro.kernel.ids import IdFactory
from loyalpro.settings import Settings
from loyalpro.storage.database import Database
from loyalpro.storage.delivery_store import DatabaseDeliveryStore
from loyalpro.storage.disk_space import DiskSpace
from loyalpro.storage.open import open_database
from loyalpro.storage.replay_store import ReplayStore
from loyalpro.storage.request_batcher import RequestBatcher
from loyalpro.storage.sweep_store import SweepStore
from loyalpro.storage.unit_of_work import Tools, Transactions
from loyalpro.storage.vault import Vault
from loyalpro.transport.address_policy import AddressPolicy
from loyalpro.transport.endpoint_url import system_resolver
from loyalpro.transport.request import sign_attempt
from loyalpro.transport.sender import CurlSender
from loyalpro.web import http
from loyalpro.web.services import Health, Services
from loyalpro.web.telemetry import Telemetry

DRAIN_S = 10.0
_LOOK_S = 5.0
_KEY_FILE = "secret.key"


class Application:
    """One running LoyalPro: the API and the delivery engine over one database."""

    def __init__(self, settings: Settings, clock: Clock | None = None, chance: random.Random | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.chance = chance or random.SystemRandom()
        self.ids = IdFactory(self.clock, self.chance)
        self.policy = AddressPolicy(settings.egress_allow)
        self.telemetry = Telemetry()
        opened = open_database(settings.url, self.clock, min_free_bytes=settings.min_free_mb * 2**20)
        self.database: Database = opened
        self.disk_space: DiskSpace = opened.disk_space
        self.vault = Vault(_secret_keys(settings), self.chance.randbytes)
        self.sender = CurlSender(self.policy, ca_file=settings.egress_ca_file)
        self.schedule = RetrySchedule(settings.retry_schedule)
        self.engine = self._engine()
        self.sweeper = self._sweeper()
        self.transactions = Transactions(
            self.database,
            Tools(self.clock, self.ids, self.vault),
            on_owed=self.engine.wake,
            wake_job=lambda kind: self.sweeper.wake(kind.name),
        )
        self.web = http.build(self._services(), self.telemetry, self.ids, self._lifespan)
        self.watch = http.build_watch(self._services(works_only=True), lambda _: self.working())

    def _engine(self) -> Engine:
        return Engine(
            store=DatabaseDeliveryStore(self.database, self.vault, self.clock, self.ids),
            sender=self.sender,
            sign=sign_attempt,
            clock=self.clock,
            chance=self.chance,
            new_worker_id=lambda: self.ids.new("wrk"),
            meter=self.telemetry,
            settings=EngineSettings(timeout_s=self.settings.delivery_timeout, schedule=self.schedule),
        )

    def _sweeper(self) -> Sweeper:
        sweeps = SweepStore(self.database, self.schedule, self.ids, retention_days=self.settings.retention_days)
        replays = ReplayStore(self.database, self.vault, on_owed=self.engine.wake)
        interval_s = self.settings.sweep_interval
        room = Duty("room", min(interval_s, _LOOK_S), self.disk_space.check)
        return Sweeper([*sweeps.duties(interval_s), replays.duty(), room], self.clock)

    def _services(self, *, works_only: bool = False) -> Services:
        health: Health = {"delivers": lambda: self.engine.ready and self.sender.alive and self.database.available}
        if not works_only:
            health = {"accepts": lambda: self.database.available and self.disk_space.is_enough, **health}
        return Services(
            transactions=self.transactions,
            together=RequestBatcher(self.transactions),
            clock=self.clock,
            random_bytes=self.chance.randbytes,
            policy=self.policy,
            resolve=system_resolver(),
            health=health,
            wake=self.engine.wake,
            wake_duty=self.sweeper.wake,
            metrics=self.telemetry.render,
        )

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """What the web server calls around serving."""
        async with self.running():
            yield

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start from the bottom up; stop from the top down, letting what is under way finish."""
        async with self._open():
            await bootstrap.first_account(self.transactions, self.settings)
            async with self._delivering():
                yield

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """The same, of a worker: accounts are not its business, and it says so when it is up."""
        async with self._open(), self._delivering():
            structlog.get_logger("worker").info("working")
            yield

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[None]:
        await self.database.start()
        try:
            self.vault.require(await self.transactions.read(lambda unit: unit.secrets.key_ids(unit.now)))
            yield
        finally:
            await self.database.stop()

    @asynccontextmanager
    async def _delivering(self) -> AsyncIterator[None]:
        await self.sender.start()
        tasks = [
            asyncio.create_task(self.engine.run(), name="engine"),
            asyncio.create_task(self.sweeper.run(), name="sweeper"),
        ]
        for task in tasks:
            task.add_done_callback(_say_if_broken)
        try:
            yield
        finally:
            await self.engine.drain(DRAIN_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.sender.stop()


def _say_if_broken(task: asyncio.Task[None]) -> None:
    """Neither is ever to end by itself. `/readyz` says so too, of the engine."""
    if not task.cancelled() and (error := task.exception()) is not None:
        structlog.get_logger("server").error("part_broke", part=task.get_name(), exc_info=error)


def configure_logs(settings: Settings) -> None:
    """Structured lines on stderr: JSON for machines, columns for people at a terminal."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    plain = structlog.dev.plain_traceback  # the other one shows local variables, and some of those are secret
    renderer = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(exception_formatter=plain)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _secret_keys(settings: Settings) -> list[str]:
    """The keys of the environment; on SQLite, behind them, the one that was made and kept because there were none."""
    if settings.is_postgres:
        return settings.secret_keys
    kept = settings.sqlite_path.parent / _KEY_FILE
    return [*settings.secret_keys, *([_kept_key(kept)] if kept.exists() or not settings.secret_keys else [])]


def _kept_key(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.touch(mode=0o600)
        fresh.write_text(random.SystemRandom().randbytes(32).hex())
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)  # whole or not at all, and never over one that is there
        fresh.unlink()
    return path.read_text().strip()
