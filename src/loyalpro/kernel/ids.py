"""Prefixed ids that sort by time, such as `evt_01kat6b8z3...`. They are unique across hosts without coordination.

The prefix is followed by 26 characters of Crockford base 32: 48 bits of Unix milliseconds, then 80 random bits. Ids that one
process makes within a millisecond sort in the order of their making: the second is the first plus one.
"""

import hashlib
import random
import re
import threading
from functools import lru_cache
from typing import Final, Literal

from loyalpro.kernel.clock import Clock, UnixMs

Prefix = Literal[
    "acct",
    "key",
    "usr",
    "cus",
    "txn",
    "led",
    "lot",
    "tier",
    "rule",
    "evt",
    "we",
    "dlv",
    "wrk",
    "req",
    "ntc",
    "rpl",
    "aud",
    "ref",
    "rew",
    "red",
    "adj",
    "camp",
    "frd",
    "frule",
    "job",
    "imp",
    "wse",
    "inv",
]

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS: Final = 80
_OPPOSITE: Final = str.maketrans(_ALPHABET, _ALPHABET[::-1])
_TAIL_BITS: Final = 20
_TAIL: Final = (1 << _TAIL_BITS) - 1
_PAIRS: Final = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_SHAPE: Final = re.compile(r"[a-z]{2,5}_[0-7][0-9a-hjkmnp-tv-z]{25}|dlv_[0-7][0-9a-hjkmnp-tv-z]{35}")
_TIMED: Final = 26
"""The characters of an id that sort by time: all of them, or in the id of a delivery those of its event."""
_ENDPOINT_PART: Final = 10


class IdFactory:
    """Makes ids from a clock and a random generator. Threads can share it."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._last = 0
        self._lock = threading.Lock()

    def new(self, prefix: Prefix) -> str:
        """A new id, greater than every earlier id of this factory with the same prefix."""
        with self._lock:
            now = self._clock.now_ms()
            if now > self._last >> _RANDOM_BITS:
                self._last = now << _RANDOM_BITS | self._rng.getrandbits(_RANDOM_BITS)
            else:
                self._last += 1  # the same millisecond, or the clock went back: keep the order
            number = self._last
        return f"{prefix}_{_base32(number)}"


def delivery_id(event_id: str, endpoint_id: str) -> str:
    """The id of the delivery of an event to an endpoint. It sorts like the event, and the pair determines it."""
    return f"dlv_{event_id.partition('_')[2]}{endpoint_id[-_ENDPOINT_PART:]}"


def event_id_of(delivery_id: str) -> str:
    """The id of the event that a delivery with this id delivers."""
    return f"evt_{delivery_id[len('dlv_') : -_ENDPOINT_PART]}"


def made_at(id_: str) -> UnixMs:
    """The instant that an id which sorts by time begins with; of a delivery, when its event was made."""
    number = 0
    for character in id_.partition("_")[2][:_TIMED]:
        number = number << 5 | _ALPHABET.index(character)
    return number >> _RANDOM_BITS


def forged_delivery_id(event_id: str, endpoint_id: str) -> str:
    """The id of a delivery that is signed wrongly on purpose. No other delivery to the endpoint has an id with such an end."""
    return f"dlv_{event_id.partition('_')[2]}{_forged_part(endpoint_id)}"


def is_forged(delivery_id: str, endpoint_id: str) -> bool:
    """Whether the id of a delivery to this endpoint was made by `forged_delivery_id`."""
    return delivery_id.endswith(_forged_part(endpoint_id))


def _forged_part(endpoint_id: str) -> str:
    """The end of the endpoint's id with each character replaced by the one opposite to it, which always differs."""
    return endpoint_id[-_ENDPOINT_PART:].translate(_OPPOSITE)


def derived(prefix: Prefix, *parts: str) -> str:
    """The id that these texts determine, for an object that is made at most once from them. It does not sort by time."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"{prefix}_{_base32(int.from_bytes(digest[:16]))}"


def floor(prefix: Prefix, instant: UnixMs) -> str:
    """The smallest id with this prefix that can be made at `instant`."""
    return f"{prefix}_{_base32(instant << _RANDOM_BITS)}"


def is_id(prefix: Prefix, text: str) -> bool:
    """Whether `text` has the shape of an id with this prefix."""
    return text.startswith(f"{prefix}_") and _SHAPE.fullmatch(text) is not None


def _base32(number: int) -> str:
    """A number as 26 characters. Ids of one millisecond share the first 22 characters, which are cached."""
    tail = number & _TAIL
    return f"{_head(number >> _TAIL_BITS)}{_PAIRS[tail >> 10]}{_PAIRS[tail & 1023]}"


@lru_cache(maxsize=64)
def _head(number: int) -> str:
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(100, -1, -10)])
