"""Hints: news of endpoints that a backlog scan or a claim may have read the database too early to see."""

import itertools

from loyalpro.kernel.clock import UnixMs


class Hints:
    """Endpoints without a queue that have new deliveries, and what has changed since the last scan and claim began.

    A scan and a claim read the database at some time while they run. A change after they began may be missing from
    what they return, so it is kept until the next one begins.
    """

    def __init__(self) -> None:
        self._unknown: dict[str, bool] = {}
        self._since_scan: set[str] = set()
        self._since_claim: dict[str, tuple[UnixMs, bool]] = {}

    # -- endpoints without a queue -----------------------------------------------------------------------------------

    @property
    def has_unknown(self) -> bool:
        """Whether an endpoint without a queue has new deliveries."""
        return bool(self._unknown)

    def add_unknown(self, endpoint_id: str, *, urgent: bool) -> None:
        """Note that an endpoint without a queue has new deliveries."""
        self._unknown[endpoint_id] = urgent or self._unknown.get(endpoint_id, False)

    def unknown(self, limit: int) -> list[str]:
        """Return up to `limit` of the endpoints without a queue, in the order in which they came."""
        return list(itertools.islice(self._unknown, limit))

    def take_unknown(self, endpoint_id: str) -> bool | None:
        """Forget that the endpoint has no queue; return whether its hint was urgent, and None if there was no hint."""
        return self._unknown.pop(endpoint_id, None)

    # -- during a backlog scan ---------------------------------------------------------------------------------------

    def begin_scan(self) -> None:
        """A backlog scan begins to read now."""
        self._since_scan.clear()

    def changed(self, endpoint_id: str) -> None:
        """Note that something has changed for the endpoint."""
        self._since_scan.add(endpoint_id)

    def changed_since_scan(self, endpoint_id: str) -> bool:
        """Whether something has changed for the endpoint since the scan began."""
        return endpoint_id in self._since_scan

    # -- during a claim ----------------------------------------------------------------------------------------------

    def begin_claim(self) -> None:
        """A claim begins to read now."""
        self._since_claim.clear()

    def due(self, endpoint_id: str, due_at: UnixMs, *, urgent: bool = False) -> None:
        """Note that a delivery of the endpoint is due at `due_at`."""
        earlier, was_urgent = self._since_claim.get(endpoint_id, (due_at, False))
        self._since_claim[endpoint_id] = min(earlier, due_at), urgent or was_urgent

    def due_since_claim(self, endpoint_id: str) -> tuple[UnixMs | None, bool]:
        """Return when the first delivery is due that was noted since the claim began (or None), and whether it is urgent."""
        return self._since_claim.get(endpoint_id, (None, False))
