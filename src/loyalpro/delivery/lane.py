"""One endpoint's lane: how much may be on its way to it at once, and how fast."""

from dataclasses import dataclass

from loyalpro.delivery.ports import Target
from loyalpro.kernel.clock import MS_PER_S, UnixMs


@dataclass(slots=True)
class TokenBucket:
    """`per_s` tokens a second, at most one second's worth saved up."""

    per_s: int
    tokens: float
    filled_at: UnixMs

    def available(self, now: UnixMs) -> int:
        """Whole tokens there are at `now`."""
        elapsed_s = max(0, now - self.filled_at) / MS_PER_S
        self.tokens = min(float(self.per_s), self.tokens + elapsed_s * self.per_s)
        self.filled_at = now
        return int(self.tokens)

    def take(self, count: int) -> None:
        """Spend `count` tokens that `available` has just shown."""
        self.tokens -= count

    def refilled_at(self, now: UnixMs) -> UnixMs:
        """When the next whole token is there."""
        missing = max(0.0, 1.0 - self.tokens)
        return now + max(1, round(missing / self.per_s * MS_PER_S))


@dataclass(slots=True)
class Lane:
    """What this process knows of one endpoint. It may be lost at any time: the database knows what is owed."""

    endpoint_id: str
    width: int
    in_flight: int = 0
    more: bool = False
    ordered: bool = False
    bucket: TokenBucket | None = None

    def room(self, now: UnixMs) -> int:
        """How many more deliveries may start at `now`."""
        free = self.width - self.in_flight
        return min(free, self.bucket.available(now)) if self.bucket else free

    def started(self, count: int, target: Target, now: UnixMs) -> None:
        """Note that `count` deliveries are on their way, under the order and rate limit that the endpoint has now."""
        self.in_flight += count
        self.ordered = target.ordered
        if target.rate_limit is None:
            self.bucket = None
            return
        if self.bucket is None or self.bucket.per_s != target.rate_limit:
            self.bucket = TokenBucket(target.rate_limit, float(target.rate_limit), now)
        self.bucket.take(count)

    def finished(self) -> None:
        """Note that one delivery has been settled."""
        self.in_flight -= 1

    def __repr__(self) -> str:
        return f"<Lane {self.endpoint_id}: {self.in_flight}/{self.width}{', more' if self.more else ''}>"
