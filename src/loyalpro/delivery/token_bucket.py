"""A token bucket: limits the rate at which deliveries start."""

import math
from dataclasses import dataclass

from loyalpro.kernel.clock import MS_PER_S, UnixMs


@dataclass(slots=True)
class TokenBucket:
    """At most `per_s` tokens in any second, spread evenly.

    A twentieth of them may be saved up, and that much less flows in, so that a burst and the flow after it keep the limit.
    """

    per_s: float
    filled_at: UnixMs
    tokens: float = 1.0

    @property
    def depth(self) -> float:
        """How many tokens can be saved up."""
        return max(1.0, self.per_s / 20)

    @property
    def flow_per_s(self) -> float:
        """How many tokens flow in each second."""
        return self.per_s if self.depth == 1 else self.per_s - self.depth

    def available(self, now: UnixMs) -> int:
        """Fill the bucket up to `now`; return how many whole tokens it has."""
        elapsed_s = max(0, now - self.filled_at) / MS_PER_S
        self.tokens = min(self.depth, self.tokens + elapsed_s * self.flow_per_s)
        self.filled_at = max(self.filled_at, now)  # an older time, read before a wait, must not count twice
        return int(self.tokens + 1e-9)

    def take(self, count: int) -> None:
        """Spend `count` tokens. The bucket may go below zero; it then has no token until the deficit has flowed in."""
        self.tokens -= count

    def refilled_at(self, now: UnixMs) -> UnixMs:
        """Return when the next whole token is available."""
        missing = max(0.0, 1.0 - self.tokens)
        return now + max(1, math.ceil(missing / self.flow_per_s * MS_PER_S - 1e-6))
