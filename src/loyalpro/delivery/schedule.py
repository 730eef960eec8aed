"""The retry schedule: exponential backoff with jitter, 72 hours from the first attempt to the last.

The wait grows with the time since the first attempt and not with the number of attempts: 5 s, then 15, 45, 135 ... up to
4 hours. So attempts that were manual, or interrupted by a crash, do not change the times of those that follow.
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
"""The last attempt is due this long before the window closes, so that a busy engine still starts it in time."""
_SHORTEST_GAP_S: Final = 60.0
"""A retry that would be due less than this before the last attempt is moved to it: two attempts so close are useless."""


class _Middle(random.Random):
    """Draws the middle of each range."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


_MIDDLE: Final = _Middle()


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """The waits between attempts: backoff over the window of `window_s`, or exactly the waits of `fixed_s` without jitter."""

    fixed_s: tuple[float, ...] | None = None
    window_s: float = WINDOW_S

    @property
    def longest_wait_s(self) -> float:
        """The longest wait between two attempts; an open breaker probes at least as often."""
        return LONGEST_DELAY_S if self.fixed_s is None else max(self.fixed_s, default=0.0)

    def closing_since(self, now: UnixMs) -> UnixMs:
        """A delivery whose first attempt was at or before the returned time makes its last attempt now, even past a breaker."""
        return now - round((self.window_s - LAST_MARGIN_S) * MS_PER_S)

    def closed_since(self, now: UnixMs) -> UnixMs:
        """A delivery whose first attempt was before the returned time may not be sent any more."""
        return now - round(self.window_s * MS_PER_S)

    def next_attempt_at(
        self,
        *,
        attempts: int,
        first_attempt_at: UnixMs,
        started_at: UnixMs,
        now: UnixMs,
        retry_after_ms: int | None,
        rng: random.Random,
    ) -> UnixMs | None:
        """Return when the attempt after `attempts` scheduled ones is due; None when there is none.

        `started_at`: when the last attempt started. A `Retry-After` can only make the wait longer. The last attempt is due
        `LAST_MARGIN_S` before the window closes; a wait that would end later is shortened to that time, once.
        """
        last = first_attempt_at + round((self.window_s - LAST_MARGIN_S) * MS_PER_S)
        delay_s = self._delay_s(attempts, (started_at - first_attempt_at) / MS_PER_S, rng)
        if delay_s is None or now >= last:
            return None
        due = now + max(round(delay_s * MS_PER_S), retry_after_ms or 0)
        if self.fixed_s is not None:
            return min(due, last)
        return due if due + _SHORTEST_GAP_S * MS_PER_S <= last else last

    def coming(self, *, attempts: int, first_attempt_at: UnixMs, due_at: UnixMs, most: int) -> list[UnixMs]:
        """Return about when the attempts after the one at `due_at` are made, if all fail at once; at most `most` of them.

        `attempts`: how many there are with that one. Each wait is in the middle of what its jitter allows.
        """
        found: list[UnixMs] = []
        while len(found) < most:
            following = self.next_attempt_at(
                attempts=attempts + len(found),
                first_attempt_at=first_attempt_at,
                started_at=due_at,
                now=due_at,
                retry_after_ms=None,
                rng=_MIDDLE,
            )
            if following is None:
                break
            found.append(following)
            due_at = following
        return found

    def is_over(self, first_attempt_at: UnixMs, now: UnixMs) -> bool:
        """Return whether the window has closed: nothing may be sent after that."""
        return now > first_attempt_at + round(self.window_s * MS_PER_S)

    def _delay_s(self, attempts: int, elapsed_s: float, rng: random.Random) -> float | None:
        if self.fixed_s is not None:
            return self.fixed_s[attempts - 1] if attempts <= len(self.fixed_s) else None
        backoff_s = min(FIRST_DELAY_S + (GROWTH - 1) * max(0.0, elapsed_s), LONGEST_DELAY_S)
        return backoff_s * rng.uniform(1 - JITTER, 1 + JITTER)
