"""Ends reservations whose time has passed: their points come back."""

from collections.abc import Sequence
from typing import Final

from loyalpro.jobs.periodic_job import JobKind
from loyalpro.loyalty.ports import LoyaltyUnit
from loyalpro.loyalty.redemptions import ExpireReservations, expire_reservations
from loyalpro.loyalty.sweeps.sweep import Due

RESERVATIONS: Final = JobKind("reservations")


def find_overdue(unit: LoyaltyUnit, after: Due | None, limit: int) -> Sequence[Due]:
    """Redemptions that are reserved and past `reserved_until`, the longest overdue ones first."""
    place = None if after is None else (after.at, after.id)
    return [Due(*row) for row in unit.redemptions.overdue(unit.now, place, limit)]


def expire(unit: LoyaltyUnit, account_id: str, ids: Sequence[str]) -> int:
    """Expire reservations; how many were overdue. Emits `points.adjusted` for each."""
    return expire_reservations(unit, ExpireReservations(account_id, ids))
