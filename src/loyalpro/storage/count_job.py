"""The periodic job that counts pending deliveries and endpoints for the metrics."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from loyalpro.delivery.breaker import HealthState
from loyalpro.delivery.states import DeliveryStatus, EndpointStatus
from loyalpro.jobs.periodic_job import JobKind, PeriodicJob, Piece
from loyalpro.kernel.clock import UnixMs
from loyalpro.storage.database import Database
from loyalpro.storage.tables.counts import CountedPage, CountTables

COUNTS: Final = JobKind("counts")
PENDING_STATES: Final = (DeliveryStatus.PENDING.value, DeliveryStatus.PARKED.value)
ENDPOINT_STATES: Final = (
    *(each.value for each in HealthState),
    EndpointStatus.PAUSED.value,
    EndpointStatus.DISABLED.value,
)
_EVERY_S: Final = 15.0
PAGES_PER_RUN: Final = 100
"""A run over more pages goes on in the next one, so that counts of a large backlog take a few percent of a CPU."""


class CountMetrics(Protocol):
    """Receives the counts."""

    def deliveries_counted(self, counts: Mapping[str, int]) -> None:
        """So many pending deliveries are shown with each of `PENDING_STATES`."""
        ...

    def endpoints_counted(self, counts: Mapping[str, int]) -> None:
        """So many endpoints have each of `ENDPOINT_STATES`."""
        ...


_Count = tuple[Callable[[CountTables, str, UnixMs], CountedPage], Sequence[str], Callable[[Mapping[str, int]], None]]
"""How a page is read, the states that are counted, and who gets the counts when all pages are read."""


class CountJob:
    """Counts one page of rows in each piece, so that counts of millions of rows delay nothing else.

    A count is one of the time that it takes, and not of one instant. While it takes several runs, the last count is
    reported, or what was counted so far where that is more.
    """

    def __init__(self, database: Database, metrics: CountMetrics) -> None:
        self._database = database
        self._counts: Sequence[_Count] = (
            (CountTables.pending, PENDING_STATES, metrics.deliveries_counted),
            (CountTables.endpoints, ENDPOINT_STATES, metrics.endpoints_counted),
        )
        self._at, self._after, self._pages = 0, "", 0
        self._counted, self._last = Counter[str](), [Counter[str]() for _ in self._counts]

    def periodic(self, interval_s: float) -> PeriodicJob:
        """The job. `interval_s`: the interval that the operator has set."""
        return PeriodicJob(COUNTS, min(interval_s, _EVERY_S), self.run_piece)

    async def run_piece(self, now: UnixMs) -> Piece:
        """Count the next page, and begin anew after the last one. A page that fails is counted by the next run."""
        read, states, report = self._counts[self._at]
        page = await self._database.read(lambda connection: read(CountTables(connection), self._after, now))
        self._counted.update(page.counts)
        self._pages += 1
        if page.next_after is None:
            self._last[self._at] = self._counted
            report({state: self._counted[state] for state in states})
            self._at, self._after, self._counted = (self._at + 1) % len(self._counts), "", Counter()
            return self._piece(more=self._at > 0)
        self._after = page.next_after
        if self._pages < PAGES_PER_RUN:
            return self._piece(more=True)
        report({state: max(self._counted[state], self._last[self._at][state]) for state in states})
        return self._piece(more=False)

    def _piece(self, *, more: bool) -> Piece:
        """What a piece did; with the last piece, the run ends."""
        if not more:
            self._pages = 0
        return Piece(0, more=more)
