"""How much of a job's work one transaction does: so much that it is short, whatever each piece of the work costs."""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from loyalpro.kernel.clock import Clock

T = TypeVar("T")

TRANSACTION_S: Final = 0.025
"""How long a transaction of a paced job takes. On SQLite, what callers send has to wait for the one that is under way."""
_FIRST: Final = 10
"""How many items the first transaction has, when nothing is known of their cost."""


class Pace:
    """Divides work into transactions. Each has as many items as take `TRANSACTION_S` at the cost of those of the last one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._size = _FIRST

    def chunks(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        """The items in their order, in parts. Each part is a transaction, which ends before the next part is asked for."""
        start = 0
        while start < len(items):
            chunk = items[start : start + self._size]
            began_s = self._clock.monotonic_s()
            yield chunk
            self._size = next_size(len(chunk), self._clock.monotonic_s() - began_s)
            start += len(chunk)


def next_size(items: int, took_s: float) -> int:
    """How many items follow a transaction of so many, which took so many seconds: one at least, and at most twice as many."""
    return 2 * items if took_s <= 0 else max(1, min(2 * items, int(items * TRANSACTION_S / took_s)))
