"""Writes settlements in batches: all that arrive during one write go into the next.

The settlement of a delivery that is retried later is not urgent: it waits up to `COALESCE_MS` for others, or for an urgent
settlement that takes it along.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from loyalpro.delivery.ports import DeliveryStore, WorkerId
from loyalpro.delivery.settlement import Settled, Settlement
from loyalpro.delivery.states import DeliveryStatus
from loyalpro.delivery.timers import COALESCE_MS
from loyalpro.kernel.clock import MS_PER_S, Clock
from loyalpro.kernel.errors import StoreError

_MAX_BATCH = 256
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


@dataclass(slots=True)
class _Waiting:
    worker: WorkerId
    settlement: Settlement
    done: asyncio.Future[bool]


class SettlementWriter:
    """One task that writes all settlements of an engine. `on_settled` gets the result of each write."""

    def __init__(
        self, store: DeliveryStore, clock: Clock, on_settled: Callable[[Settled], None], *, longest_probe_s: float
    ) -> None:
        self._store = store
        self._clock = clock
        self._on_settled = on_settled
        self._longest_probe_s = longest_probe_s
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._urgent = asyncio.Event()
        self._never = asyncio.Event()

    async def settle(self, worker: WorkerId, settlement: Settlement) -> bool:
        """Write the settlement and return when it is durable.

        False: the lease no longer held, and nothing was changed. Raises the error of the write if this settlement alone
        causes it.
        """
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(worker, settlement, done))
        self._arrived.set()
        if settlement.status is not DeliveryStatus.PENDING or settlement.claimed.fallback is not None:
            self._urgent.set()
        return await done

    async def run(self) -> None:
        """Write batches until canceled."""
        while True:
            await self._arrived.wait()
            await self._clock.wait(self._urgent, COALESCE_MS / MS_PER_S)
            self._urgent.clear()
            batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
            if self._waiting:
                self._urgent.set()
            else:
                self._arrived.clear()
            for worker in dict.fromkeys(each.worker for each in batch):
                await self._write(worker, [each for each in batch if each.worker == worker])

    async def _write(self, worker: WorkerId, batch: list[_Waiting]) -> None:
        """Write a batch. If that raises, write each settlement alone, so that only the one at fault fails."""
        try:
            settled = await self._write_until_stored(worker, [each.settlement for each in batch])
            self._on_settled(settled)
        except Exception as error:  # noqa: BLE001 - a programming error must not end all deliveries
            structlog.get_logger("delivery").exception("settle_crashed", deliveries=len(batch))
            if len(batch) > 1:
                for each in batch:
                    await self._write(worker, [each])
            elif not batch[0].done.done():
                batch[0].done.set_exception(error)
            return
        for each in batch:
            if not each.done.done():
                each.done.set_result(each.settlement.claimed.delivery_id in settled.held)

    async def _write_until_stored(self, worker: WorkerId, settlements: list[Settlement]) -> Settled:
        """Try until the database accepts the write. Writing twice is harmless: the second time no lease holds."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await self._store.settle(
                    worker, settlements, self._clock.now_ms(), longest_probe_s=self._longest_probe_s
                )
            except StoreError as error:
                structlog.get_logger("delivery").debug("settle_failed", code=error.code, deliveries=len(settlements))
                await self._clock.wait(self._never, pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
