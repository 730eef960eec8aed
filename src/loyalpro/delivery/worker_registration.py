"""The registration of this process as a worker: it renews its leases in time, and rescues those of dead workers."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from loyalpro.delivery.ports import DeliveryStore, WorkerId
from loyalpro.kernel.clock import MS_PER_S, Clock
from loyalpro.kernel.errors import StoreError

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """The leases of a worker expire `ttl_s` after it has renewed them; it renews them every `renew_s`.

    Together they bound how long the deliveries of a dead worker wait for another one.
    """

    ttl_s: float = 9.0
    renew_s: float = 2.0


class WorkerRegistration:
    """Registers this process under a new id, renews its leases, and registers again when they have been taken.

    `on_rescued` gets the endpoints of deliveries whose leases were rescued from dead workers. An error is logged and the
    call is tried again: without a registration, this process could not deliver anything.
    """

    def __init__(
        self,
        store: DeliveryStore,
        clock: Clock,
        new_worker_id: Callable[[], WorkerId],
        on_rescued: Callable[[Iterable[str]], None],
        times: LeaseTimes,
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_worker_id = new_worker_id
        self._on_rescued = on_rescued
        self._times = times
        self._never = asyncio.Event()
        self._renewing = asyncio.Lock()
        self._valid_until_s = 0.0
        self._log = structlog.get_logger("delivery")
        self.worker: WorkerId = ""

    async def register(self) -> None:
        """Register under a new id, trying until it succeeds, and rescue the leases of dead workers."""
        pause_s = _FIRST_PAUSE_S
        while True:
            worker, began_s = self._new_worker_id(), self._clock.monotonic_s()
            try:
                await self._store.register(worker, ttl_ms=self._ttl_ms)
            except Exception as error:  # noqa: BLE001 - logged, and tried again
                self._log_error("registration", error)
                await self._clock.wait(self._never, pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            else:
                self.worker, self._valid_until_s = worker, began_s + self._times.ttl_s
                await self._rescue()
                return

    async def run(self) -> None:
        """Renew the leases and rescue those of dead workers, until canceled."""
        while True:
            await self._clock.wait(self._never, self._times.renew_s)
            try:
                async with self._renewing:
                    await self._renew()
            except Exception as error:  # noqa: BLE001 - logged, and tried again
                self._log_error("heartbeat", error)
            else:
                await self._rescue()

    async def holds(self, worker: WorkerId) -> bool:
        """Return whether this process still holds what it leased as `worker`.

        After a pause of this process that was longer than the leases hold, only the database can tell: the call renews the
        leases first.
        """
        while self._clock.monotonic_s() >= self._valid_until_s:
            async with self._renewing:
                try:
                    await self._renew()
                except Exception as error:  # noqa: BLE001 - logged, and tried again
                    self._log_error("renewal", error)
                    await self._clock.wait(self._never, _FIRST_PAUSE_S)
        return worker == self.worker

    async def leave(self) -> None:
        """Release all leases: their deliveries are sent again, by this process or another one, with the same event ids."""
        self._valid_until_s = 0.0
        try:
            await self._store.release(self.worker)
        except Exception as error:  # noqa: BLE001 - logged; other workers rescue the leases when they have expired
            self._log_error("release", error)

    async def _renew(self) -> None:
        began_s = self._clock.monotonic_s()
        if await self._store.renew(self.worker, ttl_ms=self._ttl_ms):
            self._valid_until_s = began_s + self._times.ttl_s
        else:
            self._log.warning("leases_taken", worker=self.worker)
            await self.register()

    async def _rescue(self) -> None:
        """Rescue the leases of dead workers. An error of it must not keep this worker from deliveries of its own."""
        try:
            if endpoints := await self._store.rescue(self.worker):
                self._log.info("leases_rescued", endpoints=len(endpoints))
            self._on_rescued(sorted(endpoints))
        except Exception as error:  # noqa: BLE001 - logged, and tried again by the next heartbeat
            self._log_error("rescue", error)

    def _log_error(self, what: str, error: Exception) -> None:
        if isinstance(error, StoreError):
            self._log.debug(f"{what}_failed", code=error.code)  # the database logs its outages
        else:
            self._log.error(f"{what}_crashed", exc_info=error)

    @property
    def _ttl_ms(self) -> int:
        return round(self._times.ttl_s * MS_PER_S)
