"""How much of a job's work one transaction does: so much that it is short, whatever each item of the work costs."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from loyalpro.kernel.clock import Clock

T = TypeVar("T")

TRANSACTION_S: Final = 0.025
"""How long the work of a transaction takes. On SQLite, what callers send has to wait for the one that is under way."""
LEAST: Final = 5
"""How many items a transaction has at least. Each has statements of its own, which cost the same for any number of items."""
_FIRST: Final = 10
"""How many items the first transaction has, when nothing is known of their cost."""


class Pace:
    """Divides work into transactions. Each has as many items as take `TRANSACTION_S` at the cost of those of the last one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._size = _FIRST

    def chunks(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """The items in their order, each part for one transaction, which ends before the next part is asked for."""
        start = 0
        while start < len(items):
            chunk = items[start : start + self._size]
            yield chunk
            start += len(chunk)

    def timed(self, items: int, work: Callable[[], T]) -> T:
        """The result of the work on so many items, whose cost decides how many come next.

        Called within the transaction, so waits for the writer and for the commit do not count: they would be the same for fewer
        items.
        """
        began_s = self._clock.monotonic_s()
        result = work()
        self._size = next_size(items, self._clock.monotonic_s() - began_s)
        return result


def next_size(items: int, took_s: float) -> int:
    """How many items follow a transaction of so many, whose work took so many seconds: at most twice as many."""
    return max(LEAST, 2 * items if took_s <= 0 else min(2 * items, int(items * TRANSACTION_S / took_s)))
