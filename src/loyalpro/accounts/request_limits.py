"""Limits the requests of each caller. The state is in the memory of one process: each process has a limit of its own."""

import math
from typing import Final

from loyalpro.accounts.entities import ApiKey
from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import RateLimited

_MINUTE_S: Final = 60.0
MANY: Final = 1_000
"""From how many callers on, those that have been idle are forgotten."""


class RequestLimits:
    """A full minute's requests may come at once; each is available again after the time that it stands for, `60 / limit` s.

    What is kept of a caller is one number: when all its requests are available again, in seconds of the monotonic clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._full_at_s: dict[str, float] = {}
        self._most = MANY

    def __len__(self) -> int:
        """How many callers are remembered."""
        return len(self._full_at_s)

    def take(self, key: ApiKey) -> None:
        """Count one request of a key. Raises `RateLimited` when it has none left."""
        limit = key.requests_per_minute
        if limit is not None:
            self.count(key.id, limit, f"This key may make {limit} requests per minute.")

    def count(self, caller: str, per_minute: int, refusal: str) -> None:
        """Count one request of a caller. Raises `RateLimited` with the refusal when it has none left."""
        now_s, each_s = self._clock.monotonic_s(), _MINUTE_S / per_minute
        full_at_s = max(now_s, self._full_at_s.get(caller, now_s)) + each_s
        excess_s = full_at_s - now_s - _MINUTE_S
        if excess_s > 1e-6:
            raise RateLimited(
                f"{refusal} Wait as long as Retry-After says.", retry_after_s=max(1, math.ceil(excess_s - 1e-6))
            )
        self._full_at_s[caller] = full_at_s
        self._forget_idle(now_s)

    def _forget_idle(self, now_s: float) -> None:
        """A caller that has all its requests available needs no number."""
        if len(self._full_at_s) > self._most:
            self._full_at_s = {id_: full_at_s for id_, full_at_s in self._full_at_s.items() if full_at_s > now_s}
            self._most = max(MANY, 2 * len(self._full_at_s))
