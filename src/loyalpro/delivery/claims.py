"""The values of claiming: the backlog of each endpoint, the claim requests, and the leased deliveries."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from loyalpro.delivery.breaker import Health
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import is_forged
from loyalpro.kernel.record import record


@record
class Target:
    """Where and how the deliveries of an endpoint are sent. Each claim reads it again, so that an edit counts at once.

    `secrets`: all that are valid now, newest first; `versions`: the version of each. `primary`: the index of the secret
    that signs the header which can carry only one signature (see `rotation.primary_secret`). `rate_limit`: deliveries per
    second. `ordered`: the events of one customer are sent in order.
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
        """The host and port of the URL: endpoints of any account that share them are one destination."""
        return self.url.removeprefix("https://").partition("/")[0]


@dataclass(frozen=True, slots=True)
class EndpointBacklog:
    """An endpoint that has pending deliveries, and when the first of them is due."""

    target: Target
    due_at: UnixMs


@dataclass(frozen=True, slots=True)
class BacklogPage:
    """One page of the backlog scan: enabled endpoints with pending deliveries, in the order of their ids.

    `workers`: how many share the limits of each endpoint. `until`: the last endpoint that the page covers; None on the last
    page. `urgent`: of all endpoints, those with a delivery that no breaker may hold back; only the first page has them.
    """

    endpoints: Sequence[EndpointBacklog]
    workers: int
    until: str | None = None
    urgent: Collection[str] = ()


class ClaimKind(StrEnum):
    """Which deliveries a claim asks for: all that are due, one to probe the endpoint, or only those that cannot wait."""

    DUE = "due"
    PROBE = "probe"
    URGENT = "urgent"


@record
class ClaimRequest:
    """A request for up to `limit` due deliveries of one endpoint. While its breaker is open, its deliveries are not due."""

    endpoint_id: str
    limit: int
    kind: ClaimKind = ClaimKind.DUE


@dataclass(frozen=True, slots=True)
class Fallback:
    """The state to which a delivery returns when a manual attempt fails."""

    status: DeliveryStatus
    due_at: UnixMs | None


@record
class Claimed:
    """A delivery that this worker has leased, with all that is needed to send it.

    `attempt_number` counts all attempts, the next one included; `scheduled_attempts` only those of the retry schedule.
    `fallback` is set for a manual attempt. `probe`: the attempt tests an endpoint whose breaker is open. `created_at`: when the
    delivery was committed; None where it is not measured. `request_id`, `traceparent`: the origin of the event, for the log.
    """

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
    created_at: UnixMs | None = None
    request_id: str | None = None
    traceparent: str | None = None

    @property
    def forged(self) -> bool:
        """Whether it is signed wrongly on purpose. Its outcome says nothing of the endpoint's health, and is not counted."""
        return is_forged(self.delivery_id, self.target.endpoint_id)


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """The deliveries that were leased, and the target of every requested endpoint that is enabled."""

    claimed: Sequence[Claimed]
    targets: Mapping[str, Target]
