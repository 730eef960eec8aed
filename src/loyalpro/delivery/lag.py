"""What due deliveries wait for, and since when: whether the workers are too slow, or the endpoints."""

from collections.abc import Mapping
from enum import StrEnum

from loyalpro.kernel.clock import UnixMs


class WaitsFor(StrEnum):
    """Why a due delivery has not been sent yet."""

    WORKER = "worker"
    """Its turn: nothing but the speed of the workers holds it back."""
    ENDPOINT = "endpoint"
    """Its endpoint: it fails, recovers, does not answer, or has as many requests under way as it may have."""
    RATE_LIMIT = "rate_limit"
    """The rate limit that the owner of the endpoint has set."""


class Lag:
    """The due time of the oldest due delivery for each reason to wait, by the last complete backlog scan."""

    def __init__(self) -> None:
        self._scanned: dict[WaitsFor, UnixMs] = {}
        self.oldest: Mapping[WaitsFor, UnixMs] = {}

    def begin_scan(self) -> None:
        """A backlog scan begins."""
        self._scanned = {}

    def add(self, waits_for: WaitsFor, due_at: UnixMs) -> None:
        """The scan has found a delivery that is due since `due_at`."""
        self._scanned[waits_for] = min(due_at, self._scanned.get(waits_for, due_at))

    def end_scan(self) -> None:
        """The scan has covered all endpoints."""
        self.oldest = self._scanned
