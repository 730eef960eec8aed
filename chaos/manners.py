"""How an endpoint treats what it gets: seeded, and decided from the delivery alone, so that a run can be repeated."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum


class Act(StrEnum):
    """What the receiver does with a request it has read and written down."""

    OK = "ok"
    SLOW = "slow"  # answers 200, after a second
    ERROR = "error"  # answers 500
    UNAVAILABLE = "unavailable"  # answers 503 with a Retry-After
    HANG = "hang"  # never answers
    RESET = "reset"  # drops the connection instead of answering
    CUT = "cut"  # drops the connection in the middle of a 200's body


ACCEPTED = frozenset({Act.OK, Act.SLOW})
"""The receiver has it and says so."""
TAKEN = ACCEPTED | {Act.HANG, Act.RESET, Act.CUT}
"""The receiver has it, whether the sender heard of it or not."""


@dataclass(frozen=True, slots=True)
class Manners:
    """Shares of the acts, and of the events that are refused for ever."""

    shares: tuple[tuple[Act, float], ...] = ()
    poisoned: float = 0.0

    def act(self, seed: str, event_id: str, delivery_id: str, attempt: str) -> Act:
        """What happens to this attempt."""
        if _fraction(f"{seed}/{event_id}") < self.poisoned:
            return Act.ERROR
        point = _fraction(f"{seed}/{delivery_id}/{attempt}")
        for act, share in self.shares:
            if point < share:
                return act
            point -= share
        return Act.OK


STEADY = Manners()
ERRORS = Manners(((Act.ERROR, 0.05), (Act.UNAVAILABLE, 0.02)))
RESETS = Manners(((Act.RESET, 0.02), (Act.CUT, 0.01)))
HANGS = Manners(((Act.HANG, 0.003), (Act.SLOW, 0.02)))
POISONED = Manners(((Act.ERROR, 0.02),), poisoned=0.004)


def _fraction(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") / 2**56
