"""Runs a sweep piece by piece: finds what is due, changes it in short transactions, and passes over what fails."""

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

from loyalpro.jobs.pace import Pace
from loyalpro.jobs.periodic_job import BATCH_SIZE, JobKind, PeriodicJob, Piece
from loyalpro.kernel.clock import Clock, UnixMs
from loyalpro.kernel.errors import LockTaken, StoreError
from loyalpro.kernel.record import record
from loyalpro.kernel.unit_of_work import UnitOfWorkRunner

U = TypeVar("U")


@record
class Due:
    """Something that a sweep is to change, and since when it is due."""

    account_id: str
    id: str
    at: UnixMs


class OnFailed(Protocol):
    """Reports what a sweep could not change. The next run tries again."""

    def __call__(self, kind: JobKind, id_: str, error: Exception) -> None:
        """`id_`: of what was to be changed."""
        ...


Find = Callable[[U, Due | None, int], Sequence[Due]]
"""Up to a number of things that are due, in an order of its own, after this one; None: from the beginning."""

Change = Callable[[U, str, Sequence[str]], int]
"""Changes things of one account, which are due unless another process was faster; how many it changed."""


class Sweep(Generic[U]):
    """A sweep of one process. A run goes through everything that is due once, and the next one begins at the beginning.

    So what fails again and again does not keep the rest from being changed. Transactions are short, also when there is much to
    change about each thing: what callers send comes between two of them.
    """

    def __init__(
        self,
        units: UnitOfWorkRunner[U],
        clock: Clock,
        kind: JobKind,
        find: Find[U],
        change: Change[U],
        on_failed: OnFailed,
    ) -> None:
        self._units = units
        self._pace = Pace(clock)
        self._kind = kind
        self._find = find
        self._change = change
        self._on_failed = on_failed
        self._last: Due | None = None

    def periodic(self, every_s: float) -> PeriodicJob:
        """The job that runs the sweep."""
        return PeriodicJob(self._kind, every_s, self.run_piece)

    async def run_piece(self, _now: UnixMs) -> Piece:
        """Change the next things that are due."""
        found = await self._units.read(lambda unit: self._find(unit, self._last, BATCH_SIZE))
        items = 0
        for account_id, due in groupby(sorted(found, key=_account), key=_account):
            for ids in self._pace.chunks(sorted(each.id for each in due)):
                items += await self._change_all(account_id, ids)
        self._last = found[-1] if len(found) == BATCH_SIZE else None
        return Piece(items, more=self._last is not None)

    async def _change_all(self, account_id: str, ids: Sequence[str]) -> int:
        """Change them in one transaction; if that fails, each in one of its own. A failure of the database ends the run."""
        try:
            return await self._transaction(account_id, ids)
        except (StoreError, LockTaken):
            raise
        except Exception as failure:  # noqa: BLE001 - reported; the others go on
            if len(ids) > 1:
                return sum([await self._change_all(account_id, [each]) for each in ids])
            self._on_failed(self._kind, ids[0], failure)
            return 0

    async def _transaction(self, account_id: str, ids: Sequence[str]) -> int:
        actor = f"system:{self._kind.name}"

        def work(unit: U) -> int:
            return self._pace.timed(len(ids), lambda: self._change(unit, account_id, ids))

        return await self._units.change(work, "upkeep", actor=actor)


_account = attrgetter("account_id")
