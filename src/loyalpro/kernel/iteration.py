"""Takes one item out of an iterator."""

from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


def pull(iterator: Iterator[T]) -> T:
    """The next item. Raises `LookupError` when there is none.

    `next` raises `StopIteration` instead, which ends a loop around it silently, and which a future refuses to hold: the caller
    that awaits the future would wait for ever. A test forbids it.
    """
    for item in iterator:
        return item
    raise LookupError("The iterator has no further item.")
