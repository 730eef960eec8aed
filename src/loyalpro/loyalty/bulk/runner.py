"""The periodic job that works on imports and exports."""

from collections.abc import Collection, Sequence
from typing import Final, Protocol

from loyalpro.jobs.periodic_job import PeriodicJob, Piece
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.errors import LockTaken, StoreError
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner
from loyalpro.loyalty.bulk.jobs import BULK
from loyalpro.loyalty.entities import Job
from loyalpro.loyalty.ports import LoyaltyUnit

_EVERY_S: Final = 1.0
_INTERNAL: Final = "An internal error ended this job; the server's log has it. What is done stays. Start it again."


class Worker(Protocol):
    """Works on jobs of some kinds."""

    @property
    def kinds(self) -> Collection[str]:
        """The kinds."""
        ...

    async def run_piece(self, job: Job) -> Piece:
        """The next piece of a job."""
        ...


class BulkJob:
    """Works on all unfinished jobs in turn, one piece of each at a time. Several processes may do so at once."""

    def __init__(self, runner: UnitOfWorkRunner[LoyaltyUnit], workers: Sequence[Worker]) -> None:
        self._runner = runner
        self._workers = {kind: worker for worker in workers for kind in worker.kinds}

    def periodic(self) -> PeriodicJob:
        """The job; its interval finds jobs that other processes have stored."""
        return PeriodicJob(BULK, _EVERY_S, self.run_piece)

    async def run_piece(self, now: UnixMs) -> Piece:  # noqa: ARG002 - each piece has the time of its own transaction
        """One piece of every unfinished job. A job whose piece fails, other than by the database, has failed."""
        items, more = 0, False
        for job in await self._runner.read(lambda unit: unit.jobs.unfinished(tuple(self._workers))):
            piece = await self._continue(job)
            items, more = items + piece.items, more or piece.more
        return Piece(items, more)

    async def _continue(self, job: Job) -> Piece:
        try:
            return await self._workers[job.kind].run_piece(job)
        except (StoreError, LockTaken):
            raise  # the next run tries the piece again
        except Exception:
            await self._runner.change(lambda unit: _fail(unit, job), "control")
            raise


def _fail(unit: LoyaltyUnit, job: Job) -> None:
    """End a job that cannot go on. What it has of customers is not needed any more: nothing continues it."""
    if unit.jobs.finish(job, "failed", unit.now, _INTERNAL):
        unit.jobs.remove_pieces(job.id)
