"""The entities of webhooks, as the API shows them to the owner of an endpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from loyalpro.delivery.states import FINISHED, DeliveryStatus, EndpointStatus
from loyalpro.kernel.clock import UnixMs
from loyalpro.kernel.ids import is_forged

ALL_TYPES = "*"
"""The subscription to events of every type."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as its owner configured it. `ordering` is `none` or `customer`; `rate_limit` is in requests per second.

    `headers`: the names of its custom headers, each with the mask in place of its value. `imports`: whether it also gets the
    events that imports cause.
    """

    id: str
    account_id: str
    url: str
    description: str | None
    types: tuple[str, ...]
    ordering: str
    rate_limit: int | None
    headers: Mapping[str, str]
    status: EndpointStatus
    status_reason: str | None
    created_at: UnixMs
    updated_at: UnixMs
    imports: bool = True

    def wants(self, event_type: str, *, is_import: bool) -> bool:
        """Whether it is subscribed to events of this type, and to what imports cause if an import causes the event."""
        return (ALL_TYPES in self.types or event_type in self.types) and self.takes(is_import=is_import)

    def takes(self, *, is_import: bool) -> bool:
        """Whether it gets events that an import causes, or does not cause."""
        return self.imports or not is_import


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret of an endpoint, without the text itself. Without an end (`expires_at` is None), it is the newest one."""

    version: int
    expires_at: UnixMs | None
    promoted_at: UnixMs | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event to be sent to one endpoint. `status` is the visible one, `outcome` that of the last attempt."""

    id: str
    account_id: str
    endpoint_id: str
    event_id: str
    event_type: str
    status: DeliveryStatus
    attempts: int
    next_attempt_at: UnixMs | None
    outcome: str | None
    created_at: UnixMs
    first_attempt_at: UnixMs | None
    finished_at: UnixMs | None

    @property
    def forged(self) -> bool:
        """Whether it is signed wrongly on purpose, to see that the receiver refuses it."""
        return is_forged(self.id, self.endpoint_id)


@dataclass(frozen=True, slots=True)
class PastRequest:
    """One request of an attempt as it was recorded. Headers are pairs of name and value; timings are in milliseconds."""

    started_at: UnixMs
    outcome: str
    detail: str
    request_headers: Sequence[tuple[str, str]]
    response_status: int | None
    response_headers: Sequence[tuple[str, str]] | None
    response_excerpt: bytes | None
    response_truncated: bool | None
    remote_ip: str | None
    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    first_byte_ms: float | None
    total_ms: float | None


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """One attempt as it was recorded. `deciding`: the request that decided its outcome, with the start of the attempt.

    `requests`: all requests in the order in which they were sent; empty when the process ended that sent them.
    """

    number: int
    deciding: PastRequest
    requests: Sequence[PastRequest]


@dataclass(frozen=True, slots=True)
class DeliverySnapshot:
    """The state of a delivery while its row is locked.

    `endpoint` is None when the endpoint is deleted. `fallback` is set while a manual attempt has not ended: the status that
    the delivery had before. `waits_for`: an earlier delivery of the same customer that has to end first. `event_kept`: the
    event is still stored and not erased.
    """

    delivery_id: str
    endpoint_id: str
    customer_id: str | None
    status: DeliveryStatus
    due_at: UnixMs | None
    endpoint: EndpointStatus | None
    being_sent: bool
    fallback: DeliveryStatus | None
    waits_for: str | None
    event_kept: bool

    @property
    def under_way(self) -> bool:
        """Whether an attempt is being sent, or a manual one is due."""
        return self.being_sent or self.fallback is not None

    @property
    def once_canceled(self) -> DeliveryStatus:
        """The status after a cancel: a delivery that had ended before its manual attempt gets its earlier status back."""
        return self.fallback if self.fallback in FINISHED else DeliveryStatus.CANCELED


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event that was committed earlier, without its body. `test`: a sample. `imported`: an import caused it."""

    id: str
    account_id: str
    type: str
    customer_id: str | None
    sequence: int | None
    test: bool
    imported: bool
    erased_at: UnixMs | None

    @property
    def erased(self) -> bool:
        """Whether its data was erased with its customer."""
        return self.erased_at is not None


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries of an account; None for a condition that does not count.

    `status`: the visible one. `outcome`: of the last attempt. `since` and `until`: the instants between which the events were
    made, both included.
    """

    endpoint_id: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    status: DeliveryStatus | None = None
    outcome: str | None = None
    customer_id: str | None = None
    since: UnixMs | None = None
    until: UnixMs | None = None


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """What the last attempt of a delivery came to. `response_status` and `total_ms` are None when they are not known."""

    outcome: str
    response_status: int | None
    total_ms: float | None


@dataclass(frozen=True, slots=True)
class Reached:
    """Of the deliveries of one event, how many have succeeded (`delivered`), and how many there are (`total`)."""

    delivered: int
    total: int


@dataclass(frozen=True, slots=True)
class Replay:
    """A job that sends a range of an account's events to one endpoint, again or for the first time.

    `since` and `until` include both instants. `types` is None for all types. `statuses`: the status of an event's delivery,
    or `missing` when there is none. `status` is `running`, `done` or `canceled`. Only the store interprets `cursor`.
    """

    id: str
    account_id: str
    endpoint_id: str
    since: UnixMs
    until: UnixMs
    types: tuple[str, ...] | None
    statuses: tuple[str, ...]
    status: str
    cursor: str
    examined: int
    replayed: int
    created_at: UnixMs
    finished_at: UnixMs | None


@dataclass(frozen=True, slots=True)
class ReplayPage:
    """Some events of a replay's range, in the order of their commits. `is_last`: no event can follow them.

    `cursor`: the position after the page, which only the store interprets.
    """

    events: Sequence[PastEvent]
    cursor: str
    is_last: bool


@dataclass(frozen=True, slots=True)
class PastNotice:
    """A message to the owner of an endpoint. `kind` is stable, for programs; `detail` is a sentence."""

    id: str
    endpoint_id: str
    kind: str
    detail: str
    created_at: UnixMs


@dataclass(frozen=True, slots=True)
class Counts:
    """How many attempts of an endpoint ended in one way in a span of time that begins at `start_at`.

    `response_status`: the HTTP status of an answer that was no success, else 0. `bucket`: that of the durations, as
    `delivery.counters` has them; 0 for attempts that were not delivered. `last_at`: when the last of them was settled.
    """

    start_at: UnixMs
    outcome: str
    response_status: int
    bucket: int
    attempts: int
    last_at: UnixMs


@dataclass(frozen=True, slots=True)
class HourOfEndpoint:
    """How many attempts of an endpoint were delivered with a duration of one bucket, or failed, in an hour."""

    endpoint_id: str
    start_at: UnixMs
    bucket: int
    delivered: bool
    attempts: int
    last_at: UnixMs
