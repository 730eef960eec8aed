"""The only module that reads the time. All other code takes a `Clock`."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

MS_PER_S = 1_000
MS_PER_DAY = 86_400_000

UnixMs = int
"""Milliseconds since 1970-01-01T00:00:00Z, the unit of every instant inside LoyalPro."""


class Clock(Protocol):
    """Wall time for records, monotonic time for measurements, and a way to wait."""

    def now_ms(self) -> UnixMs:
        """The wall time in Unix milliseconds."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...

    async def wait(self, signal: asyncio.Event, timeout_s: float | None = None) -> bool:
        """Wait until `signal` is set (True) or `timeout_s` seconds have passed (False)."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now_ms(self) -> UnixMs:
        """The wall time in Unix milliseconds."""
        return time.time_ns() // 1_000_000  # noqa: TID251 - the only call

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()  # noqa: TID251 - the only call

    async def wait(self, signal: asyncio.Event, timeout_s: float | None = None) -> bool:
        """True when `signal` was set before the timeout."""
        try:
            async with asyncio.timeout(timeout_s):
                await signal.wait()
        except TimeoutError:
            return False
        return True


class VirtualClock:
    """A clock that moves only by `advance`, so that a test of 72 hours takes milliseconds."""

    def __init__(self, start_ms: UnixMs = 1_763_980_200_000) -> None:
        self._now_ms = start_ms
        self._sleepers: list[tuple[UnixMs, Callable[[], None]]] = []

    def now_ms(self) -> UnixMs:
        """The wall time in Unix milliseconds."""
        return self._now_ms

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary start."""
        return self._now_ms / MS_PER_S

    async def wait(self, signal: asyncio.Event, timeout_s: float | None = None) -> bool:
        """True when `signal` was set before `advance` moved the time past the timeout."""
        if timeout_s is None:
            await signal.wait()
            return True
        timer = asyncio.Event()
        sleeper = (self._now_ms + round(timeout_s * MS_PER_S), timer.set)
        self._sleepers.append(sleeper)
        waits = [asyncio.ensure_future(event.wait()) for event in (signal, timer)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
        return signal.is_set()

    def advance(self, seconds: float) -> None:
        """Move the time forward, and end every wait whose timeout has passed."""
        self._now_ms += round(seconds * MS_PER_S)
        due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self._now_ms]
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._now_ms]
        for _, wake in due:
            wake()


@lru_cache(maxsize=4_096)
def rfc3339(instant: UnixMs) -> str:
    """`1763980200123` -> `2025-11-24T10:30:00.123Z`: UTC, always with milliseconds. A cache holds recent results."""
    seconds, ms = divmod(instant, MS_PER_S)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{ms:03d}Z"


def unix_ms(moment: datetime) -> UnixMs:
    """An aware datetime in Unix milliseconds, rounded down."""
    whole = int(moment.replace(microsecond=0).timestamp())
    return whole * MS_PER_S + moment.microsecond // 1_000
