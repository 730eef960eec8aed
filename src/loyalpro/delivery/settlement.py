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
class Attempt:
    """What one attempt sent and how it ended, as the API shows it. `detail`: a sentence about the outcome."""

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
