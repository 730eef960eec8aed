"""What the engine needs from outside: the database, the signatures and the metrics."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from loyalpro.delivery.attempt import OutcomeCode
from loyalpro.delivery.claims import BacklogPage, Claimed, ClaimRequest, ClaimResult, Target
from loyalpro.delivery.lag import WaitsFor
from loyalpro.delivery.settlement import Settled, Settlement
from loyalpro.kernel.clock import UnixMs

WorkerId = str
"""The id of one worker: a process that delivers, from its start to its end. It also fences the leases of the worker, so an
id is never used again."""

Headers = tuple[tuple[str, str], ...]


class DeliveryStore(Protocol):
    """The database as the engine uses it. Every method is one short transaction, and may raise StoreError."""

    async def register(self, worker: WorkerId, *, ttl_ms: int) -> None:
        """Register the worker. Its leases hold until it has not renewed them for `ttl_ms`."""
        ...

    async def renew(self, worker: WorkerId, *, ttl_ms: int) -> bool:
        """Extend the leases of the worker; False when they have been taken from it."""
        ...

    async def release(self, worker: WorkerId) -> None:
        """Release all leases of the worker, and remove it."""
        ...

    async def rescue(self, worker: WorkerId) -> frozenset[str]:
        """Release the leases of dead workers; return their endpoints. The attempts count, with the outcome `interrupted`."""
        ...

    async def release_unknown(self, worker: WorkerId, *, keep: Collection[str]) -> None:
        """Release the leases that the worker does not know of: all but those for the deliveries in `keep`."""
        ...

    async def scan_backlog(self, now: UnixMs, *, after: str, closing_since: UnixMs) -> BacklogPage:
        """Read one page of the enabled endpoints with pending deliveries: those whose ids come after `after`.

        A delivery whose first attempt was at or before `closing_since` is urgent.
        """
        ...

    async def targets(self, endpoint_ids: Sequence[str], now: UnixMs) -> Mapping[str, Target]:
        """Read the targets of those of these endpoints that are enabled."""
        ...

    async def claim(
        self, worker: WorkerId, requests: Sequence[ClaimRequest], now: UnixMs, *, closing_since: UnixMs
    ) -> ClaimResult:
        """Lease due deliveries, for each endpoint the oldest first.

        A delivery whose first attempt was at or before `closing_since` is urgent.
        """
        ...

    async def settle(
        self, worker: WorkerId, settlements: Sequence[Settlement], now: UnixMs, *, longest_probe_s: float
    ) -> Settled:
        """Write the settlements whose lease still holds, and leave the other deliveries unchanged.

        `longest_probe_s`: the longest wait between two probes of an endpoint.
        """
        ...


class Sign(Protocol):
    """Makes the headers of one request, signatures included."""

    def __call__(self, claimed: Claimed, *, timestamp_s: int, primary: int) -> Headers:
        """`timestamp_s`: Unix seconds of the request. `primary`: the index of the secret that signs alone."""
        ...


class Metrics(Protocol):
    """Receives what the engine counts and measures."""

    def attempted(self, outcome: OutcomeCode, total_ms: float) -> None:
        """One request ended after `total_ms`."""
        ...

    def settled(self, settlement: Settlement) -> None:
        """The outcome of one delivery is durable."""
        ...

    def oldest_due(self, due_at: Mapping[WaitsFor, UnixMs]) -> None:
        """A backlog scan has ended: since when the oldest delivery is due that waits for each of these."""
        ...

    def fenced(self) -> None:
        """One settlement was not written, because its lease no longer held."""
        ...

    def in_flight(self, count: int) -> None:
        """This process now holds `count` deliveries."""
        ...
