"""An event loop on a clock of its own: when nothing is ready, the time jumps to the next timer. Days pass in milliseconds."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, TypeVarTuple

from loyalpro.kernel.clock import SystemClock, UnixMs

Ts = TypeVarTuple("Ts")
START_MS: UnixMs = 1_763_980_200_000
_MOST_TURNS_AT_ONE_INSTANT = 100_000
_MOST_TURNS = 1_000_000

PROCESS: ContextVar["Process | None"] = ContextVar("PROCESS", default=None)
"""The simulated process that the running code belongs to; None for the world around them."""


class Stuck(Exception):
    """Nothing will ever happen again, or everything happens at one instant for ever."""


class _JumpingSelector(selectors.SelectSelector):
    """Waits for nothing: it moves the time instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.turns = 0
        self._turns_now = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.turns += 1
        if timeout is None:
            raise Stuck("nothing is ready, and no timer is set")
        if timeout > 0:
            self.now_s += timeout
            self._turns_now = 0
        self._turns_now += 1
        if self._turns_now > _MOST_TURNS_AT_ONE_INSTANT or self.turns > _MOST_TURNS:
            spins = Stuck(f"something spins: {self.turns} turns, and the time is {self.now_s} s")
            self.turns = self._turns_now = 0  # whoever cancels what is left takes some, too
            raise spins
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """What belongs to a frozen process waits until it thaws; what belongs to a dead one is cancelled."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self.frozen: dict[Process, list[asyncio.Handle]] = {}
        self.on_step: Callable[[Process], None] | None = None
        self.set_task_factory(_make_task)

    def time(self) -> float:
        return self._jumping.now_s

    @property
    def turns(self) -> int:
        """How often the loop went round: many in little time means that something spins."""
        return self._jumping.turns

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        if self.frozen or self.on_step:
            process = PROCESS.get() if context is None else context.get(PROCESS)
            if process is not None:
                if self.on_step is not None:
                    self.on_step(process)
                if process in self.frozen:
                    handle = asyncio.Handle(callback, args, self, context)
                    self.frozen[process].append(handle)
                    return handle
        return super().call_soon(callback, *args, context=context)

    def thaw(self, process: "Process") -> None:
        """Let a frozen process go on where it stood."""
        for handle in self.frozen.pop(process, ()):
            super().call_soon(_run_unless_cancelled, handle)


def _run_unless_cancelled(handle: asyncio.Handle) -> None:
    if not handle.cancelled():
        handle._run()  # noqa: SLF001 - asyncio has no public method for it


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any) -> asyncio.Task[Any]:
    """Every task is known to the process that started it, so that all of them die with it."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **kwargs)
    context: Context | None = kwargs.get("context")
    process = PROCESS.get() if context is None else context.get(PROCESS)
    if process is not None:
        process.tasks[task] = None
        task.add_done_callback(process.tasks.pop)
    return task


class Process:
    """A simulated process. It can be stopped for a while (SIGSTOP), and killed (SIGKILL), at any await of its code."""

    def __init__(self, loop: VirtualLoop, name: str, on_death: Callable[["Process"], None] = lambda _: None) -> None:
        self._loop = loop
        self._on_death = on_death
        self.name = name
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.dead = False

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine as a part of this process."""
        context = Context()
        context.run(PROCESS.set, self)
        return self._loop.create_task(coroutine, name=name, context=context)

    @property
    def frozen(self) -> bool:
        return self in self._loop.frozen

    def freeze(self, seconds: float) -> None:
        """Nothing of it runs until then. What others do for it (a network, a database) goes on."""
        if not self.dead and not self.frozen:
            self._loop.frozen[self] = []
            Context().run(self._loop.call_later, seconds, self._loop.thaw, self)

    def kill(self) -> None:
        """It is gone: from now on all that it calls answers with a cancellation, so that it can tidy nothing up."""
        if self.dead:
            return
        self.dead = True
        self._loop.thaw(self)
        for task in list(self.tasks):
            task.cancel()
        Context().run(self._loop.call_soon, self._on_death, self)

    def __repr__(self) -> str:
        return f"<Process {self.name}{' dead' if self.dead else ' frozen' if self.frozen else ''}>"


class LoopClock(SystemClock):
    """The product's own way to wait, over the loop's time. Each process has one, and it may be wrong by `skew_ms`."""

    def __init__(self, loop: VirtualLoop, skew_ms: int = 0) -> None:
        self._loop = loop
        self._skew_ms = skew_ms

    def now_ms(self) -> UnixMs:
        return START_MS + self._skew_ms + int(self._loop.time() * 1_000)

    def monotonic_s(self) -> float:
        return self._loop.time()

    async def wait(self, signal: asyncio.Event, timeout_s: float | None = None) -> bool:
        stop_if_dead()
        return await super().wait(signal, timeout_s)


def stop_if_dead() -> None:
    """The simulated system calls of a dead process end it."""
    process = PROCESS.get()
    if process is not None and process.dead:
        raise asyncio.CancelledError


async def pass_time(seconds: float) -> None:
    """Let so much virtual time go by."""
    await asyncio.sleep(max(0.0, seconds))
