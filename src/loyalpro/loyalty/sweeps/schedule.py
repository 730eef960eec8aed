"""The sweeps as periodic jobs."""

from loyalpro.jobs.periodic_job import PeriodicJob
from loyalpro.kernel.clock import Clock
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.sweeps.reservations import RESERVATIONS, expire, find_overdue
from loyalpro.loyalty.sweeps.retier import retier_job
from loyalpro.loyalty.sweeps.settling import EXPIRY, find_due, settle
from loyalpro.loyalty.sweeps.sweep import OnFailed, Sweep
from loyalpro.loyalty.sweeps.tier_review import TIER_REVIEW, find_to_review, review


def loyalty_sweeps(
    units: UnitOfWorkRunner[LoyaltyUnit], clock: Clock, every_s: float, on_failed: OnFailed
) -> list[PeriodicJob]:
    """The jobs of the program that run because of the time. `on_failed` reports each thing that could not be changed."""
    return [
        Sweep(units, clock, EXPIRY, find_due, settle, on_failed).periodic(every_s),
        Sweep(units, clock, TIER_REVIEW, find_to_review, review, on_failed).periodic(every_s),
        Sweep(units, clock, RESERVATIONS, find_overdue, expire, on_failed).periodic(every_s),
        retier_job(units, every_s, on_failed),
    ]
