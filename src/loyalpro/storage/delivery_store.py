"""The database as the delivery engine uses it: each method is one short transaction, and none is open during a request."""

import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from loyalpro.delivery.claims import BacklogPage, ClaimRequest, ClaimResult, Target
from loyalpro.delivery.ports import WorkerId
from loyalpro.delivery.settlement import Settled, Settlement
from loyalpro.kernel.clock import Clock, UnixMs
from loyalpro.kernel.errors import LockTaken
from loyalpro.kernel.ids import IdFactory
from loyalpro.storage.connection import Connection
from loyalpro.storage.database import Database
from loyalpro.storage.tables.claims import ClaimTables
from loyalpro.storage.tables.leases import LeaseTables
from loyalpro.storage.tables.settlements import SettlementTables
from loyalpro.storage.tables.targets import TargetTables, UnreadableSecrets
from loyalpro.storage.vault import Vault

T = TypeVar("T")


class DatabaseDeliveryStore:
    """Satisfies `delivery.ports.DeliveryStore` on SQLite and on PostgreSQL."""

    def __init__(self, database: Database, vault: Vault, clock: Clock, ids: IdFactory) -> None:
        self._database = database
        self._vault = vault
        self._unreadable = UnreadableSecrets()
        self._clock = clock
        self._ids = ids

    # -- workers and their leases ------------------------------------------------------------------------------------

    async def register(self, worker: WorkerId, *, ttl_ms: int) -> None:
        """Register the worker."""
        host, pid, now = socket.gethostname(), os.getpid(), self._clock.now_ms()
        await self._change_leases(lambda tables: tables.register(worker, host=host, pid=pid, now=now, ttl_ms=ttl_ms))

    async def renew(self, worker: WorkerId, *, ttl_ms: int) -> bool:
        """Extend the leases of the worker; False when they have been taken from it."""
        now = self._clock.now_ms()
        return await self._change_leases(lambda tables: tables.renew(worker, now=now, ttl_ms=ttl_ms))

    async def release(self, worker: WorkerId) -> None:
        """Release all leases of the worker, and remove it."""
        now = self._clock.now_ms()
        await self._change_leases(lambda tables: tables.release(worker, now))

    async def rescue(self, worker: WorkerId) -> frozenset[str]:
        """Release the leases of dead workers. On an exclusive database, all workers of other processes are dead."""
        now = self._clock.now_ms()
        if self._database.exclusive:
            return await self._change_leases(lambda tables: tables.rescue_all_but(worker, now))
        expired = await self._change_leases(lambda tables: tables.expired(now))
        return frozenset().union(*[await self._rescue_one(each, now) for each in expired])

    async def _rescue_one(self, worker: WorkerId, now: UnixMs) -> frozenset[str]:
        """Rescue in a transaction of its own. A row that another transaction has locked is left to the next rescue."""
        try:
            return await self._change_leases(lambda tables: tables.rescue(worker, now))
        except LockTaken:
            return frozenset()

    async def release_unknown(self, worker: WorkerId, *, keep: Collection[str]) -> None:
        """Release the leases that the worker does not know of: all but those for the deliveries in `keep`."""
        await self._change_leases(lambda tables: tables.release_unknown(worker, keep))

    async def _change_leases(self, work: Callable[[LeaseTables], T]) -> T:
        return await self._database.write(lambda connection: work(LeaseTables(connection)), writer="delivery")

    # -- deliveries --------------------------------------------------------------------------------------------------

    async def scan_backlog(self, now: UnixMs, *, after: str, closing_since: UnixMs) -> BacklogPage:
        """Read one page of the enabled endpoints with pending deliveries."""
        return await self._database.read(
            lambda connection: self._claims(connection).scan_backlog(now, after, closing_since), writer="delivery"
        )

    async def targets(self, endpoint_ids: Sequence[str], now: UnixMs) -> Mapping[str, Target]:
        """Read the targets of those of these endpoints that are enabled."""

        def work(connection: Connection) -> Mapping[str, Target]:
            return TargetTables(connection, self._vault, self._unreadable).list_enabled(endpoint_ids, now)

        return await self._database.lookup(work)

    async def claim(
        self, worker: WorkerId, requests: Sequence[ClaimRequest], now: UnixMs, *, closing_since: UnixMs
    ) -> ClaimResult:
        """Lease due deliveries."""

        def work(connection: Connection) -> ClaimResult:
            return self._claims(connection).claim(worker, requests, now, closing_since)

        return await self._database.write(work, writer="delivery")

    async def settle(
        self, worker: WorkerId, settlements: Sequence[Settlement], now: UnixMs, *, longest_probe_s: float
    ) -> Settled:
        """Write the settlements whose lease still holds."""

        def work(connection: Connection) -> Settled:
            tables = SettlementTables(connection, self._ids)
            return tables.settle(worker, settlements, now, longest_probe_s=longest_probe_s)

        return await self._database.write(work, writer="delivery")

    def _claims(self, connection: Connection) -> ClaimTables:
        return ClaimTables(connection, self._vault, self._unreadable)
