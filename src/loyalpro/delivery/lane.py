"""One endpoint's lane in this process: how much may be on its way at once, and how fast. It may be lost at any time."""

import math
from dataclasses import dataclass, field

from loyalpro.delivery.claims import ClaimKind, ClaimRequest, Target
from loyalpro.kernel.clock import MS_PER_S, UnixMs

FIRST_WINDOW = 8
SILENT_AFTER_MS = 3_000
WITNESSES = 2
"""So many unanswered attempts say that an endpoint is silent. One alone may be the attempt's own fault."""


@dataclass(slots=True)
class TokenBucket:
    """At most `per_s` tokens in any second, evenly: a twentieth of them may be saved up, and that much less flows in."""

    per_s: float
    filled_at: UnixMs
    tokens: float = 1.0

    @property
    def depth(self) -> float:
        """How many can be saved up."""
        return max(1.0, self.per_s / 20)

    @property
    def flow_per_s(self) -> float:
        """How many flow in."""
        return self.per_s if self.depth == 1 else self.per_s - self.depth

    def available(self, now: UnixMs) -> int:
        """Whole tokens there are at `now`."""
        elapsed_s = max(0, now - self.filled_at) / MS_PER_S
        self.tokens = min(self.depth, self.tokens + elapsed_s * self.flow_per_s)
        self.filled_at = max(self.filled_at, now)  # an older time, read before a wait, must not count twice
        return int(self.tokens + 1e-9)

    def take(self, count: int) -> None:
        """Spend `count` tokens. What `available` has not shown is owed, and made up for before the next one."""
        self.tokens -= count

    def refilled_at(self, now: UnixMs) -> UnixMs:
        """When the next whole token is there."""
        missing = max(0.0, 1.0 - self.tokens)
        return now + max(1, math.ceil(missing / self.flow_per_s * MS_PER_S - 1e-6))


@dataclass(slots=True)
class Destination:
    """One host that deliveries of any account go to: so many at once and no more, whoever asks for it."""

    width: int
    in_flight: int = 0
    lanes: int = 0
    waiting: "dict[str, Lane]" = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        """Whether nothing more may start."""
        return self.in_flight >= self.width


@dataclass(slots=True)
class Lane:
    """What this process knows of one endpoint. `share`: how many workers divide its limits among themselves.

    The window is how many may be under way at once: it opens with every success, to `width`, and halves with every
    failure. An endpoint that has been silent for `SILENT_AFTER_MS`, while it owes `WITNESSES` an answer, gets nothing
    more until one of them ends; if that is a failure, one at a time until a success. So one that hangs holds few
    places, long before its breaker has seen the first attempt time out. `held` counts those too that have been answered
    and whose outcome is not durable yet.
    """

    target: Target
    destination: Destination
    width: int
    share: int = 1
    in_flight: int = 0
    held: int = 0
    window: int = FIRST_WINDOW
    heard_at: UnixMs = 0
    due_at: UnixMs | None = None
    alarm_at: UnixMs | None = None
    urgent: bool = False
    bucket: TokenBucket | None = field(default=None)

    @property
    def endpoint_id(self) -> str:
        """Whose lane it is."""
        return self.target.endpoint_id

    @property
    def proven(self) -> bool:
        """Whether nothing speaks against it: its last attempt succeeded, or it has had none."""
        return not self.target.health.failures

    def is_silent(self, now: UnixMs) -> bool:
        """Whether it has not answered for a while, with enough under way to tell."""
        return self.in_flight >= WITNESSES and now - self.heard_at >= SILENT_AFTER_MS

    def refresh(self, target: Target, now: UnixMs, *, share: int) -> None:
        """Take over what the database says of the endpoint now."""
        self.target, self.share = target, share
        self._limit(now)

    def ask(self, now: UnixMs, most: int) -> ClaimRequest | None:
        """What to claim at `now`, at most `most`; None when there is no room or it is not time."""
        places = min(self.window, self.width) - self.in_flight
        room = min(places, self.destination.width - self.destination.in_flight, most)
        if room <= 0:
            return None
        if self.urgent:
            return ClaimRequest(self.endpoint_id, room, ClaimKind.URGENT)
        if self.is_silent(now):
            return None
        if self.target.health.is_open:
            return self._probe(now)
        room = min(room, self._tokens(now))
        return ClaimRequest(self.endpoint_id, room) if room > 0 else None

    def ready_at(self, now: UnixMs) -> UnixMs | None:
        """When to look at the lane again although nothing happens; None: only when something ends or arrives."""
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

    def started(self, count: int, now: UnixMs) -> None:
        """Note that `count` deliveries are on their way."""
        if not self.in_flight:
            self.heard_at = now  # until now there was nothing to answer
        self.in_flight += count
        self.destination.in_flight += count
        if self.bucket is not None:
            self.bucket.take(count)

    def finished(self, now: UnixMs, *, succeeded: bool) -> None:
        """Note that one delivery is no longer under way."""
        if succeeded:
            self.window = min(self.window * 2, self.width)
        else:
            self.window = 1 if self.is_silent(now) else max(self.window // 2, 1)
        self.heard_at = now
        self.in_flight -= 1
        self.destination.in_flight -= 1

    def _probe(self, now: UnixMs) -> ClaimRequest | None:
        due = self.target.health.probe_at is not None and self.target.health.probe_at <= now
        return ClaimRequest(self.endpoint_id, 1, ClaimKind.PROBE) if due and not self.in_flight else None

    def _tokens(self, now: UnixMs) -> int:
        self._limit(now)
        return self.width if self.bucket is None else self.bucket.available(now)

    def _limit(self, now: UnixMs) -> None:
        """The owner's rate limit, or the recovery's while that is lower; each worker keeps to its share."""
        ramp_per_s = self.target.health.allowed_per_s(now)
        limits = [float(each) for each in (self.target.rate_limit, ramp_per_s) if each is not None]
        if not limits:
            self.bucket = None
            return
        per_s = min(limits) / self.share
        if self.bucket is None:
            self.bucket = TokenBucket(per_s, now)
        elif self.bucket.per_s != per_s:
            self.bucket.available(now)
            self.bucket.per_s = per_s

    def __repr__(self) -> str:
        state = ", open" if self.target.health.is_open else ""
        return f"<Lane {self.endpoint_id}: {self.in_flight}/{min(self.window, self.width)}{state}>"
