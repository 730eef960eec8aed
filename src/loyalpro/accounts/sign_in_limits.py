"""Limits the tries to sign in, and those of every other secret that a person types. The state is in the database.

After so many tries within a minute there is a wait: a minute at first, then twice as long as the last one, up to 5 minutes.
Tries during a wait do not make it longer, and after 10 minutes without a wait the next one is a minute again: nobody is locked
out for good.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Final

from loyalpro.accounts.entities import Tries
from loyalpro.accounts.ports import AccountsUnit
from loyalpro.kernel.clock import MS_PER_S, UnixMs
from loyalpro.kernel.errors import RateLimited

WINDOW_MS: Final = 60 * MS_PER_S
LONGEST_WAIT_MS: Final = 300 * MS_PER_S
QUIET_MS: Final = 600 * MS_PER_S
"""How long after a wait the next one is as short as the first."""
TRIES_FOR_EMAIL: Final = 5
TRIES_FOR_ADDRESS: Final = 20
TRIES_FOR_CODE: Final = 5


def key_of(kind: str, value: str) -> bytes:
    """The key of tries of a kind for one value, such as an e-mail address, which cannot be read from it."""
    return hashlib.sha256(f"{kind}\0{value}".encode()).digest()


def after_one_more(tries: Tries, most: int, now: UnixMs) -> Tries:
    """`tries` with one of now. Raises `RateLimited` during a wait."""
    if now < tries.blocked_until:
        wait_s = math.ceil((tries.blocked_until - now) / MS_PER_S)
        raise RateLimited(
            f"Too many tries. Try again in {wait_s} seconds.", code="too_many_tries", retry_after_s=wait_s
        )
    blocks = tries.blocks if now - tries.blocked_until < QUIET_MS else 0
    recent = (*(each for each in tries.recent if now - each < WINDOW_MS), now)
    if len(recent) < most:
        return Tries(recent, blocks, tries.blocked_until)
    return Tries((), blocks + 1, now + min(WINDOW_MS << min(blocks, 8), LONGEST_WAIT_MS))


def forget_at(tries: Tries) -> UnixMs:
    """When these tries make no difference any more."""
    return max(max(tries.recent, default=0) + WINDOW_MS, tries.blocked_until + QUIET_MS)


def count_tries(unit: AccountsUnit, limits: Mapping[bytes, int]) -> None:
    """Count one try for each key, which may have so many in a minute. Raises `RateLimited` if one of them has to wait.

    It has to be committed before the secret is checked, so that tries at the same time count, too.
    """
    found = unit.sign_in_tries.lock(sorted(limits))
    counted = {key: after_one_more(found[key], most, unit.now) for key, most in limits.items()}
    unit.sign_in_tries.store({key: (tries, forget_at(tries)) for key, tries in counted.items()})


def forget_tries(unit: AccountsUnit, key: bytes) -> None:
    """Forget the tries of a key, because one was right."""
    unit.sign_in_tries.remove([key])
