"""Hashes passwords with argon2id, off the event loop, and at most two at once: each takes 64 MiB and some 50 milliseconds."""

import asyncio
import unicodedata
from collections.abc import Callable
from dataclasses import field
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from loyalpro.kernel.errors import RateLimited
from loyalpro.kernel.record import record

T = TypeVar("T")

AT_ONCE: Final = 2
MOST_WAITING: Final = 50
"""How many more may wait. Each takes a turn of some 25 milliseconds, so the last one waits little more than a second."""


@record
class Verified:
    """Whether a password matches. `new_hash`: a hash to store in place of the old one, whose parameters are weaker."""

    matches: bool
    new_hash: str | None = field(default=None, repr=False)


class Passwords:
    """The passwords of people. A process has one."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def hash(self, password: str) -> str:
        """The hash of a password, with its parameters and its salt."""
        return await self._run(lambda: self._hasher.hash(_normal(password)))

    async def verify(self, password_hash: str | None, password: str) -> Verified:
        """Whether the password has this hash. None, for a person who does not exist, takes as long and does not match."""
        return await self._run(lambda: self._verified(password_hash, _normal(password)))

    def _verified(self, password_hash: str | None, password: str) -> Verified:
        if password_hash is None:
            self._hasher.hash(password)
            return Verified(matches=False)
        try:
            self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return Verified(matches=False)
        outdated = self._hasher.check_needs_rehash(password_hash)
        return Verified(matches=True, new_hash=self._hasher.hash(password) if outdated else None)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= AT_ONCE + MOST_WAITING:
            raise RateLimited("Too many people sign in at once. Try again in a second.", code="too_many_tries")
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(work)
        finally:
            self._waiting -= 1


def _normal(password: str) -> str:
    """One form of characters that keyboards write differently, such as an accent."""
    return unicodedata.normalize("NFKC", password)
