"""The periodic job that removes what ends by itself: idle web sessions, tries to sign in, invitations and setup codes."""

from typing import Final

from loyalpro.accounts.ports import AccountsUnit
from loyalpro.accounts.web_sessions import IDLE_MS
from loyalpro.jobs.periodic_job import BATCH_SIZE, JobKind, PeriodicJob, Piece, in_transaction
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner

PEOPLE_UPKEEP: Final = JobKind("people_upkeep")


def remove_ended(unit: AccountsUnit) -> Piece:
    """Remove a batch of each.

    A web session that is older than 14 days is refused, so it is not used any more, and is idle a day later.
    """
    unit.setup_codes.remove_expired(unit.now)
    counts = (
        unit.web_sessions.remove_idle(unit.now - IDLE_MS, BATCH_SIZE),
        unit.sign_in_tries.remove_old(unit.now, BATCH_SIZE),
        unit.invitations.remove_expired(unit.now, BATCH_SIZE),
    )
    return Piece(sum(counts), more=max(counts) >= BATCH_SIZE)


def people_upkeep(runner: UnitOfWorkRunner[AccountsUnit], interval_s: float) -> PeriodicJob:
    """The job."""
    return PeriodicJob(PEOPLE_UPKEEP, interval_s, in_transaction(runner, remove_ended, "upkeep"))
