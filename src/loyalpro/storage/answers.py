"""Whether a database answers, and what becomes of calls that it does not answer in time.

A database can be silent without an error: a server that is frozen, a network that drops packets, a disk that hangs. Nothing
then ends a call from below, so each call has a limit of its own, and a silent database gets no new calls.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from loyalpro.kernel.clock import Clock
from loyalpro.kernel.errors import CommitUnknown, StoreUnavailable

SILENT_AFTER_S: Final = 5.0
"""A thread that has waited for so long makes the process not ready. When every writer has, calls fail at once."""
CALL_LIMIT_S: Final = 15.0
"""The longest time for which a caller waits, in the queue of a thread and for the database."""
CHECK_EVERY_S: Final = 1.0
"""An idle writer asks its database so often whether it still answers."""
_SILENT: Final = "The database does not answer; nothing was written. Repeat it in a moment."


class Answers:
    """The answers that one thread gets from its database. The thread reports them; any thread may look."""

    def __init__(self, clock: Clock, silent_after_s: float = SILENT_AFTER_S) -> None:
        self._clock = clock
        self._silent_after_s = silent_after_s
        self._waiting_since_s: float | None = None
        self.last_s = clock.monotonic_s()

    def wait(self) -> None:
        """The thread asks the database. Until an answer, later questions count from the first one."""
        if self._waiting_since_s is None:
            self._waiting_since_s = self._clock.monotonic_s()

    def got(self, *, more: bool = False) -> None:
        """The database has answered. `more`: the thread has asked something else already."""
        self.last_s = self._clock.monotonic_s()
        self._waiting_since_s = self.last_s if more else None

    @property
    def is_silent(self) -> bool:
        """Whether the thread has waited too long for an answer."""
        since_s = self._waiting_since_s
        return since_s is not None and self._clock.monotonic_s() - since_s > self._silent_after_s


class CallLimit:
    """How long the callers of a database wait for it: up to a limit, and no longer once the database is known to be silent."""

    def __init__(self, is_silent: Callable[[], bool], limit_s: float = CALL_LIMIT_S) -> None:
        self.is_silent = is_silent
        self.limit_s = limit_s

    def watch(self, loop: asyncio.AbstractEventLoop, give_up: Callable[[], None]) -> "Watch":
        """Call `give_up` when a call that begins now has lasted too long, unless the watch is canceled before."""
        return Watch(loop, self, give_up)


class Watch:
    """Looks every second at a call that is under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call_limit: CallLimit, give_up: Callable[[], None]) -> None:
        self._loop = loop
        self._call_limit = call_limit
        self._give_up = give_up
        self._until_s = loop.time() + call_limit.limit_s
        self._wait()

    def cancel(self) -> None:
        """End the watch."""
        self._timer.cancel()

    def _wait(self) -> None:
        self._timer = self._loop.call_later(min(CHECK_EVERY_S, self._call_limit.limit_s), self._look)

    def _look(self) -> None:
        if self._loop.time() >= self._until_s or self._call_limit.is_silent():
            self._give_up()
        else:
            self._wait()


def silent() -> StoreUnavailable:
    """The error of a call that is not made, because the database is silent."""
    return StoreUnavailable(_SILENT)


def unanswered(*, may_be_written: bool) -> StoreUnavailable | CommitUnknown:
    """The error of a call that was not answered in time."""
    if not may_be_written:
        return StoreUnavailable("The database did not answer in time; nothing was written. Repeat it in a moment.")
    return CommitUnknown(
        "The database did not answer in time: the change may or may not take effect. Repeat it with the same "
        "Idempotency-Key; it takes effect once."
    )
