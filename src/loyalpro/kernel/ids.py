"""Prefixed ids that sort by time: `evt_01KAT6B8Z3...`, unique across hosts without asking anyone.

After the prefix stand 26 characters of Crockford base 32: 48 bits of Unix milliseconds, then 80 bits of chance. Two
ids made by one process in the same millisecond still sort in the order they were made: the second is the first plus one.
"""

import random
import re
import threading
from functools import lru_cache
from typing import Final, Literal

from loyalpro.kernel.clock import Clock, UnixMs

Prefix = Literal[
    "acct", "key", "usr", "cus", "txn", "led", "lot", "tier", "rule", "evt", "we", "dlv", "wrk", "req", "ntc", "rpl"
]

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_CHANCE_BITS: Final = 80
_TAIL_BITS: Final = 40
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
            now = self._clock.now_ms()
            if now > self._last >> _CHANCE_BITS:
                self._last = now << _CHANCE_BITS | self._chance.getrandbits(_CHANCE_BITS)
            else:
                self._last += 1  # the same millisecond, or a clock that went back: stay in order
            fresh = self._last
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
    """26 characters. Ids that are made one after another share the first 18, which are remembered."""
    head = _head(number >> _TAIL_BITS)
    a, b, c, d = number >> 30 & 1023, number >> 20 & 1023, number >> 10 & 1023, number & 1023
    return f"{head}{_PAIRS[a]}{_PAIRS[b]}{_PAIRS[c]}{_PAIRS[d]}"


@lru_cache(maxsize=64)
def _head(number: int) -> str:
    return "".join(_PAIRS[number >> shift & 1023] for shift in range(80, -1, -10))
