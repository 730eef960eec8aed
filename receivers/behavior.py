"""What a receiver can do with a request, and how often it does it."""

import hashlib
import random
from bisect import bisect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate


class Behavior(StrEnum):
    """What a receiver does with one request."""

    ACCEPT = "accept"  # answers 200
    SERVER_ERROR = "server_error"  # answers 500
    CLIENT_ERROR = "client_error"  # answers 404
    BUSY = "busy"  # answers 429; `Retry-After` is optional
    UNAVAILABLE = "unavailable"  # answers 503; `Retry-After` is optional
    GONE = "gone"  # answers 410
    MOVED = "moved"  # answers 301
    REFUSE = "refuse"  # makes no connection
    SILENCE = "silence"  # does not process the request and never answers
    SILENT_ACCEPT = "silent_accept"  # processes the request and never answers
    LOST_ACCEPT = "lost_accept"  # processes the request; the connection breaks before the response
    GARBAGE = "garbage"  # answers bytes that are not HTTP
    SLOW_ACCEPT = "slow_accept"  # answers 200 after a pause
    CUT_ACCEPT = "cut_accept"  # processes the request; the connection breaks in the middle of the headers


STATUSES: Mapping[Behavior, int] = {
    Behavior.ACCEPT: 200,
    Behavior.SERVER_ERROR: 500,
    Behavior.CLIENT_ERROR: 404,
    Behavior.BUSY: 429,
    Behavior.UNAVAILABLE: 503,
    Behavior.GONE: 410,
    Behavior.MOVED: 301,
    Behavior.SLOW_ACCEPT: 200,
}
"""The status of each behavior that ends with a complete HTTP response."""
ACKNOWLEDGED = frozenset({Behavior.ACCEPT, Behavior.SLOW_ACCEPT})
"""The receiver has processed the request, and the sender knows it."""
ACCEPTED = ACKNOWLEDGED | {Behavior.SILENT_ACCEPT, Behavior.LOST_ACCEPT, Behavior.CUT_ACCEPT}
"""The receiver has processed the request, whether the sender knows it or not."""
HANGS = frozenset({Behavior.SILENCE, Behavior.SILENT_ACCEPT})
"""The sender waits until its own timeout."""
ASKS_TO_WAIT = frozenset({Behavior.BUSY, Behavior.UNAVAILABLE})
"""The response may carry `Retry-After`."""

Points = Callable[[str], float]
"""Gives a number of [0, 1) for a key."""


def seeded_points(seed: str) -> Points:
    """The number depends on the seed and the key alone, so the order in which requests arrive does not matter."""

    def point(key: str) -> float:
        digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
        return int.from_bytes(digest[:7], "big") / 2**56

    return point


def random_points(rng: random.Random) -> Points:
    """The number is the next one of a generator: for a world in which requests always arrive in the same order."""
    return lambda _: rng.random()


@dataclass(frozen=True, slots=True)
class BehaviorMix:
    """How often a receiver shows each behavior; the remaining share is `ACCEPT`.

    `shares`: a share in [0, 1] for each behavior, for every attempt anew. `rejected_events`: the share of the events of
    which every attempt is answered with 500.
    """

    shares: Mapping[Behavior, float] = field(default_factory=dict)
    rejected_events: float = 0.0

    def choose(self, event_id: str, delivery_id: str, attempt: int, points: Points) -> Behavior:
        """The behavior for one attempt."""
        if self.rejected_events and points(event_id) < self.rejected_events:
            return Behavior.SERVER_ERROR
        return self._at(points(f"{delivery_id}/{attempt}"))

    def _at(self, point: float) -> Behavior:
        behaviors = (Behavior.ACCEPT, *self.shares)
        bounds = list(accumulate((max(0.0, 1.0 - sum(self.shares.values())), *self.shares.values())))
        return behaviors[bisect(bounds, point * bounds[-1], 0, len(behaviors) - 1)]
