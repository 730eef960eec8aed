"""The delay of events: from the time in their id, before their commit, to their arrival."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.receiver import Hit

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_DIGITS = 10


def created_ms(event_id: str) -> int:
    """The Unix milliseconds in the first ten characters of an id."""
    number = 0
    for digit in event_id.partition("_")[2][:_TIME_DIGITS]:
        number = number * len(_DIGITS) + _DIGITS.index(digit)
    return number


@dataclass(frozen=True)
class Delays:
    """Delays in milliseconds, sorted."""

    sorted_ms: Sequence[float]

    @classmethod
    def of(cls, hits: Iterable[Hit]) -> "Delays":
        """The delays of the hits of a receiver."""
        return cls(sorted(hit.at_ms - created_ms(hit.event_id) for hit in hits))

    def percentile(self, percent: int) -> float:
        """The delay in milliseconds that this percentage of the events did not exceed."""
        return statistics.quantiles(self.sorted_ms, n=100)[percent - 1]

    def __str__(self) -> str:
        return " · ".join(f"p{each} {self.percentile(each):.1f}" for each in (50, 95, 99)) + " ms"
