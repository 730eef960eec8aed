"""Work that is due by the clock and not by an event: closing windows, replaying, forgetting what is too old."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from loyalpro.kernel.clock import Clock, UnixMs
from loyalpro.kernel.errors import StoreError

_BREATH_S = 0.02


@dataclass(frozen=True, slots=True)
class Duty:
    """Something to do every `every_s` seconds, a bounded piece at a time.

    `act` is one short transaction that several processes may run at once; True: there is more to do now.
    """

    name: str
    every_s: float
    act: Callable[[UnixMs], Awaitable[bool]]


class Sweeper:
    """Does each duty at its time, piece by piece, with a breath between two pieces so that nobody waits for it."""

    def __init__(self, duties: Sequence[Duty], clock: Clock) -> None:
        self._duties = duties
        self._clock = clock
        self._log = structlog.get_logger("sweeper")
        self._wakes = {duty.name: asyncio.Event() for duty in duties}
        self._never = asyncio.Event()

    def wake(self, name: str) -> None:
        """A hint: this duty has something to do now."""
        self._wakes[name].set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for duty in self._duties:
                group.create_task(self._keep(duty), name=f"sweep {duty.name}")

    async def _keep(self, duty: Duty) -> None:
        wake = self._wakes[duty.name]
        while True:
            wake.clear()
            await self._act(duty)
            await self._clock.wait(wake, duty.every_s)

    async def _act(self, duty: Duty) -> None:
        try:
            while await duty.act(self._clock.now_ms()):
                await self._clock.wait(self._never, _BREATH_S)
        except StoreError as error:
            self._log.warning("sweep_failed", duty=duty.name, code=error.code)
        except Exception:  # noqa: BLE001 - one duty that breaks must not keep the others from theirs
            self._log.exception("sweep_broke", duty=duty.name)
