"""Writes what became of deliveries: everything that ended while the last write was under way goes into the next.

What is tried again later is in no hurry: it waits a moment for others like it, or for an end that takes it along.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from loyalpro.delivery.ports import DeliveryStore, WorkerId
from loyalpro.delivery.schedule import MOMENT_MS
from loyalpro.delivery.settlement import Settled, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.kernel.clock import MS_PER_S, Clock
from loyalpro.kernel.errors import StoreError

_LARGEST_BATCH = 256
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


@dataclass(slots=True)
class _Waiting:
    worker: WorkerId
    settlement: Settlement
    done: asyncio.Future[bool]


class Settler:
    """One task that owns the settle writes of an engine. `on_settled` hears what each write has shown."""

    def __init__(
        self, store: DeliveryStore, clock: Clock, on_settled: Callable[[Settled], None], *, longest_probe_s: float
    ) -> None:
        self._store = store
        self._clock = clock
        self._on_settled = on_settled
        self._longest_probe_s = longest_probe_s
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._hurry = asyncio.Event()
        self._never = asyncio.Event()

    async def settle(self, worker: WorkerId, settlement: Settlement) -> bool:
        """Durable when this returns. False: the lease was no longer ours, and nothing was changed.

        Raises what broke the write, when that was this settlement's fault.
        """
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(worker, settlement, done))
        self._arrived.set()
        if settlement.status is not DeliveryStatus.PENDING or settlement.claimed.fallback is not None:
            self._hurry.set()
        return await done

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            await self._arrived.wait()
            await self._clock.wait(self._hurry, MOMENT_MS / MS_PER_S)
            self._hurry.clear()
            batch, self._waiting = self._waiting[:_LARGEST_BATCH], self._waiting[_LARGEST_BATCH:]
            if self._waiting:
                self._hurry.set()
            else:
                self._arrived.clear()
            for worker in dict.fromkeys(each.worker for each in batch):
                await self._write(worker, [each for each in batch if each.worker == worker])

    async def _write(self, worker: WorkerId, batch: list[_Waiting]) -> None:
        """One that breaks the write is left out of it: it is not known to be settled, and comes again."""
        try:
            settled = await self._settled(worker, [each.settlement for each in batch])
            self._on_settled(settled)
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not end all deliveries
            structlog.get_logger("delivery").exception("settle_broke", deliveries=len(batch))
            if len(batch) > 1:
                for each in batch:
                    await self._write(worker, [each])
            elif not batch[0].done.done():
                batch[0].done.set_exception(error)
            return
        for each in batch:
            if not each.done.done():
                each.done.set_result(each.settlement.claimed.delivery_id in settled.held)

    async def _settled(self, worker: WorkerId, settlements: list[Settlement]) -> Settled:
        """Try until the database takes it. Writing twice is harmless: the second time the lease is gone."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await self._store.settle(
                    worker, settlements, self._clock.now_ms(), longest_probe_s=self._longest_probe_s
                )
            except StoreError as error:
                structlog.get_logger("delivery").warning("settle_failed", code=error.code, deliveries=len(settlements))
                await self._clock.wait(self._never, pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
