"""What the engine needs from the outside, and the values that it exchanges with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from loyalpro.delivery.attempt import OutcomeCode, Response, Timings
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import UnixMs

WorkerId = str
"""One process that delivers, from its start to its end. It is also the lease: never given out twice."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where an endpoint's deliveries go, and how: read again at every claim, so an edit counts at once."""

    endpoint_id: str
    url: str
    headers: tuple[tuple[str, str], ...]
    secrets: tuple[str, ...] = field(repr=False)
    rate_limit: int | None
    ordered: bool


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this worker holds, with all that is needed to send it."""

    delivery_id: str
    event_id: str
    event_type: str
    body: bytes = field(repr=False)
    attempt_number: int
    first_attempt_at: UnixMs
    target: Target


@dataclass(frozen=True, slots=True)
class LaneRequest:
    """An ask for up to `room` due deliveries of one endpoint."""

    endpoint_id: str
    room: int


@dataclass(frozen=True, slots=True)
class Survey:
    """Which endpoints have a delivery due now, and when the next one of any endpoint is."""

    due: tuple[str, ...]
    next_due_at: UnixMs | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt did and how it ended, as its owner sees it."""

    number: int
    started_at: UnixMs
    outcome: OutcomeCode
    detail: str
    request_headers: tuple[tuple[str, str], ...]
    response: Response | None
    remote_ip: str | None
    timings: Timings | None


@dataclass(frozen=True, slots=True)
class Settlement:
    """One delivery's next state, to be written if the lease still holds. No attempt: its window closed unsent."""

    delivery_id: str
    endpoint_id: str
    status: DeliveryStatus
    due_at: UnixMs
    attempt: Attempt | None
    disable_endpoint: bool = False


class DeliveryStore(Protocol):
    """The database, as the engine sees it. Every method is one short transaction."""

    async def register(self, worker: WorkerId, *, ttl_ms: int) -> None:
        """Make the worker known; its leases hold until it has been silent for `ttl_ms`."""
        ...

    async def renew(self, worker: WorkerId, *, ttl_ms: int) -> bool:
        """Push the end of the worker's leases out; False when they have already been taken from it."""
        ...

    async def release(self, worker: WorkerId) -> None:
        """Give up everything the worker still holds, and forget it."""
        ...

    async def rescue(self, worker: WorkerId) -> frozenset[str]:
        """Free what dead workers held; the endpoints that are owed it. Their attempts count, as `interrupted`."""
        ...

    async def survey(self, now: UnixMs) -> Survey:
        """Look over the lanes of all enabled endpoints."""
        ...

    async def claim(self, worker: WorkerId, lanes: Sequence[LaneRequest], now: UnixMs) -> list[Claimed]:
        """Lease due deliveries, oldest first within a lane, and raise their attempt numbers."""
        ...

    async def settle(self, worker: WorkerId, settlements: Sequence[Settlement], now: UnixMs) -> frozenset[str]:
        """Write what became of deliveries; the ids of those whose lease still held. The others are left as they are."""
        ...
