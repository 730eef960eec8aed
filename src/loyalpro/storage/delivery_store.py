"""The engine's view of the database: each method one short transaction, none of them open while a request is."""

import os
import socket
from collections.abc import Callable, Sequence
from typing import TypeVar

from loyalpro.delivery.ports import Claimed, LaneRequest, Settlement, Survey, WorkerId
from loyalpro.kernel.clock import Clock, UnixMs
from loyalpro.storage.connection import Connection
from loyalpro.storage.database import Database
from loyalpro.storage.tables.leases import LeaseTables
from loyalpro.storage.vault import Vault

T = TypeVar("T")


class DatabaseDeliveryStore:
    """Satisfies `delivery.ports.DeliveryStore` on either database."""

    def __init__(self, database: Database, vault: Vault, clock: Clock) -> None:
        self._database = database
        self._vault = vault
        self._clock = clock

    async def register(self, worker: WorkerId, *, ttl_ms: int) -> None:
        """Make the worker known."""
        host, pid, now = socket.gethostname(), os.getpid(), self._clock.now_ms()
        await self._write(lambda tables: tables.register(worker, host=host, pid=pid, now=now, ttl_ms=ttl_ms))

    async def renew(self, worker: WorkerId, *, ttl_ms: int) -> bool:
        """Push the end of the worker's leases out."""
        now = self._clock.now_ms()
        return await self._write(lambda tables: tables.renew(worker, now=now, ttl_ms=ttl_ms))

    async def release(self, worker: WorkerId) -> None:
        """Free what the worker holds and forget it."""
        now = self._clock.now_ms()
        await self._write(lambda tables: tables.release(worker, now))

    async def rescue(self, worker: WorkerId) -> frozenset[str]:
        """Free what the dead held. On SQLite the lock file proves that every other worker is dead."""
        now = self._clock.now_ms()
        if self._database.dialect == "sqlite":
            return await self._write(lambda tables: tables.rescue_all_but(worker, now))
        return await self._write(lambda tables: tables.rescue(now))

    async def survey(self, now: UnixMs) -> Survey:
        """Look over the lanes of all enabled endpoints."""
        return await self._database.read(lambda connection: LeaseTables(connection, self._vault).survey(now))

    async def claim(self, worker: WorkerId, lanes: Sequence[LaneRequest], now: UnixMs) -> list[Claimed]:
        """Lease due deliveries."""
        return await self._write(lambda tables: tables.claim(worker, lanes, now))

    async def settle(self, worker: WorkerId, settlements: Sequence[Settlement], now: UnixMs) -> frozenset[str]:
        """Write what became of deliveries that are still the worker's."""
        return await self._write(lambda tables: tables.settle(worker, settlements, now))

    async def _write(self, work: Callable[[LeaseTables], T]) -> T:
        def transaction(connection: Connection) -> T:
            return work(LeaseTables(connection, self._vault))

        return await self._database.write(transaction, lane="delivery")
