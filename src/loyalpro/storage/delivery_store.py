"""The engine's view of the database: each method one short transaction, none of them open while a request is."""

import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from loyalpro.delivery.ports import Claims, LaneRequest, Settled, Settlement, Survey, Target, WorkerId
from loyalpro.kernel.clock import Clock, UnixMs
from loyalpro.kernel.errors import LockTaken
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.connection import Connection
from loyalpro.storage.database import Database
from loyalpro.storage.tables.lanes import LaneTables, Unreadable
from loyalpro.storage.tables.leases import LeaseTables
from loyalpro.storage.tables.settlements import SettlementTables
from loyalpro.storage.vault import Vault

T = TypeVar("T")


class DatabaseDeliveryStore:
    """Satisfies `delivery.ports.DeliveryStore` on either database."""

    def __init__(self, database: Database, vault: Vault, clock: Clock, ids: IdFactory) -> None:
        self._database = database
        self._vault = vault
        self._unreadable = Unreadable()
        self._clock = clock
        self._ids = ids

    async def register(self, worker: WorkerId, *, ttl_ms: int) -> None:
        """Make the worker known."""
        host, pid, now = socket.gethostname(), os.getpid(), self._clock.now_ms()
        await self._lease(lambda tables: tables.register(worker, host=host, pid=pid, now=now, ttl_ms=ttl_ms))

    async def renew(self, worker: WorkerId, *, ttl_ms: int) -> bool:
        """Push the end of the worker's leases out."""
        now = self._clock.now_ms()
        return await self._lease(lambda tables: tables.renew(worker, now=now, ttl_ms=ttl_ms))

    async def release(self, worker: WorkerId) -> None:
        """Free what the worker holds and forget it."""
        now = self._clock.now_ms()
        await self._lease(lambda tables: tables.release(worker, now))

    async def rescue(self, worker: WorkerId) -> frozenset[str]:
        """Free what the dead held. Where one process has the database to itself, every other worker is dead."""
        now = self._clock.now_ms()
        if self._database.exclusive:
            return await self._lease(lambda tables: tables.rescue_all_but(worker, now))
        silent = await self._lease(lambda tables: tables.silent(now))
        return frozenset().union(*[await self._rescue(each, now) for each in silent])

    async def disown(self, worker: WorkerId, *, keep: Collection[str]) -> None:
        """Free what the worker holds without knowing."""
        await self._lease(lambda tables: tables.disown(worker, keep))

    async def survey(self, now: UnixMs, *, after: str, closing_since: UnixMs) -> Survey:
        """Look over a page of the lanes of enabled endpoints that are owed something."""
        return await self._database.read(
            lambda connection: self._lanes(connection).survey(now, after, closing_since), writer="delivery"
        )

    async def targets(self, endpoint_ids: Sequence[str], now: UnixMs) -> Mapping[str, Target]:
        """Where these endpoints are."""
        return await self._database.lookup(lambda connection: self._lanes(connection).targets(endpoint_ids, now))

    async def claim(
        self, worker: WorkerId, lanes: Sequence[LaneRequest], now: UnixMs, *, closing_since: UnixMs
    ) -> Claims:
        """Lease due deliveries."""

        def work(connection: Connection) -> Claims:
            return self._lanes(connection).claim(worker, lanes, now, closing_since)

        return await self._database.write(work, writer="delivery")

    async def settle(
        self, worker: WorkerId, settlements: Sequence[Settlement], now: UnixMs, *, longest_probe_s: float
    ) -> Settled:
        """Write what became of deliveries that are still the worker's."""

        def work(connection: Connection) -> Settled:
            tables = SettlementTables(connection, self._ids)
            return tables.settle(worker, settlements, now, longest_probe_s=longest_probe_s)

        return await self._database.write(work, writer="delivery")

    async def _rescue(self, worker: WorkerId, now: UnixMs) -> frozenset[str]:
        """In a transaction of its own. What somebody holds is left to the next rescue."""
        try:
            return await self._lease(lambda tables: tables.rescue(worker, now))
        except LockTaken:
            return frozenset()

    def _lanes(self, connection: Connection) -> LaneTables:
        return LaneTables(connection, self._vault, self._unreadable)

    async def _lease(self, work: Callable[[LeaseTables], T]) -> T:
        return await self._database.write(lambda connection: work(LeaseTables(connection)), writer="delivery")
