"""Threads that use a database. All are daemons: a disk or a server that hangs must not keep the process from ending.

The executors of the standard library do not serve here, because the end of a process waits for their threads.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

import structlog

from loyalpro.kernel.clock import Clock

T = TypeVar("T")

STOP_LIMIT_S: Final = 5.0
"""The longest time that the threads of a database have to end when the process stops."""


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """The result of `work`, which runs on a thread of its own."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    threading.Thread(target=lambda: resolve(loop, future, work), daemon=True).start()
    return await future


def resolve(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], work: Callable[[], object]) -> None:
    """Run `work` on this thread, and give its result or its error to the future of an event loop that may be closed by then."""
    result, error = None, None
    try:
        result = work()
    except Exception as raised:  # noqa: BLE001 - raised again for the caller
        error = raised
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_set, future, result, error)


def _set(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return  # the caller has given up, or was canceled
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class ConnectedThreads(Protocol):
    """Threads that use a database, each with a connection of its own."""

    @property
    def threads(self) -> Sequence[threading.Thread]:
        """Those that were started."""
        ...

    def request_stop(self) -> None:
        """Finish what is queued, and then end; accept no more."""
        ...

    def disconnect(self) -> None:
        """Close the connections, after the threads have ended."""
        ...


def stop(parts: Sequence[ConnectedThreads], clock: Clock) -> bool:
    """Stop threads, within `STOP_LIMIT_S` in all; False when one of them hangs. They are daemons, and end with the process."""
    for part in parts:
        part.request_stop()
    until_s = clock.monotonic_s() + STOP_LIMIT_S
    hanging = []
    for part in parts:
        for thread in part.threads:
            thread.join(max(0.0, until_s - clock.monotonic_s()))
        alive = [thread.name for thread in part.threads if thread.is_alive()]
        if not alive:
            part.disconnect()
        hanging += alive
    if hanging:
        structlog.get_logger("storage").warning("threads_hang", threads=hanging)
    return not hanging
