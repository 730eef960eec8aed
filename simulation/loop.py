"""An event loop with a virtual clock: when nothing is ready, the time jumps to the next timer. Days take milliseconds."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, TypeVar, TypeVarTuple

from loyalpro.kernel.clock import SystemClock, UnixMs

Ts = TypeVarTuple("Ts")
R = TypeVar("R")
START_MS: UnixMs = 1_763_980_200_000
_MOST_TURNS_AT_ONE_INSTANT = 100_000
_MOST_TURNS = 1_000_000

PROCESS: ContextVar["Process | None"] = ContextVar("PROCESS", default=None)
"""The simulated process of the running code; None for code outside of all processes."""


class Stuck(Exception):
    """No timer is set and nothing is ready, or the loop turns without any progress of its time."""


class _JumpingSelector(selectors.SelectSelector):
    """Does not wait: it moves the virtual time instead."""

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
            spins = Stuck(f"the loop spins: {self.turns} turns at {self.now_s} s")
            self.turns = self._turns_now = 0  # canceling the remaining tasks takes some turns, too
            raise spins
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop of all simulated processes. Callbacks of a frozen process wait until it thaws.

    `on_step` is called before each callback that a process schedules.
    """

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
        """How many turns the loop has made: many in little time mean that a task spins."""
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

    def run_in_executor(self, executor: object, func: Callable[[*Ts], R], *args: *Ts) -> asyncio.Future[R]:  # noqa: ARG002 - a loop has it
        """Call it at once: the work of a thread takes no virtual time."""
        future: asyncio.Future[R] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - handed to the caller
            future.set_exception(error)
        return future

    def thaw(self, process: "Process") -> None:
        """Let a frozen process continue."""
        for handle in self.frozen.pop(process, ()):
            super().call_soon(_run_unless_cancelled, handle)


def _run_unless_cancelled(handle: asyncio.Handle) -> None:
    if not handle.cancelled():
        handle._run()  # noqa: SLF001 - asyncio has no public method for it


def _make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any) -> asyncio.Task[Any]:
    """Register every task with the process that started it, so that it ends with the process."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **kwargs)
    context: Context | None = kwargs.get("context")
    process = PROCESS.get() if context is None else context.get(PROCESS)
    if process is not None:
        process.tasks[task] = None
        task.add_done_callback(process.tasks.pop)
    return task


class Process:
    """A simulated process. It can be frozen for a time (SIGSTOP) and killed (SIGKILL) at any await of its code."""

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
        """Run nothing of it for this time. The network and the database continue to work on its requests."""
        if not self.dead and not self.frozen:
            self._loop.frozen[self] = []
            Context().run(self._loop.call_later, seconds, self._loop.thaw, self)

    def kill(self) -> None:
        """End it at once. All of its tasks are canceled, and so is every later call, so that no cleanup has an effect."""
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
    """The product's clock on the time of the loop. Each process has its own, which may be wrong by `skew_ms`."""

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
    """Raise `CancelledError` in a killed process: every simulated system call calls this first."""
    process = PROCESS.get()
    if process is not None and process.dead:
        raise asyncio.CancelledError


async def pass_time(seconds: float) -> None:
    """Wait for this virtual time."""
    await asyncio.sleep(max(0.0, seconds))
