"""Periodic jobs of the storage: they remove what is older than the retention, make partitions, and watch the disk space."""

from collections.abc import Callable
from typing import Final, TypeVar

import structlog

from loyalpro.jobs.periodic_job import BATCH_SIZE, JobKind, PeriodicJob, Piece
from loyalpro.kernel.clock import MS_PER_DAY, UnixMs
from loyalpro.kernel.errors import LockTaken
from loyalpro.storage.dialect import Dialect
from loyalpro.storage.disk_space import DiskSpace
from loyalpro.storage.postgres import partitions, statistics
from loyalpro.storage.tables.retention import Aging
from loyalpro.storage.unit_of_work import DatabaseUnitOfWorkRunner, UnitOfWork

T = TypeVar("T")

RETENTION_DAYS: Final = 90

UNSENT: Final = JobKind("unsent")
RETENTION: Final = JobKind("retention")
IDEMPOTENCY: Final = JobKind("idempotency")
LEFTOVERS: Final = JobKind("leftovers")
COUNTERS: Final = JobKind("counters")
PARTITIONS: Final = JobKind("partitions")
STATISTICS: Final = JobKind("statistics")
DISK_SPACE: Final = JobKind("disk_space")

_IDEMPOTENCY_KEPT_MS: Final = MS_PER_DAY
_AUDIT_KEPT_MS: Final = 400 * MS_PER_DAY
"""More than a year, so that the same time last year is still there."""
_JOBS_KEPT_MS: Final = 7 * MS_PER_DAY
_DISK_SPACE_EVERY_S: Final = 5.0
_OLD: tuple[Aging, ...] = ("attempts", "deliveries", "events")


class MaintenanceJobs:
    """The jobs of retention, on SQLite or PostgreSQL. They may run in several processes at once."""

    def __init__(
        self,
        runner: DatabaseUnitOfWorkRunner,
        dialect: Dialect,
        *,
        retention_days: int = RETENTION_DAYS,
        on_exhausted: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._runner = runner
        self._dialect = dialect
        self._kept_ms = retention_days * MS_PER_DAY
        self._on_exhausted = on_exhausted
        self._log = structlog.get_logger("storage")

    def periodic(self, interval_s: float) -> list[PeriodicJob]:
        """The jobs. `interval_s`: the interval that the operator has set."""
        jobs = [
            PeriodicJob(UNSENT, interval_s, self.expire_unsent),
            PeriodicJob(RETENTION, interval_s, self.remove_old),
            PeriodicJob(IDEMPOTENCY, interval_s, self.remove_idempotent_results),
            PeriodicJob(LEFTOVERS, interval_s, self.remove_leftovers),
            PeriodicJob(COUNTERS, interval_s, self.lengthen_counters),
        ]
        if self._dialect.is_postgres:
            jobs.append(PeriodicJob(PARTITIONS, interval_s, self.maintain_partitions))
            jobs.append(PeriodicJob(STATISTICS, interval_s, self.analyze_grown_tables))
        return jobs

    async def expire_unsent(self, now: UnixMs) -> Piece:  # noqa: ARG002 - a unit of work has its own time
        """Exhaust deliveries that were never sent and whose events are about to be removed. Their owners get a notice."""
        count = await self._runner.change(
            lambda unit: unit.retention.expire_unsent(
                unit.retention.kept_since(unit.now, self._kept_ms), unit.now, unit.ids
            ),
            "delivery",
        )
        self._on_exhausted(count)
        if count:
            self._log.warning("deliveries_expired_unsent", deliveries=count)
        return Piece(count, more=count == BATCH_SIZE)

    async def remove_old(self, now: UnixMs) -> Piece:  # noqa: ARG002 - a unit of work has its own time
        """Remove a batch of attempts, else of finished deliveries, else of events that are older than the retention."""
        items = 0
        for kind in _OLD:
            removed = await self._remove(kind)
            items += removed
            if removed >= BATCH_SIZE:
                return Piece(items, more=True)
        return Piece(items)

    async def maintain_partitions(self, now: UnixMs) -> Piece:  # noqa: ARG002 - a unit of work has its own time
        """Make a missing partition, or drop one that is older than the retention. PostgreSQL only."""

        def work(unit: UnitOfWork) -> Piece:
            before = unit.retention.kept_since(unit.now, self._kept_ms)
            changed = partitions.maintain(unit.connection, unit.now, before)
            return Piece(int(changed), more=changed)

        return await self._unless_locked(work, otherwise=Piece(0))

    async def analyze_grown_tables(self, now: UnixMs) -> Piece:  # noqa: ARG002 - a unit of work has its own time
        """Analyze a table that has grown so much that the statistics of PostgreSQL are far from the truth."""

        def work(unit: UnitOfWork) -> Piece:
            analyzed = statistics.analyze_grown_table(unit.connection)
            return Piece(int(analyzed), more=analyzed)

        return await self._runner.change(work, "upkeep")

    async def remove_idempotent_results(self, now: UnixMs) -> Piece:  # noqa: ARG002 - a unit of work has its own time
        """Remove results of idempotency keys that are a day old."""
        count = await self._runner.change(
            lambda unit: unit.idempotency.remove_expired(unit.now - _IDEMPOTENCY_KEPT_MS, BATCH_SIZE), "upkeep"
        )
        return Piece(count, more=count == BATCH_SIZE)

    async def remove_leftovers(self, now: UnixMs) -> Piece:  # noqa: ARG002 - a unit of work has its own time
        """Remove old notices, replays, erasures, audit entries and jobs, expired secrets, and what deleted endpoints leave."""

        def work(unit: UnitOfWork) -> Piece:
            before = unit.retention.kept_since(unit.now, self._kept_ms)
            counts = (
                unit.retention.remove_notices(before),
                unit.retention.remove_replays(before),
                unit.retention.remove_leftovers(unit.now),
                unit.erasures.remove_finished(before),
                unit.audit_log.remove(unit.retention.kept_since(unit.now, max(self._kept_ms, _AUDIT_KEPT_MS))),
            )
            jobs = unit.jobs.remove_finished(unit.retention.kept_since(unit.now, _JOBS_KEPT_MS))
            return Piece(sum(counts) + jobs, more=jobs > 0 or max(counts) >= BATCH_SIZE)

        return await self._runner.change(work, "upkeep")

    async def lengthen_counters(self, now: UnixMs) -> Piece:  # noqa: ARG002 - a unit of work has its own time
        """Move the counts of attempts of one endpoint to longer spans when they are old, or remove the oldest."""
        count = await self._runner.change(lambda unit: unit.counters.lengthen_oldest(unit.now), "upkeep")
        return Piece(count, more=count > 0)

    async def _remove(self, kind: Aging) -> int:
        return await self._unless_locked(
            lambda unit: unit.retention.remove(kind, unit.retention.kept_since(unit.now, self._kept_ms)), otherwise=0
        )

    async def _unless_locked(self, work: Callable[[UnitOfWork], T], *, otherwise: T) -> T:
        """The result of `work`; `otherwise` when a lock that it needs is taken, and then the next run tries again."""
        try:
            return await self._runner.change(work, "upkeep")
        except LockTaken:
            self._log.info("maintenance_waits", reason="a table is locked")
            return otherwise


def disk_space_job(space: DiskSpace, interval_s: float) -> PeriodicJob:
    """The job that measures the disk space. With too little of it, ingestion stops before the disk is full."""

    async def run_piece(now: UnixMs) -> Piece:
        await space.check(now)
        return Piece(0)

    return PeriodicJob(DISK_SPACE, min(interval_s, _DISK_SPACE_EVERY_S), run_piece)
