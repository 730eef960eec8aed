"""What the engine needs from the outside, and the values that it exchanges with it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from loyalpro.delivery.attempt import OutcomeCode, Response, Timings
from loyalpro.delivery.breaker import Health
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record

WorkerId = str
"""One process that delivers, from its start to its end. It is also the lease's token: never given out twice."""


@record
class Target:
    """Where an endpoint's deliveries go, and how: read again at every claim, so an edit counts at once.

    `secrets` are all that are valid now, newest first, and `versions` what they are called; `primary` is the index of
    the one that signs the header which can carry only one signature. It is not 0 while a rotation waits for the receiver
    to switch to a newer one.
    """

    endpoint_id: str
    account_id: str
    url: str
    headers: tuple[tuple[str, str], ...]
    secrets: tuple[str, ...] = field(repr=False)
    primary: int
    rate_limit: int | None
    ordered: bool
    health: Health
    versions: tuple[int, ...] = (1,)

    @property
    def host(self) -> str:
        """The host and port that the URL names: whoever they belong to, they are one destination."""
        return self.url.removeprefix("https://").partition("/")[0]


@dataclass(frozen=True, slots=True)
class Fallback:
    """Where a delivery goes back to when an attempt that was made by hand fails."""

    status: DeliveryStatus
    due_at: UnixMs | None


@record
class Claimed:
    """A delivery that this worker holds, with all that is needed to send it."""

    delivery_id: str
    event_id: str
    event_type: str
    body: bytes = field(repr=False)
    attempt_number: int
    scheduled_attempts: int
    first_attempt_at: UnixMs
    customer_id: str | None
    fallback: Fallback | None
    probe: bool
    target: Target


class Claim(StrEnum):
    """What a lane may be asked for: anything due; one, to see whether it answers; only what cannot wait."""

    DUE = "due"
    PROBE = "probe"
    URGENT = "urgent"


@record
class LaneRequest:
    """An ask for up to `room` due deliveries of one endpoint. Those of an endpoint whose breaker is open are not due."""

    endpoint_id: str
    room: int
    claim: Claim = Claim.DUE


@dataclass(frozen=True, slots=True)
class Claims:
    """What was leased, and the target of every lane that was asked for and may be sent to."""

    claimed: Sequence[Claimed]
    targets: Mapping[str, Target]


@dataclass(frozen=True, slots=True)
class LaneState:
    """One lane that has something pending: when the first of it is due."""

    target: Target
    due_at: UnixMs


@dataclass(frozen=True, slots=True)
class Survey:
    """One page of all lanes: enabled endpoints that are owed something, and how many workers there are to share it.

    The page goes up to the endpoint `until`; None: to the end. `urgent`: of all endpoints, those that are owed something
    that no breaker may hold back; only the first page has them.
    """

    lanes: Sequence[LaneState]
    workers: int
    until: str | None = None
    urgent: Collection[str] = ()


@record
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


@record
class Settlement:
    """One delivery's next state, to be written if the lease still holds. No attempt: its window closed unsent.

    `scheduled`: whether the retry schedule counts the attempt. `hold_ms`: the endpoint asked to be left alone.
    `promoted`: the version of a newer secret that the receiver has shown to know.
    """

    claimed: Claimed
    status: DeliveryStatus
    due_at: UnixMs | None
    attempt: Attempt | None
    scheduled: bool = True
    gone: bool = False
    hold_ms: int | None = None
    promoted: int | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the endpoint answered as it should."""
        return self.attempt is not None and self.attempt.outcome is OutcomeCode.SUCCEEDED


@dataclass(frozen=True, slots=True)
class Notice:
    """What the owner of an endpoint has to know although nobody asked."""

    account_id: str
    endpoint_id: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settlement did: the ids of deliveries whose lease still held, and what is new about the endpoints."""

    held: frozenset[str]
    health: Mapping[str, Health]
    notices: Sequence[Notice]


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

    async def disown(self, worker: WorkerId, *, keep: Collection[str]) -> None:
        """Free what the worker holds without knowing: every lease of its that is not for a delivery in `keep`."""
        ...

    async def survey(self, now: UnixMs, *, after: str, closing_since: UnixMs) -> Survey:
        """Look over lanes of enabled endpoints that are owed something: some that come `after` an endpoint, in order."""
        ...

    async def targets(self, endpoint_ids: Sequence[str], now: UnixMs) -> Mapping[str, Target]:
        """Where these endpoints are; the enabled ones among them."""
        ...

    async def claim(
        self, worker: WorkerId, lanes: Sequence[LaneRequest], now: UnixMs, *, closing_since: UnixMs
    ) -> Claims:
        """Lease due deliveries, oldest first within a lane. What had its first attempt by `closing_since` is urgent."""
        ...

    async def settle(
        self, worker: WorkerId, settlements: Sequence[Settlement], now: UnixMs, *, longest_probe_s: float
    ) -> Settled:
        """Write what became of deliveries whose lease still holds. The others are left as they are."""
        ...
