"""The sweeper's duties, each a short transaction on a lane of the database where nobody waits for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.delivery.sweeper import Duty
from loyalpro.kernel.clock import MS_PER_DAY, UnixMs
from loyalpro.kernel.errors import LockTaken
from loyalpro.kernel.ids import IdFactory
from loyalpro.loyalty.erasure import erase_next
from loyalpro.storage.connection import Connection
from loyalpro.storage.database import Database, Lane
from loyalpro.storage.postgres import partitions
from loyalpro.storage.tables.accounts import AccountTables
from loyalpro.storage.tables.erasures import ErasureTables
from loyalpro.storage.tables.leases import LeaseTables
from loyalpro.storage.tables.retention import PIECE, Aging, RetentionTables, kept_since
from loyalpro.storage.tables.sweeps import SweepTables

T = TypeVar("T")

RETENTION_DAYS = 90
_OLD: tuple[Aging, ...] = ("attempts", "deliveries", "events")


@dataclass(frozen=True, slots=True)
class _ErasureUnit:
    """What one piece of an erasure needs."""

    now: UnixMs
    erasures: ErasureTables


class SweepStore:
    """Housekeeping on either database."""

    def __init__(
        self, database: Database, schedule: RetrySchedule, ids: IdFactory, *, retention_days: int = RETENTION_DAYS
    ) -> None:
        self._database = database
        self._schedule = schedule
        self._ids = ids
        self._kept_ms = retention_days * MS_PER_DAY
        self._log = structlog.get_logger("sweeper")

    def duties(self, interval_s: float) -> list[Duty]:
        """What is to be done, and how often; `interval_s` is the operator's."""
        acts = {
            "orphans": self.cancel_orphans,
            "stray leases": self.free_strays,
            "unsent": self.give_up,
            "retention": self.remove_old,
            "answers": self.forget_answers,
            "leftovers": self.remove_leftovers,
            "erasures": self.erase,
        }
        if self._database.dialect.is_postgres:
            acts["partitions"] = self.tend_partitions
        return [
            Duty("windows", min(interval_s, 5.0), self.close_windows),
            *(Duty(name, interval_s, act) for name, act in acts.items()),
        ]

    async def close_windows(self, now: UnixMs) -> bool:
        """Exhaust what has run out of its window while it waited."""
        closed_since = self._schedule.closed_since(now)
        return await self._write(lambda connection: SweepTables(connection).close_windows(now, closed_since))

    async def cancel_orphans(self, now: UnixMs) -> bool:
        """Cancel what a deleted endpoint was owed."""
        return await self._write(lambda connection: SweepTables(connection).cancel_orphans(now))

    async def free_strays(self, now: UnixMs) -> bool:
        """Free what is leased to a worker that nobody knows."""
        return await self._write(lambda connection: LeaseTables(connection).rescue_strays(now))

    async def give_up(self, now: UnixMs) -> bool:
        """Exhaust what was never sent, and whose event is to go. Never in silence."""

        def work(connection: Connection) -> int:
            return RetentionTables(connection).give_up(kept_since(connection, now, self._kept_ms), now, self._ids)

        count = await self._write(work)
        if count:
            self._log.warning("deliveries_given_up", deliveries=count)
        return count == PIECE

    async def remove_old(self, now: UnixMs) -> bool:
        """Remove a piece of what has been kept for long enough."""
        for kind in _OLD:
            if await self._remove(kind, now) >= PIECE:
                return True
        return False

    async def tend_partitions(self, now: UnixMs) -> bool:
        """Make the next week's partition, or drop an old one. PostgreSQL only."""

        def work(connection: Connection) -> bool:
            return partitions.maintain(connection, now, kept_since(connection, now, self._kept_ms))

        return await self._upkeep(work, otherwise=False)

    async def forget_answers(self, now: UnixMs) -> bool:
        """Forget what idempotency keys were answered a day ago."""
        return await self._write(
            lambda connection: AccountTables(connection).forget_answers(now - MS_PER_DAY), "upkeep"
        )

    async def remove_leftovers(self, now: UnixMs) -> bool:
        """Remove old notices and replays, expired secrets, and what deleted endpoints leave behind."""

        def work(connection: Connection) -> bool:
            tables, before = RetentionTables(connection), kept_since(connection, now, self._kept_ms)
            counts = (
                tables.remove_notices(before),
                tables.remove_replays(before),
                tables.remove_leftovers(now),
                ErasureTables(connection).remove_finished(before),
            )
            return max(counts) >= PIECE

        return await self._write(work, "upkeep")

    async def erase(self, now: UnixMs) -> bool:
        """Erase a piece of the past of each deleted customer."""
        customers = await self._database.read(lambda connection: ErasureTables(connection).list_running(PIECE))
        return any([await self._erase(customer_id, now) for customer_id in customers])

    async def _erase(self, customer_id: str, now: UnixMs) -> bool:
        progress = await self._write(
            lambda connection: erase_next(_ErasureUnit(now, ErasureTables(connection)), customer_id), "upkeep"
        )
        if progress.finished is not None:
            counts = {"events": progress.finished.events, "deliveries_canceled": progress.finished.canceled}
            self._log.info("customer_erased", customer_id=customer_id, **counts)
        return progress.more

    async def _remove(self, kind: Aging, now: UnixMs) -> int:
        def work(connection: Connection) -> int:
            return RetentionTables(connection).remove(kind, kept_since(connection, now, self._kept_ms))

        return await self._upkeep(work, otherwise=0)

    async def _upkeep(self, work: Callable[[Connection], T], *, otherwise: T) -> T:
        """Do it, unless somebody holds what it needs: then the next sweep will."""
        try:
            return await self._write(work, "upkeep")
        except LockTaken:
            self._log.info("upkeep_waits", reason="a table is in use")
            return otherwise

    async def _write(self, work: Callable[[Connection], T], lane: Lane = "delivery") -> T:
        return await self._database.write(work, lane=lane)
