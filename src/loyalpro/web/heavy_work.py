"""A thread for work on large bodies, so that the event loop serves other requests meanwhile."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")

LARGE_BYTES: Final = 32 * 1024
"""A body of this size takes a few milliseconds on the event loop, whatever is in it."""


class HeavyWork:
    """Runs functions one after the other on one thread: more threads would only compete for the lock of the interpreter."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="large bodies")

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, which consists of calls of a few milliseconds; what it raises is raised here."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, _ended, work)

    async def run_for(self, size_bytes: int, work: Callable[[], T]) -> T:
        """The result of `work` on a body of this size: at once when the body is small."""
        return await self.run(work) if size_bytes > LARGE_BYTES else _ended(work)


def _ended(work: Callable[[], T]) -> T:
    """The result of `work`. A future refuses a `StopIteration`: the caller that awaits it would never resume."""
    try:
        return work()
    except StopIteration as error:
        raise RuntimeError("The work raised StopIteration.") from error
