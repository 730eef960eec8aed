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
    """Counts one page of rows in each piece, so that a run over millions of rows delays nothing else.

    The counts of a run are those of the time that it takes, and not of one instant.
    """

    def __init__(self, database: Database, metrics: CountMetrics) -> None:
        self._database = database
        self._counts: Sequence[_Count] = (
            (CountTables.pending, PENDING_STATES, metrics.deliveries_counted),
            (CountTables.endpoints, ENDPOINT_STATES, metrics.endpoints_counted),
        )
        self._at, self._after, self._counted = 0, "", Counter[str]()

    def periodic(self, interval_s: float) -> PeriodicJob:
        """The job. `interval_s`: the interval that the operator has set."""
        return PeriodicJob(COUNTS, min(interval_s, _EVERY_S), self.run_piece)

    async def run_piece(self, now: UnixMs) -> Piece:
        """Count the next page, and begin anew after the last one. A page that fails is counted again by the next run."""
        read, states, report = self._counts[self._at]
        page = await self._database.read(lambda connection: read(CountTables(connection), self._after, now))
        self._counted.update(page.counts)
        if page.next_after is not None:
            self._after = page.next_after
            return Piece(0, more=True)
        report({state: self._counted[state] for state in states})
        self._at, self._after = (self._at + 1) % len(self._counts), ""
        self._counted.clear()
        return Piece(0, more=self._at > 0)
