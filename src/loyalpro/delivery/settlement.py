"""The values of settling: an attempt, the next state of its delivery, and what that changes for the endpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loyalpro.delivery.attempt import OutcomeCode, Response, Timings
from loyalpro.delivery.breaker import Health
from loyalpro.delivery.claims import Claimed
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.record import record


@record
class SentRequest:
    """One request of an attempt, and how it ended. `detail`: a sentence about the outcome."""

    started_at: UnixMs
    outcome: OutcomeCode
    detail: str
    request_headers: tuple[tuple[str, str], ...]
    response: Response | None
    remote_ip: str | None
    timings: Timings


@record
class Attempt:
    """What one attempt sent and how it ended, as the API shows it. `detail`: a sentence about the outcome.

    `requests`: all requests of the attempt, in the order in which they were sent; empty when they are not known, because the
    process ended that sent them. The other fields are those of the request that decided the outcome.
    """

    number: int
    started_at: UnixMs
    outcome: OutcomeCode
    detail: str
    request_headers: tuple[tuple[str, str], ...]
    response: Response | None
    remote_ip: str | None
    timings: Timings | None
    requests: tuple[SentRequest, ...] = ()

    @classmethod
    def of(cls, number: int, requests: Sequence[SentRequest], deciding: SentRequest) -> "Attempt":
        """Return the attempt that sent these requests, of which `deciding` has decided the outcome."""
        return cls(
            number=number,
            started_at=requests[0].started_at,
            outcome=deciding.outcome,
            detail=deciding.detail,
            request_headers=deciding.request_headers,
            response=deciding.response,
            remote_ip=deciding.remote_ip,
            timings=deciding.timings,
            requests=tuple(requests),
        )


@record
class Settlement:
    """The next state of a delivery, to be written if its lease still holds.

    `attempt` is None when the retry window closed before the request was sent. `scheduled`: the retry schedule counts the
    attempt. `hold_ms`: the endpoint asked for a pause of this length. `promoted`: the version of a newer secret that the
    receiver has accepted.
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
        """Whether the endpoint answered with success."""
        return self.attempt is not None and self.attempt.outcome is OutcomeCode.SUCCEEDED


@dataclass(frozen=True, slots=True)
class Notice:
    """A message for the owner of an endpoint about a change that the owner did not make."""

    account_id: str
    endpoint_id: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Settled:
    """The result of writing settlements.

    `held`: the ids of the deliveries whose lease still held. `health`: the new health of the endpoints where it may have
    changed. `notices`: those that were written.
    """

    held: frozenset[str]
    health: Mapping[str, Health]
    notices: Sequence[Notice]
