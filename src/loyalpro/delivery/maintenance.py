"""Periodic jobs of the engine: they change pending deliveries and leases when time has passed and no attempt does it."""

from collections.abc import Callable
from typing import Final, Protocol

from loyalpro.delivery.schedule import RetrySchedule
from loyalpro.jobs.periodic_job import BATCH_SIZE, JobKind, PeriodicJob, Piece, in_transaction
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner

WINDOWS: Final = JobKind("windows")
DELETED_ENDPOINTS: Final = JobKind("deleted_endpoints")
ORPHANED_LEASES: Final = JobKind("orphaned_leases")
_WINDOWS_EVERY_S: Final = 5.0


class DeliveryMaintenance(Protocol):
    """Bounded changes of pending deliveries and of leases, inside one database transaction."""

    def close_windows(self, now: UnixMs, closed_since: UnixMs, limit: int) -> int:
        """Exhaust waiting deliveries whose first attempt was before `closed_since`; how many."""
        ...

    def cancel_of_deleted_endpoint(self, now: UnixMs, limit: int) -> int:
        """Cancel pending deliveries of one deleted endpoint; how many."""
        ...

    def free_orphaned_leases(self, now: UnixMs) -> int:
        """Release the leases of one worker that is not registered; 1 if there was such a worker, else 0."""
        ...


class MaintenanceUnit(Protocol):
    """One database transaction, as these jobs see it."""

    @property
    def now(self) -> UnixMs:
        """The time of the transaction."""
        ...

    @property
    def delivery_maintenance(self) -> DeliveryMaintenance:
        """Changes of pending deliveries."""
        ...


def delivery_jobs(
    runner: UnitOfWorkRunner[MaintenanceUnit],
    schedule: RetrySchedule,
    *,
    interval_s: float,
    on_exhausted: Callable[[int], None] = lambda _: None,
) -> list[PeriodicJob]:
    """The jobs of the engine. `interval_s`: the interval that the operator has set. `on_exhausted` counts deliveries."""
    close = in_transaction(runner, lambda unit: close_windows(unit, schedule), "delivery")

    async def close_and_count(now: UnixMs) -> Piece:
        piece = await close(now)
        on_exhausted(piece.items)
        return piece

    return [
        PeriodicJob(WINDOWS, min(interval_s, _WINDOWS_EVERY_S), close_and_count),
        PeriodicJob(DELETED_ENDPOINTS, interval_s, in_transaction(runner, cancel_of_deleted_endpoints, "delivery")),
        PeriodicJob(ORPHANED_LEASES, interval_s, in_transaction(runner, free_orphaned_leases, "delivery")),
    ]


def close_windows(unit: MaintenanceUnit, schedule: RetrySchedule) -> Piece:
    """Exhaust deliveries whose retry window closed while they waited, for example because their endpoint is paused."""
    count = unit.delivery_maintenance.close_windows(unit.now, schedule.closed_since(unit.now), BATCH_SIZE)
    return Piece(count, more=count == BATCH_SIZE)


def cancel_of_deleted_endpoints(unit: MaintenanceUnit) -> Piece:
    """Cancel the pending deliveries of deleted endpoints, which the API shows as canceled already."""
    count = unit.delivery_maintenance.cancel_of_deleted_endpoint(unit.now, BATCH_SIZE)
    return Piece(count, more=count > 0)


def free_orphaned_leases(unit: MaintenanceUnit) -> Piece:
    """Release leases of workers that are not registered. There should be none: a worker is removed together with its leases."""
    count = unit.delivery_maintenance.free_orphaned_leases(unit.now)
    return Piece(count, more=count > 0)
