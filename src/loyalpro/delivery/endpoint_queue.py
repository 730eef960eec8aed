"""One endpoint as this process knows it: how many deliveries may be in flight at once, and how fast they may start."""

from dataclasses import dataclass, field

from loyalpro.delivery.claims import ClaimKind, ClaimRequest, Target
from loyalpro.delivery.lag import WaitsFor
from loyalpro.delivery.token_bucket import TokenBucket
from loyalpro.kernel.clock import UnixMs

FIRST_WINDOW = 8
SILENT_AFTER_MS = 3_000
SILENT_MIN_IN_FLIGHT = 2
"""An endpoint counts as silent only with so many unanswered attempts: a single one may be slow for a reason of its own."""


@dataclass(slots=True)
class Destination:
    """A host that deliveries of any account go to, and how many may be in flight to it at once.

    `queues`: how many endpoint queues have it as their destination. `waiting`: those of them that wait until it has a free
    slot, in the order in which they came.
    """

    width: int
    in_flight: int = 0
    queues: int = 0
    waiting: "dict[str, EndpointQueue]" = field(default_factory=dict)

    @property
    def free(self) -> int:
        """How many more deliveries may start; negative after the width has become smaller."""
        return self.width - self.in_flight

    @property
    def is_full(self) -> bool:
        """Whether no more deliveries may start."""
        return self.in_flight >= self.width


@dataclass(slots=True)
class EndpointQueue:
    """The pending deliveries of one endpoint: their limits, how many are in flight, and when the next is due.

    `window`: how many may be in flight at once. It doubles with every success, up to `width`, and halves with every
    failure. An endpoint is silent when it has not answered for `SILENT_AFTER_MS` although `SILENT_MIN_IN_FLIGHT` attempts
    wait for it. A silent endpoint gets nothing more until an attempt ends; if that attempt fails, the window is 1 until a
    success. So an endpoint that hangs occupies few slots, long before its first attempt times out and its breaker opens.

    `share`: how many workers share the limits of the endpoint. `held`: how many deliveries this process has leased,
    including those that were answered and whose outcomes are not durable yet. `timer_at`: the time of its timer.
    """

    target: Target
    destination: Destination
    width: int
    share: int = 1
    in_flight: int = 0
    held: int = 0
    window: int = FIRST_WINDOW
    answered_at: UnixMs = 0
    due_at: UnixMs | None = None
    timer_at: UnixMs | None = None
    urgent: bool = False
    bucket: TokenBucket | None = field(default=None)

    @property
    def endpoint_id(self) -> str:
        """The id of the endpoint."""
        return self.target.endpoint_id

    @property
    def is_healthy(self) -> bool:
        """Whether the last attempt at the endpoint succeeded, or there was none."""
        return not self.target.health.failures

    def is_silent(self, now: UnixMs) -> bool:
        """Whether the endpoint has not answered for a while, with enough attempts in flight to tell."""
        return self.in_flight >= SILENT_MIN_IN_FLIGHT and now - self.answered_at >= SILENT_AFTER_MS

    def refresh(self, target: Target, now: UnixMs, *, share: int) -> None:
        """Take over the target and the health that the database has now."""
        self.target, self.share = target, share
        self._set_rate(now)

    # -- what may be claimed -----------------------------------------------------------------------------------------

    def request(self, now: UnixMs, limit: int) -> ClaimRequest | None:
        """Return what to claim at `now`, at most `limit` deliveries; None when no limit or no time allows any."""
        free = min(self.window, self.width) - self.in_flight
        limit = min(free, self.destination.free, limit)
        if limit <= 0:
            return None
        if self.urgent:
            return ClaimRequest(self.endpoint_id, limit, ClaimKind.URGENT)
        if self.is_silent(now):
            return None
        if self.target.health.is_open:
            return self._probe(now)
        limit = min(limit, self._tokens(now))
        return ClaimRequest(self.endpoint_id, limit) if limit > 0 else None

    def ready_at(self, now: UnixMs) -> UnixMs | None:
        """Return when the queue may be asked next; None when only the end of an attempt or a new delivery changes that."""
        if self.due_at is None or self.in_flight >= min(self.window, self.width):
            return None
        if self.urgent:
            return self.due_at
        if self.is_silent(now):
            return None
        if self.target.health.probe_at is not None:
            return None if self.in_flight else max(self.due_at, self.target.health.probe_at)
        if self.bucket is not None and self.bucket.available(now) < 1:
            return max(self.due_at, self.bucket.refilled_at(now))
        return self.due_at

    def waits_for(self, now: UnixMs) -> WaitsFor:
        """Return what holds a delivery back that is due now."""
        held_back = not self.is_healthy or self.is_silent(now) or self.target.health.allowed_per_s(now) is not None
        if held_back or self.in_flight >= min(self.window, self.width) or self.destination.is_full:
            return WaitsFor.ENDPOINT
        return WaitsFor.RATE_LIMIT if self.target.rate_limit is not None else WaitsFor.WORKER

    def _probe(self, now: UnixMs) -> ClaimRequest | None:
        due = self.target.health.probe_at is not None and self.target.health.probe_at <= now
        return ClaimRequest(self.endpoint_id, 1, ClaimKind.PROBE) if due and not self.in_flight else None

    def _tokens(self, now: UnixMs) -> int:
        self._set_rate(now)
        return self.width if self.bucket is None else self.bucket.available(now)

    def _set_rate(self, now: UnixMs) -> None:
        """Use the rate limit of the owner or that of a recovery, whichever is lower; each worker uses its share of it."""
        recovery_per_s = self.target.health.allowed_per_s(now)
        limits = [float(each) for each in (self.target.rate_limit, recovery_per_s) if each is not None]
        if not limits:
            self.bucket = None
            return
        per_s = min(limits) / self.share
        if self.bucket is None:
            self.bucket = TokenBucket(per_s, now)
        elif self.bucket.per_s != per_s:
            self.bucket.available(now)
            self.bucket.per_s = per_s

    # -- what is in flight -------------------------------------------------------------------------------------------

    def started(self, count: int, now: UnixMs) -> None:
        """Count `count` more deliveries in flight."""
        if not self.in_flight:
            self.answered_at = now  # before this there was nothing to answer
        self.in_flight += count
        self.destination.in_flight += count
        if self.bucket is not None:
            self.bucket.take(count)

    def finished(self, now: UnixMs, *, succeeded: bool | None) -> None:
        """Count one delivery less in flight, and adjust the window. `succeeded`: None leaves the window as it is."""
        if succeeded:
            self.window = min(self.window * 2, self.width)
        elif succeeded is not None:
            self.window = 1 if self.is_silent(now) else max(self.window // 2, 1)
        self.answered_at = now
        self.in_flight -= 1
        self.destination.in_flight -= 1

    def __repr__(self) -> str:
        state = ", open" if self.target.health.is_open else ""
        return f"<EndpointQueue {self.endpoint_id}: {self.in_flight}/{min(self.window, self.width)}{state}>"
