"""Counts of pending deliveries and of endpoints, page by page: a page costs the same however many rows there are."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from loyalpro.delivery.states import DeliveryStatus, EndpointStatus, visible_status
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record
from loyalpro.storage.connection import Connection, Row
from loyalpro.storage.tables.health import HEALTH, joined_health

PAGE: Final = 2_000

_PENDING: Final = f"""
SELECT p.status, p.deleted_at IS NOT NULL, COUNT(*), MAX(d.id) FROM (
    SELECT id, endpoint_id FROM deliveries WHERE status = 'pending' AND id > ? ORDER BY id LIMIT {PAGE}) d
JOIN endpoints p ON p.id = d.endpoint_id
GROUP BY p.status, p.deleted_at IS NOT NULL
"""
_ENDPOINTS: Final = f"""
SELECT e.id, e.status, e.deleted_at, {HEALTH.columns("h")} FROM (
    SELECT id, status, deleted_at FROM endpoints WHERE id > ? ORDER BY id LIMIT {PAGE}) e
LEFT JOIN endpoint_health h ON h.endpoint_id = e.id
"""


@record
class CountedPage:
    """How many rows of a page have each state, and the id after which the next page begins; None after the last page."""

    counts: dict[str, int]
    next_after: str | None


class CountTables:
    """Counts, inside one database transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def pending(self, after_id: str, now: UnixMs) -> CountedPage:  # noqa: ARG002 - the signature of a count
        """Deliveries that are stored as pending, by the status that the API shows."""
        rows = self._connection.execute(_PENDING, (after_id,))
        counts: Counter[str] = Counter()
        for endpoint, deleted, count, _ in rows:
            status = visible_status(DeliveryStatus.PENDING, EndpointStatus(endpoint), endpoint_deleted=bool(deleted))
            counts[status.value] += count
        last = max((last for *_, last in rows), default="")
        return CountedPage(counts, last if counts.total() == PAGE else None)

    def endpoints(self, after_id: str, now: UnixMs) -> CountedPage:
        """Endpoints that are not deleted: enabled ones by their health, the others by their status."""
        rows = self._connection.execute(_ENDPOINTS, (after_id,))
        last = max((id_ for id_, *_ in rows), default="")
        return CountedPage(Counter(_states(rows, now)), last if len(rows) == PAGE else None)


def _states(rows: Iterable[Row], now: UnixMs) -> Iterable[str]:
    for _, status, deleted_at, *health in rows:
        if deleted_at is None:
            yield joined_health(tuple(health)).state(now).value if status == EndpointStatus.ENABLED else status
