"""Limits the requests of each API key. The state is in the memory of one process: each process has a limit of its own."""

import math
from typing import Final

from loyalpro.accounts.entities import ApiKey
from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import RateLimited

_MINUTE_S: Final = 60.0
MANY: Final = 1_000
"""From how many keys on, those that have been idle are forgotten."""


class RequestLimits:
    """A full minute's requests may come at once; each is available again after the time that it stands for, `60 / limit` s.

    What is kept of a key is one number: when all its requests are available again, in seconds of the monotonic clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._full_at_s: dict[str, float] = {}
        self._most = MANY

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._full_at_s)

    def take(self, key: ApiKey) -> None:
        """Count one request of a key. Raises `RateLimited` when it has none left."""
        limit = key.requests_per_minute
        if limit is None:
            return
        now_s, each_s = self._clock.monotonic_s(), _MINUTE_S / limit
        full_at_s = max(now_s, self._full_at_s.get(key.id, now_s)) + each_s
        excess_s = full_at_s - now_s - _MINUTE_S
        if excess_s > 1e-6:
            raise RateLimited(
                f"This key may make {limit} requests per minute. Wait as long as Retry-After says.",
                retry_after_s=max(1, math.ceil(excess_s - 1e-6)),
            )
        self._full_at_s[key.id] = full_at_s
        self._forget_idle(now_s)

    def _forget_idle(self, now_s: float) -> None:
        """A key that has all its requests available needs no number."""
        if len(self._full_at_s) > self._most:
            self._full_at_s = {id_: full_at_s for id_, full_at_s in self._full_at_s.items() if full_at_s > now_s}
            self._most = max(MANY, 2 * len(self._full_at_s))
