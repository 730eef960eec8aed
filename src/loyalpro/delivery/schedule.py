"""When to try again: exponential backoff with jitter, 72 hours from the first attempt to the last.

A delivery's wait grows with the time between its first attempt and its last, not with a count: 5 s, then 15, 45, 135 ...
up to 4 hours.
So attempts that were made by hand, or cut short by a crash, change nothing about the ones that follow.
"""

import random
from dataclasses import dataclass
from typing import Final

from loyalpro.kernel.clock import MS_PER_S, UnixMs

WINDOW_S: Final = 72 * 3600
FIRST_DELAY_S: Final = 5.0
GROWTH: Final = 3.0
LONGEST_DELAY_S: Final = 4 * 3600.0
JITTER: Final = 0.15
LAST_MARGIN_S: Final = 15.0
"""The last attempt is due this long before the window closes, so that a busy engine still makes it in time."""
MOMENT_MS: Final = 20
"""What nobody waits for (a retry that is due, the outcome of one) waits at most so long for others like it."""
_SHORTEST_GAP_S: Final = 60.0
"""A retry that would leave less than this before the last one is moved to it: two tries at once help nobody."""


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """The waits between attempts. With `fixed_s`, exactly those and no jitter; otherwise backoff over the whole window."""

    fixed_s: tuple[float, ...] | None = None
    window_s: float = WINDOW_S

    @property
    def longest_wait_s(self) -> float:
        """The longest wait between two attempts: an endpoint is probed at least as often."""
        return LONGEST_DELAY_S if self.fixed_s is None else max(self.fixed_s, default=0.0)

    def closing_since(self, now: UnixMs) -> UnixMs:
        """What had its first attempt by then is due its last one at `now`, whatever else holds it back."""
        return now - round((self.window_s - LAST_MARGIN_S) * MS_PER_S)

    def closed_since(self, now: UnixMs) -> UnixMs:
        """What had its first attempt before then may not be sent any more."""
        return now - round(self.window_s * MS_PER_S)

    def next_attempt_at(
        self,
        *,
        attempts: int,
        first_attempt_at: UnixMs,
        started_at: UnixMs,
        now: UnixMs,
        retry_after_ms: int | None,
        chance: random.Random,
    ) -> UnixMs | None:
        """When the attempt after `attempts` scheduled ones, the last of them at `started_at`, is due; None: there is none.

        A `Retry-After` can only make the wait longer, and never past the window: the last attempt is due at or just
        before `window_s` after the first. A wait that would cross that line is cut back to it, once.
        """
        last = first_attempt_at + round((self.window_s - LAST_MARGIN_S) * MS_PER_S)
        delay_s = self._delay_s(attempts, (started_at - first_attempt_at) / MS_PER_S, chance)
        if delay_s is None or now >= last:
            return None
        due = now + max(round(delay_s * MS_PER_S), retry_after_ms or 0)
        if self.fixed_s is not None:
            return min(due, last)
        return due if due + _SHORTEST_GAP_S * MS_PER_S <= last else last

    def is_over(self, first_attempt_at: UnixMs, now: UnixMs) -> bool:
        """Whether the window has closed: nothing is sent after it."""
        return now > first_attempt_at + round(self.window_s * MS_PER_S)

    def _delay_s(self, attempts: int, elapsed_s: float, chance: random.Random) -> float | None:
        if self.fixed_s is not None:
            return self.fixed_s[attempts - 1] if attempts <= len(self.fixed_s) else None
        plain_s = min(FIRST_DELAY_S + (GROWTH - 1) * max(0.0, elapsed_s), LONGEST_DELAY_S)
        return plain_s * chance.uniform(1 - JITTER, 1 + JITTER)
