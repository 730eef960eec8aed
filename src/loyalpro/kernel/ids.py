"""Prefixed ids that sort by time: `evt_01KAT6B8Z3...`, unique across hosts without asking anyone.

After the prefix stand 26 characters of Crockford base 32: 48 bits of Unix milliseconds, then 80 bits of chance. Two
ids made by one process in the same millisecond still sort in the order they were made: the second is the first plus one.
"""

import random
import re
import threading
from typing import Final, Literal

from loyalpro.kernel.clock import Clock, UnixMs

Prefix = Literal[
    "acct", "key", "usr", "cus", "txn", "led", "lot", "tier", "rule", "evt", "we", "dlv", "wrk", "req", "ntc", "rpl"
]

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH: Final = 26
_CHANCE_BITS: Final = 80
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_SHAPE: Final = re.compile(r"[a-z]{2,5}_[0-7][0-9a-hjkmnp-tv-z]{25}|dlv_[0-7][0-9a-hjkmnp-tv-z]{35}")
_ENDPOINT_PART: Final = 10


class IdFactory:
    """Makes ids from the clock and the chance it was given. Safe to share between threads."""

    def __init__(self, clock: Clock, chance: random.Random) -> None:
        self._clock = clock
        self._chance = chance
        self._last = 0
        self._lock = threading.Lock()

    def new(self, prefix: Prefix) -> str:
        """A new id, greater than every id this factory has made under the same prefix."""
        with self._lock:
            fresh = self._clock.now_ms() << _CHANCE_BITS | self._chance.getrandbits(_CHANCE_BITS)
            if fresh >> _CHANCE_BITS <= self._last >> _CHANCE_BITS:
                fresh = self._last + 1  # the same millisecond, or a clock that went back: stay in order
            self._last = fresh
        return f"{prefix}_{_base32(fresh)}"


def delivery_id(event_id: str, endpoint_id: str) -> str:
    """The one delivery of an event to an endpoint: it sorts like the event, and there cannot be a second one."""
    return f"dlv_{event_id.partition('_')[2]}{endpoint_id[-_ENDPOINT_PART:]}"


def floor(prefix: Prefix, instant: UnixMs) -> str:
    """The smallest id of this kind that can be made at `instant`."""
    return f"{prefix}_{_base32(instant << _CHANCE_BITS)}"


def is_id(prefix: Prefix, text: str) -> bool:
    """Whether `text` has the shape of an id with this prefix."""
    return text.startswith(f"{prefix}_") and _SHAPE.fullmatch(text) is not None


def _base32(number: int) -> str:
    pairs = [_PAIRS[number >> shift & 1023] for shift in range(10 * (_LENGTH // 2 - 1), -1, -10)]
    return "".join(pairs)
